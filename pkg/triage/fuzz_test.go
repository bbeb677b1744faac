package triage

import (
	"testing"
	"time"
)

// FuzzParseLine: no line of a log is lost, and a time is taken off it only where
// there is one.
func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"", " ", "2026-11-21T02:50:00.000Z panic: nil", "2026-11-21T02:50:00Z panic: nil", "2026-13-41T99:99:99.000Z x", "web-1 panic", "2026-11-21T02:50:00.000Z", "2026-11-21T02:50:00.000Z \x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, text := parseLine(s)
		if at.IsZero() && text == s {
			return
		}
		if want := at.Format("2006-01-02T15:04:05.000Z") + " " + text; want != s {
			t.Errorf("%q is read as %s and %q", s, at.Format(time.RFC3339Nano), text)
		}
	})
}

package main

import (
	"strings"
	"testing"
	"time"
)

func TestATimeOfARecordingIsWrittenInThreeWays(t *testing.T) {
	start := time.Date(2026, 11, 25, 23, 40, 12, 500, time.UTC)
	for name, tc := range map[string]struct{ text, want string }{
		"in full":                            {"2026-11-25T23:50:00Z", "2026-11-25T23:50:00Z"},
		"in full, of another zone":           {"2026-11-26T00:50:00+01:00", "2026-11-25T23:50:00Z"},
		"of day, after the beginning":        {"23:50", "2026-11-25T23:50:00Z"},
		"of day, with seconds":               {"23:50:05", "2026-11-25T23:50:05Z"},
		"of day, the second it begins in":    {"23:40:12", "2026-11-25T23:40:12Z"},
		"of day, before it: of the next day": {"00:10", "2026-11-26T00:10:00Z"},
		"since the beginning":                {"+10m", "2026-11-25T23:50:12Z"},
		"the beginning":                      {"+0s", "2026-11-25T23:40:12Z"},
		"of no unit":                         {"+10", ""},
		"backwards":                          {"+-10m", ""},
		"of no kind":                         {"yesterday at 9", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := moment(tc.text, start)
			if tc.want == "" {
				if err == nil || !strings.Contains(err.Error(), tc.text+": is no time; write") {
					t.Errorf("%q: got %v, %v, want what to write instead", tc.text, got, err)
				}
				return
			}
			if err != nil || got.Format(time.RFC3339) != tc.want {
				t.Errorf("%q: got %v, %v, want %s", tc.text, got, err, tc.want)
			}
		})
	}
}

// FuzzMoment: a time that can be read is in UTC, and reads back as itself.
func FuzzMoment(f *testing.F) {
	for _, s := range []string{"2026-11-25T23:50:00Z", "23:50", "23:50:05", "+10m", "+1h2m3.5s", "", "+", "24:00", "0000-01-01T00:00:00Z"} {
		f.Add(s)
	}
	start := time.Date(2026, 11, 25, 23, 40, 12, 500, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := moment(s, start)
		if err != nil {
			return
		}
		if got.Location() != time.UTC {
			t.Errorf("%q is read as %v, which is not in UTC", s, got)
		}
		again, err := moment(got.Format(time.RFC3339Nano), start)
		if y := got.Year(); y >= 0 && y <= 9999 && (err != nil || !again.Equal(got)) {
			t.Errorf("%q is read as %v, and that as %v, %v", s, got, again, err)
		}
	})
}

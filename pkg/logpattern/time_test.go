package logpattern

import (
	"testing"
	"time"
)

func TestTime(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"as containers' runtimes write it": {"2026-03-01T10:00:00.5Z stdout F hello", "2026-03-01T10:00:00.5Z"},
		"with a zone":                      {"ts=2026-03-01T10:00:00+02:00 msg=x", "2026-03-01T08:00:00Z"},
		"with a zone after a space":        {"2026-03-01 10:00:00 -0330 x", "2026-03-01T13:30:00Z"},
		"a comma before the fraction":      {"[2026-03-01 10:00:00,125] INFO x", "2026-03-01T10:00:00.125Z"},
		"slashes":                          {"2026/03/01 10:00:00 [error] x", "2026-03-01T10:00:00Z"},
		"of a web server":                  {`10.0.0.1 - - [01/Mar/2026:10:00:00 +0100] "GET /"`, "2026-03-01T09:00:00Z"},
		"the end of the line":              {"at 2026-03-01 10:00:00", "2026-03-01T10:00:00Z"},
		"no such day":                      {"2026-02-30 10:00:00 x", ""},
		"no year":                          {"Mar  1 10:00:00 host sshd[1]: x", ""},
		"a date alone":                     {"2026-03-01 was a day that passed", ""},
		"nothing":                          {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			at, ok := Time(c.in)
			got := ""
			if ok {
				got = at.Format(time.RFC3339Nano)
			}
			if got != c.want {
				t.Errorf("Time(%q): got %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func FuzzTime(f *testing.F) {
	f.Add("2026-03-01T10:00:00.5+02:00")
	f.Add("01/Mar/2026:10:00:00 +0100")
	f.Fuzz(func(t *testing.T, s string) {
		if at, ok := Time(s); ok && at.Year() < -1 || !ok && !at.IsZero() {
			t.Errorf("Time(%q): got %s, %v", s, at, ok)
		}
	})
}

package loki

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// held has a server hold n lines, a millisecond apart but for those that share
// the time of the line before.
func held(s *server, from time.Time, n int, same func(i int) bool, text func(i int) string) {
	at := from
	for i := range n {
		if i > 0 && !same(i) {
			at = at.Add(time.Millisecond)
		}
		s.lines = append(s.lines, Entry{Time: at, Labels: shop, Line: text(i)})
	}
}

func TestWhatLokiRefusesAsTooMuchIsAskedForInSmallerPieces(t *testing.T) {
	apart := func(int) bool { return false }
	number := func(i int) string { return fmt.Sprint("line ", i) }
	for name, tc := range map[string]struct {
		hold   func(s *server, from time.Time)
		refuse func(start, end time.Time, limit int) string
		change func(*Config)
		want   int
		cut    float64
	}{
		"answers that are full": {func(s *server, from time.Time) { held(s, from, 450, apart, number) }, nil, nil, 450, 0},
		"several lines of one time at the end of an answer": {func(s *server, from time.Time) {
			held(s, from, 450, func(i int) bool { return i%100 > 50 }, number)
		}, nil, nil, 450, 0},
		"more lines of one time than it gives": {func(s *server, from time.Time) {
			held(s, from, 450, func(i int) bool { return i > 120 && i < 330 }, number)
		}, nil, nil, 450 - 210 + 100, 1},
		"a limit that is lower than ours": {
			func(s *server, from time.Time) { held(s, from, 200, apart, number) },
			func(_, _ time.Time, limit int) string {
				if limit > 30 {
					return fmt.Sprintf("max entries limit per query exceeded, limit > max_entries_limit_per_query (%d > 30)", limit)
				}
				return ""
			}, nil, 200, 0,
		},
		"more bytes than it reads for a query": {
			func(s *server, from time.Time) { held(s, from, 200, apart, number) },
			func(start, end time.Time, _ int) string {
				if end.Sub(start) > 700*time.Millisecond {
					return "the query would read too many bytes (query: 2 GB, limit: 1 GB); consider adding more specific stream selectors or reduce the time range"
				}
				return ""
			}, nil, 200, 0,
		},
		"lines of a megabyte, together larger than an answer may be": {
			func(s *server, from time.Time) {
				held(s, from, 8, apart, func(i int) string { return strings.Repeat("x", 1<<20) + fmt.Sprint(i) })
			},
			nil, func(c *Config) { c.MaxResponseBytes = 3 << 20 }, 8, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			from := time.Now().Add(-time.Minute).Truncate(time.Minute)
			tc.hold(s, from)
			s.refuse = tc.refuse
			src := newTestSource(t, s.URL, func(c *Config) {
				c.Tail.Off, c.Limit, c.MaxQPS = true, 100, 10_000
				if tc.change != nil {
					tc.change(c)
				}
			})
			got, err := src.read(t.Context(), from, from.Add(5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			n := 0
			for _, st := range got {
				for _, v := range st.Values {
					_, text, _ := value(v)
					if seen[text] {
						t.Errorf("%.40q is read twice", text)
					}
					seen[text] = true
					n++
				}
			}
			if n != tc.want {
				t.Errorf("%d lines are read, want %d", n, tc.want)
			}
			if cut := testutil.ToFloat64(src.dropped); cut != tc.cut {
				t.Errorf("%v moments are counted as cut, want %v", cut, tc.cut)
			}
		})
	}
}

func TestARefusalThatSmallerQuestionsDoNotMendIsAnError(t *testing.T) {
	for name, why := range map[string]string{
		"about the query":             "parse error at line 1, col 2: syntax error",
		"too many bytes at any time":  "the query would read too many bytes (query: 2 GB, limit: 1 B)",
		"a limit that is none":        "limit > max_entries_limit_per_query (100 > 0)",
		"a limit that is not a lower": "limit > max_entries_limit_per_query (100 > 5000)",
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			s.refuse = func(time.Time, time.Time, int) string { return why }
			src := newTestSource(t, s.URL, func(c *Config) { c.Tail.Off, c.Limit, c.MaxQPS = true, 100, 10_000 })
			from := time.Now().Add(-time.Minute).Truncate(time.Minute)
			if _, err := src.read(t.Context(), from, from.Add(5*time.Second)); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("got %v, want %q", err, why)
			}
		})
	}
}

func TestLinesThatTheTailLeavesOutAreCountedAndMakeTheirWindowBeReadEarly(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 1, 0, time.UTC)
	for name, frame := range map[string]string{
		"in nanoseconds": fmt.Sprintf(`{"streams":[],"dropped_entries":[{"labels":{"pod":"a"},"timestamp":"%d"}]}`, at.UnixNano()),
		"as a time":      `{"streams":null,"dropped_entries":[{"labels":"{pod=\"a\"}","timestamp":"2026-11-26T12:00:01Z"},{"timestamp":7},{}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			lines, dropped := times([]byte(frame))
			if len(lines) != 0 || len(dropped) != 1 || !dropped[0].Equal(at) {
				t.Errorf("read %v and %v dropped, want one of %s", lines, dropped, at)
			}
		})
	}
}

func FuzzTailFrame(f *testing.F) {
	f.Add([]byte(`{"streams":[{"stream":{},"values":[["1772000001000000000","a"],["x"],[]]}],"dropped_entries":[{"timestamp":"1"}]}`))
	f.Add([]byte(`{"dropped_entries":[{"timestamp":"2026-11-26T12:00:01Z"}]}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		lines, dropped := times(frame)
		if n := len(lines) + len(dropped); n > len(frame) {
			t.Errorf("%d times in %d bytes", n, len(frame))
		}
	})
}

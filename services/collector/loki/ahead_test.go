package loki

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// TestWindowsThatLieBackAreReadManyAtOnce bounds what a source that catches up
// asks for, and what is under way at once, by how much there is.
func TestWindowsThatLieBackAreReadManyAtOnce(t *testing.T) {
	const windows = 120
	for name, tc := range map[string]struct {
		every   time.Duration
		refused bool  // what is about more than one window
		most    int64 // questions
	}{
		"few lines":                        {every: 20 * time.Second, most: 15},
		"as many lines as an answer holds": {every: 700 * time.Millisecond, most: 3 * windows},
		"a Loki that gives a minute alone": {every: 20 * time.Second, refused: true, most: 2 * windows},
	} {
		t.Run(name, func(t *testing.T) {
			from := time.Now().Add(-(windows + 2) * time.Minute).Truncate(time.Minute).UTC()
			address, asked := past(t, from, tc.every, windows*time.Minute, 100)
			to, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			var now, most atomic.Int64
			loki := httputil.NewSingleHostReverseProxy(to)
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				q := r.URL.Query()
				if a, b := q.Get("start"), q.Get("end"); tc.refused && len(a) == len(b) && b > a && span(t, a, b) > time.Minute {
					asked.Add(1)
					http.Error(w, "too long", http.StatusBadRequest)
					return
				}
				loki.ServeHTTP(w, r)
			}))
			t.Cleanup(front.Close)
			s := newTestSource(t, front.URL, func(c *Config) {
				c.Window, c.Tail.Off, c.Limit, c.MaxCatchUp = time.Minute, true, 100, 24*time.Hour
				c.MaxQPS = 1000
			})
			s.cfg.WarmStart.Off = true
			got := start(t, s, After(from))
			var lines []string
			for i := range windows {
				e := receive(t, got)
				if e.Blind != nil || !e.Closed.Equal(from.Add(time.Duration(i+1)*time.Minute)) {
					t.Fatalf("window %d ends at %s, blind %+v", i, e.Closed, e.Blind)
				}
				lines = append(lines, texts(e)...)
			}
			all := len(lines)
			slices.Sort(lines)
			if want := int(windows * time.Minute / tc.every); all < want-1 || all > want+1 || len(slices.Compact(lines)) != all {
				t.Errorf("%d lines, %d of them once, want %d", all, len(slices.Compact(lines)), want)
			}
			if asked.Load() > tc.most || most.Load() > aheadAtOnce {
				t.Errorf("%d questions, %d of them at once, want at most %d and %d", asked.Load(), most.Load(), tc.most, aheadAtOnce)
			}
		})
	}
}

// span is the time between two times of Loki's.
func span(t *testing.T, a, b string) time.Duration {
	t.Helper()
	from, err := time.ParseDuration(a + "ns")
	if err != nil {
		t.Fatal(err)
	}
	to, err := time.ParseDuration(b + "ns")
	if err != nil {
		t.Fatal(err)
	}
	return to - from
}

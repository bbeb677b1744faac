package loki

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/clock"
)

// TestWindowsAreReadWhenTheyAreOverByTheServersClock runs on a machine whose
// clock is wrong, or is set while it runs: no window is closed before it is
// over, none is left out, and none comes late.
func TestWindowsAreReadWhenTheyAreOverByTheServersClock(t *testing.T) {
	t.Parallel()
	for name, off := range map[string][2]time.Duration{
		"ahead from the start":  {5 * time.Minute, 5 * time.Minute},
		"behind from the start": {-5 * time.Minute, -5 * time.Minute},
		"set forward":           {0, 5 * time.Minute},
		"set back":              {0, -5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var now atomic.Int64
			now.Store(int64(off[0]))
			set := env()
			set.Now = func() time.Time { return time.Now().Round(0).Add(time.Duration(now.Load())) }
			set.Clocks = clock.NewServers(set.Now)
			cfg := Config{Window: time.Second, Delay: 10 * time.Millisecond}
			cfg.URL, cfg.Tail.Off, cfg.MaxQPS = serve(t).URL, true, 10_000
			s, err := New(cfg, set)
			if err != nil {
				t.Fatal(err)
			}
			got := start(t, s, nil)
			var last time.Time
			for live := 0; live < 5; {
				e := receive(t, got)
				switch age := time.Since(e.Closed); {
				case e.Blind != nil:
					t.Fatalf("blind: %+v", e.Blind)
				case age < 0:
					t.Fatalf("window up to %v was closed %v before its time", e.Closed, -age)
				case !last.IsZero() && !e.Closed.Equal(last.Add(time.Second)):
					t.Fatalf("window up to %v was closed after that up to %v", e.Closed, last)
				case age < 10*time.Second:
					live++
				}
				if last = e.Closed; live == 2 {
					now.Store(int64(off[1]))
				}
			}
			if skew := set.Clocks.Skews(); len(skew) != 1 || (skew[0].Ahead-off[1]).Abs() > 2*time.Second {
				t.Errorf("skew %v, want %v", skew, off[1])
			}
			if got := set.Clocks.Report(); got == "" {
				t.Error("the skew is not told")
			}
		})
	}
}

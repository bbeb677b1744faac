package prometheus

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/services/collector"
)

// TestStepsAreReadWhenTheyAreOverByTheServersClock runs on a machine whose clock
// is wrong, or is set while it runs: no step is closed before it is over, none
// is left out, and none comes late.
func TestStepsAreReadWhenTheyAreOverByTheServersClock(t *testing.T) {
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
			wall := func() time.Time { return time.Now().Round(0).Add(time.Duration(now.Load())) }
			cfg := Config{Step: time.Second, Delay: time.Millisecond}
			cfg.URL, cfg.MaxQPS, cfg.WarmStart.Off = requests(t).URL, 10_000, true
			clocks := clock.NewServers(wall)
			s, err := New(cfg, collector.Env{
				Log: slog.New(slog.DiscardHandler), Metrics: prom.NewRegistry(), Policies: builtin(t), Now: wall, Clocks: clocks,
				Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")}),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			enough := errors.New("enough")
			var last time.Time
			live := 0 // steps that were read within seconds
			err = s.Run(ctx, nil, func(_ context.Context, e collector.Emission) error {
				switch age := time.Since(e.Closed); {
				case e.Blind != nil:
					t.Errorf("blind: %+v", e.Blind)
				case age < 0:
					t.Errorf("step %v was closed %v before its time", e.Closed, -age)
				case !last.IsZero() && !e.Closed.Equal(last.Add(time.Second)):
					t.Errorf("step %v was closed after %v", e.Closed, last)
				case age < 10*time.Second:
					live++
				}
				if last = e.Closed; live == 2 {
					now.Store(int64(off[1]))
				}
				if live == 5 {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) {
				t.Fatalf("Run: %v, with %d steps read in time", err, live)
			}
			if skew := clocks.Skews(); len(skew) != 1 || (skew[0].Ahead-off[1]).Abs() > 2*time.Second {
				t.Errorf("skew %v, want %v", skew, off[1])
			}
			if got := clocks.Report(); got == "" {
				t.Error("the skew is not told")
			}
		})
	}
}

//go:build e2e

package fault

import (
	"net/http"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestPrometheusAnswersBadlyForAWhile is fault 20.
func TestPrometheusAnswersBadlyForAWhile(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	for name, bad := range map[string]http.HandlerFunc{
		"503": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"cut JSON": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"vector","res`))
		},
		"a hang": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.sources.pace.Store(int64(slow))
			r.startAll()
			r.readTo(0.4)
			refused := make(chan time.Time, 1) // the first step that could not be read
			mend := r.sources.disturb(func(w http.ResponseWriter, req *http.Request, at time.Time) bool {
				if isLoki(req) {
					return false
				}
				select {
				case refused <- at:
				default:
				}
				bad(w, req)
				return true
			})
			gap := <-refused
			logs := r.watermark("logs")
			// The other source goes on, as if nothing were.
			eventually(t, 20*time.Second, "logs read while Prometheus is away", func() bool { return r.watermark("logs").After(logs.Add(5 * step)) })
			if closed := r.watermark("metrics"); !closed.Before(gap) {
				t.Errorf("metrics were closed up to %v though nothing could be read from %v on", closed, gap)
			}
			mend()
			r.sources.pace.Store(0)
			eventually(t, time.Minute, "the gap closed", func() bool { return !r.watermark("metrics").Before(ends.Add(-step)) })
			r.same(want, 0)
			// No step was skipped: the gap is full.
			steps := map[int64]bool{}
			each(r, event.Metrics, func(_ bus.Message, b event.MetricBatch) { steps[b.Step.Unix()] = true })
			for at := began.Add(step); at.Before(ends); at = at.Add(step) {
				if !steps[at.Unix()] {
					t.Fatalf("step %s is missing", at.Format(time.TimeOnly))
				}
			}
		})
	}
}

// TestASourceThatIsGoneIsANoticeAndNoOutage is fault 21.
func TestASourceThatIsGoneIsANoticeAndNoOutage(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(*http.Request) bool{
		"prometheus": func(r *http.Request) bool { return !isLoki(r) },
		"loki":       isLoki,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.patience, r.step, r.delay = 12*time.Second, 5*time.Second, time.Second
			r.sources.live.Store(true)
			// Ten quiet minutes up to now, of which the last five cannot be read
			// from one of the two.
			now := time.Now()
			r.cursor(now.Add(-10 * time.Minute).Truncate(r.step))
			lost := now.Add(-5 * time.Minute)
			mend := r.sources.disturb(func(w http.ResponseWriter, req *http.Request, at time.Time) bool {
				if !gone(req) || at.Before(lost) {
					return false
				}
				w.WriteHeader(http.StatusBadGateway)
				return true
			})
			r.startAll()
			incidents := func() map[string]event.Incident {
				out := map[string]event.Incident{}
				each(r, event.Incidents, func(_ bus.Message, i event.Incident) { out[i.ID] = i })
				return out
			}
			eventually(t, 4*time.Minute, "the notice", func() bool { return len(incidents()) > 0 })
			// Several steps later it is still the only one.
			at := r.watermark("logs")
			eventually(t, time.Minute, "time going on", func() bool {
				return r.watermark("logs").After(at.Add(5*time.Second)) && r.watermark("metrics").After(at.Add(5*time.Second))
			})
			all := incidents()
			if len(all) != 1 {
				t.Errorf("%d incidents, want the notice alone", len(all))
			}
			for _, i := range all {
				if len(i.Blind) != 1 || i.Blind[0].Source != name || i.Entity.Kind != "Source" || i.Priority.Pages() {
					t.Errorf("incident %q of priority %s about %s, blind %+v; want a notice about %s that wakes nobody", i.Title, i.Priority, i.Entity, i.Blind, name)
				}
			}
			mend()
			eventually(t, time.Minute, "the notice resolved once the source is back", func() bool {
				for _, i := range incidents() {
					if i.State != event.Resolved {
						return false
					}
				}
				return true
			})
			if n := len(incidents()); n != 1 {
				t.Errorf("%d incidents after the source came back, want the notice alone", n)
			}
			r.stopAll()
		})
	}
}

//go:build e2e

package fault

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// world is where a run takes place: its sources and its machines have the same
// time, until the clock of the machines is set.
type world struct {
	r     *rig
	file  string
	shift atomic.Int64 // from the true time
	by    time.Duration
}

// at begins the run at a time of the history.
func (r *rig) at(t time.Time) *world {
	w := &world{r: r, file: filepath.Join(r.dir, "clock")}
	now := w.now
	r.sources.now.Store(&now)
	r.env = append(r.env, envClock+"="+w.file)
	w.to(t)
	return w
}

func (w *world) now() time.Time { return time.Now().Round(0).Add(time.Duration(w.shift.Load())) }

// to goes on at another time, everywhere at once.
func (w *world) to(t time.Time) {
	w.shift.Store(int64(time.Until(t).Truncate(time.Second)))
	w.set(w.by)
}

// set sets the clock of the machines, by as much from the time of the world.
func (w *world) set(by time.Duration) {
	w.r.t.Helper()
	w.by = by
	next := w.file + ".next"
	if err := os.WriteFile(next, []byte((time.Duration(w.shift.Load()) + by).String()), 0o600); err != nil {
		w.r.t.Fatal(err)
	}
	if err := os.Rename(next, w.file); err != nil {
		w.r.t.Fatal(err)
	}
}

// readUpTo waits until everything that is over at a time was read and folded.
func (w *world) readUpTo(what string, at time.Time) {
	w.r.t.Helper()
	eventually(w.r.t, 2*time.Minute, what, func() bool {
		return !w.r.watermark("metrics").Before(at.Add(-w.r.step)) && !w.r.watermark("logs").Before(at.Add(-w.r.step))
	})
}

// told waits until the collector says how far the clock of its machine is from
// those of both sources.
func (w *world) told(by time.Duration) {
	w.r.t.Helper()
	skew := func(source string) float64 {
		return w.r.metric("collector", fmt.Sprintf("oncall_collector_clock_skew_seconds{source=%q}", source))
	}
	near := func(s float64) bool { return (time.Duration(s*float64(time.Second)) - by).Abs() <= 2*time.Second }
	eventually(w.r.t, time.Minute, fmt.Sprintf("a skew of %v told", by), func() bool { return near(skew("prometheus")) && near(skew("loki")) })
}

// says is what a process says of its health.
func (r *rig) says(name string) string {
	r.t.Helper()
	res, err := http.Get("http://" + r.metrics[name] + "/readyz")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// paced makes a run whose steps are short enough for a test to see some go by.
func paced(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.step, r.delay = 10*time.Second, 2*time.Second
	r.cursor(began.Add(24 * time.Minute))
	return r
}

// TestAClockThatIsSetChangesNothing is fault 16: in the middle of an outage, and
// of a step, the clock of every service is set, and later set right.
func TestAClockThatIsSetChangesNothing(t *testing.T) {
	t.Parallel()
	want := paced(t).rest()
	for name, by := range map[string]time.Duration{"ahead of": 5 * time.Minute, "behind": -5 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := paced(t)
			w := r.at(workloads[[2]string{"shop", "web"}].from.Add(2 * time.Minute))
			r.startAll()
			w.readUpTo("the history up to now", w.now().Add(-r.step))
			w.told(0)
			w.set(by)
			w.told(by)
			// Dates are cut to seconds, so that five minutes may be a second more.
			if got := r.says("collector"); !contains(got, "clock of this machine is ") || !contains(got, " "+name+" loki's and prometheus'") {
				t.Errorf("the collector says %q, and not that its machine's clock is %s loki's and prometheus'", got, name)
			}
			// Long before the clock of the machine that is behind comes to it.
			w.readUpTo("what was over when the clock was set, and two steps more", w.now().Add(2*r.step))
			if n := r.sources.early.Load(); n > 0 {
				t.Errorf("%d answers were asked of what had not happened", n)
			}
			w.set(0)
			w.told(0)
			w.to(ends.Add(time.Hour))
			w.readUpTo("the rest of the history", ends)
			r.same(want, 0)
		})
	}
}

package slo

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestDetectionAndResetAreThoseOfTheClosedForm lets a constant share of requests
// fail from one minute on, for hours, and then none. With an even traffic the
// share of bad requests of a window of w minutes is ratio·t/w after t minutes, so
// that a rule fires when both windows have reached burn·(1-target):
//
//	detection = max(long, short) · burn · (1-target) / ratio
//
// and ends when the short window is below it, or the last five minutes are within
// what is allowed, whichever is sooner:
//
//	reset = min(short · (1 - burn·(1-target)/ratio), 5 min · (1 - (1-target)/ratio))
//
// both rounded up to the next minute, at which it is looked; windows of more than
// six hours are known to the hour.
func TestDetectionAndResetAreThoseOfTheClosedForm(t *testing.T) {
	const history = 73 * 60 // minutes that were well
	for _, target := range []float64{0.99, 0.999} {
		o := Objective{Name: "x", Target: target, Period: 720 * time.Hour, MinRequests: DefaultMinRequests}
		for _, w := range append(DefaultWindows(),
			// A user's, of 5, 30 and 60 minutes.
			Window{Burn: 10, Long: 30 * time.Minute, Short: 5 * time.Minute, Severity: event.Critical},
			Window{Burn: 4, Long: time.Hour, Short: 30 * time.Minute, Severity: event.Warning}) {
			for _, ratio := range []float64{0.5, 1.2, 2, 5, 10, 20} { // of the rule's limit
				limit := w.Burn * (1 - target)
				bad := ratio * limit
				if bad > 1 {
					continue
				}
				t.Run(fmt.Sprintf("%g over %s and %s at %g", target, w.Long, w.Short, bad), func(t *testing.T) {
					fired, ended := simulate(o, w, history, bad)
					if ratio < 1 {
						if fired >= 0 {
							t.Errorf("fires after %d minutes, and never should", fired)
						}
						return
					}
					detection := math.Ceil(w.Long.Minutes()*limit/bad - 1e-9)
					reset := math.Ceil(math.Min(w.Short.Minutes()*(1-limit/bad), lately.Minutes()*(1-(1-target)/bad)))
					exact := 1.0
					if w.Long > 6*time.Hour {
						exact = 60 // longer windows are known to the hour
					}
					if math.Abs(float64(fired)-detection) > exact || math.Abs(float64(ended)-reset) > 1 {
						t.Errorf("detected after %d min and over after %d, want %g and %g", fired, ended, detection, reset)
					}
				})
			}
		}
	}
}

// simulate gives how many minutes after a trouble's beginning a rule fires, and
// how many after its end it does no more; -1 for never.
func simulate(o Objective, w Window, history int, bad float64) (fired, ended int) {
	const requests = 10_000 // a minute: no failure is chance
	var l Ledger
	m := 0
	add := func(share float64) Rate {
		l.Add(int64(m)*60_000, requests*share, requests)
		r := o.rate(&l, w, int64(m)*60_000)
		m++
		return r
	}
	for m < history {
		if add(0).Fires {
			return 0, -1
		}
	}
	fired, ended = -1, -1
	long := int(w.Long.Minutes())
	for n := 1; n <= 2*long; n++ {
		if add(bad).Fires && fired < 0 {
			fired = n
		}
	}
	for n := 1; n <= 2*long && ended < 0; n++ {
		if !add(0).Fires {
			ended = n
		}
	}
	return fired, ended
}

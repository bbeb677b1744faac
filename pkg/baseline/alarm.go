package baseline

import (
	"math"

	"github.com/oncall-copilot/oncall/internal/tuning"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// alarm is the state of being in an anomaly, with a beginning and an end. It
// begins in one of two ways, both of which want an effect and not only a small
// probability:
//
//   - far from the usual level or from what is usual at this hour, and no more
//     probable than the step allows. A series of hours has too few samples to
//     measure its own tail, so that distance alone must do; one of minutes has
//     enough of them, and is one of many. A series that alarms more than once a
//     day is not given this one: for it, far is usual.
//   - odd for the level or the hour, and so improbable that it would come
//     Rarely times a day.
//
// It goes on while samples are farther than near from either, and ends with
// the first that is not.
type alarm struct {
	on     bool
	onset  int64   // milliseconds
	lasted float64 // milliseconds since the onset
	recent float64 // alarms begun, decayed over memory
}

const (
	memory = 5 * day
	settle = day
	day    = 86_400_000.0 // milliseconds
)

// Bounds of the probability that Rarely means: one sample in a series of
// seconds or of days is neither taken for impossible nor for nothing.
const (
	leastRare = 1e-6
	mostRare  = 2e-3
)

// fold takes a verdict on the sample at t and says whether the series is in an
// anomaly, and since when.
func (a *alarm) fold(p *tuning.Alarm, t int64, gap float64, v Verdict) (bool, int64) {
	a.recent *= math.Exp(-gap / memory)
	if a.on {
		a.lasted = float64(t - a.onset)
		a.on = max(v.Distance, v.HourDistance) >= p.End
	} else if v.Ready && a.begins(p, gap, v) {
		a.on, a.onset, a.lasted = true, t, 0
		a.recent++
	}
	if !a.on {
		a.onset, a.lasted = 0, 0
	}
	return a.on, a.onset
}

func (a *alarm) begins(p *tuning.Alarm, gap float64, v Verdict) bool {
	samples := day / max(gap, 1) // a day
	if (v.Distance >= p.Far || v.HourDistance >= p.HourFar) && v.TailProb <= p.Trust/(samples*samples) && a.recent*day/memory <= 1 {
		return true
	}
	return max(v.Distance, v.HourDistance) >= p.Odd && v.TailProb <= max(leastRare, min(mostRare, p.Rarely/samples))
}

func (a *alarm) write(w *snapshot.Writer) {
	w.Bool(a.on)
	w.Int(a.onset)
	w.Float(a.lasted)
	w.Float(a.recent)
}

func (a *alarm) read(r *snapshot.Reader) {
	*a = alarm{on: r.Bool(), onset: r.Int(), lasted: r.Float(), recent: r.Float()}
}

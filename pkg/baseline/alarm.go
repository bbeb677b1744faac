package baseline

import (
	"math"
	"math/bits"

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
//     day, in steps of minutes every second day, is not given this one: for it, far is
//     usual.
//   - odd for the level or the hour, and so improbable that it would come
//     Rarely times a day.
//
// What would begin at the hour at which it did on two of the three days before does
// not, unless it is twice as far: it is a job of the night, and was told twice.
//
// It goes on while samples are farther than near from either, and ends with
// the first that is not.
type alarm struct {
	onset  int64     // milliseconds
	recent float32   // alarms begun, decayed over memory
	most   float32   // distance of what hours says, at most; a fifth is forgotten each day
	hours  [12]uint8 // whether there was or would have been one, four bits an hour: today, and the days before
	today  uint16    // days since the epoch
	on     bool
}

const (
	memory = 5 * day
	settle = day
	// What lasts for longer is no job: it would make every hour a usual one.
	jobLasts = 6 * 3_600_000
	day      = 86_400_000.0 // milliseconds
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
	a.recent *= float32(math.Exp(-gap / memory))
	switch {
	case a.on:
		a.on = max(v.Distance, v.HourDistance) >= p.End
		if a.on && t-a.onset < jobLasts {
			a.usual(t, v)
		}
	case v.Ready && a.begins(p, gap, v) && !a.usual(t, v):
		a.on, a.onset = true, t
		a.recent++
	}
	if !a.on {
		a.onset = 0
	}
	return a.on, a.onset
}

// lasted is for how long there has been an anomaly, in milliseconds.
func (a *alarm) lasted(t int64) float64 {
	if !a.on {
		return 0
	}
	return float64(t - a.onset)
}

// usual remembers that something as far away was seen at the hour of t, and says
// whether that is what was seen at this hour on most of the days before.
func (a *alarm) usual(t int64, v Verdict) bool {
	hour := floor(t, 3_600_000)
	a.turn(uint16(floor(hour, 24)))
	at, shift := &a.hours[mod(hour, 24)/2], 4*(mod(hour, 24)%2)
	days := bits.OnesCount8(*at >> shift & 0b1110)
	*at |= 1 << shift
	far := float32(max(v.Distance, v.HourDistance))
	known := days >= 2 && far <= 2*a.most
	a.most = max(a.most, far)
	return known
}

// turn makes days those before.
func (a *alarm) turn(today uint16) {
	for range min(today-a.today, 4) {
		for i, h := range a.hours {
			a.hours[i] = h << 1 & 0b1110_1110
		}
		a.most *= 0.8
	}
	a.today = today
}

func (a *alarm) begins(p *tuning.Alarm, gap float64, v Verdict) bool {
	samples := day / max(gap, 1) // a day
	if (v.Distance >= p.Far || v.HourDistance >= p.HourFar) && v.ranked <= p.Trust/(samples*samples) && float64(a.recent)*day/memory <= tooOften(samples) {
		return true
	}
	return max(v.Distance, v.HourDistance) >= p.Odd && v.ranked <= max(leastRare, min(mostRare, p.Rarely/samples))
}

// tooOften is how many alarms a day of a series with so many samples a day are too many
// for what is far to be odd: one, and of steps shorter than half an hour fewer, down to
// one in two days.
func tooOften(samples float64) float64 { return max(0.5, min(1, 48/samples)) }

func (a *alarm) write(w *snapshot.Writer) {
	w.Bool(a.on)
	w.Int(a.onset)
	w.Float32(a.recent)
	w.Float32(a.most)
	for _, h := range a.hours {
		w.Uint(uint64(h))
	}
	w.Uint(uint64(a.today))
}

func (a *alarm) read(r *snapshot.Reader) {
	*a = alarm{on: r.Bool(), onset: r.Int(), recent: r.Float32(), most: r.Float32()}
	for i := range a.hours {
		a.hours[i] = uint8(r.Uint()) //nolint:gosec // of hostile bytes any hours are as good
	}
	a.today = uint16(r.Uint()) //nolint:gosec // as above
}

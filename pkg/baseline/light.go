package baseline

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// Light is a [Series] in a fourteenth of the space, for the many for which there is
// no room in full: it looks in one way, at how far a sample lies from the usual level
// and from the last few at once, and knows no hours. How far that goes by chance is
// learnt from the series in a [stat.Sketch]. The zero value is a series that has not
// been seen.
type Light struct {
	last  int64   // milliseconds
	gap   float64 // running distance between samples, milliseconds
	near  float64 // mean of the last few
	level stat.Scale
	apart stat.Scale  // of the distance from level and near, whichever is smaller
	past  stat.Sketch // of it
	seen  uint32
	alarm alarm
}

// lightUnit is the unit, in robust standard deviations, in which a sketch is given
// distances: it tells apart what lies between 1/16 and 4.
const lightUnit = 16

// sketched is a distance as a sketch is given it: what is farther than one unit by
// its logarithm, since a series that is nearly always zero has distances of thousands
// of standard deviations that differ.
func sketched(z float64) float64 {
	a := math.Abs(z) / lightUnit
	if a > 1 {
		a = 1 + float64(math.Log2(a)*3/11) // 4 at 2^15, the largest distance
	}
	return math.Copysign(a, z)
}

// Observe folds a sample at t (milliseconds, later than the one before; others
// are ignored) and returns what it looks like: without a Score, and with nothing of
// its hour. A value that is not finite is not learnt from and looks like nothing.
func (l *Light) Observe(t int64, x float64) Verdict {
	if math.IsNaN(x) || math.Abs(x) > 1e100 || l.seen > 0 && t <= l.last {
		return Verdict{TailProb: 1, Low: math.NaN(), High: math.NaN(), Anomaly: l.alarm.on, Onset: l.alarm.onset, Ready: l.seen >= WarmUp}
	}
	l.gap = spacing(l.gap, l.last, t, l.seen > 0)
	l.last = t
	q := x - l.near
	if h := x - l.level.M; math.Abs(h) < math.Abs(q) {
		q = h
	}
	if l.seen == 0 {
		q = 0
	}
	sigma := l.level.Sigma()
	v := Verdict{
		TailProb: 1, View: Usual, Low: l.level.M - float64(3*sigma), High: l.level.M + float64(3*sigma),
		Distance: math.Abs(l.level.Z(x)), Ready: l.seen >= WarmUp,
	}
	if l.level.M >= 0 && v.Low < 0 && x >= 0 {
		v.Low = 0
	}
	// A distance is no distance before there is a scale to measure it by.
	if z := sketched(l.apart.Z(q)); l.apart.N >= 10 {
		v.TailProb = l.past.Prob(z)
		l.past.Add(z, lightMemory)
	}
	v.Anomaly, v.Onset = l.alarm.fold(&shipped.Alarm, t, l.gap, v)
	l.apart.Add(q, shipped.Scale)
	l.level.Add(x, shipped.Scale)
	if l.alarm.lasted >= settle {
		// What has stayed for so long is the new usual.
		l.level.N = min(l.level.N, 50)
	}
	l.seen = min(l.seen, math.MaxUint32-1) + 1
	l.near += (x - l.near) / min(float64(l.seen), shipped.Near)
	return v
}

// lightMemory is how many distances are remembered, of which half are forgotten
// then.
const lightMemory = 8000

// Last is the time of the last sample in milliseconds.
func (l *Light) Last() int64 { return l.last }

// Seen is how many samples were folded.
func (l *Light) Seen() uint64 { return uint64(l.seen) }

// Write writes the state.
func (l *Light) Write(w *snapshot.Writer) {
	w.Int(l.last)
	w.Float(l.gap)
	w.Float(l.near)
	l.level.Write(w)
	l.apart.Write(w)
	l.past.Write(w)
	w.Uint(uint64(l.seen))
	l.alarm.write(w)
}

// Read reads the state.
func (l *Light) Read(r *snapshot.Reader) {
	*l = Light{last: r.Int(), gap: r.Float(), near: r.Float()}
	l.level.Read(r)
	l.apart.Read(r)
	l.past.Read(r)
	l.seen = uint32(min(r.Uint(), math.MaxUint32)) //nolint:gosec // clipped
	l.alarm.read(r)
}

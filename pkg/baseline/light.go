package baseline

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// Light is a [Series] in a sixteenth of the space, for the many for which there is
// no room in full: it looks in one way, at how far a sample lies from the usual level
// and from the last few at once, and knows no hours. How far that goes by chance is
// learnt from the series in a [stat.Sketch]. The zero value is a series that has not
// been seen.
type Light struct {
	last          int64   // milliseconds
	near          float64 // mean of the last few
	middle, aside float64 // M of level and of apart
	level         spread
	apart         spread  // of the distance from level and near, whichever is smaller
	gap           float32 // running distance between samples, milliseconds
	seen          uint32
	past          stat.Sketch // of apart
	leap          leap
	alarm         alarm
}

// spread is a [stat.Scale] but for its M.
type spread struct{ n, s, w float32 }

func (s spread) around(m float64) stat.Scale {
	return stat.Scale{N: float64(s.n), M: m, S: float64(s.s), W: float64(s.w)}
}

func spreadOf(s stat.Scale) (m float64, _ spread) {
	return s.M, spread{n: float32(s.N), s: float32(s.S), w: float32(s.W)}
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
	l.gap = float32(spacing(float64(l.gap), l.last, t, l.seen > 0))
	l.last = t
	level, apart := l.level.around(l.middle), l.apart.around(l.aside)
	q := x - l.near
	if h := x - level.M; math.Abs(h) < math.Abs(q) {
		q = h
	}
	if level.N == 0 {
		q = 0
	}
	sigma := level.Sigma()
	v := Verdict{
		TailProb: 1, ranked: 1, View: Usual, Low: level.M - float64(3*sigma), High: level.M + float64(3*sigma),
		Distance: math.Abs(level.Z(x)), Ready: l.seen >= WarmUp,
	}
	if level.M >= 0 && v.Low < 0 && x >= 0 {
		v.Low = 0
	}
	// A distance is no distance before there is a scale to measure it by.
	if z := sketched(apart.Z(q)); apart.N >= 10 {
		ranked, stated := l.past.Probs(z)
		v.ranked = ranked
		v.state(stated, uint64(l.seen))
		l.past.Add(z, lightMemory)
	}
	v.Anomaly, v.Onset = l.alarm.fold(&shipped.Alarm, t, float64(l.gap), v)
	far := level.Z(x)
	apart.Add(q, shipped.Scale)
	level.Add(x, shipped.Scale)
	if l.alarm.lasted(t) >= settle {
		// What has stayed for so long is the new usual.
		level.N = min(level.N, 50)
	}
	l.middle, l.level = spreadOf(level)
	l.aside, l.apart = spreadOf(apart)
	l.seen = min(l.seen, math.MaxUint32-1) + 1
	l.near += (x - l.near) / min(float64(l.seen), shipped.Near)
	if l.leap.fold(far, uint64(l.seen)) {
		*l = Light{seen: l.seen, last: l.last, gap: l.gap, near: l.near}
	}
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
	for _, v := range []float64{l.near, l.middle, l.aside} {
		w.Float(v)
	}
	for _, v := range l.small() {
		w.Float32(*v)
	}
	l.past.Write(w)
	w.Uint(uint64(l.seen))
	l.alarm.write(w)
	w.Int(int64(l.leap))
}

// Read reads the state.
func (l *Light) Read(r *snapshot.Reader) {
	*l = Light{last: r.Int(), near: r.Float(), middle: r.Float(), aside: r.Float()}
	for _, v := range l.small() {
		*v = r.Float32()
	}
	l.past.Read(r)
	l.seen = uint32(min(r.Uint(), math.MaxUint32)) //nolint:gosec // clipped
	l.alarm.read(r)
	l.leap = leap(max(-leapMost, min(r.Int(), leapMost)))
}

func (l *Light) small() [7]*float32 {
	return [...]*float32{&l.gap, &l.level.n, &l.level.s, &l.level.w, &l.apart.n, &l.apart.s, &l.apart.w}
}

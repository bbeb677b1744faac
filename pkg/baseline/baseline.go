// Package baseline learns what is usual for one series and says of each new
// sample how odd it is: a deterministic fold with constant work and about
// three kilobytes of state a series, fed one sample at a time. It takes no
// clock, no labels and does no I/O.
//
// A sample is looked at in four ways, each calibrated against the series' own
// past (package stat), so that a way of looking that is often surprised is
// believed less: its distance from the last few samples, from what is usual at
// this hour, from the usual level and the last few at once, and how long the
// others have been surprised. The smallest of the four probabilities counts,
// corrected for the choice. By it anomalies are decided; what is stated of a sample is
// how often the series came to one as small ([stat.Rarity]).
package baseline

import (
	"math"

	"github.com/oncall-copilot/oncall/internal/tuning"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// WarmUp is how many samples of a series are only learnt from.
const WarmUp = 60

// hoursErr is over how many samples it is found out whether hours matter.
const hoursErr = 500

// shipped is what everything that runs judges by.
var shipped = tuning.Shipped()

// Series is what is known of one series. The zero value is one that has not
// been seen.
type Series struct {
	seen   uint64
	last   int64   // time of the last sample, milliseconds
	gap    float64 // running distance between samples, milliseconds
	near   stat.Mean
	level  stat.Scale
	habit  stat.Scale
	season [2][24]slot // weekday, weekend; by hour, UTC
	apart  stat.Mean   // size of the distance from the level
	within stat.Mean   // size of the distance from the level at the hour
	ways   [3]way
	run    stat.Mean // of surprise lately
	runs   stat.Mean // of that, in the long run
	spread stat.Mean // of it
	quiet  int       // samples until the score speaks again
	alarm  alarm
	leap   leap
	rarity stat.Rarity
}

// slot is the mean distance from the level at one hour.
type slot struct{ n, m float32 }

// way is one way of looking: a residual, its scale and its calibration.
type way struct {
	scale stat.Scale
	cal   stat.Calibration
}

// Indices of Series.ways.
const (
	innovation = iota
	seasonal
	habitual
)

// View says which way of looking decided.
type View string

// The ways of looking.
const (
	Recent  View = "far from the last few samples"
	Hourly  View = "not what is usual at this hour"
	Usual   View = "far from the usual level and from the last few samples"
	Lasting View = "surprising for longer than surprises last"
)

// Verdict is what a sample looks like against the series before it.
type Verdict struct {
	// TailProb is the probability of a sample at least as odd, were the series
	// as it was: in (0, 1], and never below one in the square of the samples before
	// it, since of n samples nobody can say that something is rarer.
	TailProb float64
	// View is the way of looking that gave it.
	View View
	// Low and High are the interval that was expected: three robust standard
	// deviations around what is usual at this hour.
	Low, High float64
	// Distance is how many robust standard deviations the sample lies from the
	// usual level, HourDistance from what is usual at this hour.
	Distance, HourDistance float64
	// Score in [0, 1) grows with the surprise of something that begins here. It
	// is zero for a while after it has spoken: what goes on is no news.
	Score float64
	// Anomaly says that the series is in an anomaly, which began at Onset
	// (milliseconds).
	Anomaly bool
	Onset   int64
	// Ready is false while the series is only learnt from.
	Ready bool

	// ranked is the probability as the ways of looking have it, which ranks samples
	// and by which anomalies begin: bounds of it were chosen for what they find, and
	// do not depend on how often it is right.
	ranked float64
}

// state says how improbable the sample is that comes after so many: in the end nobody
// knows of n samples that something is rarer than one in n².
func (v *Verdict) state(prob float64, seen uint64) {
	n := max(1, float64(seen))
	v.TailProb = max(prob, 1/(n*n))
}

// Observe folds a sample at t (milliseconds, later than the one before; others
// are ignored) and returns what it looks like. A value that is not finite is
// not learnt from and looks like nothing.
func (s *Series) Observe(t int64, x float64) Verdict { return s.ObserveBy(&shipped, t, x) }

// ObserveBy is Observe with other parameters, which are to be the same for all
// samples of a series: for measuring what the choice of them is worth.
func (s *Series) ObserveBy(p *tuning.Parameters, t int64, x float64) Verdict {
	if math.IsNaN(x) || math.Abs(x) > 1e100 || s.seen > 0 && t <= s.last {
		return Verdict{TailProb: 1, Low: math.NaN(), High: math.NaN(), Anomaly: s.alarm.on, Onset: s.alarm.onset, Ready: s.seen >= WarmUp}
	}
	s.step(t)
	at, other := s.slots(t)
	doubt := s.doubt()
	usual := s.level.M + at.mean(other.mean(0, doubt), doubt)
	e, r := x-s.near.M, x-usual
	if s.level.N == 0 {
		e, r = 0, 0
	}
	q := e
	if h := x - s.habit.M; math.Abs(h) < math.Abs(e) {
		q = h
	}
	distance, hourDistance := math.Abs(s.level.Z(x)), 0.0
	if s.seen >= 10 {
		hourDistance = math.Abs(s.ways[seasonal].scale.Z(r))
	}
	sigma := s.ways[seasonal].scale.Sigma()
	v := Verdict{Low: usual - 3*sigma, High: usual + 3*sigma, Distance: distance, HourDistance: hourDistance, Ready: s.seen >= WarmUp}
	if s.level.M-3*s.level.Sigma() < 0 && s.habit.M >= 0 && v.Low < 0 && x >= 0 {
		v.Low = 0
	}
	surprise := s.surprise(p, e, r, q, &v)
	v.state(s.rarity.Prob(surprise), s.seen)
	v.Score = s.score(p, surprise, v)
	going := s.alarm.on
	if v.Anomaly, v.Onset = s.alarm.fold(&p.Alarm, t, s.gap, v); v.Anomaly && !going {
		v.Score = max(v.Score, began)
	}
	weight := s.weight()
	if v.Ready {
		s.rarity.Add(surprise, weight)
	}
	s.ways[innovation].learn(p, e, 1) // is near again when the last few are
	s.ways[seasonal].learn(p, r, weight)
	s.ways[habitual].learn(p, q, weight)
	z := s.level.Z(x)
	s.learn(p, at, x)
	if s.leap.fold(z, s.seen) {
		*s = Series{seen: s.seen, last: s.last, gap: s.gap, near: s.near}
	}
	return v
}

// surprise looks in all ways and keeps the strongest: as
// -log10 of the probability, which goes into the verdict.
func (s *Series) surprise(p *tuning.Parameters, e, r, q float64, v *Verdict) float64 {
	most, strongest := 0.0, 0.0
	for _, w := range []struct {
		way    int
		x      float64
		offset float64
		view   View
	}{{innovation, e, 0, Recent}, {seasonal, r, p.SeasonOffset, Hourly}, {habitual, q, p.HabitOffset, Usual}} {
		one := s.ways[w.way].look(w.x)
		strongest = max(strongest, one)
		if one -= w.offset; one > most {
			most, v.View = one, w.view
		}
	}
	if one := s.lasting(p, strongest) - p.PersistOffset; one > most {
		most, v.View = one, Lasting
	}
	// Of several looks the best is taken; they depend on each other so much that
	// they count as two.
	v.ranked = stat.Prob(-math.Expm1(2 * math.Log1p(-min(math.Pow(10, -most), 1-1e-12))))
	return stat.Surprise(v.ranked)
}

// look is the surprise of a residual.
func (w *way) look(e float64) float64 {
	// A distance is no distance before there is a scale to measure it by.
	if w.scale.N < 10 {
		return 0
	}
	return stat.Surprise(w.cal.Prob(w.scale.Z(e)))
}

// learn folds a residual, as so much of one.
func (w *way) learn(p *tuning.Parameters, e, weight float64) {
	if w.scale.N == 0 {
		w.cal.Seed(p.Prior)
	}
	if w.scale.N >= 10 {
		w.cal.AddWeight(w.scale.Z(e), weight)
	}
	w.scale.Add(e, p.Scale)
}

// weight is how much of a sample is learnt from by the ways that stay surprised while
// an anomaly lasts: it is one event, and not as many as it has samples. Its first one
// counts in full, so that what comes often becomes usual, and so does all of it in time,
// so that a level that has come to stay does.
func (s *Series) weight() float64 {
	return max(0.1, 1/(1+s.alarm.lasted(s.last)/max(s.gap, 1)))
}

// lasting is the surprise of having been surprised for so long: the tail of a
// gamma distribution with the long-run mean and variance of the running mean
// of surprise (Wilson and Hilferty 1931).
func (s *Series) lasting(p *tuning.Parameters, surprise float64) (one float64) {
	s.run.Add(min(2, surprise), p.LongRun)
	if s.seen > WarmUp && s.run.M > s.runs.M+0.05 {
		shape := s.runs.M * s.runs.M / max(s.spread.M, 4e-4)
		z := (math.Cbrt(s.run.M/s.runs.M) - 1 + 1/(9*shape)) * math.Sqrt(9*shape)
		one = stat.Surprise(stat.NormalTail(z))
	}
	d := s.run.M - s.runs.M
	s.runs.Add(s.run.M, p.Habit)
	s.spread.Add(d*d, p.Habit)
	return one
}

// spoken is the probability at which the score has said something, and the
// usual level is learnt afresh: what has come may stay.
const spoken = 2e-3

// began is the least score of a sample with which an anomaly begins, whatever
// its probability: a series of hours cannot state small ones.
const began = 0.45

func (s *Series) score(p *tuning.Parameters, surprise float64, v Verdict) float64 {
	if s.quiet > 0 {
		s.quiet--
		return 0
	}
	if !v.Ready {
		return 0
	}
	if v.ranked <= spoken {
		s.quiet = int(p.Silence) - 1
		s.habit.N = min(s.habit.N, 50)
	}
	return max(0, surprise/(surprise+3)) // without the sign of -0
}

// learn folds a sample after it was judged.
func (s *Series) learn(p *tuning.Parameters, at *slot, x float64) {
	s.near.Add(x, p.Near)
	d := 0.0 // of the first sample, which is the level
	if s.level.N > 0 {
		d = x - s.level.M
	}
	if sigma := s.level.Sigma(); sigma > 0 {
		d = max(-6*sigma, min(6*sigma, d))
	}
	if at.n >= 1 {
		s.apart.Add(math.Abs(d), hoursErr)
		s.within.Add(math.Abs(d-float64(at.m)), hoursErr)
	}
	week := 7 * 3_600_000 / max(s.gap, 1)
	at.n = float32(min(float64(at.n)+1, max(3, week)))
	at.m += (float32(d) - at.m) / at.n
	s.level.Add(x, p.Scale)
	s.habit.Add(x, p.Habit)
	if s.alarm.lasted(s.last) >= settle {
		// What has stayed for so long is the new usual.
		s.level.N = min(s.level.N, 50)
	}
	s.seen++
}

// mean is the mean of a slot, drawn towards what is believed without it by the
// weight of so many samples.
func (a *slot) mean(without, weight float64) float64 {
	n := float64(a.n)
	if n+weight == 0 {
		return without
	}
	return (float64(n*float64(a.m)) + float64(weight*without)) / (n + weight)
}

// doubt is the weight, in samples, of the belief that hours do not matter: the
// variance within an hour over that between hours, as in an empirical Bayes estimate
// (Robbins 1956), at most that of three. Where the day's wave is all there is, an hour
// is known when it was seen once.
func (s *Series) doubt() float64 {
	const most = 3
	if s.apart.M == 0 {
		return most
	}
	within := s.within.M / s.apart.M // of what there is without hours
	if within *= within; within >= most/(1.0+most) {
		return most
	}
	return within / (1 - within)
}

// slots are the slot of a time, and that of the same hour on the other kind of
// day: the first Saturday is expected to be like the days before.
func (s *Series) slots(t int64) (at, other *slot) {
	hour := floor(t, 3_600_000)
	kind := 0
	if day := mod(floor(hour, 24)+4, 7); day == 0 || day == 6 { // 1970-01-01 was a Thursday
		kind = 1
	}
	return &s.season[kind][mod(hour, 24)], &s.season[1-kind][mod(hour, 24)]
}

func floor(a, n int64) int64 { return (a - mod(a, n)) / n }

func mod(a, n int64) int64 { return (a%n + n) % n }

// step folds a time into the running distance between samples. A pause is not
// a new step: growth is bounded.
func (s *Series) step(t int64) {
	s.gap = spacing(s.gap, s.last, t, s.seen > 0)
	s.last = t
}

func spacing(gap float64, last, t int64, seen bool) float64 {
	d := float64(t - last)
	switch {
	case !seen:
		return 0
	case gap == 0:
		return d
	}
	return gap + float64(0.1*(min(d, 4*gap)-gap))
}

// Step is the running distance between samples in milliseconds; 0 before two
// were seen.
func (s *Series) Step() float64 { return s.gap }

// Last is the time of the last sample in milliseconds.
func (s *Series) Last() int64 { return s.last }

// Seen is how many samples were folded.
func (s *Series) Seen() uint64 { return s.seen }

// Write writes the state.
func (s *Series) Write(w *snapshot.Writer) {
	w.Uint(s.seen)
	w.Int(s.last)
	w.Float(s.gap)
	s.near.Write(w)
	s.level.Write(w)
	s.habit.Write(w)
	for i := range s.season {
		for _, a := range s.season[i] {
			w.Float32(a.n)
			w.Float32(a.m)
		}
	}
	s.apart.Write(w)
	s.within.Write(w)
	for i := range s.ways {
		s.ways[i].scale.Write(w)
		s.ways[i].cal.Write(w)
	}
	s.run.Write(w)
	s.runs.Write(w)
	s.spread.Write(w)
	w.Uint(uint64(s.quiet))
	s.alarm.write(w)
	w.Int(int64(s.leap))
	s.rarity.Write(w)
}

// Read reads the state.
func (s *Series) Read(r *snapshot.Reader) {
	*s = Series{seen: r.Uint(), last: r.Int(), gap: r.Float()}
	s.near.Read(r)
	s.level.Read(r)
	s.habit.Read(r)
	for i := range s.season {
		for j := range s.season[i] {
			s.season[i][j] = slot{n: r.Float32(), m: r.Float32()}
		}
	}
	s.apart.Read(r)
	s.within.Read(r)
	for i := range s.ways {
		s.ways[i].scale.Read(r)
		s.ways[i].cal.Read(r)
	}
	s.run.Read(r)
	s.runs.Read(r)
	s.spread.Read(r)
	s.quiet = int(min(r.Uint(), uint64(shipped.Silence)))
	s.alarm.read(r)
	s.leap = leap(max(-leapMost, min(r.Int(), leapMost)))
	s.rarity.Read(r)
}

package baseline

import (
	"math"
	"math/bits"
	"time"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// Level learns the usual level of one series, by the hour and the day of the
// week where those are worth knowing, and says whether the last minutes lie away
// from it: a deterministic fold with constant work and some 350 bytes, an eighth
// of a [Series]. One wild sample moves it little, a lasting change far. The zero
// value is a series that has not been seen.
//
// What it looks at is the decayed mean, over Rules.Window, of distances from the
// usual level, each clipped at four robust standard deviations. How far that
// goes by chance is learnt from the series itself, which takes care of samples
// that depend on each other. The onset is where a CUSUM of the same distances
// last left zero (Page 1954).
type Level struct {
	last int64   // milliseconds
	slow float64 // mean of seven days, which the season is a distance from; on the first day the first value
	flat float64 // mean of half a day
	even float64 // mean of half a day without the season

	dev, wide        float32 // mean absolute distance from the usual: clipped at six of it, and not
	flatErr, evenErr float32 // mean absolute distance of an hour's mean from flat, and from even
	drift            float32 // mean of clipped distances over the window
	recent           float32 // mean of distances over the window
	up, down         float32 // CUSUM
	gap              float32 // running distance between samples, milliseconds
	scaled           float32 // samples in dev and wide
	doubtMost        float32 // drift at most, in what may be the beginning of something
	alarms           float32 // begun, decayed over five days
	left             float32 // the level before the last change, from the one after
	sum              float32 // of this hour, from slow
	daySum           float32 // of this day, from slow and the season

	seen             uint32 // samples
	first            uint32 // seconds
	away             uint32 // since when it is, seconds; 0: it is not
	upFrom, downFrom uint32 // when the CUSUM left zero, seconds
	leftAt           uint32 // when that became the usual one, seconds
	at               uint32 // the hour that is being summed up, since the epoch
	known            uint32 // hours of the day that were seen, a bit each, and flags

	n, dayN uint16 // samples in sum and daySum, which take no more than these hold
	doubt   uint16 // samples of what may be the beginning of something

	adds factors     // the season, from slow
	past stat.Sketch // of drift
}

// Rules are what makes a change of level worth a word.
type Rules struct {
	// Window is how long a level must hold to count as one.
	Window time.Duration
	// FalsePerDay is how many false alarms a day of a series are accepted.
	FalsePerDay float64
	// MinChange is the least relative change of the level, a ratio.
	MinChange float64
	// WarmUp is how long a series is only learnt from, at least: see Learns.
	WarmUp time.Duration
	// Settle is how long a new level is odd before it is the usual one.
	Settle time.Duration
}

// limit is the tail probability that FalsePerDay means at a step in milliseconds.
func (r *Rules) limit(gap float64) float64 {
	return max(1e-6, min(1e-3, float64(r.FalsePerDay*gap)/day))
}

// Learns is how long nothing can be said of a series of such a step, since of n
// samples nobody can say that something is rarer than one in n².
func (r Rules) Learns(step time.Duration) time.Duration {
	n := math.Ceil(1 / math.Sqrt(r.limit(float64(step.Milliseconds()))))
	return max(r.WarmUp, time.Duration(n)*step)
}

// Shift is what a sample's window looks like against the level before it. Its
// numbers are given where Away is true.
type Shift struct {
	Away bool
	// Onset is when it began, milliseconds.
	Onset int64
	// TailProb is the probability of a mean at least as far away; Limit what it
	// had to be at most.
	TailProb, Limit float64
	// Expected is the usual level, Low and High three robust standard deviations
	// of a sample around it, and Recent the mean of the window.
	Expected, Low, High, Recent float64
	// Drift is the mean of clipped distances over the window, in robust standard
	// deviations of a sample.
	Drift float64
	// AtHour says that the usual level is that of the hour.
	AtHour bool
}

const (
	clip        = 4.0
	slack       = 0.5   // distance that a CUSUM forgives at each sample
	weak        = 0.5   // drift that is worth a look
	strong      = 2.0   // drift that is believed before much is known
	leastWindow = 4.0   // samples
	leastLife   = 500.0 // samples that a mean looks back over, at least
	errorLife   = 7.0   // days
	worth       = 0.7   // of the error without a season, with it
	doubtable   = 1e-3  // tail probability of what may be the beginning of something
	often       = 1.0   // alarms in five days or so
)

// Observe folds a sample at t (milliseconds, later than the one before; others
// are ignored). A value that is not finite is not learnt from.
func (l *Level) Observe(t int64, x float64, r *Rules) Shift {
	if math.IsNaN(x) || math.Abs(x) > 1e100 || l.seen > 0 && t <= l.last {
		return Shift{}
	}
	if l.seen == 0 {
		l.first, l.slow, l.flat, l.even = seconds(t), x, x, x
	}
	l.step(t)
	f, usual := l.factor(t), l.flat
	if l.is(season) {
		usual = l.even + f
	}
	d, sigma := x-usual, l.sigma()
	z := l.distance(d, sigma)
	window := max(leastWindow, float64(r.Window.Milliseconds())/max(float64(l.gap), 1))
	n := float32(min(float64(l.seen)+1, window))
	l.drift += (z - l.drift) / n
	l.recent += (float32(d) - l.recent) / n
	l.cusum(t, z)
	s, doubtful := l.judge(t, usual, sigma, window, r)
	l.alarms -= float32(l.alarms * min(1, l.gap/memory))
	switch {
	case doubtful:
		// What may be the beginning of something is not learnt from until it is known
		// what becomes of it: else its first minutes make its next ones usual.
		l.doubt = min(l.doubt, math.MaxUint16-1) + 1
		if math.Abs(float64(l.drift)) > math.Abs(float64(l.doubtMost)) {
			l.doubtMost = l.drift
		}
	default:
		l.resolve()
		l.learn(t, x, d, f)
	}
	if s.Away && t-int64(l.away)*1000 >= r.Settle.Milliseconds() {
		left := -l.recent
		l.settle(l.recent)
		l.left, l.leftAt = left, seconds(t)
		s = Shift{}
	}
	l.seen = min(l.seen, math.MaxUint32-1) + 1
	return s
}

// Last is the time of the last sample in milliseconds.
func (l *Level) Last() int64 { return l.last }

// judge says whether the mean of the window is away, and whether it may be about
// to be.
func (l *Level) judge(t int64, usual, sigma, window float64, r *Rules) (s Shift, doubtful bool) {
	since := l.away
	l.away = 0
	drift, n := math.Abs(float64(l.drift)), l.past.N()
	if t-int64(l.first)*1000 < r.WarmUp.Milliseconds() || float64(l.seen) <= 3*window || n == 0 || drift < weak {
		return Shift{}, false
	}
	prob := l.past.Prob(float64(l.drift))
	began := int64(l.upFrom) * 1000
	if l.drift < 0 {
		began = int64(l.downFrom) * 1000
	}
	lasted := float64(l.doubt) * float64(l.gap)
	doubtful = prob <= doubtable && lasted < float64(r.Settle.Milliseconds()) && l.doubt < math.MaxUint16
	// A series that lay a little aside for long had its CUSUM there before.
	began = max(began, t-int64(lasted+float64(window*float64(l.gap))))
	// Of n samples nobody can say that something is rarer than one in n². Means over
	// a window are only as many as there are windows; what is far away is believed
	// before that.
	if drift < strong {
		n /= window
	}
	prob = max(prob, 1/(n*n))
	least, limit := r.MinChange*math.Abs(usual), r.limit(float64(l.gap))
	if since != 0 { // what goes on is believed more easily
		least, limit = least/2, 30*limit
	}
	if prob > limit || math.Abs(float64(l.recent)) <= least {
		return Shift{}, doubtful
	}
	if since == 0 && l.back(t) {
		l.settle(l.left)
		return Shift{}, true
	}
	if l.away = since; since == 0 {
		l.away = seconds(t)
		l.alarms++
		l.flag(told, true)
	}
	return Shift{
		Away: true, Onset: began, TailProb: prob, Limit: limit,
		Expected: usual, Low: usual - float64(3*sigma), High: usual + float64(3*sigma), Recent: usual + float64(l.recent), Drift: float64(l.drift), AtHour: l.is(season),
	}, true
}

// resolve ends a doubt. What came to nothing is learnt: drift went up to its most
// and back. What was told is not, unless the series is one that alarms often.
func (l *Level) resolve() {
	if l.doubt == 0 {
		return
	}
	if n := min(l.doubt, 64); !l.is(told) || l.alarms > often {
		for i := range n {
			l.past.Add(float64(l.doubtMost)*float64(i+1)/float64(n), l.samples(14*day))
		}
	}
	l.doubt, l.doubtMost = 0, 0
	l.flag(told, false)
}

// samples are how many come in so many milliseconds, at least leastLife.
func (l *Level) samples(span float64) float64 { return max(leastLife, span/max(float64(l.gap), 1)) }

// learn folds a sample that is not away: x, its distance d from the usual, and
// the season f.
func (l *Level) learn(t int64, x, d, f float64) {
	n := float64(l.seen) + 1
	half := min(n, l.samples(day/2))
	cut := 6 * float64(l.dev)
	if l.seen < 10 || cut == 0 {
		cut = math.Inf(1)
	}
	l.scaled = min(l.scaled+1, float32(half))
	if l.seen > 0 {
		l.dev += (float32(min(math.Abs(d), cut)) - l.dev) / l.scaled
		l.wide += (float32(math.Abs(d)) - l.wide) / l.scaled
	}
	l.summed(t)
	if l.n < math.MaxUint16 {
		l.sum += float32(x - l.slow)
		l.n++
	}
	if l.dayN < math.MaxUint16 {
		l.daySum += float32(x - l.slow - l.ofHour(t))
		l.dayN++
	}
	l.flat += clipped(x-l.flat, cut) / half
	l.even += clipped(x-f-l.even, cut) / half
	if l.is(seasoned) {
		l.slow += clipped(x-f-l.slow, cut) / min(n, l.samples(7*day))
	}
	if l.seen >= 30 {
		l.past.Add(float64(l.drift), l.samples(14*day))
	}
}

// summed folds the hour and the day that t has left.
func (l *Level) summed(t int64) {
	at := uint32(floor(t, 3_600_000))
	if l.n > 0 && at != l.at {
		l.foldHour(l.sum / float32(l.n))
		l.sum, l.n = 0, 0
		if at/24 != l.at/24 {
			if weeks := float32(l.days() / 7); weeks >= 1 {
				day := weekday(l.at / 24)
				known := l.adds.day(day)
				l.adds.setDay(day, known+(l.daySum/float32(l.dayN)-known)/min(weeks, 6))
			}
			l.daySum, l.dayN = 0, 0
		}
	}
	l.at = at
}

// foldHour learns the mean of an hour, its distance from slow. The hours of the
// first day are kept as they are, and are distances from their own mean when it
// is over.
func (l *Level) foldHour(mean float32) {
	slot := int64(l.at % hours)
	seen := l.known>>slot&1 == 1
	if !l.is(seasoned) {
		if !seen {
			l.adds.setHour(slot, mean)
		}
		l.known |= 1 << slot
		if int64(l.at)*3600 < int64(l.first)+23*3600 {
			return
		}
		total, n := float32(0), float32(bits.OnesCount32(l.known&(1<<hours-1)))
		for i := range int64(hours) {
			total += l.adds.hour(i)
		}
		for i := range int64(hours) {
			if l.known>>i&1 == 1 {
				l.adds.setHour(i, l.adds.hour(i)-total/n)
			}
		}
		l.slow += float64(total / n)
		l.even = l.slow
		l.known |= seasoned
		return
	}
	x := l.slow + float64(mean)
	known := l.adds.hour(slot)
	f := float64(known + l.ofDay(l.at/24))
	n := min(float32(l.days()), errorLife) * 24
	l.flatErr += (float32(math.Abs(x-l.flat)) - l.flatErr) / n
	l.evenErr += (float32(math.Abs(x-f-l.even)) - l.evenErr) / n
	switch {
	case !l.is(season) && l.days() >= 2 && l.evenErr < worth*l.flatErr:
		l.turn(true)
	case l.is(season) && l.evenErr > l.flatErr:
		l.turn(false)
	}
	visits := min(float32(l.days())+1, 7)
	if !seen {
		visits = 1
	}
	l.adds.setHour(slot, known+(mean-l.ofDay(l.at/24)-known)/visits)
	l.known |= 1 << slot
}

// turn begins or ceases to use the season. Distances are others then: half of
// what is known of them is forgotten.
func (l *Level) turn(on bool) {
	l.flag(season, on)
	l.scaled = min(l.scaled, 50)
	l.past.Halve()
}

// back says whether the window is on its way to where the series was before a
// change of level that was told: that is its end and no other change.
func (l *Level) back(t int64) bool {
	return t-int64(l.leftAt)*1000 < day && l.recent*l.left > 0 && math.Abs(float64(l.recent)) < 1.5*math.Abs(float64(l.left))
}

// settle makes a level that lies so far from the usual one the usual one.
func (l *Level) settle(to float32) {
	by := float64(to)
	l.slow, l.flat, l.even = l.slow+by, l.flat+by, l.even+by
	l.drift, l.recent, l.up, l.down, l.away, l.left = 0, 0, 0, 0, 0, 0
	l.scaled = min(l.scaled, 50)
}

// Flags of known.
const (
	seasoned = 1 << (24 + iota) // the first day is over
	season                      // the season is worth knowing
	told                        // what is in doubt was told
)

func (l *Level) is(flag uint32) bool { return l.known&flag != 0 }

func (l *Level) flag(flag uint32, on bool) {
	if l.known &^= flag; on {
		l.known |= flag
	}
}

// days are how many have passed since the first sample.
func (l *Level) days() uint32 { return (seconds(l.last) - l.first) / 86_400 }

// factor is what the season adds at t.
func (l *Level) factor(t int64) float64 {
	return l.ofHour(t) + float64(l.ofDay(uint32(floor(t, 86_400_000))))
}

// ofHour is what the hour of t adds, between the middles of two hours.
func (l *Level) ofHour(t int64) float64 {
	if !l.is(seasoned) {
		return 0
	}
	from := t - 1_800_000
	hour := floor(from, 3_600_000)
	share := float64(mod(from, 3_600_000)) / 3_600_000
	a, b := l.adds.hour(mod(hour, hours)), l.adds.hour(mod(hour+1, hours))
	return float64(a) + float64(share*float64(b-a))
}

// ofDay is what the day of the week adds, drawn towards nothing by the weight of
// two weeks. The first week teaches the level and the hours, and from the third on
// two of each day were seen.
func (l *Level) ofDay(day uint32) float32 {
	weeks := float32(l.days() / 7)
	if weeks < 3 {
		return 0
	}
	return l.adds.day(weekday(day)) * (weeks - 1) / (weeks + 1)
}

// sigma is the robust standard deviation of a sample around the usual, as
// [stat.Scale] has it.
func (l *Level) sigma() float64 {
	s := stat.Scale{M: l.flat, S: float64(l.dev), W: float64(l.wide)}
	return s.Sigma()
}

func (l *Level) distance(d, sigma float64) float32 {
	if d == 0 {
		return 0
	}
	return float32(clipped(d/sigma, clip))
}

func (l *Level) cusum(t int64, z float32) {
	if l.up = max(0, l.up+z-slack); l.up == 0 || l.upFrom == 0 {
		l.upFrom = seconds(t)
	}
	if l.down = max(0, l.down-z-slack); l.down == 0 || l.downFrom == 0 {
		l.downFrom = seconds(t)
	}
}

// step folds a time into the running distance between samples, as a [Series]
// does.
func (l *Level) step(t int64) {
	l.gap = float32(spacing(float64(l.gap), l.last, t, l.seen > 0))
	l.last = t
}

func clipped(d, at float64) float64 { return max(-at, min(at, d)) }

func seconds(t int64) uint32 { return uint32(max(0, min(t/1000, math.MaxUint32))) }

// weekday of a day since the epoch, which was a Thursday; Sunday is 0.
func weekday(day uint32) uint32 { return (day + 4) % 7 }

// Write writes the state.
func (l *Level) Write(w *snapshot.Writer) {
	w.Int(l.last)
	for _, v := range []float64{l.slow, l.flat, l.even} {
		w.Float(v)
	}
	for _, v := range l.small() {
		w.Float32(*v)
	}
	for _, v := range l.whole() {
		w.Uint(uint64(*v))
	}
	for _, v := range l.counts() {
		w.Uint(uint64(*v))
	}
	l.adds.write(w)
	l.past.Write(w)
}

// Read reads the state.
func (l *Level) Read(r *snapshot.Reader) {
	*l = Level{last: r.Int(), slow: r.Float(), flat: r.Float(), even: r.Float()}
	for _, v := range l.small() {
		*v = r.Float32()
	}
	for _, v := range l.whole() {
		*v = uint32(r.Uint())
	}
	for _, v := range l.counts() {
		*v = uint16(r.Uint()) //nolint:gosec // of hostile bytes any count is as good
	}
	l.adds.read(r)
	l.past.Read(r)
}

func (l *Level) small() [15]*float32 {
	return [...]*float32{
		&l.dev, &l.wide, &l.flatErr, &l.evenErr, &l.drift, &l.recent, &l.up, &l.down, &l.gap, &l.scaled, &l.sum, &l.daySum, &l.doubtMost, &l.alarms, &l.left,
	}
}

func (l *Level) whole() [8]*uint32 {
	return [...]*uint32{&l.seen, &l.first, &l.away, &l.upFrom, &l.downFrom, &l.at, &l.known, &l.leftAt}
}

func (l *Level) counts() [3]*uint16 { return [...]*uint16{&l.n, &l.dayN, &l.doubt} }

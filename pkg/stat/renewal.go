package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Renewal learns the time between events that come by themselves, such as
// heartbeats: gaps that are gamma distributed, from one by the clock to such as
// are as irregular as chance or more.
type Renewal struct {
	N      float64 // gaps seen, decayed
	Sum    float64 // of them
	Sum2   float64 // squares
	Max    float64 // the longest, which is forgotten slowly
	Recent Mean    // of the last few, since rates wander with the hour
}

// recentGaps is the horizon of the last few.
const recentGaps = 30

// mostRegular bounds the shape of the gaps: a clock is not trusted further than
// the sum of four exponential waits.
const mostRegular = 4

// Add folds a gap, in any unit, with a horizon in gaps.
func (r *Renewal) Add(gap, horizon float64) {
	keep := 1.0
	if r.N >= horizon {
		keep = 1 - 1/horizon
	}
	r.N = float64(r.N*keep) + 1
	r.Sum = float64(r.Sum*keep) + gap
	r.Sum2 = float64(r.Sum2*keep) + float64(gap*gap)
	r.Max = max(gap, float64(r.Max*(1-1/(2*horizon))))
	r.Recent.Add(gap, recentGaps)
}

// Mean is the expected gap; 0 before the first.
func (r *Renewal) Mean() float64 {
	if r.N == 0 {
		return 0
	}
	return r.Sum / r.N
}

// Variation is the coefficient of variation of the gaps: 0 is a clock, 1 is
// chance, more comes in bursts.
func (r *Renewal) Variation() float64 {
	m := r.Mean()
	if r.N < 2 || m <= 0 {
		return 0
	}
	return math.Sqrt(max(0, (r.Sum2-float64(r.N*float64(m*m)))/(r.N-1))) / m
}

// Shape is that of the gaps: 1 of chance, less of bursts, at most 4 of a clock.
// Gaps that are seen in steps of a grain, as of events that are counted by the
// window, vary less than they do; chance is told by what is left of it.
func (r *Renewal) Shape(grain float64) float64 {
	m, v := r.Mean(), r.Variation()
	if m <= 0 {
		return 1
	}
	const little = 0.01 // of a clock that is seen in every window nothing is known
	return min(mostRegular, (max(0, 1-grain/m)+little)/(float64(v*v)+little))
}

// Silence is the probability of a gap longer than t: a gamma's tail with the
// shape of the gaps, as wide as a mean of so few gaps is uncertain, by the slower
// of what was seen of late and before.
func (r *Renewal) Silence(t, grain float64) float64 {
	m := max(r.Mean(), r.Recent.M)
	if t <= 0 || m <= 0 {
		return 1
	}
	shape := r.Shape(grain)
	// With a shape of one this is Lomax' tail, the predictive of an exponential
	// whose rate has a gamma posterior.
	u := float64(r.N * math.Log1p(t/float64(m*r.N)))
	return Prob(regularGammaQ(shape, float64(shape*u)))
}

// Least is the smallest probability that can be known from so many gaps.
func (r *Renewal) Least() float64 { return 1 / float64((r.N+1)*(r.N+1)) }

// Write writes the state.
func (r *Renewal) Write(w *snapshot.Writer) {
	w.Float(r.N)
	w.Float(r.Sum)
	w.Float(r.Sum2)
	w.Float(r.Max)
	r.Recent.Write(w)
}

// Read reads the state.
func (r *Renewal) Read(s *snapshot.Reader) {
	r.N, r.Sum, r.Sum2, r.Max = s.Float(), s.Float(), s.Float(), s.Float()
	r.Recent.Read(s)
}

// Package stat is streaming statistics: each type folds one number after the
// other in constant time and space, and can be written to and read from a
// snapshot. It takes no clock, no context and does no I/O.
//
// Products that are added are rounded first, as in float64(a*b)+c, so that a
// processor with fused multiply-add gives the same bits as one without.
package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Mean is an exponentially decayed mean: an ordinary mean until Horizon
// values have been seen, then one that forgets with 1/Horizon. The horizon is
// given at each call and is not part of the state.
type Mean struct {
	N float64
	M float64
}

// Add folds one value.
func (m *Mean) Add(x, horizon float64) {
	m.N = min(m.N+1, horizon)
	m.M += (x - m.M) / m.N
}

// Write writes the state.
func (m *Mean) Write(w *snapshot.Writer) { w.Float(m.N); w.Float(m.M) }

// Read reads the state.
func (m *Mean) Read(r *snapshot.Reader) { m.N, m.M = r.Float(), r.Float() }

// Scale is a robust location and scale: a decayed mean whose steps are
// clipped at three scales, and a decayed mean absolute deviation clipped at
// six, so that one wild value moves neither much.
type Scale struct {
	N, M float64
	S    float64 // clipped mean absolute deviation
	W    float64 // unclipped, which keeps the scale alive on series that are mostly zero
}

// sigma of a Gaussian in units of its mean absolute deviation.
const madToSigma = 1.2533141373155001

// Add folds one value with a horizon in values.
func (s *Scale) Add(x, horizon float64) {
	s.N = min(s.N+1, horizon)
	a := 1 / s.N
	if s.N == 1 {
		s.M = x
		return
	}
	d := x - s.M
	step, dev := d, math.Abs(d)
	if s.N > 10 && s.S > 0 {
		step = max(-3*s.S, min(3*s.S, d))
		dev = min(dev, 6*s.S)
	}
	s.M += float64(a * step)
	s.S += float64(a * (dev - s.S))
	s.W += float64(a * (math.Abs(d) - s.W))
}

// Sigma is the scale in units of the values, never zero unless every value
// was.
func (s *Scale) Sigma() float64 {
	return max(float64(madToSigma*s.S)+float64(0.03*s.W), 1e-9*math.Abs(s.M))
}

// Z is how many sigmas x lies from the location; 0 while nothing varies.
func (s *Scale) Z(x float64) float64 {
	d := x - s.M
	sigma := s.Sigma()
	if sigma == 0 {
		switch {
		case d > 0:
			return maxZ
		case d < 0:
			return -maxZ
		}
		return 0
	}
	return max(-maxZ, min(maxZ, d/sigma))
}

// maxZ is the largest distance that is told apart.
const maxZ = 32768

// Write writes the state.
func (s *Scale) Write(w *snapshot.Writer) { w.Float(s.N); w.Float(s.M); w.Float(s.S); w.Float(s.W) }

// Read reads the state.
func (s *Scale) Read(r *snapshot.Reader) {
	s.N, s.M, s.S, s.W = r.Float(), r.Float(), r.Float(), r.Float()
}

// NormalTail is the probability of a standard normal above z.
func NormalTail(z float64) float64 { return 0.5 * math.Erfc(z/math.Sqrt2) }

// LeastProb is the smallest tail probability that is stated.
const LeastProb = 1e-20

// Prob clips a probability to [LeastProb, 1]; not-a-number becomes 1.
func Prob(p float64) float64 {
	if math.IsNaN(p) {
		return 1
	}
	return max(LeastProb, min(1, p))
}

// Surprise is -log10 of a probability.
func Surprise(p float64) float64 { return -math.Log10(Prob(p)) }

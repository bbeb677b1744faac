package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Share learns which part of things are of one kind, such as lines that state an
// error, from how many there were in one window after the other. It forgets, and
// its predictive is a beta-binomial: wide while little is known, and as wide as
// the shares of windows differed.
type Share struct {
	N     float64 // windows, decayed
	K     float64 // things of the kind
	T     float64 // things
	Pairs float64 // of n in each window, n(n-1)
	Dev2  float64 // squared distances from what was expected
}

// Add folds a window with k of n, and a horizon in windows.
func (s *Share) Add(k, n, horizon float64) {
	if n <= 0 {
		return
	}
	d := k - float64(n*s.Mean())
	keep := 1.0
	if s.N >= horizon {
		keep = 1 - 1/horizon
	}
	s.N = float64(s.N*keep) + 1
	s.K = float64(s.K*keep) + k
	s.T = float64(s.T*keep) + n
	s.Pairs = float64(s.Pairs*keep) + float64(n*(n-1))
	s.Dev2 *= keep
	// The first windows know no share to be at a distance from.
	if s.N > 5 {
		s.Dev2 += float64(d * d)
	}
}

// Mean is the expected share, 0 to 1.
func (s *Share) Mean() float64 { return (s.K + 0.5) / (s.T + 1) }

// Tail is the probability of at least k of n in the next window.
func (s *Share) Tail(k, n float64) float64 {
	p := s.Mean()
	// The moment estimate of the correlation between the things of one window.
	rho := 0.0
	if s.Pairs > 0 {
		rho = max(0, min(0.9, (s.Dev2/float64(p*(1-p))-s.T)/s.Pairs))
	}
	strength := 1 / (rho/(1-rho) + 1/(s.T+1))
	return BetaBinomialTail(k, n, float64(p*strength), float64((1-p)*strength))
}

// Write writes the state.
func (s *Share) Write(w *snapshot.Writer) {
	for _, v := range []float64{s.N, s.K, s.T, s.Pairs, s.Dev2} {
		w.Float(v)
	}
}

// Read reads the state.
func (s *Share) Read(r *snapshot.Reader) {
	s.N, s.K, s.T, s.Pairs, s.Dev2 = r.Float(), r.Float(), r.Float(), r.Float(), r.Float()
}

// mostTrials bounds the sum of a tail: what is more is taken as so many of the
// same share, which makes the tail wider.
const mostTrials = 5000

// BetaBinomialTail is the probability of at least k successes in n trials whose
// probability is beta distributed with a and b. Neither k nor n need be whole.
func BetaBinomialTail(k, n, a, b float64) float64 {
	switch {
	case k <= 0 || math.IsNaN(k+n+a+b):
		return 1
	case k > n || a <= 0:
		return LeastProb
	case b <= 0:
		return 1
	}
	if n > mostTrials {
		k, n = k*mostTrials/n, mostTrials
	}
	k, n = math.Ceil(k), math.Ceil(n)
	// The mass at k, and then each by the one before.
	term := math.Exp(logChoose(n, k) + logBeta(k+a, n-k+b) - logBeta(a, b))
	sum := 0.0
	for j := k; j <= n; j++ {
		sum += term
		if next := float64(term * (n - j) / (j + 1) * (a + j) / (b + n - j - 1)); next < term && next < sum*1e-12 {
			break
		} else {
			term = next
		}
	}
	return Prob(sum)
}

func logBeta(a, b float64) float64 {
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	return la + lb - lab
}

func logChoose(n, k float64) float64 { return -math.Log(n+1) - logBeta(n-k+1, k+1) }

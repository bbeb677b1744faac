package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// PoissonTail is the probability of at least k events where mean are
// expected.
func PoissonTail(k, mean float64) float64 {
	if k <= 0 {
		return 1
	}
	if mean <= 0 {
		return LeastProb
	}
	return Prob(regularGammaP(k, mean))
}

// PoissonBelow is the probability of at most k events where mean are expected.
func PoissonBelow(k, mean float64) float64 {
	if mean <= 0 {
		return 1
	}
	return Prob(1 - regularGammaP(k+1, mean))
}

// GammaPoisson learns the rate of events per window: a gamma prior that
// forgets, whose posterior predictive is a negative binomial. It is wide
// while little is known, and as wide as the counts are over-dispersed.
type GammaPoisson struct {
	N    float64 // windows seen, decayed
	Sum  float64 // events in them
	Sum2 float64 // squares
}

// Add folds the count of one window; horizon in windows.
func (g *GammaPoisson) Add(k, horizon float64) {
	keep := 1.0
	if g.N >= horizon {
		keep = 1 - 1/horizon
	}
	g.N = float64(g.N*keep) + 1
	g.Sum = float64(g.Sum*keep) + k
	g.Sum2 = float64(g.Sum2*keep) + float64(k*k)
}

// Mean is the expected count of a window.
func (g *GammaPoisson) Mean() float64 { return (g.Sum + 0.5) / (g.N + 1) }

// Tail is the probability of at least k events in the next window, under a
// negative binomial with the posterior's mean, and a variance that is the
// larger of the posterior predictive's and of what was seen.
func (g *GammaPoisson) Tail(k float64) float64 {
	if k <= 0 {
		return 1
	}
	m := g.Mean()
	variance := float64(m * (1 + 1/(g.N+1)))
	if g.N > 2 {
		mean := g.Sum / g.N
		variance = max(variance, (g.Sum2-float64(g.N*float64(mean*mean)))/(g.N-1))
	}
	return NegativeBinomialTail(k, m, variance)
}

// Thinned is the law of the same counts where each event is seen with probability
// 1/rate, by chance; rate is at least 1.
func (g *GammaPoisson) Thinned(rate float64) GammaPoisson {
	p := 1 / max(1, rate)
	return GammaPoisson{N: g.N, Sum: g.Sum * p, Sum2: float64(float64(g.Sum2*p)*p) + float64(float64(g.Sum*p)*(1-p))}
}

// High is the count that is exceeded with about probability p.
func (g *GammaPoisson) High(p float64) float64 {
	lo, hi := 0.0, math.Max(8, 4*g.Mean())
	for g.Tail(hi) > p && hi < 1e12 {
		hi *= 2
	}
	for range 40 {
		mid := (lo + hi) / 2
		if g.Tail(mid) > p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return math.Ceil(hi)
}

// Write writes the state.
func (g *GammaPoisson) Write(w *snapshot.Writer) { w.Float(g.N); w.Float(g.Sum); w.Float(g.Sum2) }

// Read reads the state.
func (g *GammaPoisson) Read(r *snapshot.Reader) { g.N, g.Sum, g.Sum2 = r.Float(), r.Float(), r.Float() }

// NegativeBinomialTail is the probability of at least k for a count with this
// mean and variance; Poisson's when the variance is not the larger.
func NegativeBinomialTail(k, mean, variance float64) float64 {
	if k <= 0 {
		return 1
	}
	if mean <= 0 {
		return LeastProb
	}
	if variance <= mean*1.0001 {
		return PoissonTail(k, mean)
	}
	p := mean / variance // success probability
	r := mean * p / (1 - p)
	// P(X >= k) = I_{1-p}(k, r)
	return Prob(regularBeta(1-p, k, r))
}

// BinomialTail is the probability of at least k successes in n trials of
// probability p each. Neither k nor n need be whole.
func BinomialTail(k, n, p float64) float64 {
	switch {
	case k <= 0:
		return 1
	case k > n || p <= 0:
		return LeastProb
	case p >= 1:
		return 1
	}
	return Prob(regularBeta(p, k, n-k+1))
}

// Wilson is the Wilson score interval of a proportion with k of n at z
// sigmas; [0,1] when n is 0.
func Wilson(k, n, z float64) (low, high float64) {
	if n <= 0 {
		return 0, 1
	}
	p := max(0, min(1, k/n))
	z2 := float64(z * z)
	d := 1 + z2/n
	centre := (p + z2/(2*n)) / d
	half := z * math.Sqrt(float64(p*(1-p))/n+z2/(4*float64(n*n))) / d
	return max(0, centre-half), min(1, centre+half)
}

// regularGammaP is the regularised lower incomplete gamma function P(a, x):
// series for x < a+1, continued fraction else (Numerical Recipes 6.2).
func regularGammaP(a, x float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= a+1 {
		return max(0, 1-regularGammaQ(a, x))
	}
	sum, term := 1/a, 1/a
	for n := 1; n < 10_000; n++ {
		term *= x / (a + float64(n))
		sum += term
		if term < sum*1e-15 {
			break
		}
	}
	return min(1, gammaFront(a, x)*sum)
}

func gammaFront(a, x float64) float64 {
	lg, _ := math.Lgamma(a)
	return math.Exp(float64(a*math.Log(x)) - x - lg)
}

// regularGammaQ is the upper one, 1-P(a, x), exact where it is small.
func regularGammaQ(a, x float64) float64 {
	if x < a+1 {
		return 1 - regularGammaP(a, x)
	}
	const tiny = 1e-300
	b := x + 1 - a
	c, d := 1/tiny, 1/b
	h := d
	for i := 1; i < 10_000; i++ {
		an := -float64(i) * (float64(i) - a)
		b += 2
		d = float64(an*d) + b
		if math.Abs(d) < tiny {
			d = tiny
		}
		c = b + an/c
		if math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		del := d * c
		h *= del
		if math.Abs(del-1) < 1e-14 {
			break
		}
	}
	return gammaFront(a, x) * h
}

// regularBeta is the regularised incomplete beta function I_x(a, b)
// (Numerical Recipes 6.4).
func regularBeta(x, a, b float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= 1 {
		return 1
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + float64(a*math.Log(x)) + float64(b*math.Log1p(-x)))
	if x < (a+1)/(a+b+2) {
		return front * betaFraction(x, a, b) / a
	}
	return 1 - front*betaFraction(1-x, b, a)/b
}

func betaFraction(x, a, b float64) float64 {
	const tiny = 1e-300
	c, d := 1.0, 1-(a+b)*x/(a+1)
	if math.Abs(d) < tiny {
		d = tiny
	}
	d = 1 / d
	h := d
	for m := 1.0; m < 10_000; m++ {
		num := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 + float64(num*d)
		c = 1 + num/c
		if math.Abs(d) < tiny {
			d = tiny
		}
		if math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		h *= d * c
		num = -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 + float64(num*d)
		c = 1 + num/c
		if math.Abs(d) < tiny {
			d = tiny
		}
		if math.Abs(c) < tiny {
			c = tiny
		}
		d = 1 / d
		del := d * c
		h *= del
		if math.Abs(del-1) < 1e-14 {
			break
		}
	}
	return h
}

package stat

import (
	"math"
	"math/rand/v2"
	"testing"
)

// gapsOf learns n gaps of a mean of 60 whose shape is 1 (chance) or more (a clock).
func gapsOf(r *rand.Rand, n, shape int) Renewal {
	var g Renewal
	for range n {
		g.Add(gap(r, shape), 1000)
	}
	return g
}

func gap(r *rand.Rand, shape int) float64 {
	sum := 0.0
	for range shape {
		sum += r.ExpFloat64() * 60 / float64(shape)
	}
	return sum
}

func TestTheProbabilityOfASilenceIsNoSmallerThanItIs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for _, grain := range []float64{1, 60} {
		for _, shape := range []int{1, 2, 4, 100} {
			// What is counted by the window has gaps of whole windows.
			seen := func() float64 { return math.Ceil(gap(r, shape)/grain) * grain }
			const trials = 20_000
			below := map[float64]int{}
			for range trials / 20 {
				var g Renewal
				for range 100 {
					g.Add(seen(), 1000)
				}
				for range 20 {
					// A silence of t is of gaps that are longer.
					p := g.Silence(seen()-grain, grain)
					for _, alpha := range []float64{1e-1, 1e-2, 1e-3} {
						if p <= alpha {
							below[alpha]++
						}
					}
				}
			}
			for alpha, n := range below {
				if got := float64(n) / trials; got > 2*alpha {
					t.Errorf("grain %g, shape %d: p <= %g in a share of %g", grain, shape, alpha, got)
				}
			}
		}
	}
}

func TestASilenceIsSurerOfAClockAndAfterMoreOfIt(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	clock, chance, young := gapsOf(r, 2000, 50), gapsOf(r, 2000, 1), gapsOf(r, 20, 50)
	if a, b := clock.Silence(300, 1), chance.Silence(300, 1); a >= b {
		t.Errorf("five times the usual gap: %g by a clock, %g by chance", a, b)
	}
	if a, b := clock.Silence(300, 1), young.Silence(300, 1); a >= b {
		t.Errorf("five times the usual gap: %g after 2000 gaps, %g after 20", a, b)
	}
	if a, b := clock.Silence(600, 1), clock.Silence(300, 1); a > b {
		t.Errorf("p %g of ten times and %g of five times the usual gap", a, b)
	}
	if v := chance.Variation(); math.Abs(v-1) > 0.1 {
		t.Errorf("variation %g of gaps by chance, want 1", v)
	}
	if a, b := clock.Silence(300, 60), clock.Silence(300, 1); a <= b {
		t.Errorf("five times the usual gap: %g of what is seen by the minute, %g by the second", a, b)
	}
	if p := (&Renewal{}).Silence(10, 1); p != 1 {
		t.Errorf("p %g where nothing was learnt, want 1", p)
	}
}

// betaBinomial draws k of n with a probability that differs by window.
func betaBinomial(r *rand.Rand, n int, p, strength float64) float64 {
	if strength > 0 {
		a, b := gammaDraw(r, p*strength), gammaDraw(r, (1-p)*strength)
		p = a / (a + b)
	}
	k := 0.0
	for range n {
		if r.Float64() < p {
			k++
		}
	}
	return k
}

// gammaDraw is Marsaglia and Tsang's, with the boost for shapes below one.
func gammaDraw(r *rand.Rand, shape float64) float64 {
	if shape < 1 {
		return gammaDraw(r, shape+1) * math.Pow(r.Float64(), 1/shape)
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := r.NormFloat64()
		v := math.Pow(1+c*x, 3)
		if v > 0 && math.Log(r.Float64()) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

func TestTheProbabilityOfAShareIsNoSmallerThanItIs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for _, p := range []float64{0.002, 0.05, 0.4} {
		for _, strength := range []float64{0, 30, 300} {
			below, trials := map[float64]int{}, 0
			for range 20 {
				var s Share
				for range 300 {
					n := 20 + r.IntN(100)
					s.Add(betaBinomial(r, n, p, strength), float64(n), 1440)
				}
				for range 300 {
					n := 20 + r.IntN(100)
					trials++
					tail := s.Tail(betaBinomial(r, n, p, strength), float64(n))
					for _, alpha := range []float64{1e-1, 1e-2} {
						if tail <= alpha {
							below[alpha]++
						}
					}
				}
			}
			for alpha, n := range below {
				if got := float64(n) / float64(trials); got > 2*alpha {
					t.Errorf("share %g, strength %g: p <= %g in a share of %g", p, strength, alpha, got)
				}
			}
		}
	}
}

func TestBetaBinomialTailIsASumOfWhatCanBe(t *testing.T) {
	// One trial is Bernoulli's with the mean of the beta.
	if got := BetaBinomialTail(1, 1, 2, 6); math.Abs(got-0.25) > 1e-12 {
		t.Errorf("one of one: %g, want 0.25", got)
	}
	// A uniform beta makes every count as likely.
	if got := BetaBinomialTail(7, 10, 1, 1); math.Abs(got-4.0/11) > 1e-12 {
		t.Errorf("seven of ten of a uniform: %g, want 4/11", got)
	}
	// A strong beta is a binomial.
	if got, want := BetaBinomialTail(30, 100, 2e8, 8e8), BinomialTail(30, 100, 0.2); math.Abs(got/want-1) > 1e-4 {
		t.Errorf("30 of 100: %g, want a binomial's %g", got, want)
	}
	for _, c := range [][4]float64{{0, 10, 1, 1}, {11, 10, 1, 1}, {5, 1e9, 1, 1e6}, {1e9, 1e9, 1e-9, 1}, {math.NaN(), 1, 1, 1}, {3, 5, 0, 0}} {
		if p := BetaBinomialTail(c[0], c[1], c[2], c[3]); !(p > 0 && p <= 1) {
			t.Errorf("BetaBinomialTail%v = %g", c, p)
		}
	}
}

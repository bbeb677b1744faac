package stat

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// TestCalibrationStatesTheRateItHas draws scores from three distributions and
// compares the share below a probability with the probability.
func TestCalibrationStatesTheRateItHas(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) float64{
		"Gaussian":    func(r *rand.Rand) float64 { return r.NormFloat64() },
		"exponential": func(r *rand.Rand) float64 { return r.ExpFloat64() },
		"Student's t with 3 degrees of freedom": func(r *rand.Rand) float64 {
			s := 0.0
			for range 3 {
				x := r.NormFloat64()
				s += x * x
			}
			return r.NormFloat64() / math.Sqrt(s/3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			var c Calibration
			counts := map[float64]int{1e-2: 0, 1e-3: 0, 1e-4: 0}
			const n = 200_000
			for i := range n + 5000 {
				z := draw(r)
				if i >= 5000 {
					p := c.Prob(z)
					for limit := range counts {
						if p <= limit {
							counts[limit]++
						}
					}
				}
				c.Add(z)
			}
			for limit, k := range counts {
				// A distribution of one side has half of what two sides are stated to have.
				if share := float64(k) / n; share > 2*limit || share < limit/3 {
					t.Errorf("p <= %g: got a share of %g", limit, share)
				}
			}
		})
	}
}

func TestTailsAgainstExactSums(t *testing.T) {
	for _, c := range []struct{ k, mean float64 }{{1, 0.1}, {3, 1}, {10, 4}, {40, 20}, {5, 20}} {
		below := 0.0
		term := math.Exp(-c.mean)
		for i := 0.0; i < c.k; i++ {
			below += term
			term *= c.mean / (i + 1)
		}
		if got, want := PoissonTail(c.k, c.mean), 1-below; math.Abs(got-want) > 1e-9 {
			t.Errorf("PoissonTail(%g, %g): got %g, want %g", c.k, c.mean, got, want)
		}
	}
	for _, c := range []struct{ k, n, p float64 }{{1, 10, 0.1}, {5, 10, 0.5}, {10, 10, 0.5}, {3, 100, 0.01}} {
		want := 0.0
		for i := c.k; i <= c.n; i++ {
			a, _ := math.Lgamma(c.n + 1)
			b, _ := math.Lgamma(i + 1)
			d, _ := math.Lgamma(c.n - i + 1)
			want += math.Exp(a - b - d + i*math.Log(c.p) + (c.n-i)*math.Log(1-c.p))
		}
		if got := BinomialTail(c.k, c.n, c.p); math.Abs(got-want) > 1e-9 {
			t.Errorf("BinomialTail(%g, %g, %g): got %g, want %g", c.k, c.n, c.p, got, want)
		}
	}
	if got, want := NegativeBinomialTail(1, 2, 4), 1-math.Pow(0.5, 2); math.Abs(got-want) > 1e-9 {
		t.Errorf("NegativeBinomialTail(1, 2, 4): got %g, want %g", got, want)
	}
}

func TestProbabilitiesStayProbabilities(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for range 20_000 {
		k, m, v := math.Exp(20*r.Float64()-5), math.Exp(20*r.Float64()-5), math.Exp(30*r.Float64()-5)
		for name, p := range map[string]float64{"poisson": PoissonTail(k, m), "negative binomial": NegativeBinomialTail(k, m, v), "binomial": BinomialTail(min(k, m), m, r.Float64())} {
			if !(p > 0 && p <= 1) {
				t.Fatalf("%s tail of k %g, mean %g, variance %g: %g", name, k, m, v, p)
			}
		}
	}
}

func TestGammaPoissonIsWideWhileItKnowsLittle(t *testing.T) {
	var young, old GammaPoisson
	for range 3 {
		young.Add(0, 1000)
	}
	for range 900 {
		old.Add(0, 1000)
	}
	if a, b := young.Tail(2), old.Tail(2); a < 10*b {
		t.Errorf("two events after 3 empty windows have p %g, after 900 %g", a, b)
	}
	if h := old.High(1e-3); old.Tail(h+1) > 1e-3 {
		t.Errorf("High(1e-3) is %g, but p of one more is %g", h, old.Tail(h+1))
	}
}

func TestWilsonHoldsTheShare(t *testing.T) {
	for _, c := range []struct{ k, n float64 }{{0, 10}, {1, 10}, {10, 10}, {3, 1000}, {0, 0}} {
		low, high := Wilson(c.k, c.n, 1.96)
		share := 0.0
		if c.n > 0 {
			share = c.k / c.n
		}
		if low > share+1e-12 || high < share-1e-12 || low < 0 || high > 1 {
			t.Errorf("Wilson(%g, %g): [%g, %g] does not hold %g", c.k, c.n, low, high, share)
		}
	}
}

func TestLineIsPredictLinear(t *testing.T) {
	var ts []int64
	var vs []float64
	for i := range 20 {
		ts, vs = append(ts, int64(i)*60_000), append(vs, 10+0.5*float64(i*60))
	}
	l, ok := Fit(ts, vs, ts[19])
	if !ok || math.Abs(l.At(3600)-(vs[19]+1800)) > 1e-6 {
		t.Errorf("in an hour: got %g, want %g", l.At(3600), vs[19]+1800)
	}
	best, early, late, ok := l.TimeTo(vs[19]+900, 2)
	if !ok || math.Abs(best-1800) > 1e-3 || early > best || late < best {
		t.Errorf("time to the limit: got %g [%g, %g], want 1800", best, early, late)
	}
	if _, _, _, ok := l.TimeTo(0, 2); ok {
		t.Error("a rising line reaches a limit below it")
	}
	vs[5] = 1e6
	if s, _ := TheilSen(ts, vs); math.Abs(s-0.5) > 0.01 {
		t.Errorf("one wild point bends the robust slope to %g", s)
	}
}

func TestSeasonHasToBeEarned(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	var daily, noise Season
	for h := range 24 * 10 {
		ms := int64(h) * 3_600_000
		daily.Add(ms, 100+50*math.Sin(2*math.Pi*float64(h%24)/24)+r.NormFloat64())
		noise.Add(ms, 100+r.NormFloat64())
	}
	if !daily.Earned() {
		t.Error("a daily wave has not earned its season")
	}
	if f, ok := daily.Forecast(int64(24*10+6)*3_600_000 + 1_800_000); !ok || math.Abs(f-150) > 10 {
		t.Errorf("forecast for the sixth hour: got %g, want about 150", f)
	}
	if noise.Earned() && noise.Hours < 48 {
		t.Error("noise earned a season within two days")
	}
}

func TestScaleIsInvariantToUnits(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	var a, b Scale
	for range 1000 {
		x := r.NormFloat64()
		za, zb := a.Z(x), b.Z(1000*x+5e4)
		if a.N > 20 && math.Abs(za-zb) > 1e-6*math.Abs(za)+1e-6 {
			t.Fatalf("z of %g is %g, in other units %g", x, za, zb)
		}
		a.Add(x, 500)
		b.Add(1000*x+5e4, 500)
	}
}

func TestStateSurvivesASnapshot(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	var c Calibration
	var s Season
	var ring Ring
	for i := range 3000 {
		c.Add(r.NormFloat64())
		s.Add(int64(i)*600_000, r.Float64())
		ring.Add(int64(i)*60_000, r.Float64(), 120_000, 3_600_000)
	}
	w := &snapshot.Writer{}
	c.Write(w)
	s.Write(w)
	ring.Write(w)
	var c2 Calibration
	var s2 Season
	var ring2 Ring
	rd := snapshot.NewReader(w.Data())
	c2.Read(rd)
	s2.Read(rd)
	ring2.Read(rd)
	if err := rd.Close(); err != nil {
		t.Fatal(err)
	}
	w2 := &snapshot.Writer{}
	c2.Write(w2)
	s2.Write(w2)
	ring2.Write(w2)
	if !bytes.Equal(w.Data(), w2.Data()) {
		t.Error("state written, read and written again differs")
	}
}

func FuzzRead(f *testing.F) {
	var c Calibration
	for i := range 100 {
		c.Add(float64(i))
	}
	w := &snapshot.Writer{}
	c.Write(w)
	f.Add(w.Data())
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Calibration
		c.Read(snapshot.NewReader(b))
		c.Prob(3)
		c.Add(1)
		var s Season
		s.Read(snapshot.NewReader(b))
		s.Add(1, 1)
		s.Forecast(1)
		var r Ring
		r.Read(snapshot.NewReader(b))
		var m Means
		m.Read(snapshot.NewReader(b))
		m.Add(1, 1, 0, 1<<40)
		ts, vs := m.Append(nil, nil)
		Fit(ts, vs, 1)
		var rare Rarity
		rare.Read(snapshot.NewReader(b))
		rare.Add(1, 1)
		if p := rare.Prob(3); !(p > 0 && p <= 1) {
			t.Errorf("a probability of %v", p)
		}
	})
}

func TestThinnedCountsHaveTheLawOfWhatIsSeenOfThem(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	var all, seen GammaPoisson
	for range 20_000 {
		n, k := 0, 0.0
		for range 30 + 40*r.IntN(2) { // wider than Poisson's
			n++
			if r.IntN(10) == 0 {
				k++
			}
		}
		all.Add(float64(n), 1e9)
		seen.Add(k, 1e9)
	}
	thin := all.Thinned(10)
	if m := thin.Mean() / seen.Mean(); math.Abs(m-1) > 0.02 {
		t.Errorf("mean %v, seen %v", thin.Mean(), seen.Mean())
	}
	if v := thin.Sum2 / seen.Sum2; math.Abs(v-1) > 0.03 {
		t.Errorf("squares %v, seen %v", thin.Sum2, seen.Sum2)
	}
	if same := all.Thinned(1); same != all {
		t.Errorf("thinned by one %v, want %v", same, all)
	}
}

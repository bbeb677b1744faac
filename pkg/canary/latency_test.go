package canary

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// classic makes a distribution of cumulative counts at bounds, the last one
// being at infinity.
func classic(t *testing.T, bounds []float64, counts ...float64) *Distribution {
	t.Helper()
	var buckets []Bucket
	low, before := math.Inf(-1), 0.0
	for i, n := range counts {
		high := math.Inf(1)
		if i < len(bounds) {
			high = bounds[i]
		}
		buckets = append(buckets, Bucket{low, high, n - before})
		low, before = high, n
	}
	d, err := NewDistribution(buckets)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var seconds = []float64{0.05, 0.1, 0.25, 0.5, 1}

func TestQuantilesAreThoseOfPrometheus(t *testing.T) {
	d := classic(t, seconds, 100, 600, 900, 960, 990, 1000)
	// histogram_quantile of the same buckets.
	for q, want := range map[float64]float64{0.05: 0.025, 0.5: 0.09, 0.9: 0.25, 0.95: 0.25 + 0.25*50/60, 0.99: 1, 0.999: math.Inf(1)} {
		if got := d.Quantile(q); math.Abs(got-want) > 1e-9 && got != want {
			t.Errorf("quantile %g: got %g, want %g", q, got, want)
		}
	}
	if got := d.above(0.25); got != 100 {
		t.Errorf("got %g above 0.25, want 100", got)
	}
	if got := d.above(0.375); got != 70 {
		t.Errorf("got %g above 0.375, want 70", got)
	}
}

func TestWhatIsNoHistogramOfLatencies(t *testing.T) {
	inf := math.Inf(1)
	for name, b := range map[string][]Bucket{
		"no bucket":               nil,
		"only one that ends not":  {{0, inf, 7}},
		"a negative count":        {{0, 1, 5}, {1, 2, -3}},
		"a count of not a number": {{0, 1, math.NaN()}},
		"latencies below nought":  {{-2, -1, 5}, {0, 1, 5}},
		"buckets that overlap":    {{0, 2, 5}, {1, 3, 5}},
	} {
		if _, err := NewDistribution(b); !errors.Is(err, ErrHistogram) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A native histogram has gaps where nothing fell.
func TestGapsBetweenBuckets(t *testing.T) {
	d, err := NewDistribution([]Bucket{{4, 8, 10}, {0.5, 1, 90}})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Quantile(0.95); got != 6 {
		t.Errorf("p95: got %g, want 6", got)
	}
	if got := d.above(2); got != 10 {
		t.Errorf("above 2: got %g, want 10", got)
	}
}

func TestHistogramVerdicts(t *testing.T) {
	scale := func(d *Distribution, n float64) *Distribution { return d.times(n) }
	normal := classic(t, seconds, 100, 600, 900, 960, 998, 1000)
	slow := classic(t, seconds, 100, 500, 700, 860, 998, 1000)
	lost := classic(t, seconds, 10, 60, 90, 96, 98, 1000)
	for name, c := range map[string]struct {
		canary, baseline *Distribution
		want             Verdict
		says             string
	}{
		"the same, of many requests":              {scale(normal, 100), scale(normal, 100), Continue, "between"},
		"the same, of a thousand requests":        {normal, scale(normal, 10), Hold, "allowed +20 %"},
		"the same, of a hundred requests":         {scale(normal, 0.1), normal, Hold, "of fewer than 200 it says little"},
		"twice as slow":                           {scale(slow, 10), scale(normal, 10), Rollback, ""},
		"most lie above the highest bucket":       {lost, normal, Rollback, "canary above 1 s"},
		"the baseline is above the highest":       {normal, lost, Hold, "it needs higher buckets"},
		"a histogram of one side only":            {normal, nil, Hold, "a histogram of one side only"},
		"the bucket is wider than what is looked": {scale(normal, 100), scale(normal, 100), Continue, "the bucket it lies in is 2x wide"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Default()
			p.MaxP99Regression = 0
			in := Input{Canary: Side{Counts: Counts{1e6, 1e6}, Latency: c.canary}, Baseline: Side{Counts: Counts{1e6, 1e6}, Latency: c.baseline}}
			got := p.Judge(in)
			if got.Verdict != c.want || !strings.Contains(got.Checks[1].Reason, c.says) {
				t.Errorf("got %s %q, want %s, %q", got.Verdict, got.Checks[1].Reason, c.want, c.says)
			}
			if got.Verdict == Hold && strings.HasPrefix(name, "the same") && (got.NeededRequests == nil || *got.MoreRequests <= 0) {
				t.Errorf("nothing is needed: %+v", got)
			}
		})
	}
}

// A canary at exactly the allowed regression, looked at after every two hundred
// requests: the share of canaries that continue at any look.
func TestFalseContinueOfLatencies(t *testing.T) {
	const runs, looks, each = 100, 25, 200
	rng := rand.New(rand.NewPCG(3, 4))
	p := Default()
	wrong := 0
	bounds := make([]float64, 60)
	for i := range bounds {
		bounds[i] = 0.01 * math.Pow(1.12, float64(i))
	}
	for range runs {
		count := [2][]float64{make([]float64, len(bounds)+1), make([]float64, len(bounds)+1)}
		for look := range looks {
			for range each {
				for side, slower := range []float64{1 + p.MaxP95Regression, 1} {
					x := 0.1 * slower * math.Exp(0.7*rng.NormFloat64())
					i := 0
					for i < len(bounds) && bounds[i] < x {
						i++
					}
					count[side][i]++
				}
			}
			var d [2]*Distribution
			for side := range d {
				sum := 0.0
				cum := make([]float64, len(count[side]))
				for i, n := range count[side] {
					sum += n
					cum[i] = sum
				}
				d[side] = classic(t, bounds, cum...)
			}
			if look > 0 && d[0].Quantile(0.95)/d[1].Quantile(0.95)-1 < p.MaxP95Regression && excludesRatio(d[0], d[1], 0.95, 1+p.MaxP95Regression, p.Alpha) {
				wrong++
				break
			}
		}
	}
	if share := float64(wrong) / runs; share > p.Alpha {
		t.Errorf("%.3f of the canaries continue, want at most %g", share, p.Alpha)
	}
}

func repeat(n int, x float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = x
	}
	return out
}

func TestSamples(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	noisy := func(n int, mean float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = mean * math.Exp(0.1*rng.NormFloat64())
		}
		return out
	}
	for name, c := range map[string]struct {
		canary, baseline []float64
		want             Verdict
	}{
		"the same":                          {noisy(64, 1), noisy(64, 1), Continue},
		"twice as slow":                     {noisy(64, 2), noisy(64, 1), Rollback},
		"the same but few":                  {noisy(7, 1), noisy(64, 1), Hold},
		"none on one side":                  {nil, noisy(64, 1), Hold},
		"one is not a number":               {append(noisy(20, 1), math.NaN()), noisy(64, 1), Hold},
		"all are the same constant":         {repeat(20, 1), repeat(20, 1), Continue},
		"kayenta's trap, the bad ones last": {append(repeat(3, 1), repeat(7, 100)...), repeat(10, 1), Hold},
		"kayenta's trap":                    {append(repeat(7, 100), repeat(3, 1)...), repeat(10, 1), Rollback},
		// A rank test alone lets these through.
		"three of twenty a hundred times worse": {append(repeat(17, 1), repeat(3, 100)...), repeat(20, 1), Hold},
	} {
		t.Run(name, func(t *testing.T) {
			got := Default().Judge(Input{Canary: Side{Counts: Counts{1e6, 1e6}, Samples: c.canary}, Baseline: Side{Counts: Counts{1e6, 1e6}, Samples: c.baseline}})
			if got.Verdict != c.want {
				t.Errorf("got %s %q, want %s", got.Verdict, got.Reasons, c.want)
			}
			if len(c.canary) > 0 && len(c.canary) < leastSamples && got.NeededRequests != nil {
				t.Errorf("samples are not requests: %+v", got)
			}
		})
	}
}

// The order of the samples does not make the trap pass, nor do more looks.
func TestTheTrapNeverPasses(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, looks := range []Looks{AnyLooks, OneLook} {
		p := Default()
		p.Looks = looks
		for bad := 1; bad <= 10; bad++ {
			for range 50 {
				canary := append(repeat(bad, 100), repeat(10-bad, 1)...)
				rng.Shuffle(len(canary), func(i, j int) { canary[i], canary[j] = canary[j], canary[i] })
				in := Input{Canary: Side{Counts: Counts{1e6, 1e6}, Samples: canary}, Baseline: Side{Counts: Counts{1e6, 1e6}, Samples: repeat(10, 1)}}
				if got := p.Judge(in); got.Verdict == Continue {
					t.Fatalf("%v continues: %q", canary, got.Reasons)
				}
			}
		}
	}
}

func TestMannWhitney(t *testing.T) {
	for name, c := range map[string]struct {
		canary, baseline []float64
		effect, larger   float64
	}{
		// R: wilcox.test(x, y, alternative="greater", exact=FALSE)
		"some ties":     {[]float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30}, []float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}, 58. / 81, 0.06646},
		"all the same":  {repeat(9, 1), repeat(9, 1), 0.5, 1},
		"wholly larger": {[]float64{9, 10, 11, 12}, []float64{1, 2, 3, 4}, 1, 0.01518},
		"nothing":       {nil, []float64{1}, 0.5, 1},
	} {
		got := MannWhitney(c.canary, c.baseline)
		if math.Abs(got.Effect-c.effect) > 1e-9 || math.Abs(got.Larger-c.larger) > 2e-5 {
			t.Errorf("%s: got %+v, want effect %g, larger %g", name, got, c.effect, c.larger)
		}
		if back := MannWhitney(c.baseline, c.canary); math.Abs(back.Smaller-got.Larger) > 1e-12 || math.Abs(back.Effect-(1-got.Effect)) > 1e-12 {
			t.Errorf("%s: the other way round is %+v of %+v", name, back, got)
		}
	}
}

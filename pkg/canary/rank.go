package canary

import (
	"math"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/stat"
)

// Rank is the comparison of two sets of samples by their ranks.
type Rank struct {
	// Effect is the probability that a sample of the canary is larger than one of
	// the baseline, ties counting half: 0.5 is no difference (Vargha and Delaney).
	Effect float64
	// Larger and Smaller are the one-sided p-values of the Mann-Whitney test for
	// the canary being larger, and smaller.
	Larger, Smaller float64
}

// MannWhitney compares two sets of samples. The p-values are those of the normal
// approximation with corrections for ties and continuity, good from about eight
// samples of each on.
func MannWhitney(canary, baseline []float64) Rank {
	n, m := float64(len(canary)), float64(len(baseline))
	if n == 0 || m == 0 {
		return Rank{0.5, 1, 1}
	}
	x, y := slices.Sorted(slices.Values(canary)), slices.Sorted(slices.Values(baseline))
	var u, ties float64
	for i, j := 0, 0; i < len(x) || j < len(y); {
		v := math.Inf(1)
		if i < len(x) {
			v = x[i]
		}
		if j < len(y) {
			v = min(v, y[j])
		}
		var a, b float64
		for ; i < len(x) && x[i] == v; i++ {
			a++
		}
		below := float64(j)
		for ; j < len(y) && y[j] == v; j++ {
			b++
		}
		u += a * (below + b/2)
		t := a + b
		ties += t*t*t - t
	}
	r := Rank{Effect: u / (n * m), Larger: 1, Smaller: 1}
	total := n + m
	sigma := math.Sqrt(n * m / 12 * (total + 1 - ties/(total*(total-1))))
	if sigma > 0 {
		r.Larger = stat.NormalTail((u - n*m/2 - 0.5) / sigma)
		r.Smaller = stat.NormalTail((n*m/2 - u - 0.5) / sigma)
	}
	return r
}

// leastSamples is the fewest samples of a side that are compared.
const leastSamples = 8

// looked is how many of the first samples a test may look at, and what share of
// alpha it may spend on that: with 8, 16, 32 … samples, for the j-th time
// alpha/(j(j+1)), which adds up to alpha however long the canary runs. Between
// two of these sizes it says what it said before, so that asking more often
// changes nothing.
func looked(n int, alpha float64, looks Looks) (int, float64) {
	if looks == OneLook {
		return n, alpha
	}
	size, j := leastSamples, 1.0
	for size*2 <= n {
		size, j = size*2, j+1
	}
	return size, alpha / (j * (j + 1))
}

// sampleQuantile is the smallest sample that a share q of them does not exceed.
func sampleQuantile(samples []float64, q float64) float64 {
	x := slices.Sorted(slices.Values(samples))
	return x[max(0, int(math.Ceil(q*float64(len(x))))-1)]
}

func scaled(samples []float64, by float64) []float64 {
	out := make([]float64, len(samples))
	for i, x := range samples {
		out[i] = x * by
	}
	return out
}

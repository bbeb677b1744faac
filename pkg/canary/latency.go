package canary

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// Distribution is how many requests took at most how long: a histogram whose
// counts are summed up. Between two bounds requests are taken to be spread
// evenly, as Prometheus' histogram_quantile does.
type Distribution struct {
	bounds []float64 // ascending, finite
	counts []float64 // requests up to each bound
	total  float64
}

// Bucket is the number of requests above Low and up to High. High may be
// infinite.
type Bucket struct{ Low, High, Count float64 }

// ErrHistogram is wrapped by the errors of [NewDistribution].
var ErrHistogram = errors.New("not a histogram of latencies")

// NewDistribution makes a distribution of buckets that do not overlap.
func NewDistribution(buckets []Bucket) (*Distribution, error) {
	buckets = slices.Clone(buckets)
	slices.SortFunc(buckets, func(a, b Bucket) int {
		switch {
		case a.High < b.High:
			return -1
		case a.High > b.High:
			return 1
		}
		return 0
	})
	d := &Distribution{}
	for _, b := range buckets {
		// Cumulative counters that are read one after the other may be off by a few.
		if !finite(b.Count) || b.Count < -1e-6*(1+d.total) || math.IsNaN(b.Low) || math.IsNaN(b.High) {
			return nil, fmt.Errorf("%w: %g requests between %g and %g", ErrHistogram, b.Count, b.Low, b.High)
		}
		b.Count = max(0, b.Count)
		if b.High < 0 && b.Count > 0 {
			return nil, fmt.Errorf("%w: %g requests took less than no time", ErrHistogram, b.Count)
		}
		b.Low = max(0, b.Low)
		if n := len(d.bounds); n > 0 && b.Low < d.bounds[n-1]*(1-1e-9) {
			return nil, fmt.Errorf("%w: the bucket that ends at %g begins below %g", ErrHistogram, b.High, d.bounds[n-1])
		} else if (n == 0 || b.Low > d.bounds[n-1]) && finite(b.Low) {
			d.add(b.Low)
		}
		d.total += b.Count
		if finite(b.High) && b.High > 0 {
			d.add(b.High)
		}
	}
	if len(d.bounds) == 0 || d.top() <= 0 {
		return nil, fmt.Errorf("%w: it has no bucket with an end", ErrHistogram)
	}
	return d, nil
}

func (d *Distribution) add(bound float64) {
	if n := len(d.bounds); n > 0 && bound <= d.bounds[n-1] {
		d.counts[n-1] = d.total
		return
	}
	d.bounds, d.counts = append(d.bounds, bound), append(d.counts, d.total)
}

// Total is the number of requests.
func (d *Distribution) Total() float64 { return d.total }

// above is how many requests took longer than x, which is at most the highest
// bound.
func (d *Distribution) above(x float64) float64 {
	i := sort.SearchFloat64s(d.bounds, x)
	switch {
	case i == len(d.bounds):
		return d.total - d.counts[i-1]
	case i == 0:
		return d.total - d.counts[0]
	}
	share := (x - d.bounds[i-1]) / (d.bounds[i] - d.bounds[i-1])
	return d.total - d.counts[i-1] - share*(d.counts[i]-d.counts[i-1])
}

// Quantile is the latency that a share q of the requests does not exceed;
// infinite when it lies above the highest bound.
func (d *Distribution) Quantile(q float64) float64 {
	want := q * d.total
	i := sort.SearchFloat64s(d.counts, want)
	switch {
	case i == len(d.counts):
		return math.Inf(1)
	case i == 0:
		return d.bounds[0]
	}
	share := (want - d.counts[i-1]) / (d.counts[i] - d.counts[i-1])
	return d.bounds[i-1] + share*(d.bounds[i]-d.bounds[i-1])
}

// width is the bucket that a quantile lies in, as high over low.
func (d *Distribution) width(x float64) float64 {
	i := sort.SearchFloat64s(d.bounds, x)
	if i == 0 || i >= len(d.bounds) || d.bounds[i-1] <= 0 {
		return math.Inf(1)
	}
	return d.bounds[i] / d.bounds[i-1]
}

func (d *Distribution) top() float64 { return d.bounds[len(d.bounds)-1] }

// beyond is how many requests above a quantile make it worth speaking of, and
// the weight of the prior in the same unit.
const beyond = 10

// excludesRatio says whether the canary's quantile cannot be ratio times the
// baseline's, at any look. Above its true quantile a request lies with the
// probability p = 1-q whatever the distribution, so that for each side the
// likelihood averaged over Beta(10, 10/p-10), divided by that under p, is the
// same kind of martingale as in [anytime]; so is the product of the two. The
// true quantiles are not known: the least favourable pair is taken.
func excludesRatio(c, b *Distribution, q, ratio, alpha float64) bool {
	odds := func(x float64) float64 {
		return logOdds(c.above(min(ratio*x, c.top())), c.total, 1-q) + logOdds(b.above(x), b.total, 1-q)
	}
	// One side's odds fall and the other's rise between its own quantile and the
	// other's, so that the least favourable pair lies between.
	from, to := b.Quantile(q), min(c.Quantile(q), c.top())/ratio
	if from > to {
		from, to = to, from
	}
	least := min(odds(from), odds(to))
	if from > 0 {
		const steps = 256
		for i := 1; i < steps; i++ {
			least = min(least, odds(from*math.Pow(to/from, float64(i)/steps)))
		}
	}
	for _, x := range c.bounds {
		if x /= ratio; x > from && x < to {
			least = min(least, odds(x))
		}
	}
	for _, x := range b.bounds {
		if x > from && x < to {
			least = min(least, odds(x))
		}
	}
	return least >= -math.Log(alpha)
}

// logOdds is the log of the martingale of one side: k of n requests lie above
// what a request exceeds with probability p.
func logOdds(k, n, p float64) float64 {
	a, b := float64(beyond), beyond/p-beyond
	return logBeta(a+k, b+n-k) - logBeta(a, b) - times(k, math.Log(p)) - times(n-k, math.Log1p(-p))
}

// ratioInterval is the range of ratios of the quantiles that are not excluded.
func ratioInterval(c, b *Distribution, q, alpha float64) Interval {
	seen := min(c.Quantile(q), c.top()) / b.Quantile(q)
	edge := func(out float64) float64 {
		in := seen
		if !excludesRatio(c, b, q, out, alpha) {
			return out
		}
		for range 40 {
			if mid := math.Sqrt(in * out); excludesRatio(c, b, q, mid, alpha) {
				out = mid
			} else {
				in = mid
			}
		}
		return in
	}
	return Interval{edge(seen / 1000), edge(seen * 1000)}
}

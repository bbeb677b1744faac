package canary

import "math"

// Counts is what one side has served since the canary began.
type Counts struct {
	OK    float64 // requests that went well; NaN when it is not known
	Total float64 // all requests; NaN when it is not known
}

// known says whether both numbers were measured.
func (c Counts) known() bool { return finite(c.OK) && finite(c.Total) }

// failed is the number of failed requests.
func (c Counts) failed() float64 { return max(0, c.Total-c.OK) }

// rate is the share of failed requests; 0 without traffic.
func (c Counts) rate() float64 {
	if c.Total <= 0 {
		return 0
	}
	return c.failed() / c.Total
}

func (c Counts) plus(o Counts) Counts { return Counts{OK: c.OK + o.OK, Total: c.Total + o.Total} }

// Interval is a range of values that the data do not exclude.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// A test excludes a difference between two sides' success rates, or does not.
type test func(canary, baseline Counts, difference float64) bool

// anytime is the test behind the confidence sequence, which stays right however
// often somebody looks.
//
// Give the two unknown failure rates a prior, W. The likelihood of what was seen
// averaged over W, divided by the likelihood under the true rates, is a
// non-negative martingale that begins at 1, so that it ever exceeds 1/alpha with
// a probability of at most alpha (Ville 1939; Robbins 1970). The true rates are
// not known, but a difference is excluded only when the best pair of rates with
// that difference is beaten by 1/alpha, and no true pair is likelier than the
// best (universal inference: Wasserman, Ramdas and Balakrishnan, PNAS 2020). It
// needs neither large numbers nor the order of the requests nor a fixed split of
// the traffic, only that each request fails independently of the others.
func anytime(alpha float64) test {
	return func(c, b Counts, difference float64) bool {
		return logAlternative(c, b)-logBest(c, b, -difference) >= -math.Log(alpha)
	}
}

// once is the score test of Miettinen and Nurminen (1985) at one look: right
// when the number of requests was decided beforehand, and wrong more often with
// every look more.
func once(alpha float64) test {
	z := normalQuantile(1 - alpha/2)
	return func(c, b Counts, difference float64) bool {
		if c.Total <= 0 || b.Total <= 0 {
			return false
		}
		n := c.Total + b.Total
		qc, qb := best(c, b, -difference)
		variance := (qc*(1-qc)/c.Total + qb*(1-qb)/b.Total) * n / max(1, n-1)
		off := math.Abs(b.rate() - c.rate() - difference)
		return off > 0 && off >= z*math.Sqrt(variance)
	}
}

// interval is the range of the differences, canary's success rate less the
// baseline's, that a test does not exclude.
func (excludes test) interval(c, b Counts) Interval {
	seen := b.rate() - c.rate()
	edge := func(out float64) float64 {
		in := seen
		if !excludes(c, b, out) {
			return out
		}
		for range 50 {
			if mid := (in + out) / 2; excludes(c, b, mid) {
				out = mid
			} else {
				in = mid
			}
		}
		return in
	}
	return Interval{edge(-limit), edge(limit)}
}

// limit is the largest difference that is looked at: at 1 itself all canary
// requests fail and none of the baseline's.
const limit = 1 - 1e-9

// best is the likeliest pair of failure rates of which the canary's is higher
// by a difference. The likelihood is concave along that line, so that its slope
// is followed to where it is nought.
func best(c, b Counts, higher float64) (qc, qb float64) {
	fc, gc, fb, gb := c.failed(), c.Total-c.failed(), b.failed(), b.Total-b.failed()
	lo, hi := max(0, -higher), min(1, 1-higher)
	for range 60 {
		q := (lo + hi) / 2
		if fc/(q+higher)-gc/(1-q-higher)+fb/q-gb/(1-q) > 0 {
			lo = q
		} else {
			hi = q
		}
	}
	q := (lo + hi) / 2
	return min(1, max(0, q+higher)), q
}

// logBest is the log likelihood of the best pair of rates with a difference.
func logBest(c, b Counts, higher float64) float64 {
	qc, qb := best(c, b, higher)
	return logLikelihood(c, qc) + logLikelihood(b, qb)
}

func logLikelihood(c Counts, q float64) float64 {
	f := c.failed()
	return times(f, math.Log(q)) + times(c.Total-f, math.Log1p(-q))
}

// times is a product in which nothing of anything is nothing.
func times(n, x float64) float64 {
	if n <= 0 {
		return 0
	}
	return n * x
}

// scales are the second parameters of the priors Beta(1/2, s): failure rates of
// about a half, a tenth, a hundredth and a thousandth.
var scales = [...]float64{0.5, 5, 50, 500}

// logAlternative is the log of the likelihood averaged over the prior W: half
// of it on one rate for both sides, which excludes a regression soonest where
// there is none, and half on a rate for each.
func logAlternative(c, b Counts) float64 {
	return logSum(logMixture(c.plus(b)), logMixture(c)+logMixture(b)) - math.Ln2
}

// logMixture is the log of a likelihood averaged over the scales.
func logMixture(c Counts) float64 {
	f := c.failed()
	sum := math.Inf(-1)
	for _, s := range scales {
		sum = logSum(sum, logBeta(0.5+f, s+c.Total-f)-logBeta(0.5, s))
	}
	return sum - math.Log(float64(len(scales)))
}

func logBeta(a, b float64) float64 {
	x, _ := math.Lgamma(a)
	y, _ := math.Lgamma(b)
	z, _ := math.Lgamma(a + b)
	return x + y - z
}

// logSum is log(exp(a)+exp(b)).
func logSum(a, b float64) float64 {
	hi, lo := max(a, b), min(a, b)
	if math.IsInf(lo, -1) {
		return hi
	}
	return hi + math.Log1p(math.Exp(lo-hi))
}

// normalQuantile is the value below which a standard normal lies with
// probability p.
func normalQuantile(p float64) float64 { return math.Sqrt2 * math.Erfinv(2*p-1) }

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// needed is how many canary requests more would show that the canary is within
// the margin, if from now on both sides failed at the rate of the two together
// and traffic kept its split.
func needed(excludes test, margin float64, c, b Counts) float64 {
	both := c.plus(b)
	split := 1.0
	if c.Total > 0 && b.Total > 0 {
		split = b.Total / c.Total
	}
	shown := func(more float64) bool {
		ok := more * (1 - both.rate())
		x := c.plus(Counts{OK: ok, Total: more})
		y := b.plus(Counts{OK: ok * split, Total: more * split})
		return y.rate()-x.rate() > margin && excludes(x, y, margin)
	}
	return smallest(shown)
}

// smallest is the smallest number at which something holds that holds for all
// larger ones, to a part in a thousand; infinite above [mostRequests].
func smallest(holds func(float64) bool) float64 {
	if holds(0) {
		return 0
	}
	lo, hi := 0.0, 1.0
	for !holds(hi) {
		if lo, hi = hi, hi*2; hi > mostRequests {
			return math.Inf(1)
		}
	}
	for hi-lo > max(1, hi/1000) {
		if mid := (lo + hi) / 2; holds(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return math.Ceil(hi)
}

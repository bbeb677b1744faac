// Package canary decides whether a canary may go on: from counts of requests
// and from latencies of both sides to continue, hold or rollback-advised, with
// reasons and figures. It takes no context, clock or I/O.
//
// Every verdict is read off an interval that holds the truth with probability
// 1-alpha at all looks together, so that a gate may be asked as often as one
// likes: continue when the whole interval is on the good side of the margin,
// rollback-advised when it is on the bad side, hold while it is on both. What
// was not measured is held, never continued.
package canary

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/render"
)

// Verdict is what is to be done with a canary.
type Verdict string

// The verdicts.
const (
	Continue Verdict = "continue"
	Hold     Verdict = "hold"
	Rollback Verdict = "rollback-advised"
)

// gravity orders the verdicts: the gravest of the checks is that of the canary.
func (v Verdict) gravity() int { return slices.Index([]Verdict{Continue, Hold, Rollback}, v) }

// Side is what was measured of the canary or of the baseline.
type Side struct {
	Counts
	// P95 and P99 are bare percentiles, in any one unit; nil when there is none.
	P95, P99 *float64
	// Latency is a histogram since the canary began; nil when there is none.
	Latency *Distribution
	// Samples are values in the order of time, of which larger is worse; empty
	// when there are none.
	Samples []float64
}

// Input is what a verdict is made of.
type Input struct {
	Canary, Baseline Side
	// Over is how long it took to count the requests; 0 when that is not known.
	Over time.Duration
	// Missing says what was to be measured and was not, each with why.
	Missing []string
}

// mostRequests is more than anybody has, and the most that is counted exactly
// enough.
const mostRequests = 1e12

// Validate finds what cannot have been measured. A number that is missing (NaN)
// is no such error: it is held.
func (in Input) Validate() error {
	var errs []error
	for _, s := range []struct {
		name string
		Side
	}{{"canary", in.Canary}, {"baseline", in.Baseline}} {
		for what, x := range map[string]float64{"ok": s.OK, "total": s.Total} {
			if x < 0 || finite(x) && x > mostRequests {
				errs = append(errs, fmt.Errorf("%s %s: %g is not between 0 and %g", s.name, what, x, float64(mostRequests)))
			}
		}
		// Sums of increase() differ in the last digits.
		if s.known() && s.OK > s.Total*(1+1e-9) {
			errs = append(errs, fmt.Errorf("%s: %g of %g requests were ok, more than there were; both are counts, not percentages", s.name, s.OK, s.Total))
		}
		for what, p := range map[string]*float64{"p95": s.P95, "p99": s.P99} {
			if p != nil && *p < 0 {
				errs = append(errs, fmt.Errorf("%s %s: %g is negative; write a latency", s.name, what, *p))
			}
		}
	}
	for what, both := range map[string][2]*float64{"p95": {in.Canary.P95, in.Baseline.P95}, "p99": {in.Canary.P99, in.Baseline.P99}} {
		if (both[0] == nil) != (both[1] == nil) {
			errs = append(errs, fmt.Errorf("%s of one side only: there is nothing to compare it with", what))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Check is one comparison of the two sides.
type Check struct {
	// Name is success, p95, p99, samples, or data for what was not measured.
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
	// Canary and Baseline are success rates (0 to 1), latencies, or for samples
	// their p95; absent when they are not known.
	Canary   *float64 `json:"canary,omitempty"`
	Baseline *float64 `json:"baseline,omitempty"`
	// Difference is the canary's success rate less the baseline's, or by which
	// part of the baseline's the canary's latency is higher.
	Difference *float64 `json:"difference,omitempty"`
	// Interval is the range of differences that the data do not exclude; absent
	// for a bare threshold.
	Interval *Interval `json:"interval,omitempty"`
	// Allowed is the difference from which on it is a regression.
	Allowed float64 `json:"allowed"`
	// Effect is the probability that a sample of the canary is larger than one of
	// the baseline; for samples only.
	Effect *float64 `json:"effect,omitempty"`
	// Needed is how many canary requests, or samples, it takes in all; absent when
	// that is not known or no more are needed.
	Needed *float64 `json:"needed,omitempty"`

	unit string // of Needed
}

// Result is a verdict with everything it was made of.
type Result struct {
	Verdict Verdict `json:"verdict"`
	// Reasons are those of the checks that made the verdict, then the others'.
	Reasons []string `json:"reasons"`
	Checks  []Check  `json:"checks"`
	// CanaryRequests and BaselineRequests are what was counted; absent when that
	// is not known.
	CanaryRequests   *float64 `json:"canary_requests,omitempty"`
	BaselineRequests *float64 `json:"baseline_requests,omitempty"`
	// NeededRequests is how many canary requests it takes in all, if the canary is
	// as good as the baseline; MoreRequests how many of them are still to come, and
	// Minutes how long that takes at the rate so far. With hold only, where known.
	NeededRequests *float64 `json:"needed_requests,omitempty"`
	MoreRequests   *float64 `json:"more_requests,omitempty"`
	Minutes        *float64 `json:"minutes,omitempty"`
	// Confidence is the probability with which every interval holds the truth, at
	// all looks together (looks any) or at one (once).
	Confidence float64 `json:"confidence"`
	Looks      Looks   `json:"looks"`
}

// Judge decides. The input is valid; what is missing in it is held.
func (p Policy) Judge(in Input) Result {
	r := Result{Verdict: Continue, Confidence: 1 - p.Alpha, Looks: p.Looks, CanaryRequests: number(in.Canary.Total), BaselineRequests: number(in.Baseline.Total)}
	for _, why := range in.Missing {
		r.Checks = append(r.Checks, Check{Name: "data", Verdict: Hold, Reason: "not measured: " + why})
	}
	r.Checks = append(r.Checks, p.success(in))
	for _, g := range p.regressions() {
		r.Checks = append(r.Checks, p.percentile(in, g)...)
	}
	if in.Canary.Samples != nil || in.Baseline.Samples != nil {
		r.Checks = append(r.Checks, p.samples(in))
	}
	for _, c := range r.Checks {
		if c.Verdict.gravity() > r.Verdict.gravity() {
			r.Verdict = c.Verdict
		}
	}
	for g := Rollback.gravity(); g >= 0; g-- {
		for _, c := range r.Checks {
			if c.Verdict.gravity() == g {
				r.Reasons = append(r.Reasons, c.Name+": "+c.Reason)
			}
		}
	}
	r.wait(in)
	return r
}

// Unmeasured is the verdict when nothing could be measured: hold.
func (p Policy) Unmeasured(why string) Result {
	nan := Counts{OK: math.NaN(), Total: math.NaN()}
	return p.Judge(Input{Canary: Side{Counts: nan}, Baseline: Side{Counts: nan}, Missing: []string{why}})
}

// wait says how much longer a hold is expected to last.
func (r *Result) wait(in Input) {
	if r.Verdict != Hold || !in.Canary.known() {
		return
	}
	for _, c := range r.Checks {
		switch {
		case c.Verdict != Hold || c.unit != requests:
		case c.Needed == nil:
			r.NeededRequests = nil
			return
		case r.NeededRequests == nil || *c.Needed > *r.NeededRequests:
			r.NeededRequests = c.Needed
		}
	}
	if r.NeededRequests == nil {
		return
	}
	more := math.Ceil(max(0, *r.NeededRequests-in.Canary.Total))
	r.MoreRequests = &more
	if in.Over > 0 && in.Canary.Total > 0 {
		r.Minutes = number(more / in.Canary.Total * in.Over.Minutes())
	}
}

// Headline is the verdict in a line.
func (r Result) Headline() string {
	switch {
	case r.Verdict != Hold:
		return strings.ToUpper(string(r.Verdict))
	case r.NeededRequests == nil || *r.MoreRequests == 0:
		return "HOLD"
	}
	s := fmt.Sprintf("HOLD: %s of ~%s canary requests needed", render.Count(*r.CanaryRequests), render.Count(*r.NeededRequests))
	if r.Minutes != nil {
		s += fmt.Sprintf("; at %.2g rps about %s", *r.MoreRequests / *r.Minutes / 60, minutes(*r.Minutes))
	}
	return s
}

func minutes(m float64) string {
	switch {
	case m < 1.5:
		return "1 min"
	case m < 90:
		return fmt.Sprintf("%.0f min", m)
	case m < 48*60:
		return fmt.Sprintf("%.0f h", m/60)
	}
	return fmt.Sprintf("%.0f days", m/60/24)
}

const requests, samplesUnit = "requests", "samples"

// success compares the success rates.
func (p Policy) success(in Input) Check {
	c, b := in.Canary.Counts, in.Baseline.Counts
	k := Check{Name: "success", Verdict: Hold, Allowed: p.MinSuccessDelta, unit: requests}
	var missing []string
	for _, m := range []struct {
		name string
		x    float64
	}{{"canary ok", c.OK}, {"canary total", c.Total}, {"baseline ok", b.OK}, {"baseline total", b.Total}} {
		if !finite(m.x) {
			missing = append(missing, fmt.Sprintf("%s (%g)", m.name, m.x))
		}
	}
	if missing != nil {
		k.Reason = "not measured: " + strings.Join(missing, ", ")
		return k
	}
	all := max(c.Total+needed(p.test(), p.MinSuccessDelta, c, b), p.MinRequests)
	switch {
	case c.Total == 0 && b.Total == 0:
		k.Reason = "no traffic: neither canary nor baseline has served a request"
	case c.Total == 0:
		k.Reason = "no traffic: the canary has served no request"
	case b.Total == 0:
		k.Reason = "no traffic: the baseline has served no request, so that there is nothing to compare with"
	}
	if k.Reason != "" {
		if c.Total == 0 { // else it is the baseline that needs them, and no more of these help
			k.Needed = number(all)
		}
		return k
	}
	i := p.test().interval(c, b)
	k.Canary, k.Baseline, k.Difference, k.Interval = number(1-c.rate()), number(1-b.rate()), number(b.rate()-c.rate()), &i
	k.Reason = fmt.Sprintf("canary %s (%s of %s), baseline %s (%s of %s): %s, between %s and %s; allowed %s",
		percent(1-c.rate()), render.Count(c.OK), render.Count(c.Total), percent(1-b.rate()), render.Count(b.OK), render.Count(b.Total),
		points(*k.Difference), points(i.Low), points(i.High), points(p.MinSuccessDelta))
	k.Verdict = p.decide(c, b)
	if k.Verdict != Hold {
		return k
	}
	k.Needed = number(all)
	switch {
	case i.Low <= p.MinSuccessDelta:
		k.Reason += "; too few requests to tell"
	case c.Total < p.MinRequests:
		k.Reason += fmt.Sprintf("; the canary has served %s requests, fewer than min_requests %s", render.Count(c.Total), render.Count(p.MinRequests))
	default:
		k.Reason += fmt.Sprintf("; the baseline has served %s requests, fewer than min_requests %s", render.Count(b.Total), render.Count(p.MinRequests))
		k.Needed = number(math.Ceil(c.Total * p.MinRequests / b.Total))
	}
	return k
}

// decide is the verdict on the success rates of two sides with traffic.
func (p Policy) decide(c, b Counts) Verdict {
	switch excluded := p.test()(c, b, p.MinSuccessDelta); {
	case !excluded:
		return Hold
	case b.rate()-c.rate() < p.MinSuccessDelta:
		return Rollback // however few they are: the test is exact
	case c.Total < p.MinRequests || b.Total < p.MinRequests:
		return Hold
	}
	return Continue
}

// percentile compares one percentile: of histograms, or as a threshold when
// that is all there is. It is none or one check.
func (p Policy) percentile(in Input, g regression) []Check {
	k := Check{Name: fmt.Sprintf("p%.0f", 100*g.quantile), Verdict: Hold, Allowed: g.allowed, unit: requests}
	c, b := in.Canary, in.Baseline
	switch {
	case c.Latency != nil && b.Latency != nil:
		p.histograms(&k, in, g)
	case c.Latency != nil || b.Latency != nil:
		k.Reason = "not measured: a histogram of one side only"
	case g.quantile == 0.95 && c.P95 != nil:
		threshold(&k, *c.P95, *b.P95, c.Total, b.Total, g)
	case g.quantile == 0.99 && c.P99 != nil:
		threshold(&k, *c.P99, *b.P99, c.Total, b.Total, g)
	default:
		return nil
	}
	return []Check{k}
}

// threshold compares two bare percentiles.
func threshold(k *Check, c, b, n, m float64, g regression) {
	least := math.Ceil(beyond/(1-g.quantile) - 1e-6)
	switch {
	case !finite(c) || !finite(b):
		k.Reason = fmt.Sprintf("not measured: canary %g, baseline %g", c, b)
		return
	case b == 0:
		k.Reason = fmt.Sprintf("canary %g, baseline 0: there is nothing to compare with", c)
		return
	}
	change := c/b - 1
	k.Canary, k.Baseline, k.Difference = &c, &b, number(change)
	k.Reason = fmt.Sprintf("canary %.4g, baseline %.4g: %+.1f %%; allowed +%.0f %%; a threshold: a bare percentile does not say how sure it is", c, b, 100*change, 100*g.allowed)
	switch {
	// Written so that NaN is too few.
	case !(n >= least) || !(m >= least):
		k.Reason += fmt.Sprintf(", and of fewer than %.0f requests says little", least)
		if m > 0 && n > 0 {
			k.Needed = number(max(least, math.Ceil(n*least/m)))
		} else {
			k.Needed = number(least)
		}
	case change > g.allowed:
		k.Verdict = Rollback
	default:
		k.Verdict = Continue
	}
}

// histograms compares a quantile of two histograms.
func (p Policy) histograms(k *Check, in Input, g regression) {
	c, b := in.Canary.Latency, in.Baseline.Latency
	least := beyond / (1 - g.quantile)
	if c.total < least || b.total < least {
		k.Reason = fmt.Sprintf("%s canary and %s baseline requests in the histograms; of fewer than %.0f it says little", render.Count(c.total), render.Count(b.total), least)
		if b.total > 0 && c.total > 0 {
			least = max(least, c.total*least/b.total)
		}
		k.Needed = number(math.Ceil(in.Canary.Total + max(0, least-c.total)))
		return
	}
	x, y := c.Quantile(g.quantile), b.Quantile(g.quantile)
	if !finite(y) || y <= 0 {
		k.Reason = fmt.Sprintf("the baseline's lies outside its histogram, above %.4g s; it needs higher buckets", b.top())
		return
	}
	i := ratioInterval(c, b, g.quantile, p.Alpha)
	i.Low, i.High = i.Low-1, i.High-1
	k.Canary, k.Baseline, k.Interval = number(x), number(y), &i
	seen := fmt.Sprintf("%.4g s", x)
	if finite(x) {
		k.Difference = number(x/y - 1)
	} else {
		seen = fmt.Sprintf("above %.4g s", c.top())
	}
	k.Reason = fmt.Sprintf("canary %s, baseline %.4g s: between %+.0f %% and %+.0f %%; allowed +%.0f %%", seen, y, 100*i.Low, 100*i.High, 100*g.allowed)
	if b.width(y) > 1+g.allowed {
		k.Reason += fmt.Sprintf("; the bucket it lies in is %.2gx wide, requests in it are taken to be spread evenly", b.width(y))
	}
	switch {
	case i.Low > g.allowed:
		k.Verdict = Rollback
	case finite(x) && i.High < g.allowed:
		k.Verdict = Continue
	case finite(x) && x/y-1 < g.allowed:
		times := smallest(func(more float64) bool { return !ratioHolds(c, b, g, p.Alpha, 1+more/100) }) // hundredths of what there is
		k.Needed = number(math.Ceil(in.Canary.Total + c.total*times/100))
	}
}

// ratioHolds says whether the allowed regression is not excluded with so many
// times the requests there are.
func ratioHolds(c, b *Distribution, g regression, alpha, times float64) bool {
	return !excludesRatio(c.times(times), b.times(times), g.quantile, 1+g.allowed, alpha)
}

func (d *Distribution) times(by float64) *Distribution {
	return &Distribution{bounds: d.bounds, counts: scaled(d.counts, by), total: d.total * by}
}

// samples compares two sets of samples: by rank whether the canary's, made
// smaller by what is allowed, are larger; and their p95, since a rank test does
// not see a few values that are very much worse.
func (p Policy) samples(in Input) Check {
	c, b := in.Canary.Samples, in.Baseline.Samples
	allowed := p.MaxP95Regression
	k := Check{Name: "samples", Verdict: Hold, Allowed: allowed, unit: samplesUnit}
	bad := func(x float64) bool { return !finite(x) || x < 0 }
	switch {
	case slices.ContainsFunc(c, bad) || slices.ContainsFunc(b, bad):
		k.Reason = "not measured: a sample is not a number, or negative"
		return k
	case len(c) < leastSamples || len(b) < leastSamples:
		k.Reason = fmt.Sprintf("%d canary and %d baseline samples, fewer than %d", len(c), len(b), leastSamples)
		k.Needed = number(leastSamples)
		return k
	}
	n, alpha := looked(min(len(c), len(b)), p.Alpha, p.Looks)
	first, other := c[:n], b[:n]
	if p.Looks == OneLook {
		first, other = c, b
	}
	shifted := MannWhitney(first, scaled(other, 1+allowed))
	effect := MannWhitney(first, other).Effect
	x, y := sampleQuantile(c, 0.95), sampleQuantile(b, 0.95)
	k.Canary, k.Baseline, k.Effect = &x, &y, &effect
	if y > 0 {
		k.Difference = number(x/y - 1)
	}
	k.Reason = fmt.Sprintf("canary %d, baseline %d: a canary sample is the larger one with probability %.2f; p95 %.4g against %.4g; allowed +%.0f %%", len(c), len(b), effect, x, y, 100*allowed)
	switch {
	case shifted.Larger <= alpha:
		k.Verdict = Rollback
		k.Reason += fmt.Sprintf("; larger by more than that (Mann-Whitney p %.2g of %d each)", shifted.Larger, n)
	case shifted.Smaller > alpha:
		k.Reason += fmt.Sprintf("; not shown to be within that (Mann-Whitney p %.2g of %d each, needs %.2g)", shifted.Smaller, n, alpha)
		if p.Looks == AnyLooks {
			k.Needed = number(float64(2 * n))
		}
	case x > y*(1+allowed):
		k.Reason += "; by rank within that, but its worst values are not"
	default:
		k.Verdict = Continue
		k.Reason += fmt.Sprintf("; within that (Mann-Whitney p %.2g of %d each)", shifted.Smaller, n)
	}
	return k
}

// number is a pointer to a number that can be written; nil for others.
func number(x float64) *float64 {
	if !finite(x) {
		return nil
	}
	return &x
}

// percent is a share as people write it, with the digits that tell failures.
func percent(share float64) string {
	digits := 2
	for gap := 1 - share; gap > 0 && gap < 0.001 && digits < 6; gap *= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f %%", digits, 100*share)
}

// points is a difference of shares in percentage points.
func points(d float64) string { return fmt.Sprintf("%+.2f points", 100*d) }

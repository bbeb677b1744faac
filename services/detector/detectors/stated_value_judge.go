package detectors

import (
	"fmt"
	"math"
	"strconv"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// judge holds a block against what is usual.
func (v *statedValue) judge(cfg *LogValueShiftConfig) (worst *oddValue) {
	b := &v.block
	note := func(o *oddValue) {
		if o != nil && o.p <= cfg.P && (worst == nil || o.p < worst.p) {
			worst = o
		}
	}
	if v.kind&states != 0 {
		for i := range v.classes {
			note(v.judgeState(&v.classes[i], cfg))
		}
	}
	// A number that moved says more than that others came.
	if v.kind&numbers != 0 && b.nums >= cfg.MinLines {
		if o := v.judgeNumbers(cfg); o != nil && o.p <= cfg.P && !v.codes {
			return o
		}
	}
	return worst
}

// judgeState holds the share of a state against its usual one. A state that stays
// what it is for the life of a pod is where or what it is, not how it does; and one
// that was never seen before must come and go: a version or a leader only comes.
func (v *statedValue) judgeState(c *stateShare, cfg *LogValueShiftConfig) *oddValue {
	w := stat.Window{K: c.k, N: v.block.n, Hour: v.block.start / 60}
	mean, share := c.shift.Mean(), c.k/v.block.n
	if c.k < fewestOdd || share < mean+cfg.MinShift || share < cfg.MinRatio*mean || c.comes+c.leaves == 0 {
		return nil
	}
	// Further than any state went: callers that take turns each have their first.
	if v.distance(c) < 1.5*v.farthest {
		return nil
	}
	p := c.shift.Tail(w)
	if v.isNew(c) {
		if c.comes == 0 || c.leaves == 0 {
			return nil
		}
		news := w
		news.K = v.news()
		p = max(p, v.fresh.Tail(news))
	}
	onset := c.first
	if onset == 0 {
		onset = v.block.start * minute
	}
	high := mean + float64(1.5*max(0, c.shift.Most-mean))
	usual := "none"
	if c.shift.Usual.K > 0 {
		usual = quantity(mean, "1")
	}
	return &oddValue{
		p: stat.Prob(p * float64(len(v.classes))), class: c.text, observed: share, low: 0, high: min(1, high), lines: v.block.n, onset: onset,
		said: fmt.Sprintf("%s rose from %s to %s of the lines", v.stating(c.text), usual, quantity(share, "1")),
	}
}

// distance is how far the share of a state in the block is above the usual one, in
// units of the deviation of a single line.
func (v *statedValue) distance(c *stateShare) float64 {
	mean := max(c.shift.Mean(), 1/v.block.n)
	return (c.k/v.block.n - mean) / math.Sqrt(mean*(1-mean)+1e-9)
}

// judgeNumbers holds numbers against the usual quantiles: many beyond the 95th
// percentile, or nearly all on one side of the median.
func (v *statedValue) judgeNumbers(cfg *LogValueShiftConfig) *oddValue {
	b := &v.block
	w := func(k float64) stat.Window { return stat.Window{K: k, N: b.nums, Hour: b.start / 60} }
	was, is := v.hist.Quantile(0.95), b.hist.Quantile(0.95)
	wasMedian, isMedian := v.hist.Quantile(0.5), b.hist.Quantile(0.5)
	p := 1.0
	if k := b.over; k >= fewestOdd && k >= 0.25*b.nums && is >= cfg.MinRatio*was {
		p = v.over.Tail(w(k))
	}
	if k := b.up; k >= fewestOdd && k >= 0.8*b.nums && isMedian >= cfg.MinRatio*wasMedian {
		p = min(p, v.up.Tail(w(k)))
	}
	if k := b.under; k >= fewestOdd && k >= 0.8*b.nums && isMedian*cfg.MinRatio <= wasMedian {
		p = min(p, v.under.Tail(w(k)))
	}
	if p == 1 {
		return nil
	}
	o := &oddValue{p: stat.Prob(3 * p), onset: b.start * minute, observed: is, low: v.hist.Quantile(0.5), high: was, lines: b.nums}
	o.said = fmt.Sprintf("%s moved: p95 %s → %s, median %s → %s", v.title(), quantity(was, v.unit), quantity(is, v.unit), quantity(wasMedian, v.unit), quantity(isMedian, v.unit))
	if b.first != 0 && is > was {
		o.onset = b.first
	}
	if isMedian < wasMedian && is <= was {
		o.observed, o.low, o.high = isMedian, v.hist.Quantile(0.05), was
	}
	return o
}

// quantity writes a value with as many digits as a sketch knows of it.
func quantity(x float64, unit string) string {
	x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 2, 64), 64)
	if unit == "" {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return number(x, unit)
}

// isOdd says whether what a line states is what is odd.
func (v *statedValue) isOdd(f *logpattern.Field) bool {
	switch {
	case v.odd.class != "":
		return v.classOf(f.Text) == v.odd.class
	case v.odd.observed >= v.odd.high:
		return f.IsNum && f.Value > v.odd.high
	}
	return f.IsNum
}

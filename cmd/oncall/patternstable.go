package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/pkg/triage"
)

// patternSummary is what --summary writes.
type patternSummary struct {
	Lines    int             `json:"lines"`
	Over     string          `json:"over"` // what sparklines go over: time, or lines
	Patterns []patternSummed `json:"patterns"`
}

// patternSummed is a pattern of one log.
type patternSummed struct {
	Pattern   string  `json:"pattern"`
	Template  string  `json:"template"`
	Count     int     `json:"count"` // a stack trace is one
	Share     float64 `json:"share"` // of all records
	Level     string  `json:"level"` // the worst that a line states
	First     place   `json:"first"` // in the order of the log
	Last      place   `json:"last"`
	Sparkline string  `json:"sparkline"`
}

// sparkPoints is how many points a sparkline has.
const sparkPoints = 20

func (o *options) summarizePatterns(name string, stdin io.Reader) error {
	m := logpattern.New(logpattern.Config{})
	l, err := readLog(m, name, stdin)
	if err != nil {
		return err
	}
	l.settle(m)
	s := summarize(m, l)
	var rows [][]string
	for _, p := range s.Patterns {
		rows = append(rows, []string{fmt.Sprint(p.Count), fmt.Sprintf("%.1f%%", 100*p.Share), p.Level, p.First.String(), p.Last.String(), p.Sparkline, p.Pattern, render.Clip(p.Template, 160)})
	}
	return o.list(s, []string{"count", "share", "level", "first", "last", "over " + s.Over, "pattern", "template"}, rows)
}

func summarize(m *logpattern.Miner, l *logged) patternSummary {
	s := patternSummary{Lines: l.lines, Over: "lines", Patterns: []patternSummed{}}
	at := func(i int) int { return i * sparkPoints / len(l.ids) }
	if from, to, ok := l.span(); ok && to > from {
		s.Over = "time"
		at = func(i int) int {
			if l.times[i] == noTime {
				return -1
			}
			return int(float64(l.times[i]-from) / float64(to-from) * (sparkPoints - 1e-6))
		}
	}
	index := map[uint64]int{}
	var curves [][]float64
	for i, id := range l.ids {
		k, ok := index[id]
		if !ok {
			k = len(s.Patterns)
			index[id] = k
			s.Patterns = append(s.Patterns, patternSummed{Pattern: patternID(id), Template: m.Template(id), Level: l.level[id].String(), First: l.place(i)})
			curves = append(curves, make([]float64, sparkPoints))
		}
		p := &s.Patterns[k]
		p.Count++
		p.Last = place{Line: i + 1}
		if b := at(i); b >= 0 {
			curves[k][b]++
		}
	}
	for k := range s.Patterns {
		p := &s.Patterns[k]
		p.Share = float64(p.Count) / float64(len(l.ids))
		p.Last = l.place(p.Last.Line - 1)
		p.Sparkline = triage.Sparkline(curves[k])
	}
	slices.SortStableFunc(s.Patterns, func(a, b patternSummed) int {
		return cmp.Or(b.Count-a.Count, a.First.Line-b.First.Line)
	})
	return s
}

// patternComparison is what --compare writes.
type patternComparison struct {
	Before  int             `json:"before"` // lines
	After   int             `json:"after"`
	Ratio   float64         `json:"ratio"` // of the lines after to those before, of what most patterns did
	Changes []patternChange `json:"changes"`
}

// patternChange is a pattern that is not as it was.
type patternChange struct {
	Change   string   `json:"change"` // new, gone, more or less
	Pattern  string   `json:"pattern"`
	Template string   `json:"template"`
	Level    string   `json:"level"`
	Before   int      `json:"before"` // lines
	After    int      `json:"after"`
	Factor   *float64 `json:"factor"`     // of the share after to that before; null for new and gone
	P        float64  `json:"p"`          // of a difference at least as large, if there is none
	Adjusted float64  `json:"p_adjusted"` // for the number of patterns
	Seen     *place   `json:"seen"`       // the first line of what is new, the last of what is gone
}

func (o *options) comparePatterns(before, after string, stdin io.Reader) error {
	m := logpattern.New(logpattern.Config{})
	a, err := readLog(m, before, stdin)
	if err != nil {
		return err
	}
	b, err := readLog(m, after, stdin)
	if err != nil {
		return err
	}
	a.settle(m)
	b.settle(m)
	c := compareLogs(m, a, b)
	var rows [][]string
	for _, p := range c.Changes {
		factor := ""
		if p.Factor != nil {
			factor = fmt.Sprintf("×%.3g", *p.Factor)
		}
		rows = append(rows, []string{p.Change, fmt.Sprint(p.Before), fmt.Sprint(p.After), factor, fmt.Sprintf("%.2g", p.Adjusted), p.Level, p.Pattern, render.Clip(p.Template, 160)})
	}
	return o.list(c, []string{"change", "before", "after", "factor", "p", "level", "pattern", "template"}, rows)
}

// significant is what an adjusted p-value must stay below to be a change.
const significant = 0.05

func compareLogs(m *logpattern.Miner, a, b *logged) patternComparison {
	before, after := curvesOf(a), curvesOf(b)
	c := patternComparison{Before: a.lines, After: b.lines, Ratio: usualRatio(before, after, len(a.ids), len(b.ids)), Changes: []patternChange{}}
	first, last := map[uint64]int{}, map[uint64]int{}
	for i, id := range slices.Backward(b.ids) {
		first[id] = i
	}
	for i, id := range a.ids {
		last[id] = i
	}
	ids := slices.Collect(maps.Keys(before))
	for id := range after {
		if before[id] == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var all []patternChange
	for _, id := range ids {
		x, y := before[id], after[id]
		p := patternChange{Pattern: patternID(id), Template: m.Template(id), Level: max(a.level[id], b.level[id]).String(), Before: int(total(x)), After: int(total(y))}
		up := total(y) > c.Ratio*total(x)
		switch {
		case p.Before == 0:
			p.Change = "new"
			seen := b.place(first[id])
			p.Seen = &seen
		case p.After == 0:
			p.Change = "gone"
			seen := a.place(last[id])
			p.Seen = &seen
		case up:
			p.Change = "more"
		default:
			p.Change = "less"
		}
		if p.Before > 0 && p.After > 0 {
			f := total(y) / total(x) / c.Ratio
			p.Factor = &f
		}
		p.P = differs(x, y, c.Ratio)
		all = append(all, p)
	}
	adjust(all)
	for _, p := range all {
		if p.Before == 0 || p.After == 0 || p.Adjusted < significant {
			c.Changes = append(c.Changes, p)
		}
	}
	return c
}

// curvesOf counts each pattern in twenty stretches of equally many lines.
func curvesOf(l *logged) map[uint64][]float64 {
	curves := map[uint64][]float64{}
	for i, id := range l.ids {
		if curves[id] == nil {
			curves[id] = make([]float64, sparkPoints)
		}
		curves[id][i*sparkPoints/len(l.ids)]++
	}
	return curves
}

func total(xs []float64) (sum float64) {
	for _, x := range xs {
		sum += x
	}
	return sum
}

// usualRatio is by how much there are more lines after than before, leaving out
// what a few patterns did: the median over lines of the ratios of patterns that
// are in both. One pattern that floods a log makes no other one rarer.
func usualRatio(before, after map[uint64][]float64, linesBefore, linesAfter int) float64 {
	type pattern struct{ ratio, weight float64 }
	var ps []pattern
	sum := 0.0
	for id, x := range before {
		if y := after[id]; y != nil {
			// By the rarer side, so that a flood has no more say than it had before.
			w := math.Min(total(x)/float64(linesBefore), total(y)/float64(linesAfter))
			ps = append(ps, pattern{total(y) / total(x), w})
			sum += w
		}
	}
	if sum == 0 {
		if linesBefore == 0 || linesAfter == 0 {
			return 1
		}
		return float64(linesAfter) / float64(linesBefore)
	}
	slices.SortFunc(ps, func(a, b pattern) int { return cmp.Or(cmp.Compare(a.ratio, b.ratio), cmp.Compare(a.weight, b.weight)) })
	passed := 0.0
	for _, p := range ps {
		if passed += p.weight; passed >= sum/2 {
			return p.ratio
		}
	}
	return ps[len(ps)-1].ratio
}

// differs is the two-sided p-value of counts that differ at least as much as
// those of before and after, given their sum: binomial, with both counts divided
// by the dispersion of the pattern within the logs.
func differs(before, after []float64, ratio float64) float64 {
	d := math.Max(dispersion(before), dispersion(after))
	x, y := total(before)/d, total(after)/d
	p := ratio / (1 + ratio)
	return math.Min(1, 2*math.Min(stat.BinomialTail(y, x+y, p), stat.BinomialTail(x, x+y, 1-p)))
}

// dispersion is the variance of counts over their mean, and at least the 1 that
// it is when lines come one by one.
func dispersion(xs []float64) float64 {
	mean := total(xs) / float64(len(xs))
	if len(xs) < 2 || mean == 0 {
		return 1
	}
	sum := 0.0
	for _, x := range xs {
		sum += (x - mean) * (x - mean)
	}
	return math.Max(1, sum/float64(len(xs)-1)/mean)
}

// adjust sorts changes by their p-value, then by how many lines they are, and
// corrects them for their number as Benjamini and Hochberg do.
func adjust(ps []patternChange) {
	slices.SortStableFunc(ps, func(a, b patternChange) int {
		return cmp.Or(cmp.Compare(a.P, b.P), max(b.Before, b.After)-max(a.Before, a.After), cmp.Compare(a.Pattern, b.Pattern))
	})
	least := 1.0
	for i := len(ps) - 1; i >= 0; i-- {
		least = math.Min(least, ps[i].P*float64(len(ps))/float64(i+1))
		ps[i].Adjusted = least
	}
}

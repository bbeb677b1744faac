package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"github.com/oncall-copilot/oncall/internal/tuning"
	"github.com/oncall-copilot/oncall/pkg/baseline"
)

// draws is how many settings are drawn around the shipped one.
const draws = 50

// likely is the score of a sample of which one in ten is odder: no threshold that is
// best for anything lies below it.
const likely = 0.25

// settings are the shipped parameters, first, and others drawn around them: each
// number by up to a half to both sides on a logarithmic scale, those that an error of
// a tenth would spoil by less, and offsets by up to a quarter of an order of magnitude.
func settings() []tuning.Parameters {
	out := []tuning.Parameters{tuning.Shipped()}
	for i := range uint64(draws) {
		r := rand.New(rand.NewPCG(i, 11))
		times := func(x *float64, factor float64) { *x *= math.Pow(factor, 2*r.Float64()-1) }
		p := tuning.Shipped()
		for _, x := range []*float64{&p.Near, &p.LongRun, &p.Silence} {
			times(x, 1.5)
			*x = math.Round(*x)
		}
		for _, x := range []*float64{&p.Scale, &p.Habit, &p.Prior, &p.Rarely, &p.Trust} {
			times(x, 2)
		}
		for _, x := range []*float64{&p.Far, &p.HourFar, &p.Odd, &p.End} {
			times(x, 1.2)
		}
		for _, x := range []*float64{&p.SeasonOffset, &p.HabitOffset, &p.PersistOffset} {
			*x = max(0, *x+(r.Float64()-0.5)/2)
		}
		out = append(out, p)
	}
	return out
}

// by is the detector with other parameters.
func by(p *tuning.Parameters) detect {
	return func(t []int64, v []float64) []row {
		var s baseline.Series
		out := make([]row, len(v))
		for i, x := range v {
			o := s.ObserveBy(p, t[i]*1000, x)
			out[i] = row{prob: o.TailProb, score: o.Score, anomaly: o.Anomaly}
		}
		return out
	}
}

// trial is what is counted of one setting.
type trial struct {
	production map[string]tally // by group of cloudmon
	nab        map[string][]nabRow
}

// corpora are the labelled data, either of which may be absent.
type corpora struct {
	cloudmon []production
	nab      []labelled
	windows  map[string]int // of NAB, by group
}

// reportLeaveOneOut states, of each group of series, what the drawn setting that is
// best on all other groups does on it, and the spread of those drawn. The shipped one
// was chosen with every group in sight, and is not among them.
func reportLeaveOneOut(w io.Writer, data string) error {
	c := corpora{windows: map[string]int{}}
	var err error
	if c.cloudmon, err = loadCloudmon(filepath.Join(data, "cloudmon")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.nab, err = loadNAB(filepath.Join(data, "nab")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, s := range c.nab {
		c.windows[s.group] += len(s.windows)
	}
	if len(c.cloudmon) == 0 && len(c.nab) == 0 {
		fmt.Fprintf(w, "not measured: there is no labelled data in %s\n", data)
		return nil
	}
	all := settings()
	trials := make([]trial, len(all))
	each(len(all), func(i int) { trials[i] = c.try(&all[i]) })
	if len(c.cloudmon) > 0 {
		c.leaveOutProduction(w, trials)
	}
	if len(c.nab) > 0 {
		c.leaveOutNAB(w, trials)
	}
	return nil
}

func (c corpora) try(p *tuning.Parameters) trial {
	t := trial{production: map[string]tally{}, nab: map[string][]nabRow{}}
	f := by(p)
	for _, s := range c.cloudmon {
		a := t.production[s.group]
		a.add(s.judge(f(s.t, s.v)))
		t.production[s.group] = a
	}
	first := 0
	for _, s := range c.nab {
		for _, r := range weigh(s, f(s.t, s.v), first) {
			if r.score >= likely {
				t.nab[s.group] = append(t.nab[s.group], r)
			}
		}
		first += len(s.windows)
	}
	return t
}

// without is the tally of all groups but one.
func (t trial) without(group string) (sum tally) {
	for g, a := range t.production {
		if g != group {
			sum.add(a)
		}
	}
	return sum
}

func f1(a tally) float64 { _, _, f, _ := a.measures(); return f }

func (c corpora) leaveOutProduction(w io.Writer, trials []trial) {
	fmt.Fprintf(w, "cloudmon: F1 at its own threshold; of %d settings drawn around the shipped one the best on all other groups, on the one left out\n", draws)
	var held tally
	for _, g := range sorted(trials[0].production) {
		best := slices.MaxFunc(trials[1:], func(a, b trial) int { return compare(f1(a.without(g)), f1(b.without(g))) })
		a, shipped := best.production[g], trials[0].production[g]
		held.add(a)
		fmt.Fprintf(w, "    %-26s %v\n    %-26s %v\n", g, a, "  shipped", shipped)
	}
	fmt.Fprintf(w, "    %-26s %v\n    %-26s %v\n", "all, each left out", held, "  shipped", trials[0].without(""))
	spread(w, "F1 of those drawn", trials, func(t trial) float64 { return f1(t.without("")) }, "%.3f")
	spread(w, "false alarms a series-day", trials, func(t trial) float64 { _, _, _, day := t.without("").measures(); return day }, "%.3f")
}

func (c corpora) leaveOutNAB(w io.Writer, trials []trial) {
	for p, prof := range profiles[:2] {
		fmt.Fprintf(w, "NAB, %s: of %d settings the best on all other groups, at the threshold that is best there, on the one left out\n", prof.name, draws)
		held, shipped, windows := 0.0, 0.0, 0
		for _, g := range sorted(c.windows) {
			var best trial
			_, own := trials[0].optimum(c.windows, p, g)
			most, at := math.Inf(-1), 0.0
			for _, t := range trials[1:] {
				if sum, threshold := t.optimum(c.windows, p, g); sum > most {
					most, at, best = sum, threshold, t
				}
			}
			n := c.windows[g]
			a, b := earnedAt(best.nab[g], prof, n, at), earnedAt(trials[0].nab[g], prof, n, own)
			held, shipped, windows = held+a, shipped+b, windows+n
			if n == 0 {
				fmt.Fprintf(w, "    %-26s costs %.2f, shipped %.2f\n", g, -a, -b)
				continue
			}
			fmt.Fprintf(w, "    %-26s %5.1f, shipped %5.1f  (%d windows)\n", g, normal(a, prof, n), normal(b, prof, n), n)
		}
		fmt.Fprintf(w, "    %-26s %5.1f, shipped %5.1f\n", "all, each left out", normal(held, prof, windows), normal(shipped, prof, windows))
		spread(w, prof.name+" of those drawn", trials, func(t trial) float64 {
			sum, _ := t.optimum(c.windows, p, "")
			return normal(sum, prof, windows)
		}, "%.1f")
	}
}

// optimum is the largest sum over all groups but one that a profile gives, and the
// threshold of it.
func (t trial) optimum(windows map[string]int, p int, without string) (sum, threshold float64) {
	var rows []nabRow
	n := 0
	for _, g := range sorted(windows) { // in an order that is always the same
		if g != without {
			rows = append(rows, t.nab[g]...)
			n += windows[g]
		}
	}
	sums, thresholds := optima(rows, n)
	return sums[p], thresholds[p]
}

// earnedAt is what a profile gives the rows at or above a threshold.
func earnedAt(rows []nabRow, prof profile, windows int, threshold float64) float64 {
	best := map[int]float64{}
	sum := 0.0
	for _, r := range rows {
		if r.score < threshold {
			continue
		}
		if r.window < 0 {
			sum += prof.falseRow * r.worth
		} else if b, ok := best[r.window]; !ok || r.worth > b {
			best[r.window] = r.worth
		}
	}
	for _, w := range slices.Sorted(maps.Keys(best)) {
		sum += best[w]
	}
	return sum - prof.miss*float64(windows-len(best))
}

// spread states what 5, 50 and 95 % of the settings reach at most.
func spread(w io.Writer, name string, trials []trial, of func(trial) float64, format string) {
	var xs []float64
	for _, t := range trials[1:] {
		xs = append(xs, of(t))
	}
	own := of(trials[0])
	slices.Sort(xs)
	at := func(q float64) float64 { return xs[int(math.Round(q*float64(len(xs)-1)))] }
	fmt.Fprintf(w, "    %-26s 5 %% "+format+", median "+format+", 95 %% "+format+"; shipped "+format+"\n", name, at(0.05), at(0.5), at(0.95), own)
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

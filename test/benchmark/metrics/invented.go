package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
)

// invented is a kind of series as production has them, with a value and the size of
// its noise at a time. Anomalies are planted in it in multiples of that size.
type invented struct {
	name string
	// at is the value at a time (Unix seconds) and what is one standard deviation
	// there. It may remember, and is made anew for each series.
	at func(r *rand.Rand, t int64) (x, sigma float64)
	// as is what a value looks like when it was measured; nil: as it is.
	as func(x float64) float64
	// up says that only what rises is an anomaly: below is nothing to fall to.
	up bool
	// down says that only what falls is one: above is nothing to rise to.
	down bool
	// gaps says that samples are missing and come twice.
	gaps bool
}

// hourly is a wave of a day, 0 at night and 1 at its height.
func hourly(t int64) float64 {
	return 0.5 - 0.5*math.Cos(2*math.Pi*float64(t%86400)/86400)
}

// holiday says whether a day is a weekend, or a holiday that nobody announced.
func holiday(t int64) bool {
	day := t / 86400
	return (day+4)%7 == 0 || (day+4)%7 == 6 || day%11 == 3
}

func counts(x float64) float64 { return max(0, math.Round(x)) }

func inventions() []invented {
	ar, slow, begins := 0.0, 0.0, 0
	return []invented{
		{name: "noise", at: func(r *rand.Rand, _ int64) (float64, float64) { return 100 + 5*r.NormFloat64(), 5 }},
		{name: "a wave of a day", at: func(r *rand.Rand, t int64) (float64, float64) {
			return 50 + 200*hourly(t) + 8*r.NormFloat64(), 8
		}},
		{name: "days, weekends, holidays", at: func(r *rand.Rand, t int64) (float64, float64) {
			height := 200.0
			if holiday(t) {
				height = 60
			}
			return 50 + height*hourly(t) + 8*r.NormFloat64(), 8
		}},
		{name: "a trend", at: func(r *rand.Rand, t int64) (float64, float64) {
			return 100 + float64(t-inventedFrom)/86400*3 + 4*r.NormFloat64(), 4
		}},
		{name: "noise that grows with it", at: func(r *rand.Rand, t int64) (float64, float64) {
			level := 20 + 400*hourly(t)
			return level * math.Exp(0.08*r.NormFloat64()), 0.08 * level
		}},
		{name: "counts with zeros", as: counts, up: true, at: func(r *rand.Rand, t int64) (float64, float64) {
			mean := 0.2 + 1.5*hourly(t)
			return poisson(r, mean), math.Sqrt(mean)
		}},
		{name: "counts of thousands", as: counts, at: func(r *rand.Rand, t int64) (float64, float64) {
			slow = 0.98*slow + 0.02*r.NormFloat64()
			mean := 2000 * (0.3 + hourly(t)) * math.Exp(slow)
			return mean + math.Sqrt(mean)*r.NormFloat64(), math.Sqrt(mean) + 0.1*mean
		}},
		{
			name: "saturated at 100 %", down: true, as: func(x float64) float64 { return max(0, min(100, x)) },
			at: func(r *rand.Rand, _ int64) (float64, float64) { return 99 + 3*r.NormFloat64(), 3 },
		},
		{
			name: "in steps of ten", as: func(x float64) float64 { return 10 * math.Round(x/10) },
			at: func(r *rand.Rand, _ int64) (float64, float64) { return 104 + 3*r.NormFloat64(), 5 },
		},
		{name: "rare errors", as: counts, up: true, at: func(r *rand.Rand, _ int64) (float64, float64) {
			if r.Float64() < 0.004 {
				return 1 + math.Floor(2*r.Float64()), 1
			}
			return 0, 1
		}},
		{name: "latency that remembers", at: func(r *rand.Rand, t int64) (float64, float64) {
			ar = 0.8*ar + 0.6*r.NormFloat64()
			x := 80 * (1 + 0.3*hourly(t)) * math.Exp(0.15*ar)
			return x, 0.15 * 80 * (1 + 0.3*hourly(t))
		}},
		{name: "wild", up: true, at: func(r *rand.Rand, _ int64) (float64, float64) { return 50 * math.Exp(0.8*r.NormFloat64()), 60 }},
		{name: "a job each hour", at: func(r *rand.Rand, t int64) (float64, float64) {
			x := 20 + 2*r.NormFloat64()
			if t%3600 < 180 {
				x += 60 + 6*r.NormFloat64()
			}
			return x, 10
		}},
		{name: "a job each night", at: func(r *rand.Rand, t int64) (float64, float64) {
			x := 20 + 2*r.NormFloat64()
			if t%86400 >= 7200 && t%86400 < 10800 {
				x += 60 + 6*r.NormFloat64()
			}
			return x, 6
		}},
		{name: "a constant", at: func(*rand.Rand, int64) (float64, float64) { return 7, 0.01 }},
		{name: "odd from the first on", at: func(r *rand.Rand, _ int64) (float64, float64) {
			if begins++; begins <= 20 {
				return 400 + 5*r.NormFloat64(), 5
			}
			return 100 + 5*r.NormFloat64(), 5
		}},
		{name: "gaps and repeats", gaps: true, at: func(r *rand.Rand, t int64) (float64, float64) {
			return 50 + 100*hourly(t) + 6*r.NormFloat64(), 6
		}},
	}
}

// inventedFrom is a Monday.
const inventedFrom = 1_699_833_600

// cadence is a step and how many samples of it there are.
type cadence struct {
	name    string
	step    int64 // seconds
	n       int
	planted int // anomalies
	seeds   uint64
}

var cadences = []cadence{
	{"10 s", 10, 4 * 8640, 2, 6},
	{"1 min", 60, 14 * 1440, 5, 4},
	{"5 min", 300, 28 * 288, 10, 3},
	{"1 h", 3600, 60 * 24, 12, 3},
	{"200 of 1 min", 60, 200, 3, 20},
	{"200 of 1 h", 3600, 200, 3, 20},
}

// shape is how an anomaly looks.
type shape int

const (
	spike shape = iota
	dip
	shift  // to another level, for a while
	tumult // five times the noise, and so many times
	shapes
)

var shapeNames = [shapes]string{"spike", "dip", "shift", "tumult"}

// sizes are those of anomalies, in standard deviations.
var sizes = []float64{6, 10, 20}

// planted is an anomaly of a series.
type planted struct {
	shape       shape
	size        float64
	first, last int // rows
}

// series is one of a kind at a step, with what was planted in it.
func (k invented) series(c cadence, r *rand.Rand) (p production, events []planted) {
	p = production{id: k.name, group: c.name, step: c.step}
	free := c.n * 3 / 10
	p.from = inventedFrom + int64(free)*c.step
	every := (c.n - free) / c.planted
	for i := range c.planted {
		e := planted{size: sizes[r.IntN(len(sizes))]}
		for {
			e.shape = shape(r.IntN(int(shapes)))
			if !(k.up && e.shape == dip || k.down && e.shape == spike || k.up && e.shape == tumult || k.down && e.shape == tumult) {
				break
			}
		}
		e.first = free + i*every + r.IntN(max(1, every/2))
		switch e.shape {
		case shift, tumult:
			e.last = e.first + min(19, every/4)
		default:
			e.last = e.first + r.IntN(2)
		}
		events = append(events, e)
	}
	next := 0
	for i := range c.n {
		t := inventedFrom + int64(i)*c.step
		x, sigma := k.at(r, t)
		for next < len(events) && i > events[next].last {
			next++
		}
		if next < len(events) && i >= events[next].first {
			x = events[next].on(x, sigma, k, r)
		}
		if k.as != nil {
			x = k.as(x)
		}
		if k.gaps {
			if i%4000 < c.n/40 && i > free/2 && (next == len(events) || i < events[next].first-20) && (next == 0 || i > events[next-1].last+20) {
				continue
			}
			if r.Float64() < 0.02 {
				x = math.NaN()
			} else if r.Float64() < 0.02 {
				p.t, p.v = append(p.t, t), append(p.v, x)
			}
		}
		p.t, p.v = append(p.t, t), append(p.v, x)
	}
	for _, e := range events {
		p.windows = append(p.windows, [2]int64{inventedFrom + int64(e.first)*c.step, inventedFrom + int64(e.last)*c.step})
	}
	return p, events
}

// on is a value during an anomaly.
func (e planted) on(x, sigma float64, k invented, r *rand.Rand) float64 {
	by := e.size * sigma
	switch {
	case e.shape == dip, e.shape == shift && k.down:
		return x - by
	case e.shape == tumult:
		return x + by*r.NormFloat64()
	}
	return x + by
}

// invention is what was found in the series of a kind at a step.
type invention struct {
	kind, step int
	tally
	found [shapes][3][2]int // of a shape and size: found, and planted
}

func invent(f detect) []invention {
	out := make([]invention, len(inventions())*len(cadences))
	each(len(out), func(i int) {
		o := &out[i]
		o.kind, o.step = i/len(cadences), i%len(cadences)
		c := cadences[o.step]
		for seed := range c.seeds {
			k := inventions()[o.kind]
			p, events := k.series(c, rand.New(rand.NewPCG(seed, uint64(i))))
			rows := f(p.t, p.v)
			o.add(p.judge(rows))
			for j, hit := range p.hits(rows) {
				at := &o.found[events[j].shape][sizeIndex(events[j].size)]
				at[1]++
				if hit {
					at[0]++
				}
			}
		}
	})
	return out
}

func sizeIndex(size float64) int {
	for i, s := range sizes {
		if s == size {
			return i
		}
	}
	return 0
}

func reportInvented(w io.Writer, name string, f detect) {
	all := invent(f)
	fmt.Fprintf(w, "%-25s", name)
	for _, c := range cadences {
		fmt.Fprintf(w, " %17s", c.name)
	}
	fmt.Fprintf(w, "\n%-25s%s\n", "", strings.Repeat("  prec  rec false", len(cadences)))
	kinds := inventions()
	sums := make([]tally, len(cadences))
	var found [shapes][3][2]int
	for k := range kinds {
		fmt.Fprintf(w, "%-25s", kinds[k].name)
		for s := range cadences {
			o := all[k*len(cadences)+s]
			sums[s].add(o.tally)
			for i := range found {
				for j := range found[i] {
					found[i][j][0] += o.found[i][j][0]
					found[i][j][1] += o.found[i][j][1]
				}
			}
			p, r, _, day := o.measures()
			fmt.Fprintf(w, "  %5.2f %4.2f %5.3f", p, r, day)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%-25s", "all: F1, false")
	for _, a := range sums {
		_, _, f, day := a.measures()
		fmt.Fprintf(w, "       %5.3f %5.3f", f, day)
	}
	fmt.Fprintln(w)
	for i, name := range shapeNames {
		fmt.Fprintf(w, "%-10s", name)
		for j, size := range sizes {
			fmt.Fprintf(w, "  %2.0f: %3d of %3d", size, found[i][j][0], found[i][j][1])
		}
		fmt.Fprintln(w)
	}
}

package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
)

// null is a series in which nothing happens: next is its value at a minute.
type null struct {
	name string
	next func(r *rand.Rand, minute int) float64
}

// nulls are made anew for each seed, since some remember.
func nulls() []null {
	ar, burst := 0.0, 0
	return []null{
		{"Gaussian", func(r *rand.Rand, _ int) float64 { return 100 + 5*r.NormFloat64() }},
		{"Poisson, mean 4", func(r *rand.Rand, _ int) float64 { return poisson(r, 4) }},
		{"Poisson, mean 0.2", func(r *rand.Rand, _ int) float64 { return poisson(r, 0.2) }},
		{"AR(1), 0.9", func(r *rand.Rand, _ int) float64 { ar = 0.9*ar + r.NormFloat64(); return 50 + ar }},
		{"daily sine", func(r *rand.Rand, m int) float64 { return 100 + 40*wave(m, 1440) + 5*r.NormFloat64() }},
		{"daily and weekly", func(r *rand.Rand, m int) float64 {
			return 100 + 40*wave(m, 1440) + 20*wave(m, 7*1440) + 5*r.NormFloat64()
		}},
		{"daily Poisson", func(r *rand.Rand, m int) float64 { return poisson(r, 20*(1.2+wave(m, 1440))) }},
		{"lognormal", func(r *rand.Rand, _ int) float64 { return math.Exp(r.NormFloat64()) }},
		{"Student t, 3", func(r *rand.Rand, _ int) float64 {
			chi := 0.0
			for range 3 {
				g := r.NormFloat64()
				chi += g * g
			}
			return r.NormFloat64() / math.Sqrt(chi/3)
		}},
		{"bursts between zeros", func(r *rand.Rand, _ int) float64 {
			if burst == 0 && r.Float64() < 0.01 {
				burst = 1 + r.IntN(10)
			}
			if burst == 0 {
				return 0
			}
			burst--
			return 10 * r.ExpFloat64()
		}},
	}
}

func wave(minute, period int) float64 {
	return math.Sin(2 * math.Pi * float64(minute) / float64(period))
}

func poisson(r *rand.Rand, mean float64) float64 {
	n, p := 0.0, math.Exp(-mean)
	for u := r.Float64(); u > p; u *= r.Float64() {
		n++
	}
	return n
}

// nullPlan is how series in which nothing happens are counted: of so many seeds from the
// first one on, each learnt from for so long and counted for so long, in samples.
type nullPlan struct {
	first, seeds    uint64
	learnt, counted int
}

// A series of a minute a step is learnt from for a week and counted for three.
var shippedPlan = nullPlan{seeds: seeds, learnt: 7 * 1440, counted: 21 * 1440}

const seeds = 6

var alphas = []float64{1e-2, 1e-3, 1e-4}

func reportNull(w io.Writer, name string, f detect, kinds func() []null, plan nullPlan) {
	fmt.Fprintf(w, "%-22s share of samples with tail probability ≤ 1e-2, 1e-3, 1e-4     alarms a series-day\n", name)
	lines := make([]string, len(kinds()))
	each(len(lines), func(k int) {
		var h hush
		for seed := plan.first; seed < plan.first+plan.seeds; seed++ {
			n := kinds()[k]
			r := rand.New(rand.NewPCG(seed, 1))
			t, v := make([]int64, plan.learnt+plan.counted), make([]float64, plan.learnt+plan.counted)
			for i := range v {
				t[i], v[i] = 1_600_000_000+int64(i)*60, n.next(r, i)
			}
			rows := f(t, v)
			for i := plan.learnt; i < len(rows); i++ {
				h.add(rows[i].prob, rows[i].anomaly && !rows[i-1].anomaly)
			}
		}
		n := float64(h.samples)
		lines[k] = fmt.Sprintf("%-22s %.4f  %.5f  %.6f   %27.3f", kinds()[k].name, float64(h.share[0])/n, float64(h.share[1])/n, float64(h.share[2])/n, float64(h.alarms)*1440/n)
	})
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
}

// otherNulls are series in which nothing happens of other laws and rhythms than those of
// nulls.
func otherNulls() []null {
	ar, ma, burst, regime := 0.0, 0.0, 0, 0
	pareto := func(r *rand.Rand, a float64) float64 { return math.Pow(1-r.Float64(), -1/a) }
	student := func(r *rand.Rand, df int) float64 {
		chi := 0.0
		for range df {
			g := r.NormFloat64()
			chi += g * g
		}
		return r.NormFloat64() / math.Sqrt(chi/float64(df))
	}
	return []null{
		{"uniform", func(r *rand.Rand, _ int) float64 { return r.Float64() }},
		{"exponential", func(r *rand.Rand, _ int) float64 { return r.ExpFloat64() }},
		{"Laplace", func(r *rand.Rand, _ int) float64 { return r.ExpFloat64() - r.ExpFloat64() }},
		{"Student t, 2", func(r *rand.Rand, _ int) float64 { return student(r, 2) }},
		{"Student t, 4", func(r *rand.Rand, _ int) float64 { return student(r, 4) }},
		{"Student t, 6", func(r *rand.Rand, _ int) float64 { return 10 + student(r, 6) }},
		{"Pareto, 1.5", func(r *rand.Rand, _ int) float64 { return pareto(r, 1.5) }},
		{"Pareto, 3", func(r *rand.Rand, _ int) float64 { return pareto(r, 3) }},
		{"lognormal, 0.3", func(r *rand.Rand, _ int) float64 { return 100 * math.Exp(0.3*r.NormFloat64()) }},
		{"lognormal, 1.5", func(r *rand.Rand, _ int) float64 { return math.Exp(1.5 * r.NormFloat64()) }},
		{"AR(1), 0.5", func(r *rand.Rand, _ int) float64 { ar = 0.5*ar + r.NormFloat64(); return 50 + ar }},
		{"AR(1), 0.98", func(r *rand.Rand, _ int) float64 { ar = 0.98*ar + r.NormFloat64(); return 50 + ar }},
		{"mean of five", func(r *rand.Rand, _ int) float64 { ma += (r.ExpFloat64() - ma) / 5; return ma }},
		{"Poisson, mean 0.02", func(r *rand.Rand, _ int) float64 { return poisson(r, 0.02) }},
		{"Poisson, mean 1", func(r *rand.Rand, _ int) float64 { return poisson(r, 1) }},
		{"Poisson, mean 15", func(r *rand.Rand, _ int) float64 { return poisson(r, 15) }},
		{"Poisson, mean 200", func(r *rand.Rand, _ int) float64 { return poisson(r, 200) }},
		{"negative binomial", func(r *rand.Rand, _ int) float64 { return poisson(r, 3*(r.ExpFloat64()+r.ExpFloat64())) }},
		{"daily, small", func(r *rand.Rand, m int) float64 { return 100 + 5*wave(m, 1440) + 5*r.NormFloat64() }},
		{"daily, steep", func(r *rand.Rand, m int) float64 {
			return 100 + 200*math.Max(0, wave(m, 1440)) + 10*r.NormFloat64()
		}},
		{"daily, noise with it", func(r *rand.Rand, m int) float64 {
			return (120 + 100*wave(m, 1440)) * math.Exp(0.1*r.NormFloat64())
		}},
		{"weekdays", func(r *rand.Rand, m int) float64 {
			height := 80.0
			if m/1440%7 >= 5 {
				height = 20
			}
			return 50 + height*(1+wave(m, 1440)) + 8*r.NormFloat64()
		}},
		{"daily, exponential", func(r *rand.Rand, m int) float64 { return 40*(1+wave(m, 1440)) + 10*r.ExpFloat64() }},
		{"rare bursts", func(r *rand.Rand, _ int) float64 {
			if burst == 0 && r.Float64() < 0.001 {
				burst = 5 + r.IntN(20)
			}
			if burst == 0 {
				return 0
			}
			burst--
			return 100 * r.ExpFloat64()
		}},
		{"two regimes", func(r *rand.Rand, _ int) float64 {
			if r.Float64() < 0.01 {
				regime = 1 - regime
			}
			return 100 + 50*float64(regime) + 5*r.NormFloat64()
		}},
	}
}

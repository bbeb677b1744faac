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

// A series of a minute a step is learnt from for a week and counted for three.
const (
	learnt  = 7 * 1440
	counted = 21 * 1440
	seeds   = 6
)

var alphas = []float64{1e-2, 1e-3, 1e-4}

func reportNull(w io.Writer, name string, f detect) error {
	fmt.Fprintf(w, "%-22s share of samples with tail probability ≤ 1e-2, 1e-3, 1e-4     alarms a series-day\n", name)
	kinds := nulls()
	lines := make([]string, len(kinds))
	each(len(kinds), func(k int) {
		var share [3]float64
		alarms := 0
		for seed := range uint64(seeds) {
			n := nulls()[k]
			r := rand.New(rand.NewPCG(seed, 1))
			t, v := make([]int64, learnt+counted), make([]float64, learnt+counted)
			for i := range v {
				t[i], v[i] = 1_600_000_000+int64(i)*60, n.next(r, i)
			}
			rows := f(t, v)
			for i := learnt; i < len(rows); i++ {
				for a, alpha := range alphas {
					if rows[i].prob <= alpha {
						share[a]++
					}
				}
				if rows[i].anomaly && !rows[i-1].anomaly {
					alarms++
				}
			}
		}
		const n = seeds * counted
		lines[k] = fmt.Sprintf("%-22s %.4f  %.5f  %.6f   %27.3f", kinds[k].name, share[0]/n, share[1]/n, share[2]/n, float64(alarms)*1440/n)
	})
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
	return nil
}

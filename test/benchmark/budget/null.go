package main

import (
	"math"
	"math/rand/v2"
)

// null is a series in which nothing happens.
type null struct {
	rng   *rand.Rand
	kind  int
	level float64
	noise float64 // of the AR(1)
	phase int
}

const kinds = 6

func newNull(i int, seed uint64) *null {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	return &null{rng: r, kind: i / 4 % kinds, level: math.Exp(4 + 2*r.NormFloat64()), phase: r.IntN(1440)}
}

// next is the value at a minute: noise, a count, correlated noise, a day's wave,
// heavy tails, or bursts between zeros.
func (n *null) next(minute int) float64 {
	r := n.rng
	switch n.kind {
	case 0:
		return n.level * (1 + 0.05*r.NormFloat64())
	case 1:
		return poisson(r, 4)
	case 2:
		n.noise = 0.9*n.noise + r.NormFloat64()
		return n.level * (1 + 0.02*n.noise)
	case 3:
		wave := math.Sin(2 * math.Pi * float64(minute+n.phase) / 1440)
		return n.level * (1 + 0.4*wave + 0.05*r.NormFloat64())
	case 4:
		return n.level * math.Exp(0.5*r.NormFloat64())
	}
	if r.Float64() < 0.05 {
		return n.level * r.ExpFloat64()
	}
	return 0
}

func poisson(r *rand.Rand, mean float64) float64 {
	n, p := 0.0, math.Exp(-mean)
	for u := r.Float64(); u > p; u *= r.Float64() {
		n++
	}
	return n
}

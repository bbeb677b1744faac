package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Rarity says how often a series surprised as much as it does now: it turns a
// surprise, which ranks samples, into a probability by how often surprises of one, two,
// three and four decades came before. Whatever the surprise was reckoned from is thereby
// held to its word: where it speaks of one in ten thousand once in three thousand times,
// one in three thousand is what is stated. The zero value has seen nothing and believes
// what a surprise says of itself.
//
// What came is forgotten by the age of the series, so that its first days, in which
// nearly everything surprises, weigh nothing after its first weeks: with a weight that
// falls off as a power of time the counts are mostly those of the last sixth of what was seen,
// and of no more than the last rarityLife values.
type Rarity struct {
	seen   float32              // weight of all values, at most rarityAge*rarityLife
	weight float32              // of those that are remembered
	beyond [rarityKnots]float32 // of those with a surprise of one, two, … decades
}

const (
	rarityKnots = 4
	rarityAge   = 6
	rarityLife  = 30_000 // values: three weeks of minutes
	rarityYoung = 300    // values a series is old at least
)

// rarityDoubt is the weight, in values that reached the decade before, of the first
// opinion of a decade: of the first, that one value in ten reaches it; of the others,
// that they are as steep as the one before. The outer ones are seen seldom, and the
// more is asked for.
var rarityDoubt = [rarityKnots]float64{30, 3, 10, 10}

// Add folds a surprise, in decades, as so much of one, in (0, 1].
func (r *Rarity) Add(surprise, weight float64) {
	w := float32(weight)
	r.seen = min(r.seen+w, rarityAge*rarityLife)
	keep := 1 - rarityAge/max(r.seen, rarityYoung)
	r.weight = float32(r.weight*keep) + w
	for i := range r.beyond {
		r.beyond[i] *= keep
		if surprise >= float64(i+1) {
			r.beyond[i] += w
		}
	}
}

// Prob is the probability of a surprise at least as large: from one decade to the next,
// and beyond the last one, its logarithm goes straight on.
func (r *Rarity) Prob(surprise float64) float64 {
	prob, of, share := 1.0, float64(r.weight), 0.1
	for i, n := range r.beyond {
		share = (float64(n) + float64(rarityDoubt[i]*share)) / (of + rarityDoubt[i])
		if left := surprise - float64(i); left < 1 || i == rarityKnots-1 {
			within := math.Pow(share, left)
			if left < 1 {
				// Where few reach a decade nobody knows how far into the one before it the
				// others go: half of what the surprise says of that is believed at least.
				within = max(within, math.Pow(10, -left)/2)
			}
			return Prob(prob * within)
		}
		prob, of = prob*share, float64(n)
	}
	return Prob(prob)
}

// Write writes the state.
func (r *Rarity) Write(w *snapshot.Writer) {
	w.Float32(r.seen)
	w.Float32(r.weight)
	for _, n := range r.beyond {
		w.Float32(n)
	}
}

// Read reads the state.
func (r *Rarity) Read(rd *snapshot.Reader) {
	r.seen, r.weight = rd.Float32(), rd.Float32()
	for i := range r.beyond {
		r.beyond[i] = rd.Float32()
	}
}

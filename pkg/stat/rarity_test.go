package stat

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// TestASurpriseIsStatedAsOftenAsItComes gives a Rarity surprises that come more often or
// more seldom than they say of themselves, and counts how often it states what.
func TestASurpriseIsStatedAsOftenAsItComes(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) float64{
		"as they say":              func(r *rand.Rand) float64 { return Surprise(r.Float64()) },
		"twice as often":           func(r *rand.Rand) float64 { return Surprise(r.Float64() / 2) },
		"a third as often":         func(r *rand.Rand) float64 { return Surprise(min(1, 3*r.Float64())) },
		"the further, the oftener": func(r *rand.Rand) float64 { return Surprise(math.Pow(r.Float64(), 1.6)) },
		"the further, the seldomer": func(r *rand.Rand) float64 {
			return Surprise(math.Pow(r.Float64(), 0.7))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(6, 6))
			const series, learnt, counted = 10, 10_000, 30_000
			var share [3]float64
			for range series {
				var rare Rarity
				for i := range learnt + counted {
					s := draw(r)
					if p := rare.Prob(s); i >= learnt {
						for k, alpha := range []float64{1e-2, 1e-3, 1e-4} {
							if p <= alpha {
								share[k] += 1.0 / (series * counted)
							}
						}
					}
					rare.Add(s, 1)
				}
			}
			for k, alpha := range []float64{1e-2, 1e-3, 1e-4} {
				if share[k] < alpha/2 || share[k] > 2*alpha {
					t.Errorf("p ≤ %g in a share of %.6f", alpha, share[k])
				}
			}
		})
	}
}

func TestARarityBelievesWhatASurpriseSaysUntilItWasSeen(t *testing.T) {
	var r Rarity
	for _, s := range []float64{0, 0.3, 1, 2.5, 4, 9} {
		if got, want := r.Prob(s), math.Pow(10, -s); math.Abs(got/want-1) > 1e-9 {
			t.Errorf("a surprise of %v decades: %g, want %g", s, got, want)
		}
	}
}

func TestARarityNeverStatesMoreOfALargerSurprise(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var rare Rarity
	for range 2000 {
		rare.Add(4*r.Float64()*r.Float64(), 1)
	}
	last := 1.0
	for s := 0.0; s < 12; s += 0.01 {
		p := rare.Prob(s)
		if p > last || p <= 0 {
			t.Fatalf("a surprise of %.2f: %g after %g", s, p, last)
		}
		last = p
	}
}

// TestTheFirstDaysOfASeriesAreForgottenByItsFirstWeeks holds that a time in which
// everything surprised, such as the day in which hours are learnt, is outweighed when
// the series is ten times as old.
func TestTheFirstDaysOfASeriesAreForgottenByItsFirstWeeks(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var rare Rarity
	for range 1000 {
		rare.Add(2+r.ExpFloat64(), 1)
	}
	if p := rare.Prob(3); p < 0.2 {
		t.Errorf("what comes always is stated as %g", p)
	}
	for range 9000 {
		rare.Add(Surprise(r.Float64()), 1)
	}
	if p := rare.Prob(3); p > 2e-3 || p < 5e-4 {
		t.Errorf("what comes once in a thousand times is stated as %g", p)
	}
}

func TestARarityIsTheSameWhenItWasRead(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	var a, b Rarity
	for i := range 500 {
		a.Add(3*r.Float64(), 1/float64(1+i%3))
	}
	w, again := &snapshot.Writer{}, &snapshot.Writer{}
	a.Write(w)
	rd := snapshot.NewReader(w.Data())
	if b.Read(rd); rd.Close() != nil {
		t.Fatal(rd.Close())
	}
	if b.Write(again); a != b || !bytes.Equal(w.Data(), again.Data()) {
		t.Errorf("%+v, want %+v", b, a)
	}
}

// TestWhatIsMerelyModerateIsNotImprobable holds that surprises of which few are large,
// and those are very large, do not make the moderate ones improbable.
func TestWhatIsMerelyModerateIsNotImprobable(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 10))
	var rare Rarity
	odd := 0
	const n = 20_000
	for range n {
		s := r.Float64()
		if r.IntN(300) == 0 {
			s = 3
		}
		if rare.Prob(s) <= 1e-2 {
			odd++
		}
		rare.Add(s, 1)
	}
	if odd > n/100*2 {
		t.Errorf("%d of %d have one in a hundred", odd, n)
	}
}

package stat

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

func TestASketchStatesTheRateItHas(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) float64{
		"narrow":     func(r *rand.Rand) float64 { return 0.3 * r.NormFloat64() },
		"wide":       func(r *rand.Rand) float64 { return 0.9 * r.NormFloat64() },
		"lopsided":   func(r *rand.Rand) float64 { return 0.4*r.ExpFloat64() - 0.4 },
		"heavy":      func(r *rand.Rand) float64 { return 0.2 * r.NormFloat64() / math.Sqrt(r.ExpFloat64()) },
		"the values": func(r *rand.Rand) float64 { return float64(r.IntN(5))/4 - 0.5 },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			var s Sketch
			const n = 30_000
			var beyond [3]float64
			for i := range 2 * n {
				z := max(-4, min(4, draw(r)))
				if i >= n {
					p := s.Prob(z)
					for k, alpha := range []float64{1e-1, 1e-2, 1e-3} {
						if p <= alpha {
							beyond[k]++
						}
					}
				}
				s.Add(z, 20_000)
			}
			// A bin is a fifth of its score wide: within it a score is neither more
			// nor less probable than another.
			for k, alpha := range []float64{1e-1, 1e-2, 1e-3} {
				if got := beyond[k] / n; got > 2.5*alpha {
					t.Errorf("a share of %.5f has a probability of at most %g", got, alpha)
				}
			}
		})
	}
}

func TestASketchForgetsWhatWasLongAgo(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var s Sketch
	for range 5000 {
		s.Add(2*r.NormFloat64(), 2000)
	}
	before := s.Prob(2)
	for range 30_000 {
		s.Add(0.2*r.NormFloat64(), 2000)
	}
	if after := s.Prob(2); before < 0.2 || after > 1e-4 {
		t.Errorf("two was of probability %g, and is %g after thirty thousand near nothing", before, after)
	}
	if s.N() > 2000 {
		t.Errorf("it remembers %g of 2000", s.N())
	}
	for range 3 * MaxSketch {
		s.Add(r.NormFloat64(), math.Inf(1))
	}
	if s.N() > MaxSketch {
		t.Errorf("it remembers %g", s.N())
	}
}

func TestASketchSurvivesASnapshot(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var s, back Sketch
	for range 3000 {
		s.Add(r.NormFloat64(), 2000)
	}
	write := func(s *Sketch) []byte {
		w := &snapshot.Writer{}
		s.Write(w)
		return w.Data()
	}
	rd := snapshot.NewReader(write(&s))
	back.Read(rd)
	if err := rd.Close(); err != nil {
		t.Fatal(err)
	}
	if back != s || !bytes.Equal(write(&back), write(&s)) {
		t.Error("state written and read again differs")
	}
}

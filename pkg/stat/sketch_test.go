package stat

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

func TestAQuantileOfAHistogramIsNearThatOfItsNumbers(t *testing.T) {
	var r *rand.Rand
	for name, draw := range map[string]func() float64{
		"latencies":   func() float64 { return 30 * math.Exp(r.NormFloat64()) },
		"seconds":     func() float64 { return 0.002 * math.Exp(0.5*r.NormFloat64()) },
		"small whole": func() float64 { return float64(r.IntN(9)) },
		"with zeros":  func() float64 { return max(0, 5+10*r.NormFloat64()) },
	} {
		t.Run(name, func(t *testing.T) {
			r = rand.New(rand.NewPCG(1, 2))
			var whole, a, b Histogram
			var all []float64
			for i := range 4000 {
				x := draw()
				all = append(all, x)
				whole.Add(x)
				if i%3 == 0 {
					a.Add(x)
				} else {
					b.Add(x)
				}
			}
			a.Merge(&b)
			for _, q := range []float64{0.05, 0.5, 0.95} {
				want := Quantile(slices.Sorted(slices.Values(all)), q)
				if got := whole.Quantile(q); math.Abs(got-want) > 0.13*want {
					t.Errorf("%g quantile is %g, want %g or near it", q, got, want)
				}
				if a.Quantile(q) != whole.Quantile(q) {
					t.Errorf("%g quantile of two that are merged is %g, of one %g", q, a.Quantile(q), whole.Quantile(q))
				}
			}
			if share := whole.Above(whole.Quantile(0.5)); share > 0.5 {
				t.Errorf("%g lie above the median", share)
			}
		})
	}
}

func TestAHistogramIsBoundedAndForgetsTheLeastFirst(t *testing.T) {
	var h Histogram
	for e := -300; e < 300; e++ {
		h.Add(math.Ldexp(1, e))
		if e%7 == 0 {
			h.Add(math.Ldexp(1, -e))
		}
	}
	h.Add(math.NaN())
	h.Add(math.Inf(1))
	total := uint64(h.Zero)
	for _, n := range h.Counts {
		total += uint64(n)
	}
	if len(h.Counts) > mostBuckets || total != h.N {
		t.Errorf("%d buckets of %d numbers, %d counted", len(h.Counts), total, h.N)
	}
	if q := h.Quantile(1); q < math.Ldexp(1, 298) {
		t.Errorf("the largest is %g", q)
	}
	was := h.Quantile(0.99)
	if h.Halve(); h.N > total/2 || h.Quantile(0.99) > 2*was {
		t.Errorf("half of %d numbers are %d", total, h.N)
	}
}

func TestTheTextsThatComeOftenHaveAPlace(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var few, many Top
	for i := range 1000 {
		few.Add([]string{"hit", "hit", "hit", "miss", "stale"}[r.IntN(5)], 4)
		many.Add(fmt.Sprint(i), 4)
	}
	if few.Sure() != 1 || many.Sure() > 0.05 {
		t.Errorf("three states: sure of %g, want all; ids: %g, want hardly any", few.Sure(), many.Sure())
	}
	if len(many.Texts) != 4 {
		t.Errorf("%d places", len(many.Texts))
	}
}

// windows are of a share that wanders, in windows that are like those before.
func windows(seed uint64, n int, wander float64) []Window {
	r := rand.New(rand.NewPCG(seed, 5))
	var out []Window
	level := 0.0
	for i := range n {
		level = 0.98*level + wander*r.NormFloat64()
		share := 1 / (1 + math.Exp(2.5-level-math.Sin(float64(i)/1440*2*math.Pi)))
		w := Window{N: float64(40 + r.IntN(60)), Hour: int64(i / 60)}
		for range int(w.N) {
			if r.Float64() < share {
				w.K++
			}
		}
		out = append(out, w)
	}
	return out
}

func TestASharesTailIsHonestWhereItDriftsAndWindowsAreAlike(t *testing.T) {
	span := ShiftSpan{Usual: 1440, Recent: 60}
	for _, wander := range []float64{0, 0.05, 0.1, 0.2} {
		t.Run(fmt.Sprint(wander), func(t *testing.T) {
			n, below := 0, [3]int{}
			for seed := range uint64(12) {
				var s Shift
				for i, w := range windows(seed, 4*1440, wander) {
					if i > 60 {
						n++
						p := s.Tail(w)
						for j, alpha := range []float64{1e-2, 1e-3, 1e-4} {
							if p <= alpha {
								below[j]++
							}
						}
					}
					s.Add(w, span)
				}
			}
			t.Logf("of %d windows %v were as improbable as 1e-2, 1e-3, 1e-4", n, below)
			for j, alpha := range []float64{1e-2, 1e-3, 1e-4} {
				if most := 2*alpha*float64(n) + 3; float64(below[j]) > most {
					t.Errorf("%d of %d windows have a tail probability of at most %g, want at most twice as many as that", below[j], n, alpha)
				}
			}
		})
	}
}

func TestAShareThatJumpsIsImprobable(t *testing.T) {
	span := ShiftSpan{Usual: 1440, Recent: 60}
	var s Shift
	for _, w := range windows(1, 600, 0.05) {
		s.Add(w, span)
	}
	if p := s.Tail(Window{K: 60, N: 80, Hour: 10}); p > 1e-6 {
		t.Errorf("three quarters where a tenth is usual have a tail probability of %g", p)
	}
	// What was seen at an hour is usual at this hour of the next day.
	for _, w := range windows(1, 60, 0.05) {
		w.K, w.Hour = 60, 10
		w.N = 80
		s.Seen(w)
	}
	for i, w := range windows(2, 1440, 0.05) {
		w.Hour = 11 + int64(i)/60
		s.Add(w, span)
	}
	if p := s.Tail(Window{K: 60, N: 80, Hour: 34}); p < 1 {
		t.Errorf("what was there at this hour of the day before has a tail probability of %g", p)
	}
	if p := s.Tail(Window{K: 60, N: 80, Hour: 37}); p > 1e-6 {
		t.Errorf("at another hour it has one of %g", p)
	}
}

func TestSketchesAreReadAsTheyWereWritten(t *testing.T) {
	var h Histogram
	var top Top
	var s Shift
	for i, w := range windows(7, 200, 0.1) {
		h.Add(w.K)
		top.Add(fmt.Sprint(i%7), 5)
		s.Add(w, ShiftSpan{Usual: 100, Recent: 10})
	}
	w := &snapshot.Writer{}
	h.Write(w)
	top.Write(w)
	s.Write(w)
	var h2 Histogram
	var top2 Top
	var s2 Shift
	r := snapshot.NewReader(w.Data())
	h2.Read(r)
	top2.Read(r)
	s2.Read(r)
	if err := r.Close(); err != nil || !reflect.DeepEqual(h, h2) || !reflect.DeepEqual(top, top2) || s != s2 {
		t.Errorf("%v\n%+v\n%+v\n%+v\n%+v\n%+v\n%+v", err, h, h2, top, top2, s, s2)
	}
}

package baseline

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

const minute = 60_000

// monday is 2023-11-13, midnight.
const monday = 1_699_833_600_000

// busy is a series of minutes with a day in it and noise.
func busy(r *rand.Rand, i int) float64 {
	return 100 + 40*math.Sin(2*math.Pi*float64(i%1440)/1440) + 3*r.NormFloat64()
}

// feed folds n minutes of busy, with what change makes of them.
func feed(s *Series, from, n int, r *rand.Rand, change func(i int, x float64) float64) (out []Verdict) {
	for i := from; i < from+n; i++ {
		out = append(out, s.Observe(monday+int64(i)*minute, change(i, busy(r, i))))
	}
	return out
}

func same(_ int, x float64) float64 { return x }

func alarms(vs []Verdict) (n int) {
	for i, v := range vs {
		if v.Anomaly && (i == 0 || !vs[i-1].Anomaly) {
			n++
		}
	}
	return n
}

func TestNothingIsSaidOfWeeksInWhichNothingHappens(t *testing.T) {
	var s Series
	vs := feed(&s, 0, 21*1440, rand.New(rand.NewPCG(1, 1)), same)
	if n := alarms(vs); n > 0 {
		t.Errorf("%d alarms in three weeks", n)
	}
	if v := vs[len(vs)-1]; !v.Ready || v.Low > v.High {
		t.Errorf("the last verdict is %+v", v)
	}
}

func TestWhatIsFoundAndHowItIsNamed(t *testing.T) {
	const week = 7 * 1440
	for _, c := range []struct {
		name   string
		change func(i int, x float64) float64
		view   View
		within int // samples after the change
	}{
		{"a spike far above everything", func(i int, x float64) float64 {
			if i == week {
				return 500
			}
			return x
		}, Recent, 1},
		{"a level that has moved for good", func(i int, x float64) float64 {
			if i >= week {
				return x + 300
			}
			return x
		}, "", 1},
		{"a series that fell to zero", func(i int, x float64) float64 {
			if i >= week+360 { // at six, when it is usually high
				return 0
			}
			return x
		}, "", 362},
		{"the night's level at noon", func(i int, x float64) float64 {
			if i >= week+300 {
				return x - 75
			}
			return x
		}, "", 310},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Series
			r := rand.New(rand.NewPCG(2, 2))
			before := feed(&s, 0, week, r, c.change)
			if n := alarms(before); n > 0 {
				t.Fatalf("%d alarms before anything happened", n)
			}
			after := feed(&s, week, c.within, r, c.change)
			last := after[len(after)-1]
			if !last.Anomaly {
				t.Fatalf("no anomaly %d samples later: %+v", c.within, last)
			}
			if last.Onset < monday+week*minute {
				t.Errorf("onset %d lies before the change", last.Onset)
			}
			if c.view != "" && last.View != c.view {
				t.Errorf("view %q, want %q", last.View, c.view)
			}
		})
	}
}

func TestAnAnomalyEndsWithItsCause(t *testing.T) {
	var s Series
	r := rand.New(rand.NewPCG(3, 3))
	feed(&s, 0, 7*1440, r, same)
	during := feed(&s, 7*1440, 10, r, func(_ int, x float64) float64 { return x + 400 })
	after := feed(&s, 7*1440+10, 60, r, same)
	if !during[0].Anomaly || during[0].Score == 0 {
		t.Errorf("the first sample of ten: %+v", during[0])
	}
	if during[5].Score != 0 {
		t.Errorf("the score speaks twice of one thing: %v", during[5].Score)
	}
	if after[len(after)-1].Anomaly {
		t.Error("still an anomaly an hour after it was over")
	}
}

func TestALevelThatStaysBecomesTheUsualOne(t *testing.T) {
	var s Series
	r := rand.New(rand.NewPCG(4, 4))
	feed(&s, 0, 7*1440, r, same)
	later := feed(&s, 7*1440, 4*1440, r, func(_ int, x float64) float64 { return x + 200 })
	if later[len(later)-1].Anomaly {
		t.Error("still an anomaly four days after the level moved")
	}
}

func TestASampleThatCannotBeReckonedWithIsPassedOver(t *testing.T) {
	var clean, dirty Series
	r1, r2 := rand.New(rand.NewPCG(5, 5)), rand.New(rand.NewPCG(5, 5))
	for i := range 500 {
		at := monday + int64(i)*minute
		a := clean.Observe(at, busy(r1, i))
		b := dirty.Observe(at, busy(r2, i))
		if a != b {
			t.Fatalf("sample %d: %+v, without bad samples between %+v", i, b, a)
		}
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			if v := dirty.Observe(at+1, bad); v.TailProb != 1 || v.Score != 0 {
				t.Fatalf("%v: %+v", bad, v)
			}
		}
		dirty.Observe(at, 1e9)          // again
		dirty.Observe(at-10*minute, -5) // late
	}
}

func TestUnitsDoNotMatter(t *testing.T) {
	var a, b Series
	r := rand.New(rand.NewPCG(6, 6))
	for i := range 5000 {
		x := busy(r, i)
		if i == 4000 {
			x *= 10
		}
		at := monday + int64(i)*minute
		va, vb := a.Observe(at, x), b.Observe(at, x*1024)
		if va.TailProb != vb.TailProb || va.Anomaly != vb.Anomaly {
			t.Fatalf("sample %d: %+v, in other units %+v", i, va, vb)
		}
	}
}

func TestATailProbabilityIsOne(t *testing.T) {
	for name, next := range map[string]func(*rand.Rand) float64{
		"Gaussian":    func(r *rand.Rand) float64 { return r.NormFloat64() },
		"exponential": func(r *rand.Rand) float64 { return r.ExpFloat64() },
		"lognormal":   func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()) },
	} {
		var s Series
		r := rand.New(rand.NewPCG(7, 7))
		const learnt, counted = 10_000, 60_000
		var share [2]float64
		for i := range learnt + counted {
			v := s.Observe(monday+int64(i)*minute, next(r))
			for k, alpha := range []float64{1e-2, 1e-3} {
				if i >= learnt && v.TailProb <= alpha {
					share[k] += 1.0 / counted
				}
			}
		}
		for k, alpha := range []float64{1e-2, 1e-3} {
			if share[k] < alpha/2 || share[k] > 2*alpha {
				t.Errorf("%s: p ≤ %g in a share of %.5f", name, alpha, share[k])
			}
		}
	}
}

func state(s *Series) []byte {
	w := &snapshot.Writer{}
	s.Write(w)
	return w.Data()
}

func TestAStateThatIsWrittenAndReadGoesOnAsIfNothingHadBeen(t *testing.T) {
	const n = 3000
	var whole Series
	r := rand.New(rand.NewPCG(8, 8))
	values := make([]float64, n)
	for i := range values {
		if values[i] = busy(r, i); i%700 == 699 {
			values[i] *= 20
		}
	}
	want := make([]Verdict, n)
	for i, x := range values {
		want[i] = whole.Observe(monday+int64(i)*minute, x)
	}
	for _, cut := range []int{0, 1, 9, 10, 59, 60, 700, 705, 1500, n - 1} {
		var s Series
		for i, x := range values[:cut] {
			s.Observe(monday+int64(i)*minute, x)
		}
		rd := snapshot.NewReader(state(&s))
		var restored Series
		restored.Read(rd)
		if err := rd.Close(); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		for i := cut; i < n; i++ {
			if v := restored.Observe(monday+int64(i)*minute, values[i]); v != want[i] {
				t.Fatalf("cut at %d, sample %d: %+v, want %+v", cut, i, v, want[i])
			}
		}
		if !bytes.Equal(state(&restored), state(&whole)) {
			t.Errorf("cut at %d: another state at the end", cut)
		}
	}
}

func FuzzAnyStateAndAnySampleAreSafe(f *testing.F) {
	var s Series
	feed(&s, 0, 200, rand.New(rand.NewPCG(9, 9)), same)
	f.Add(state(&s), int64(1), 1.0)
	f.Add([]byte{}, int64(-1), math.MaxFloat64)
	f.Add([]byte{1, 2, 3}, int64(math.MaxInt64), -1e99)
	f.Fuzz(func(t *testing.T, b []byte, at int64, x float64) {
		r := snapshot.NewReader(b)
		var s Series
		s.Read(r)
		if r.Close() != nil {
			s = Series{}
		}
		for i := range int64(3) {
			v := s.Observe(at+i, x)
			if r.Err() == nil && b == nil && (math.IsNaN(v.TailProb) || v.TailProb <= 0 || v.TailProb > 1 || v.Score < 0 || v.Score > 1) {
				t.Fatalf("%+v", v)
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	var s Series
	r := rand.New(rand.NewPCG(10, 10))
	values := make([]float64, 1<<14)
	for i := range values {
		values[i] = busy(r, i)
	}
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		s.Observe(monday+i*minute, values[i&(1<<14-1)])
		i++
	}
}

package baseline

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

func TestALightSeriesTellsWhatIsFarAndNothingElse(t *testing.T) {
	const learnt = 3 * 1440
	for name, c := range map[string]struct {
		draw func(r *rand.Rand, i int) float64
		odd  float64
	}{
		"noise":               {func(r *rand.Rand, _ int) float64 { return 100 + 5*r.NormFloat64() }, 150},
		"a day's wave":        {busy, 300},
		"nearly always zero":  {func(r *rand.Rand, _ int) float64 { return math.Floor(r.Float64() + 0.02) }, 30},
		"a constant":          {func(*rand.Rand, int) float64 { return 7 }, 8},
		"small, and negative": {func(r *rand.Rand, _ int) float64 { return 1e-9 * (r.NormFloat64() - 3) }, 1e-7},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 3))
			var l Light
			for i := range learnt {
				v := l.Observe(monday+int64(i)*minute, c.draw(r, i))
				if v.Anomaly {
					t.Fatalf("minute %d: an anomaly of nothing, %+v", i, v)
				}
				if v.TailProb <= 0 || v.TailProb > 1 || v.Low > v.High {
					t.Fatalf("minute %d: %+v", i, v)
				}
			}
			if v := l.Observe(monday+learnt*minute, c.odd); !v.Anomaly || v.Onset != monday+learnt*minute || v.TailProb > 1e-3 {
				t.Errorf("what is odd looks like %+v", v)
			}
			if v := l.Observe(monday+(learnt+1)*minute, c.draw(r, learnt+1)); v.Anomaly {
				t.Errorf("it goes on after its end: %+v", v)
			}
			if v := l.Observe(monday+learnt*minute, c.odd); v.TailProb != 1 || v.Anomaly {
				t.Errorf("a sample that comes late is not passed over: %+v", v)
			}
		})
	}
}

func TestALightSeriesIsLightAndGoesOnWhenItWasRead(t *testing.T) {
	if size := unsafe.Sizeof(Light{}); size > 232 {
		t.Errorf("%d bytes", size)
	}
	r := rand.New(rand.NewPCG(4, 4))
	var whole, other Light
	for i := range 3000 {
		x := busy(r, i)
		if i%700 > 690 {
			x *= 20
		}
		at := monday + int64(i)*minute
		if got, want := other.Observe(at, x), whole.Observe(at, x); got != want {
			t.Fatalf("sample %d: %+v, want %+v", i, got, want)
		}
		if r.IntN(50) > 0 {
			continue
		}
		w, again := &snapshot.Writer{}, &snapshot.Writer{}
		other.Write(w)
		other = Light{}
		rd := snapshot.NewReader(w.Data())
		if other.Read(rd); rd.Close() != nil {
			t.Fatal(rd.Close())
		}
		if whole.Write(again); !bytes.Equal(w.Data(), again.Data()) {
			t.Fatalf("sample %d: states differ", i)
		}
	}
}

func FuzzAnyLightStateIsSafe(f *testing.F) {
	var l Light
	for i := range int64(200) {
		l.Observe(i*minute, float64(i%7))
	}
	w := &snapshot.Writer{}
	l.Write(w)
	f.Add(w.Data(), int64(1), 1.0)
	f.Add([]byte{1, 2, 3}, int64(math.MaxInt64), -1e99)
	f.Fuzz(func(t *testing.T, b []byte, at int64, x float64) {
		var l Light
		l.Read(snapshot.NewReader(b))
		for i := range int64(3) {
			if v := l.Observe(at+i, x); v.TailProb <= 0 || v.TailProb > 1 || math.IsNaN(v.TailProb) {
				t.Fatalf("%+v", v)
			}
		}
	})
}

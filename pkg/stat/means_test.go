package stat

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

const (
	minute = int64(60_000)
	hours6 = 6 * 60 * minute
)

func TestMeansGiveTheLineThatTheirPointsGive(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var m Means
	var ring Ring
	for i := range 1000 {
		at, v := int64(i)*minute+int64(r.IntN(9000)), 0.3+0.0004*float64(i)+0.01*r.NormFloat64()
		m.Add(at, v, minute/2, hours6)
		ring.Add(at, v, minute/2, hours6)
		ts, vs := m.Append(nil, nil)
		if len(ts) > mostMeans {
			t.Fatalf("%d means after %d points", len(ts), i+1)
		}
		if i < mostMeans && len(ts) != i+1 {
			t.Fatalf("%d of the first %d points are kept", len(ts), i+1)
		}
		if i < 100 {
			continue
		}
		got, _ := Fit(ts, vs, at)
		want, _ := Fit(ring.T, ring.V, at)
		// Both know the slope to its standard error; they must agree to a part of it.
		if off := math.Abs(got.Slope - want.Slope); off > want.SlopeErr {
			t.Fatalf("after %d points the slope is %g, of all points %g with a standard error of %g", i+1, got.Slope, want.Slope, want.SlopeErr)
		}
		if off := float64(m.Points()) / float64(len(ring.T)); off < 0.95 || off > 1.05 {
			t.Fatalf("after %d points %d are known, %d lie in the window", i+1, m.Points(), len(ring.T))
		}
	}
}

func TestMeansOfALineLieOnIt(t *testing.T) {
	var m Means
	for i := range 5000 {
		if i%7 == 3 || i > 300 && i < 390 || i > 900 && i < 3000 { // what is missing bends nothing
			continue
		}
		at := int64(i) * minute
		m.Add(at, 0.1+0.0001*float64(i), minute, hours6)
		ts, vs := m.Append(nil, nil)
		if ts[0] < at-hours6 || ts[len(ts)-1] > at {
			t.Fatalf("minute %d: means of %d to %d", i, ts[0]/minute, ts[len(ts)-1]/minute)
		}
		for k := range ts {
			if want := 0.1 + 0.0001*float64(ts[k])/float64(minute); math.Abs(vs[k]-want) > 1e-5 {
				t.Fatalf("minute %d: the mean at %g is %g, on the line, which rises by 1e-4 a minute, %g", i, float64(ts[k])/float64(minute), vs[k], want)
			}
		}
	}
}

// TestMeansAreKnownToAPartOfHowFarTheyLieApart has a slow rise far from zero, of which a
// wild value spoils the precision for as long as what was rounded beside it is in the
// window, and no longer.
func TestMeansAreKnownToAPartOfHowFarTheyLieApart(t *testing.T) {
	for _, scale := range []float64{1e-9, 1, 1e12} {
		for _, wild := range []float64{0, 100, -3000} {
			var m Means
			at := func(ms int64) float64 { return scale * (1000 + 0.001*float64(ms)/float64(minute)) }
			for i := range int64(3000) {
				v := at(i * minute)
				if i == 1000 {
					v += scale * wild
				}
				m.Add(i*minute, v, minute, hours6)
				if i < 400 || wild != 0 && i > 990 && i < 1000+2*400 {
					continue
				}
				ts, vs := m.Append(nil, nil)
				for k := range ts {
					if off := math.Abs(vs[k]-at(ts[k])) / scale; off > 0.36/5000+1e-6 {
						t.Fatalf("minute %d, scale %g, wild %g: %g off a line that rises by 0.36 in the window", i, scale, wild, off)
					}
				}
			}
		}
	}
}

func TestMeansSurviveASnapshot(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var m Means
	for i := range 700 {
		m.Add(int64(i)*minute, r.Float64(), minute, hours6)
		w := &snapshot.Writer{}
		m.Write(w)
		var back Means
		rd := snapshot.NewReader(w.Data())
		if back.Read(rd); rd.Close() != nil {
			t.Fatal(rd.Close())
		}
		w2 := &snapshot.Writer{}
		back.Write(w2)
		if !bytes.Equal(w.Data(), w2.Data()) {
			t.Fatalf("after %d points the state that was written and read is another", i+1)
		}
		if i%3 == 0 {
			m = back // what was read goes on as what was written
		}
	}
	if m.Points() < 350 {
		t.Errorf("%d points are left of six hours", m.Points())
	}
}

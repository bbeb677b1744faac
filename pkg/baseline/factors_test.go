package baseline

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestFactorsAreKeptToATenThousandthOfTheLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	for _, size := range []float64{1e-12, 0.3, 1, 1e9, 1e20} {
		var f factors
		var want [hours + 7]float64
		for step := range 2000 {
			scale := size
			if step > 300 && step < 900 { // for a while some are a thousand times larger
				scale *= math.Pow(10, 3*r.Float64())
			}
			i, v := r.IntN(len(want)), scale*r.NormFloat64()
			if r.IntN(20) == 0 {
				v = 0
			}
			if want[i] = v; i < hours {
				f.setHour(int64(i), float32(v))
			} else {
				f.setDay(uint32(i-hours), float32(v))
			}
			got := float64(f.day(uint32(max(i, hours) - hours)))
			if i < hours {
				got = float64(f.hour(int64(i)))
			}
			largest := 0.0
			for _, w := range want {
				largest = max(largest, math.Abs(w))
			}
			if math.Abs(got-v) > largest/1e4 {
				t.Fatalf("step %d: %g became %g, the largest is %g", step, v, got, largest)
			}
		}
	}
}

func TestAFactorThatCannotBeReckonedWithIsPassedOver(t *testing.T) {
	var f factors
	f.setHour(3, 7)
	for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1)), math.MaxFloat32} {
		f.setHour(3, v)
		f.setHour(4, v)
	}
	if f.hour(3) != 7 || f.hour(4) != 0 {
		t.Errorf("got %g and %g, want 7 and 0", f.hour(3), f.hour(4))
	}
	f.setHour(5, math.SmallestNonzeroFloat32)
	if v := f.hour(5); v != 0 {
		t.Errorf("what is nothing beside 7 became %g", v)
	}
}

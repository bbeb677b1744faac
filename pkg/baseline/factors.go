package baseline

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// factors are what the hours of the day and the days of the week add, in 16 bits
// each: to a 16,000th at least of the largest of them.
type factors struct {
	exp int16 // of two, the unit
	q   [hours + 7]int16
}

const hours = 24

// most is the largest number of units, and half of what 16 bits hold, so that a unit
// is not doubled and halved to and fro.
const most = 1 << 14

// leastExp is that of the smallest number that is normal.
const leastExp = -126

// unit is two to the power of exp.
func (f *factors) unit() float32 { return math.Float32frombits(uint32(f.exp+127) << 23) }

func (f *factors) hour(i int64) float32 { return f.unit() * float32(f.q[i]) }

func (f *factors) day(i uint32) float32 { return f.unit() * float32(f.q[hours+i]) }

func (f *factors) setHour(i int64, v float32) { f.set(int(i), v) }

func (f *factors) setDay(i uint32, v float32) { f.set(hours+int(i), v) }

func (f *factors) set(i int, v float32) {
	a := math.Abs(float64(v))
	if !(a < math.MaxFloat32/2) { // nothing can be added to it
		return
	}
	f.q[i] = 0
	if a == 0 {
		return
	}
	if f.largest() == 0 {
		_, exp := math.Frexp(a)
		f.exp = int16(max(exp-14, leastExp)) //nolint:gosec // of a float32
	}
	f.narrow()
	for a > float64(f.unit())*(2*most-1) {
		f.double()
	}
	f.q[i] = int16(math.RoundToEven(float64(v) / float64(f.unit())))
}

// double makes the unit twice as large.
func (f *factors) double() {
	f.exp++
	for i, q := range f.q {
		f.q[i] = q / 2
	}
}

// narrow makes the unit as small as the largest factor allows.
func (f *factors) narrow() {
	for largest := f.largest(); largest > 0 && 2*largest <= most && f.exp > leastExp; largest *= 2 {
		f.exp--
		for i := range f.q {
			f.q[i] *= 2
		}
	}
}

// largest is how many units the largest factor has.
func (f *factors) largest() (n int) {
	for _, q := range f.q {
		n = max(n, int(q), -int(q))
	}
	return n
}

func (f *factors) write(w *snapshot.Writer) {
	w.Int(int64(f.exp))
	for _, q := range f.q {
		w.Int(int64(q))
	}
}

func (f *factors) read(r *snapshot.Reader) {
	exp := r.Int()
	for i := range f.q {
		f.q[i] = int16(r.Int()) //nolint:gosec // of hostile bytes any factor is as good
	}
	if exp < leastExp || exp > 127-14 {
		r.Fail("a season out of range")
		exp = 0
	}
	f.exp = int16(exp)
}

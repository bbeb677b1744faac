package stat

import (
	"math"
	"math/bits"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Means is the history of a series that a line is to be fitted through, in 240
// bytes: what a [Ring] keeps of it in five thousand, as means of neighbours, whose
// values are known to a 30,000th of how far they lie apart. Each
// time it is full two become one, so that the first points are kept as they are,
// and later ones by twos, fours and eights. The mean of points of a line lies on
// the line. The zero value has seen nothing.
type Means struct {
	start int64   // milliseconds
	base  float64 // the first value, from which the others are
	last  int64   // of the last point that was kept
	value float64 // of it
	open  float32 // the last mean
	unit  uint32  // of ts, milliseconds: a 32nd of what lies between points
	per   uint16  // points in a mean
	rest  uint16  // points in the last mean so far
	n     uint16
	exp   int16             // of two, the unit of vs
	ts    [mostMeans]uint16 // since start
	vs    [mostMeans]int16  // but that of the last
}

const (
	// leastExp is the exponent while all values are alike.
	leastExp = -200
	// mostExp is that of the largest difference that is told apart.
	mostExp = 100
)

// mostMeans of the 360 points of a window, eight in each, are 45.
const mostMeans = 48

// Add folds a point that is at least every milliseconds after the last one that
// was kept, and forgets what is older than window milliseconds, which is less than a
// thousand times every and than a month.
func (m *Means) Add(t int64, v float64, every, window int64) {
	if m.n > 0 && t-m.last < every {
		return
	}
	m.forget(t - window)
	if m.n == 0 {
		m.start, m.unit, m.per, m.rest = t, uint32(max(1, every/32)), 1, 0 //nolint:gosec // less than a month
		m.base, m.exp = v, leastExp
	}
	m.last, m.value = t, v
	at := uint16(min((t-m.start)/int64(m.unit), math.MaxUint16)) //nolint:gosec // clipped
	if m.n > 0 && m.rest < m.per {
		m.rest++
		i, k := m.n-1, uint32(m.rest)
		m.ts[i] = uint16((uint32(m.ts[i])*(k-1) + uint32(at) + k/2) / k) //nolint:gosec // a mean of both
		m.open += (m.from(v) - m.open) / float32(m.rest)
		return
	}
	m.close()
	if m.n == mostMeans {
		m.halve()
	}
	m.ts[m.n], m.open, m.rest = at, m.from(v), 1
	m.n++
}

// from is how far a value lies from the base.
func (m *Means) from(v float64) float32 {
	const most = 1 << mostExp
	return float32(max(-most, min(most, v-m.base)))
}

// close rounds the last mean to the unit of the others, which becomes as large as it
// has to be.
func (m *Means) close() {
	if m.n == 0 {
		return
	}
	x := float64(m.open)
	if _, exp := math.Frexp(x); x != 0 && exp-15 > int(m.exp) {
		by := exp - 15 - int(m.exp)
		for i := range m.n - 1 {
			m.vs[i] = int16(math.RoundToEven(math.Ldexp(float64(m.vs[i]), -by)))
		}
		m.exp += int16(by) //nolint:gosec // at most mostExp
	}
	m.vs[m.n-1] = int16(max(-math.MaxInt16, min(math.MaxInt16, math.RoundToEven(math.Ldexp(x, -int(m.exp))))))
}

// at is the value of a mean.
func (m *Means) at(i uint16) float64 {
	if i == m.n-1 {
		return m.base + float64(m.open)
	}
	return m.base + math.Ldexp(float64(m.vs[i]), int(m.exp))
}

// halve makes one of two neighbours, all of which are full.
func (m *Means) halve() {
	m.n /= 2
	for i := range m.n {
		a, b := m.ts[2*i], m.ts[2*i+1]
		m.ts[i] = a + (b-a)/2
		m.vs[i] = int16(math.RoundToEven((float64(m.vs[2*i]) + float64(m.vs[2*i+1])) / 2))
	}
	m.per *= 2
}

// forget drops the means that are older than before.
func (m *Means) forget(before int64) {
	k := uint16(0)
	for k < m.n && m.time(k) < before {
		k++
	}
	if k == 0 {
		return
	}
	if m.n -= k; m.n == 0 {
		return
	}
	m.start = m.time(k)
	by := m.ts[k]
	copy(m.vs[:], m.vs[k:])
	for i := range m.n {
		m.ts[i] = m.ts[i+k] - by
	}
	m.rebase()
}

// rebase counts values from the first one, in as small a unit as the others allow.
func (m *Means) rebase() {
	first := m.at(0)
	m.open -= float32(first - m.base)
	m.base = first
	by, largest := int32(m.vs[0]), uint32(0)
	for _, v := range m.vs[:m.n-1] {
		d := int32(v) - by
		largest = max(largest, uint32(max(d, -d))) //nolint:gosec // not negative
	}
	if largest == 0 {
		clear(m.vs[:])
		m.exp = leastExp
		return
	}
	more := 15 - bits.Len32(largest) // which is -1 where they lie far apart
	for i := range m.n - 1 {
		m.vs[i] = int16(math.RoundToEven(math.Ldexp(float64(int32(m.vs[i])-by), more)))
	}
	m.exp -= int16(more) //nolint:gosec // at most 15
}

// time of a mean in milliseconds.
func (m *Means) time(i uint16) int64 { return m.start + int64(m.ts[i])*int64(m.unit) }

// Reset forgets everything.
func (m *Means) Reset() { m.n = 0 }

// Last is the time and value of the last point that was kept; ok is false when
// there is none.
func (m *Means) Last() (t int64, v float64, ok bool) { return m.last, m.value, m.n > 0 }

// Points is how many points the means are of.
func (m *Means) Points() int {
	if m.n == 0 {
		return 0
	}
	return int(m.n-1)*int(m.per) + int(m.rest)
}

// Append appends the means, as times in milliseconds and values. A last one of few
// points, which would weigh as much as the others, is part of the one before.
func (m *Means) Append(ts []int64, vs []float64) ([]int64, []float64) {
	for i := range m.n {
		at, v := m.time(i), m.at(i)
		if k := len(ts) - 1; i > 0 && i == m.n-1 && 2*m.rest < m.per {
			share := float64(m.rest) / float64(m.rest+m.per)
			ts[k], vs[k] = ts[k]+int64(share*float64(at-ts[k])), vs[k]+float64(share*(v-vs[k]))
			continue
		}
		ts, vs = append(ts, at), append(vs, v)
	}
	return ts, vs
}

// Write writes the state.
func (m *Means) Write(w *snapshot.Writer) {
	w.Uint(uint64(m.n))
	if m.n == 0 {
		return
	}
	w.Int(m.start)
	w.Int(m.last - m.start)
	w.Float(m.value)
	w.Float(m.base)
	w.Float32(m.open)
	w.Int(int64(m.exp))
	w.Uint(uint64(m.unit))
	w.Uint(uint64(m.per))
	w.Uint(uint64(m.rest))
	last, v := uint16(0), int16(0)
	for i := range m.n {
		w.Uint(uint64(m.ts[i] - last))
		last = m.ts[i]
		if i < m.n-1 {
			w.Int(int64(m.vs[i]) - int64(v))
			v = m.vs[i]
		}
	}
}

// Read reads the state.
func (m *Means) Read(r *snapshot.Reader) {
	*m = Means{}
	n := r.Uint()
	if n == 0 {
		return
	}
	m.start = r.Int()
	m.last = m.start + r.Int()
	m.value, m.base, m.open = r.Float(), r.Float(), r.Float32()
	exp := r.Int()
	unit, per, rest := r.Uint(), r.Uint(), r.Uint()
	if n > mostMeans || unit == 0 || unit > math.MaxUint32 || per > 1<<14 || rest == 0 || rest > per || exp < leastExp-15 || exp > mostExp {
		r.Fail("means of points out of range")
		return
	}
	m.n, m.unit, m.per, m.rest = uint16(n), uint32(unit), uint16(per), uint16(rest)
	m.exp = int16(exp)
	last, v := uint16(0), int16(0)
	for i := range m.n {
		last += uint16(r.Uint()) //nolint:gosec // of hostile bytes any time is as good
		m.ts[i] = last
		if i < m.n-1 {
			v += int16(r.Int()) //nolint:gosec // of hostile bytes any value is as good
			m.vs[i] = v
		}
	}
}

package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Means is the history of a series that a line is to be fitted through, in 328
// bytes: what a [Ring] keeps of it in five thousand, as means of neighbours. Each
// time it is full two become one, so that the first points are kept as they are,
// and later ones by twos, fours and eights. The mean of points of a line lies on
// the line. The zero value has seen nothing.
type Means struct {
	start int64   // milliseconds
	last  int64   // of the last point that was kept
	value float64 // of it
	unit  uint32  // of ts, milliseconds: a 32nd of what lies between points
	per   uint16  // points in a mean
	rest  uint16  // points in the last mean so far
	n     uint16
	ts    [mostMeans]uint16 // since start
	vs    [mostMeans]float32
}

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
	}
	m.last, m.value = t, v
	at := uint16(min((t-m.start)/int64(m.unit), math.MaxUint16)) //nolint:gosec // clipped
	if m.n > 0 && m.rest < m.per {
		m.rest++
		i, k := m.n-1, uint32(m.rest)
		m.ts[i] = uint16((uint32(m.ts[i])*(k-1) + uint32(at) + k/2) / k) //nolint:gosec // a mean of both
		m.vs[i] += (float32(v) - m.vs[i]) / float32(m.rest)
		return
	}
	if m.n == mostMeans {
		m.halve()
	}
	m.ts[m.n], m.vs[m.n], m.rest = at, float32(v), 1
	m.n++
}

// halve makes one of two neighbours, all of which are full.
func (m *Means) halve() {
	m.n /= 2
	for i := range m.n {
		a, b := m.ts[2*i], m.ts[2*i+1]
		m.ts[i], m.vs[i] = a+(b-a)/2, (m.vs[2*i]+m.vs[2*i+1])/2
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
	for i := range m.n {
		m.ts[i], m.vs[i] = m.ts[i+k]-by, m.vs[i+k]
	}
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
		at, v := m.time(i), float64(m.vs[i])
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
	w.Uint(uint64(m.unit))
	w.Uint(uint64(m.per))
	w.Uint(uint64(m.rest))
	last := uint16(0)
	for i := range m.n {
		w.Uint(uint64(m.ts[i] - last))
		w.Float32(m.vs[i])
		last = m.ts[i]
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
	m.value = r.Float()
	unit, per, rest := r.Uint(), r.Uint(), r.Uint()
	if n > mostMeans || unit == 0 || unit > math.MaxUint32 || per > 1<<14 || rest == 0 || rest > per {
		r.Fail("means of points out of range")
		return
	}
	m.n, m.unit, m.per, m.rest = uint16(n), uint32(unit), uint16(per), uint16(rest)
	last := uint16(0)
	for i := range m.n {
		last += uint16(r.Uint()) //nolint:gosec // of hostile bytes any time is as good
		m.ts[i], m.vs[i] = last, r.Float32()
	}
}

package detector

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/slab"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// MarshalBinary writes the state.
func (f *metricFold) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	if err := f.write(w); err != nil {
		return nil, err
	}
	w.Int(f.swept)
	w.Uint(uint64(f.series.Len()))
	// Kinds are numbered as they come, so that equal states are equal bytes whatever
	// there was before.
	number := make(map[uint32]int, len(f.kinds.all))
	for id, st := range f.series.All() {
		w.Fixed(id)
		w.Uint(uint64(st.last))
		at, a := st.at, (*arrival)(nil)
		if at&arrived != 0 {
			a = &f.arrived[at&^arrived]
			at = a.kind
		}
		n, ok := number[at]
		if !ok {
			n = len(number)
			number[at] = n
		}
		if w.Uint(uint64(n)); !ok {
			k := f.kinds.all[at]
			w.Uint(k.mask)
			w.String(k.space.name)
		}
		writeWaiting(w, a)
	}
	w.Uint(uint64(len(f.overflow)))
	for _, space := range sortedKeys(f.overflow) {
		w.String(space)
		w.Uint(uint64(f.overflow[space]))
	}
	return w.Data(), nil
}

// writeWaiting writes what came of a series in a window that is not closed, or that
// nothing did.
func writeWaiting(w *snapshot.Writer, a *arrival) {
	if a == nil {
		w.Uint(0)
		return
	}
	w.Uint(uint64(len(a.Points)))
	w.Uint(uint64(len(a.Labels)))
	for _, l := range a.Labels {
		w.String(l.Name)
		w.String(l.Value)
	}
	for _, p := range a.Points {
		w.Int(p.T)
		w.Float(p.V)
	}
}

// UnmarshalBinary reads the state into a fold that was just made.
func (f *metricFold) UnmarshalBinary(data []byte) error {
	r := snapshot.NewReader(data)
	if err := f.read(r); err != nil {
		return err
	}
	f.swept = r.Int()
	f.series, f.kinds, f.arrived = slab.Table[seriesState]{}, kinds{}, nil
	f.overflow = map[string]int{}
	type kind struct {
		mask  uint64
		space string
	}
	var numbered []kind
	rows := r.Len()
	f.series.Reserve(rows)
	for range rows {
		id, last, n := r.Fixed(), r.Uint(), r.Uint()
		if n == uint64(len(numbered)) {
			numbered = append(numbered, kind{mask: r.Uint(), space: r.String()})
		}
		if n >= uint64(len(numbered)) {
			r.Fail("kind of a series out of range")
		}
		if last > math.MaxUint32 {
			r.Fail("time of a series out of range")
		}
		if r.Err() != nil {
			return r.Err()
		}
		if f.series.Find(id) != nil {
			r.Fail("a series comes twice")
			return r.Err()
		}
		f.readWaiting(r, id, f.known(id, uint32(last), numbered[n].space, numbered[n].mask))
	}
	for range r.Len() {
		space := r.String()
		f.overflow[space] = int(r.Uint()) //nolint:gosec // a count of samples
	}
	if f.heir {
		f.meet()
	}
	return r.Close()
}

// meet asks anew which detectors see a series, of those whose samples wait for the end
// of their window; it is asked of any other when that comes next.
func (f *metricFold) meet() {
	waiting := f.arrived
	f.series, f.kinds, f.arrived = slab.Table[seriesState]{}, kinds{}, nil
	for i := range waiting {
		f.buffer(&waiting[i].Series, true)
	}
}

func (f *metricFold) readWaiting(r *snapshot.Reader, id uint64, st *seriesState) {
	n := r.Len()
	if n == 0 {
		return
	}
	a := arrival{event.Series{ID: id}, st.at}
	for range r.Len() {
		a.Labels = append(a.Labels, event.Label{Name: r.String(), Value: r.String()})
	}
	for range n {
		a.Points = append(a.Points, event.Point{T: r.Int(), V: r.Float()})
	}
	f.arrived = append(f.arrived, a)
	st.at = arrived | uint32(len(f.arrived)-1) //nolint:gosec // no more than there are series
}

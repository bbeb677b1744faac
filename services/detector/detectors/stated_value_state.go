package detectors

import (
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// MarshalBinary writes the state.
func (d *logValueShift) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Int(d.swept)
	w.Uint(uint64(d.share))
	w.Bool(d.wanted)
	w.Uint(uint64(len(d.rows)))
	for _, key := range sortedKeys(d.rows) {
		row := d.rows[key]
		w.Fixed(key)
		w.Fixed(row.speaker)
		w.Int(row.seen)
		w.Uint(uint64(len(row.opaque)))
		for _, k := range row.opaque {
			w.Fixed(k)
		}
		w.Uint(uint64(len(row.values)))
		for _, v := range row.values {
			v.write(w)
		}
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *logValueShift) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.swept, d.share, d.wanted = r.Int(), int(r.Uint()), r.Bool()
	d.rows, d.held, d.total = map[uint64]*statedValues{}, map[uint64]int{}, 0
	for range r.Len() {
		key := r.Fixed()
		row := &statedValues{speaker: r.Fixed(), seen: r.Int()}
		for range r.Len() {
			row.opaque = append(row.opaque, r.Fixed())
		}
		for range r.Len() {
			v := &statedValue{}
			v.read(r)
			row.values = append(row.values, v)
		}
		if r.Err() != nil {
			return r.Err()
		}
		d.rows[key] = row
		d.count(row.speaker, len(row.values)+1)
	}
	return r.Close()
}

func (v *statedValue) write(w *snapshot.Writer) {
	w.Fixed(v.key)
	w.String(v.name)
	w.Uint(uint64(v.place))
	w.Uint(uint64(v.form))
	w.String(v.unit)
	for _, n := range []uint32{v.n, v.nums, v.ups, v.downs} {
		w.Uint(uint64(n))
	}
	w.Bool(v.top != nil)
	if v.top != nil {
		v.top.Write(w)
	}
	w.Uint(uint64(v.kind))
	w.Bool(v.codes)
	w.Float(v.blocks)
	v.hist.Write(w)
	w.Float(v.median)
	w.Float(v.high)
	for _, s := range []*stat.Shift{&v.over, &v.up, &v.under, &v.fresh} {
		s.Write(w)
	}
	w.Uint(uint64(len(v.classes)))
	for i := range v.classes {
		c := &v.classes[i]
		w.String(c.text)
		c.shift.Write(w)
		w.Float(c.since)
		w.Float(c.k)
		w.Uint(uint64(c.comes))
		w.Uint(uint64(c.leaves))
		w.Int(c.first)
	}
	w.Float(v.farthest)
	w.Float(v.evicted)
	w.Int(v.closed)
	w.Uint(uint64(v.unsure))
	b := &v.block
	w.Int(b.start)
	w.Float(b.n)
	w.Float(b.nums)
	b.hist.Write(w)
	w.Float(b.over)
	w.Float(b.up)
	w.Float(b.under)
	w.Int(b.first)
	for _, l := range v.last {
		w.Uint(uint64(l.pod))
		w.Uint(uint64(l.class))
		w.Float(l.value)
	}
	w.Bool(v.odd != nil)
	if o := v.odd; o != nil {
		w.Int(o.onset)
		for _, x := range []float64{o.p, o.observed, o.low, o.high, o.lines} {
			w.Float(x)
		}
		w.String(o.class)
		w.String(o.said)
		w.String(o.sample)
	}
}

func (v *statedValue) read(r *snapshot.Reader) {
	v.key, v.name, v.place, v.form, v.unit = r.Fixed(), r.String(), int(r.Uint()), logpattern.Form(r.Uint()), r.String()
	for _, n := range []*uint32{&v.n, &v.nums, &v.ups, &v.downs} {
		*n = uint32(r.Uint())
	}
	if r.Bool() {
		v.top = &stat.Top{}
		v.top.Read(r)
	}
	v.kind, v.codes, v.blocks = kind(r.Uint()), r.Bool(), r.Float()
	if (v.kind == 0) != (v.top != nil) {
		r.Fail("the kind of a value is known and is not")
		return
	}
	v.hist.Read(r)
	v.median, v.high = r.Float(), r.Float()
	for _, s := range []*stat.Shift{&v.over, &v.up, &v.under, &v.fresh} {
		s.Read(r)
	}
	for range r.Len() {
		c := stateShare{text: r.String()}
		c.hash = hashOfState(c.text)
		c.shift.Read(r)
		c.since, c.k, c.comes, c.leaves, c.first = r.Float(), r.Float(), int(r.Uint()), int(r.Uint()), r.Int()
		v.classes = append(v.classes, c)
	}
	v.farthest, v.evicted, v.closed, v.unsure = r.Float(), r.Float(), r.Int(), int(r.Uint())
	b := &v.block
	b.start, b.n, b.nums = r.Int(), r.Float(), r.Float()
	b.hist.Read(r)
	b.over, b.up, b.under, b.first = r.Float(), r.Float(), r.Float(), r.Int()
	for i := range v.last {
		v.last[i] = lastOfPod{uint32(r.Uint()), uint32(r.Uint()), r.Float()}
	}
	if r.Bool() {
		o := &oddValue{onset: r.Int()}
		for _, x := range []*float64{&o.p, &o.observed, &o.low, &o.high, &o.lines} {
			*x = r.Float()
		}
		o.class, o.said, o.sample = r.String(), r.String(), r.String()
		v.odd = o
	}
}

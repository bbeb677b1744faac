package detector

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/slab"
)

// seriesTTL is how long a series is remembered that no longer comes.
const seriesTTL = 24 * time.Hour

// metricFold buffers samples until the tick that closes their window.
type metricFold struct {
	*bank
	limit     int
	series    slab.Table[seriesState]
	kinds     kinds
	overflow  map[string]int // samples refused since the last tick, by namespace
	arrived   []arrival      // of the windows that are not closed
	usual     int            // how many arrive in a window
	room      []event.Point  // that arrivals take theirs of
	swept     int64          // hour of the last sweep, or what times are counted from
	selectors []func(event.Labels) bool
}

// seriesState is what the fold remembers of one series, of which there are very many.
type seriesState struct {
	last uint32 // time of the last sample that detectors have seen, from metricFold.epoch; 0 before one, or before that
	at   uint32 // below arrived: its kind, of metricFold.kinds; else where it is in metricFold.arrived
}

// arrived is set in what is no kind.
const arrived = 1 << 31

// arrival is what came of a series since its last window, most often one point.
type arrival struct {
	event.Series
	kind uint32
}

func newMetricFold(b *bank, limit int) (*metricFold, error) {
	if len(b.slots) > 64 {
		return nil, fmt.Errorf("detector: %d detectors of metrics, more than 64", len(b.slots))
	}
	f := &metricFold{bank: b, limit: limit, overflow: map[string]int{}}
	f.reselect()
	return f, nil
}

// reselect keeps the answer to "which series?" apart from a detector's state,
// so that a detector made afresh is not asked again.
func (f *metricFold) reselect() {
	f.selectors = make([]func(event.Labels) bool, len(f.slots))
	for i, s := range f.slots {
		f.selectors[i] = func(event.Labels) bool { return true }
		if sel, ok := s.detector.(Selector); ok {
			f.selectors[i] = sel.Selects
		}
	}
}

// Apply folds a batch of samples or a tick.
func (f *metricFold) Apply(m bus.Message) ([]event.Outgoing, error) {
	switch v := m.Data.(type) {
	case event.MetricBatch:
		for i := range v.Series {
			f.buffer(&v.Series[i], v.Bootstrap)
		}
		return nil, nil
	case event.Tick:
		if f.passed(v) {
			f.drop("repeat", 1)
			return nil, nil
		}
		return f.tick(m, v), nil
	}
	return nil, fmt.Errorf("detector: metrics fold got %s", m.Type)
}

// lookup finds the state of a series, or makes it; nil when the namespace has
// as many as it may.
func (f *metricFold) lookup(s *event.Series) *seriesState {
	if st := f.series.Find(s.ID); st != nil {
		return st
	}
	space := s.Labels.Get(event.LabelNamespace)
	if f.kinds.series(space) >= f.limit || f.series.Len() >= slab.Most {
		f.overflow[space] += len(s.Points)
		f.drop("cardinality", len(s.Points))
		return nil
	}
	return f.known(s.ID, 0, space, f.mask(s.Labels))
}

// known makes the state of a series.
func (f *metricFold) known(id uint64, last uint32, space string, mask uint64) *seriesState {
	st, _ := f.series.At(id)
	st.last, st.at = last, f.kinds.of(space, mask)
	return st
}

// epoch is what the times of series are counted from: before what is remembered.
func (f *metricFold) epoch() int64 {
	return f.swept*time.Hour.Milliseconds() - 2*seriesTTL.Milliseconds()
}

// turn moves the epoch to that of an hour.
func (f *metricFold) turn(hour int64) {
	before := f.epoch()
	f.swept = hour
	by := f.epoch() - before
	for _, st := range f.series.All() {
		if st.last != 0 {
			st.last = uint32(max(0, int64(st.last)-by)) //nolint:gosec // no later than the watermark
		}
	}
}

func (f *metricFold) mask(ls event.Labels) uint64 {
	asked := ls.Get(event.LabelDetected)
	var mask uint64
	for i, s := range f.slots {
		if (s.info.Always || asks(asked, s.info.Name)) && f.selectors[i](ls) {
			mask |= 1 << i
		}
	}
	return mask
}

// buffer keeps the new samples of a series. History is never late: detectors see it
// in the window that closes next, with all that belongs together, and judge its end.
func (f *metricFold) buffer(s *event.Series, history bool) {
	st := f.lookup(s)
	if st == nil {
		return
	}
	for _, p := range s.Points {
		switch {
		case st.last != 0 && p.T <= f.epoch()+int64(st.last):
			f.drop("repeat", 1)
		case f.watermark != 0 && p.T <= f.watermark && !history:
			f.drop("late", 1)
		case math.IsNaN(p.V) || math.IsInf(p.V, 0):
			f.drop("not_finite", 1)
		default:
			f.keep(st, s, p)
		}
	}
}

// keep puts a sample to those that wait for the end of their window, sorted by
// time; of two at one time the first stays.
func (f *metricFold) keep(st *seriesState, s *event.Series, p event.Point) {
	if st.at&arrived == 0 {
		if cap(f.arrived) == 0 {
			f.arrived = make([]arrival, 0, f.usual)
		}
		f.arrived = append(f.arrived, arrival{event.Series{ID: s.ID, Labels: s.Labels, Points: f.one(p)}, st.at})
		st.at = arrived | uint32(len(f.arrived)-1) //nolint:gosec // no more than there are series
		return
	}
	a := &f.arrived[st.at&^arrived]
	at, found := slices.BinarySearchFunc(a.Points, p.T, func(q event.Point, t int64) int { return cmp.Compare(q.T, t) })
	if found {
		f.drop("repeat", 1)
		return
	}
	a.Points = slices.Insert(a.Points, at, p)
}

// one is a slice of one point, of an allocation that many share.
func (f *metricFold) one(p event.Point) []event.Point {
	if len(f.room) == cap(f.room) {
		f.room = make([]event.Point, 0, max(16, min(f.usual, 512)))
	}
	n := len(f.room)
	f.room = append(f.room, p)
	return f.room[n : n+1 : n+1]
}

// window is what detectors are shown, sorted by id, in space that folds hand on to
// each other.
type window struct {
	order []turn    // in all
	all   []arrival // that came
	view  []event.Series
}

type turn struct {
	id uint64
	at int
}

var windows = sync.Pool{New: func() any { return &window{} }}

// close takes the arrivals up to the watermark into the window and returns how many
// samples these are.
func (f *metricFold) close(w *window, watermark int64) (n int) {
	for i := range f.arrived {
		w.order = append(w.order, turn{f.arrived[i].ID, i})
	}
	slices.SortFunc(w.order, func(a, b turn) int { return cmp.Compare(a.id, b.id) })
	var later []arrival
	w.all = f.arrived
	w.order = slices.DeleteFunc(w.order, func(o turn) bool {
		a := &w.all[o.at]
		k := len(a.Points)
		for k > 0 && a.Points[k-1].T > watermark {
			k--
		}
		st := f.series.Find(a.ID)
		st.at = a.kind
		if k > 0 {
			st.last = uint32(max(0, a.Points[k-1].T-f.epoch())) //nolint:gosec // within the hour of the epoch
		}
		if k < len(a.Points) {
			later = append(later, arrival{event.Series{ID: a.ID, Labels: a.Labels, Points: slices.Clone(a.Points[k:])}, a.kind})
			st.at = arrived | uint32(len(later)-1) //nolint:gosec // no more than there are series
		}
		a.Points = a.Points[:k:k]
		n += k
		return k == 0
	})
	f.usual, f.arrived, f.room = len(f.arrived), later, nil
	return n
}

// of is what the detector in slot i sees.
func (w *window) of(i int, ks *kinds) []event.Series {
	w.view = w.view[:0]
	for _, o := range w.order {
		if a := &w.all[o.at]; ks.all[a.kind].mask&(1<<i) != 0 {
			w.view = append(w.view, a.Series)
		}
	}
	return w.view
}

// done forgets the window, labels and points too, which the space that is handed on
// would hold on to.
func (w *window) done() {
	clear(w.view[:cap(w.view)])
	w.order, w.all, w.view = w.order[:0], nil, w.view[:0]
	windows.Put(w)
}

// tick closes the window.
func (f *metricFold) tick(m bus.Message, t event.Tick) []event.Outgoing {
	w := windows.Get().(*window)
	defer w.done()
	hour := t.Watermark.UnixMilli() / time.Hour.Milliseconds()
	struck := hour != f.swept
	if struck {
		f.turn(hour)
	}
	n := f.close(w, t.Watermark.UnixMilli())
	f.metrics.samples.WithLabelValues(string(f.group)).Add(float64(n))
	batch := f.batch(t)
	out := f.window(m, t, nil, f.overflowed(t), func(i int) event.Batch {
		v := batch
		if s := w.of(i, &f.kinds); len(s) > 0 {
			v.Metrics = []event.MetricBatch{{Partition: f.partition, Step: batch.Watermark, Series: s}}
		}
		return v
	})
	if struck {
		f.sweep(t.Watermark.UnixMilli())
	}
	return out
}

// cardinality is the notice of the fold itself that a namespace has more
// series than it may.
var cardinality = Info{Name: "cardinality", Class: event.ClassAmbient, Hold: 10 * time.Minute}

func (f *metricFold) overflowed(t event.Tick) []observed {
	if len(f.overflow) == 0 {
		return nil
	}
	o := observed{info: cardinality, hash: "00000000"}
	for _, space := range sortedKeys(f.overflow) {
		e := event.Entity{Kind: "Namespace", Name: space}
		if space == "" {
			e = event.Entity{Kind: "Cluster", Name: "cluster"}
		}
		o.anomalies = append(o.anomalies, event.Anomaly{
			Series: event.SeriesHash(event.HashStrings("cardinality", space)), Entity: e, Signal: "series", Severity: event.Info,
			Observed: float64(f.kinds.series(space)), TailProb: 1e-6,
			Summary:     fmt.Sprintf("more than %d series in one partition: %d samples of new ones are not watched", f.limit, f.overflow[space]),
			Explanation: "The limit detector.max_series keeps memory bounded; series that were known before are watched as ever.",
		})
	}
	clear(f.overflow)
	return []observed{o}
}

// sweep forgets the series that no longer come.
func (f *metricFold) sweep(w int64) {
	before := w - seriesTTL.Milliseconds() - f.epoch()
	f.series.DeleteFunc(func(_ uint64, st *seriesState) bool {
		if st.at&arrived != 0 || int64(st.last) >= before {
			return false
		}
		f.kinds.leave(st.at)
		return true
	})
}

// kind is what many series have in common.
type kind struct {
	space *space
	mask  uint64 // of detectors
	n     int    // series
}

// space is a namespace, with the kinds of its series, which are few.
type space struct {
	name  string
	kinds []uint32
	n     int // series
}

// kinds are the kinds that there are, each once.
type kinds struct {
	all    []kind
	free   []uint32 // those of no series
	spaces map[string]*space
}

// series is how many there are of a namespace.
func (ks *kinds) series(name string) int {
	if s := ks.spaces[name]; s != nil {
		return s.n
	}
	return 0
}

// of is the number of a kind, of which there is one series more.
func (ks *kinds) of(name string, mask uint64) uint32 {
	s := ks.spaces[name]
	if s == nil {
		if ks.spaces == nil {
			ks.spaces = map[string]*space{}
		}
		s = &space{name: strings.Clone(name)} // a batch shares one block
		ks.spaces[s.name] = s
	}
	s.n++
	for _, i := range s.kinds {
		if ks.all[i].mask == mask {
			ks.all[i].n++
			return i
		}
	}
	i := uint32(len(ks.all)) //nolint:gosec // no more than there are series
	if last := len(ks.free) - 1; last >= 0 {
		i, ks.free = ks.free[last], ks.free[:last]
	} else {
		ks.all = append(ks.all, kind{})
	}
	ks.all[i] = kind{space: s, mask: mask, n: 1}
	s.kinds = append(s.kinds, i)
	return i
}

// leave says that there is one series less of a kind.
func (ks *kinds) leave(i uint32) {
	k := &ks.all[i]
	k.n--
	if k.space.n--; k.space.n == 0 {
		delete(ks.spaces, k.space.name)
	}
	if k.n == 0 {
		k.space.kinds = slices.DeleteFunc(k.space.kinds, func(other uint32) bool { return other == i })
		*k = kind{}
		ks.free = append(ks.free, i)
	}
}

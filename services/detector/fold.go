package detector

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

var (
	_ bus.Fold = (*metricFold)(nil)
	_ bus.Fold = (*logFold)(nil)
	_ bus.Fold = (*eventFold)(nil)
)

// previous is the watermark before, or zero.
func (b *bank) previous() time.Time {
	if b.watermark == 0 {
		return time.Time{}
	}
	return time.UnixMilli(b.watermark).UTC()
}

// passed says whether a tick brings nothing new: a repeat, or one that came
// out of order.
func (b *bank) passed(t event.Tick) bool {
	return b.watermark != 0 && t.Watermark.UnixMilli() <= b.watermark
}

// batch is the frame of a window; the telemetry is put in by the fold.
func (b *bank) batch(t event.Tick) event.Batch {
	return event.Batch{Partition: b.partition, Watermark: t.Watermark.UTC(), Previous: b.previous(), Skipped: t.Skipped, Blind: t.Blind}
}

// seriesTTL is how long a series is remembered that no longer comes.
const seriesTTL = 24 * time.Hour

// metricFold buffers samples until the tick that closes their window.
type metricFold struct {
	*bank
	limit     int
	series    map[uint64]*seriesState
	perSpace  map[string]int // series by namespace
	overflow  map[string]int // samples refused since the last tick, by namespace
	touched   []*seriesState // with pending points
	swept     int64          // hour of the last sweep
	selectors []func(event.Labels) bool
	views     [][]event.Series
}

// seriesState is what the fold remembers of one series.
type seriesState struct {
	id      uint64
	lastT   int64 // of the last sample that detectors have seen
	mask    uint64
	space   string
	pending *pending // nil while there is none
}

// pending is what came of a series since its last window, most often one point.
type pending struct {
	labels event.Labels
	points []event.Point
	closed int // of the points, belong to the window that is being closed
	one    [1]event.Point
}

func newMetricFold(b *bank, limit int) (*metricFold, error) {
	if len(b.slots) > 64 {
		return nil, fmt.Errorf("detector: %d detectors of metrics, more than 64", len(b.slots))
	}
	f := &metricFold{
		bank: b, limit: limit, series: map[uint64]*seriesState{}, perSpace: map[string]int{}, overflow: map[string]int{},
		views: make([][]event.Series, len(b.slots)),
	}
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
	st, ok := f.series[s.ID]
	if ok {
		return st
	}
	space := s.Labels.Get(event.LabelNamespace)
	if f.perSpace[space] >= f.limit {
		f.overflow[space] += len(s.Points)
		f.drop("cardinality", len(s.Points))
		return nil
	}
	f.perSpace[space]++
	st = &seriesState{id: s.ID, space: space, mask: f.mask(s.Labels), lastT: math.MinInt64}
	f.series[s.ID] = st
	return st
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

// buffer keeps the new samples of a series, sorted by time; of two at one
// time the first stays. History is never late: detectors see it in the window
// that closes next, with all that belongs together, and judge its end.
func (f *metricFold) buffer(s *event.Series, history bool) {
	st := f.lookup(s)
	if st == nil {
		return
	}
	for _, p := range s.Points {
		switch {
		case p.T <= st.lastT:
			f.drop("repeat", 1)
		case f.watermark != 0 && p.T <= f.watermark && !history:
			f.drop("late", 1)
		case math.IsNaN(p.V) || math.IsInf(p.V, 0):
			f.drop("not_finite", 1)
		default:
			if st.pending == nil {
				st.pending = &pending{labels: s.Labels}
				st.pending.points = st.pending.one[:0]
				f.touched = append(f.touched, st)
			}
			at, found := slices.BinarySearchFunc(st.pending.points, p.T, func(q event.Point, t int64) int { return cmp.Compare(q.T, t) })
			if found {
				f.drop("repeat", 1)
				continue
			}
			st.pending.points = slices.Insert(st.pending.points, at, p)
		}
	}
}

func (f *metricFold) asBatch(i int, at time.Time) []event.MetricBatch {
	if len(f.views[i]) == 0 {
		return nil
	}
	return []event.MetricBatch{{Partition: f.partition, Step: at, Series: f.views[i]}}
}

// closed forgets the window, labels and points too, which the space that is kept
// for the next one would hold on to.
func (f *metricFold) closed() {
	for i := range f.views {
		clear(f.views[i])
		f.views[i] = f.views[i][:0]
	}
	later := f.touched[:0]
	for _, st := range f.touched {
		p := st.pending
		if p.points = slices.Delete(p.points, 0, p.closed); len(p.points) > 0 {
			later = append(later, st)
			continue
		}
		st.pending = nil
	}
	clear(f.touched[len(later):])
	f.touched = later
}

func (f *metricFold) route(st *seriesState, s event.Series) {
	for i := range f.views {
		if st.mask&(1<<i) != 0 {
			f.views[i] = append(f.views[i], s)
		}
	}
}

// tick closes the window.
func (f *metricFold) tick(m bus.Message, t event.Tick) []event.Outgoing {
	w := t.Watermark.UnixMilli()
	slices.SortFunc(f.touched, func(a, b *seriesState) int { return cmp.Compare(a.id, b.id) })
	n := 0
	for _, st := range f.touched {
		p := st.pending
		k := len(p.points)
		for k > 0 && p.points[k-1].T > w {
			k--
		}
		if p.closed = k; k > 0 {
			st.lastT = p.points[k-1].T
			f.route(st, event.Series{ID: st.id, Labels: p.labels, Points: p.points[:k:k]})
			n += k
		}
	}
	f.metrics.samples.WithLabelValues(string(f.group)).Add(float64(n))
	batch := f.batch(t)
	out := f.window(m, t, nil, f.overflowed(t), func(i int) event.Batch {
		v := batch
		v.Metrics = f.asBatch(i, batch.Watermark)
		return v
	})
	f.closed()
	f.sweep(w)
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
			Observed: float64(f.perSpace[space]), TailProb: 1e-6,
			Summary:     fmt.Sprintf("more than %d series in one partition: %d samples of new ones are not watched", f.limit, f.overflow[space]),
			Explanation: "The limit detector.max_series keeps memory bounded; series that were known before are watched as ever.",
		})
	}
	clear(f.overflow)
	return []observed{o}
}

// sweep forgets, once an hour, the series that no longer come.
func (f *metricFold) sweep(w int64) {
	hour := w / time.Hour.Milliseconds()
	if hour == f.swept {
		return
	}
	f.swept = hour
	for id, st := range f.series {
		if st.pending == nil && st.lastT < w-seriesTTL.Milliseconds() {
			delete(f.series, id)
			if f.perSpace[st.space]--; f.perSpace[st.space] == 0 {
				delete(f.perSpace, st.space)
			}
		}
	}
}

// MarshalBinary writes the state.
func (f *metricFold) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	if err := f.write(w); err != nil {
		return nil, err
	}
	w.Int(f.swept)
	ids := make([]uint64, 0, len(f.series))
	for id := range f.series {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	w.Uint(uint64(len(ids)))
	for _, id := range ids {
		st := f.series[id]
		w.Fixed(id)
		w.Int(st.lastT)
		w.Uint(st.mask)
		w.String(st.space)
		if st.pending == nil {
			w.Uint(0)
			continue
		}
		w.Uint(uint64(len(st.pending.points)))
		w.Uint(uint64(len(st.pending.labels)))
		for _, l := range st.pending.labels {
			w.String(l.Name)
			w.String(l.Value)
		}
		for _, p := range st.pending.points {
			w.Int(p.T)
			w.Float(p.V)
		}
	}
	w.Uint(uint64(len(f.overflow)))
	for _, space := range sortedKeys(f.overflow) {
		w.String(space)
		w.Uint(uint64(f.overflow[space]))
	}
	return w.Data(), nil
}

// UnmarshalBinary reads the state into a fold that was just made.
func (f *metricFold) UnmarshalBinary(data []byte) error {
	r := snapshot.NewReader(data)
	if err := f.read(r); err != nil {
		return err
	}
	f.swept = r.Int()
	f.series, f.perSpace, f.overflow, f.touched = map[uint64]*seriesState{}, map[string]int{}, map[string]int{}, nil
	for range r.Len() {
		st := &seriesState{id: r.Fixed(), lastT: r.Int(), mask: r.Uint(), space: r.String()}
		n := r.Len()
		if n > 0 {
			st.pending = &pending{}
			for range r.Len() {
				st.pending.labels = append(st.pending.labels, event.Label{Name: r.String(), Value: r.String()})
			}
			for range n {
				st.pending.points = append(st.pending.points, event.Point{T: r.Int(), V: r.Float()})
			}
			f.touched = append(f.touched, st)
		}
		if r.Err() != nil {
			return r.Err()
		}
		f.series[st.id] = st
		f.perSpace[st.space]++
	}
	for range r.Len() {
		space := r.String()
		f.overflow[space] = int(r.Uint())
	}
	return r.Close()
}

// encodeJSON is for the few things whose own form is JSON.
func encodeJSON(w *snapshot.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Bytes(b)
	return nil
}

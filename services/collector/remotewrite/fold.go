package remotewrite

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// fold turns the log of raw samples into steps of golden signals. It is a
// function of the log alone: a step's values depend on the samples of the
// window before it that came before the mark of the step, and on nothing else,
// so that a process that reads the window again goes on exactly as the one
// before it would have.
type fold struct {
	source string
	window time.Duration
	limit  int // series
	rules  *Rules
	allow  allowed
	names  *entities.Map

	marked  time.Time // the last mark seen: what is not after it is late
	parts   map[uint64]*part
	targets map[uint64]*target

	late, over int // samples since they were taken last
}

// part is one raw series.
type part struct {
	id     uint64
	points []event.Point // of the window, oldest first
	feeds  []feed
	ended  int64 // time of a staleness marker, after which it has no value
}

// feed is what a part adds to.
type feed struct {
	*target
	bound float64 // of a bucket
}

// target is one series of a signal.
type target struct {
	rule   int
	id     uint64
	labels event.Labels

	// Of the step being made:
	value   float64
	n       int
	buckets map[float64]float64
}

func newFold(source string, window time.Duration, limit int, rules *Rules, names *entities.Map) *fold {
	return &fold{source: source, window: window, limit: limit, rules: rules, allow: rules.allowed(), names: names, parts: map[uint64]*part{}, targets: map[uint64]*target{}}
}

// staleNaN is the value by which Prometheus says that a series has ended.
const staleNaN uint64 = 0x7ff0000000000002

// add takes in a batch of raw samples.
func (f *fold) add(b event.MetricBatch) {
	for i := range b.Series {
		s := &b.Series[i]
		p := f.parts[s.ID]
		if p == nil {
			if len(f.parts) >= f.limit {
				f.over += len(s.Points)
				continue
			}
			p = &part{id: s.ID, feeds: f.feeds(s.Labels)}
			f.parts[s.ID] = p
		}
		for _, pt := range s.Points {
			f.sample(p, pt)
		}
	}
}

func (f *fold) sample(p *part, pt event.Point) {
	switch {
	case !f.marked.IsZero() && pt.T <= f.marked.UnixMilli():
		f.late++
		return
	case math.Float64bits(pt.V) == staleNaN:
		p.ended = max(p.ended, pt.T)
		return
	case math.IsNaN(pt.V) || math.IsInf(pt.V, 0):
		return
	}
	at, found := slices.BinarySearchFunc(p.points, pt.T, func(q event.Point, t int64) int { return cmp.Compare(q.T, t) })
	if !found { // of two at one time the first stays
		p.points = slices.Insert(p.points, at, pt)
	}
}

// feeds finds what a series adds to.
func (f *fold) feeds(ls event.Labels) (out []feed) {
	get := ls.Get
	subject := f.names.Subject(get)
	for _, i := range f.allow.rules[get(event.LabelName)] {
		q := &f.rules.Signals[i]
		if !q.takes(get) {
			continue
		}
		labels, ok := about(q, subject)
		if !ok {
			continue
		}
		fd := feed{}
		if q.As == "quantile" {
			var err error
			if fd.bound, err = strconv.ParseFloat(get(bucketLabel), 64); err != nil {
				continue
			}
		}
		labels[event.LabelSource] = f.source
		full := event.LabelsOf(labels)
		id := full.Hash()
		if f.targets[id] == nil {
			f.targets[id] = &target{rule: i, id: id, labels: full}
		}
		fd.target = f.targets[id]
		out = append(out, fd)
	}
	return out
}

// about are the labels of a signal's series, without those that are empty.
func about(q *Rule, s entities.Subject) (map[string]string, bool) {
	out := map[string]string{
		event.LabelName: q.Signal, event.LabelFamily: q.Family, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class),
		event.LabelDetected: strings.Join(q.Detectors, ","),
	}
	missing := false
	switch q.Entity {
	case "workload":
		if s.Pod != "" && s.Kind == "" {
			s.Workload = event.WorkloadOfPod(s.Pod)
		}
		missing = s.Workload == ""
		out[event.LabelNamespace], out[event.LabelWorkload], out[event.LabelKind] = s.Namespace, s.Workload, s.Kind
	case "pod":
		missing = s.Pod == ""
		out[event.LabelNamespace], out[event.LabelPod], out[event.LabelContainer] = s.Namespace, s.Pod, s.Container
	case "node":
		missing = s.Node == ""
		out[event.LabelNode] = s.Node
	case "pvc":
		missing = s.PVC == ""
		out[event.LabelNamespace], out[event.LabelEntity] = s.Namespace, s.Namespace+"/PersistentVolumeClaim/"+s.PVC
	case "namespace":
		missing = s.Namespace == ""
		out[event.LabelNamespace] = s.Namespace
	}
	for k, v := range out {
		if v == "" {
			delete(out, k)
		}
	}
	return out, !missing
}

// mark closes the step at a time: from now on what is not after it is late.
func (f *fold) mark(at time.Time) {
	if at.After(f.marked) {
		f.marked = at
	}
}

// step makes the batches of a step whose mark has been seen.
func (f *fold) step(at time.Time) []event.MetricBatch {
	from, to := at.Add(-f.window).UnixMilli(), at.UnixMilli()
	for _, id := range slices.Sorted(maps.Keys(f.parts)) {
		p := f.parts[id]
		n := 0
		for n < len(p.points) && p.points[n].T <= from {
			n++
		}
		p.points = slices.Delete(p.points, 0, n)
		if len(p.points) == 0 {
			delete(f.parts, id)
			continue
		}
		n = len(p.points)
		for n > 0 && p.points[n-1].T > to {
			n--
		}
		if n == 0 || p.ended > p.points[n-1].T && p.ended <= to {
			continue
		}
		for _, fd := range p.feeds {
			if v, ok := f.rules.Signals[fd.rule].value(p.points[:n], f.window); ok {
				fd.take(&f.rules.Signals[fd.rule], fd.bound, v)
			}
		}
	}
	byRule := make([][]event.Series, len(f.rules.Signals))
	for _, id := range slices.Sorted(maps.Keys(f.targets)) {
		t := f.targets[id]
		if v, ok := t.result(&f.rules.Signals[t.rule]); ok {
			byRule[t.rule] = append(byRule[t.rule], event.Series{ID: t.id, Labels: t.labels, Points: []event.Point{{T: to, V: v}}})
		}
		t.value, t.n, t.buckets = 0, 0, nil
	}
	f.forget()
	for i := range f.rules.Signals {
		f.derive(i, byRule, to)
	}
	var out []event.MetricBatch
	for i := range f.rules.Signals {
		if q := &f.rules.Signals[i]; !q.Hidden {
			out = append(out, prometheus.Batches(f.source, q.hash(), at, byRule[i])...)
		}
	}
	return out
}

// forget drops the targets that no series adds to any more.
func (f *fold) forget() {
	clear(f.targets)
	for _, p := range f.parts {
		for _, fd := range p.feeds {
			f.targets[fd.id] = fd.target
		}
	}
}

// derive makes ratios, and the zeroes of what has no series yet.
func (f *fold) derive(i int, byRule [][]event.Series, at int64) {
	q := &f.rules.Signals[i]
	signal := func(name string) []event.Series {
		return byRule[slices.IndexFunc(f.rules.Signals, func(o Rule) bool { return o.Family == q.Family && o.Signal == name })]
	}
	switch {
	case q.Zero != "":
		there := map[uint64]bool{}
		for _, s := range byRule[i] {
			there[s.ID] = true
		}
		for _, s := range signal(q.Zero) {
			ls := f.named(q, s.Labels)
			if id := ls.Hash(); !there[id] {
				byRule[i] = append(byRule[i], event.Series{ID: id, Labels: ls, Points: []event.Point{{T: at}}})
			}
		}
	case q.Ratio != nil:
		below := map[uint64]float64{}
		for _, s := range signal(q.Ratio[1]) {
			below[f.named(q, s.Labels).Hash()] = s.Points[0].V
		}
		for _, s := range signal(q.Ratio[0]) {
			ls := f.named(q, s.Labels)
			// Nothing is divided by zero: without requests there is no error ratio.
			if b := below[ls.Hash()]; b != 0 {
				byRule[i] = append(byRule[i], event.Series{ID: ls.Hash(), Labels: ls, Points: []event.Point{{T: at, V: s.Points[0].V / b}}})
			}
		}
	}
}

// named are the labels of another signal's series, for signal q.
func (f *fold) named(q *Rule, ls event.Labels) event.Labels {
	m := ls.Map()
	for k, v := range map[string]string{event.LabelName: q.Signal, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class), event.LabelDetected: strings.Join(q.Detectors, ",")} {
		m[k] = v
		if v == "" {
			delete(m, k)
		}
	}
	return event.LabelsOf(m)
}

// value is what one series adds at the last of its points, which are those of
// a window. A rate is the increase, with resets, over the time between the
// first and the last point: unlike Prometheus we do not extrapolate to the
// window's edges, so that nothing is made up.
func (q *Rule) value(points []event.Point, window time.Duration) (float64, bool) {
	last := points[len(points)-1]
	if q.As == "value" {
		return last.V, true
	}
	span := float64(last.T-points[0].T) / 1000
	if span <= 0 {
		return 0, false
	}
	increase := 0.0
	for i := 1; i < len(points); i++ {
		d := points[i].V - points[i-1].V
		if d < 0 {
			d = points[i].V // the counter began anew
		}
		increase += d
	}
	if q.As == "increase" {
		return increase, true
	}
	return increase / span, true
}

func (t *target) take(q *Rule, bound, v float64) {
	switch {
	case q.As == "quantile":
		if t.buckets == nil {
			t.buckets = map[float64]float64{}
		}
		t.buckets[bound] += v
	case t.n == 0:
		t.value = v
	case q.Aggregate == "max":
		t.value = max(t.value, v)
	case q.Aggregate == "min":
		t.value = min(t.value, v)
	default:
		t.value += v
	}
	t.n++
}

func (t *target) result(q *Rule) (float64, bool) {
	switch {
	case t.n == 0:
		return 0, false
	case q.As == "quantile":
		return quantile(q.Quantile, t.buckets)
	case q.Aggregate == "avg":
		return t.value / float64(t.n), true
	}
	return t.value, true
}

// quantile estimates a quantile of a histogram by its cumulative buckets as
// histogram_quantile of PromQL does: linear within a bucket, the lower bound of
// the last bucket when it is the answer. It returns false for a histogram
// without observations or without the bucket +Inf.
func quantile(q float64, buckets map[float64]float64) (float64, bool) {
	bounds := slices.Sorted(maps.Keys(buckets))
	if len(bounds) < 2 || !math.IsInf(bounds[len(bounds)-1], 1) {
		return 0, false
	}
	counts := make([]float64, len(bounds))
	for i, b := range bounds {
		counts[i] = buckets[b]
		if i > 0 {
			counts[i] = max(counts[i], counts[i-1]) // scrapes of buckets are not atomic
		}
	}
	total := counts[len(counts)-1]
	if total == 0 {
		return 0, false
	}
	rank := q * total
	i := 0
	for i < len(counts)-1 && counts[i] < rank {
		i++
	}
	switch {
	case i == len(counts)-1:
		return bounds[len(bounds)-2], true
	case i == 0 && bounds[0] <= 0:
		return bounds[0], true
	}
	lower, below := 0.0, 0.0
	if i > 0 {
		lower, below = bounds[i-1], counts[i-1]
	}
	return lower + (bounds[i]-lower)*(rank-below)/(counts[i]-below), true
}

// taken returns the counts of samples that were late or beyond the limit, and
// begins anew.
func (f *fold) taken() (late, over int) {
	late, over = f.late, f.over
	f.late, f.over = 0, 0
	return late, over
}

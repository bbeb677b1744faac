package signals

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/detector"
)

// told are the signals that health reads, with the detectors that are asked of
// each. Those of the catalogue that learn a day have no history here.
var told = map[string]string{
	"request_rate": "burn_rate", "error_rate": "none", "error_ratio": "burn_rate", "latency_p99": "level_shift,spike",
	"dns_error_ratio": "level_shift,spike", "pvc_used_ratio": "forecast", "pvc_inodes_ratio": "forecast", "node_disk_ratio": "forecast", "memory_limit_ratio": "forecast",
}

// above is from where on a signal is read: of what every pod has, only what may
// matter is transferred.
var above = map[string]float64{"memory_limit_ratio": 0.5}

// maxRanges bounds the ranges of one reading.
const maxRanges = 24

// ranged is one query of the catalogue with its answer.
type ranged struct {
	family prometheus.Family
	prometheus.Query
	expr   string
	matrix model.Matrix
	err    error
}

// measureAll reads the last hours of every signal that is there. It gives what
// could not be read.
func (s *Reader) measureAll(ctx context.Context, r *Reading) *check.Unchecked {
	var guards []string
	for _, f := range s.Families {
		if slices.ContainsFunc(f.Queries, func(q prometheus.Query) bool { return told[q.Signal] != "" }) {
			guards = append(guards, f.Guard)
		}
	}
	for _, m := range s.measures() {
		guards = append(guards, m.Guard)
	}
	slices.Sort(guards)
	guards = slices.Compact(guards)
	present, err := s.Prometheus.Has(ctx, guards, r.at)
	if err != nil {
		return notRead(OfMetrics, err)
	}
	r.at = s.Prometheus.Upstream().Clock().Now() // it has told its time
	end := r.at.Truncate(signalStep)
	matchers := ""
	if s.Namespace != "" {
		matchers = fmt.Sprintf("namespace=%q", s.Namespace)
	}
	var list []ranged
	for _, f := range s.Families {
		for _, q := range f.Queries {
			if present[f.Guard] && told[q.Signal] != "" && (s.Namespace == "" || q.Entity != "node") {
				expr := strings.TrimSpace(strings.ReplaceAll(q.Expr, "$window", "2m"))
				if least, ok := above[q.Signal]; ok {
					expr = fmt.Sprintf("(%s) > %g", expr, least)
				}
				list = append(list, ranged{family: f, Query: q, expr: upstream.InjectPromQL(expr, matchers)})
			}
		}
	}
	sent := 0
	var wg sync.WaitGroup
	wg.Go(func() { s.askMeasures(ctx, r, present, matchers) })
	for i := range list {
		q := &list[i]
		if q.Ratio != nil {
			continue // reckoned from its parts
		}
		if sent++; sent > maxRanges {
			q.err = fmt.Errorf("more than %d queries", maxRanges)
			continue
		}
		wg.Go(func() { q.matrix, q.err = s.Prometheus.Range(ctx, q.expr, end.Add(-signalHistory), end, signalStep) })
	}
	wg.Wait()
	r.ranges = list
	if len(list) == 0 && len(r.measured) == 0 {
		return &check.Unchecked{What: OfMetrics, Why: "Prometheus has none of the metrics of policies/queries that tell of them"}
	}
	var failed []string
	var first error
	for _, a := range r.measured {
		if a.err != nil {
			failed, first = append(failed, a.measures[0].Name), cmp.Or(first, a.err)
		}
	}
	for _, q := range list {
		if q.err != nil {
			failed, first = append(failed, q.family.Family+" "+q.Signal), cmp.Or(first, q.err)
		}
	}
	if failed == nil {
		return nil
	}
	u := check.NotRead(fmt.Sprintf("%s (%d of the metrics)", OfMetrics, len(failed)), fmt.Errorf("%s: %w", failed[0], first))
	if s.Namespace == "" && strings.Contains(u.Why, string(upstream.TooLarge)) {
		u.Why += "; -n NAMESPACE reads less"
	}
	return &u
}

// track is one series of a thing: a value a minute, NaN where there is none.
type track struct {
	labels event.Labels
	entity event.Entity
	of     *ranged
	values []float64
}

// steps is how many minutes a reading has.
const steps = int(signalHistory/signalStep) + 1

// tracks joins the series of an answer that speak of one thing.
func (s *Reader) tracks(q *ranged, start time.Time, c *check.Cluster) []*track {
	by := map[uint64]*track{}
	var out []*track
	for _, series := range q.matrix {
		ls, e, ok := s.labels(q, series.Metric, c)
		if !ok {
			continue
		}
		t := by[ls.Hash()]
		if t == nil {
			t = &track{labels: ls, entity: e, of: q, values: slices.Repeat([]float64{math.NaN()}, steps)}
			by[ls.Hash()] = t
			out = append(out, t)
		}
		for _, p := range series.Values {
			i, v := int(p.Timestamp.Time().Sub(start)/signalStep), float64(p.Value)
			if i < 0 || i >= steps || math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			switch old := t.values[i]; {
			case math.IsNaN(old):
				t.values[i] = v
			case q.Aggregate == "max":
				t.values[i] = max(old, v)
			case q.Aggregate == "min":
				t.values[i] = min(old, v)
			default: // of an average all parts count alike here
				t.values[i] = old + v
			}
		}
	}
	return out
}

// labels are those by which the detectors know a series, as the pipeline writes
// them, and the thing that it speaks of.
func (s *Reader) labels(q *ranged, m model.Metric, c *check.Cluster) (event.Labels, event.Entity, bool) {
	get := func(l string) string { return string(m[model.LabelName(l)]) }
	out := map[string]string{
		event.LabelName: q.Signal, event.LabelFamily: q.family.Family, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class), event.LabelDetected: told[q.Signal],
	}
	var e event.Entity
	switch sub := s.Entities.Subject(get); q.Entity {
	case "workload":
		var ok bool
		if e, ok = s.whose(c, get); !ok {
			return nil, e, false
		}
		out[event.LabelNamespace], out[event.LabelWorkload], out[event.LabelKind] = e.Namespace, e.Name, e.Kind
	case "node":
		e = event.Entity{Kind: "Node", Name: sub.Node}
		out[event.LabelNode] = sub.Node
	case "pvc":
		e = event.Entity{Namespace: sub.Namespace, Kind: "PersistentVolumeClaim", Name: sub.PVC}
		out[event.LabelNamespace], out[event.LabelEntity] = sub.Namespace, e.String()
	}
	if e.Name == "" {
		return nil, e, false
	}
	for name, v := range m {
		if !s.Entities.Names(string(name)) {
			out[string(name)] = string(v)
		}
	}
	return s.Redact.Labels(event.LabelsOf(out)), e, true
}

// judge has the detectors look at what was read, minute by minute.
func (s *Reader) judge(r *Reading, c *check.Cluster, into *check.Signals) error {
	end := r.at.Truncate(signalStep)
	start := end.Add(-signalHistory)
	var all []*track
	for i := range r.ranges {
		all = append(all, s.tracks(&r.ranges[i], start, c)...)
	}
	all = better(all)
	all = append(all, s.ratios(r, all)...)
	open, err := s.detect(all, start)
	if err != nil {
		return err
	}
	served := map[event.Entity]float64{}
	for _, t := range all {
		switch {
		case t.of.Signal == "request_rate":
			served[t.entity] += sum(t.values, steps-10, steps) * signalStep.Seconds()
		case strings.Contains(told[t.of.Signal], "forecast"):
			if v := latest(t.values, 5); !math.IsNaN(v) {
				into.Shares = append(into.Shares, check.Share{Entity: t.entity, Signal: t.of.Signal, Query: t.of.expr, Value: v})
			}
		}
	}
	for _, a := range open {
		a.Entity.Cluster = ""
		a.Evidence = queried(all, a) // a detector knows no PromQL
		n, counted := served[a.Entity]
		if !counted {
			n = -1
		}
		into.Departures = append(into.Departures, check.Departure{Anomaly: a, Requests: n})
	}
	for _, t := range all {
		if t.of.Signal == "error_ratio" {
			into.Failing = append(into.Failing, failing(t, part(all, t, "request_rate"), start))
		}
	}
	return nil
}

// queried is the PromQL that shows the series of an anomaly.
func queried(all []*track, a event.Anomaly) []event.EvidenceRef {
	i := slices.IndexFunc(all, func(t *track) bool {
		return t.entity == a.Entity && t.of.Signal == a.Signal && t.of.family.Family == a.Labels[event.LabelFamily]
	})
	if i < 0 {
		return nil
	}
	expr := all[i].of.expr
	if a.Entity.Namespace != "" && !strings.Contains(expr, "namespace=") {
		expr = upstream.InjectPromQL(expr, fmt.Sprintf("namespace=%q", a.Entity.Namespace))
	}
	return []event.EvidenceRef{{Source: evidence.Prometheus, Query: expr}}
}

// better leaves out what a family says of a thing of which another one says it
// better.
func better(all []*track) []*track {
	type place struct {
		event.Entity
		signal, family string
	}
	has := map[place]bool{}
	for _, t := range all {
		has[place{t.entity, t.of.Signal, t.of.family.Family}] = true
	}
	return slices.DeleteFunc(all, func(t *track) bool {
		return slices.ContainsFunc(t.of.family.Unless, func(f string) bool { return has[place{t.entity, t.of.Signal, f}] })
	})
}

// part is the series of another signal of the same thing and family; nil when
// there is none.
func part(all []*track, of *track, signal string) *track {
	i := slices.IndexFunc(all, func(t *track) bool {
		return t.entity == of.entity && t.of.Signal == signal && t.of.family.Family == of.of.family.Family
	})
	if i < 0 {
		return nil
	}
	return all[i]
}

// ratios are the signals that are one signal over another.
func (s *Reader) ratios(r *Reading, all []*track) []*track {
	var out []*track
	for i := range r.ranges {
		q := &r.ranges[i]
		if q.Ratio == nil {
			continue
		}
		for _, over := range all {
			if over.of.Signal != q.Ratio[0] || over.of.family.Family != q.family.Family {
				continue
			}
			under := part(all, over, q.Ratio[1])
			if under == nil {
				continue
			}
			t := &track{entity: over.entity, of: q, values: make([]float64, steps)}
			for i := range t.values {
				t.values[i] = math.NaN()
				if u := under.values[i]; u > 0 {
					t.values[i] = over.values[i] / u
				}
			}
			t.labels = event.LabelsOf(map[string]string{
				event.LabelName: q.Signal, event.LabelFamily: q.family.Family, event.LabelUnit: q.Unit, event.LabelClass: string(q.Class), event.LabelDetected: told[q.Signal],
				event.LabelNamespace: t.entity.Namespace, event.LabelWorkload: t.entity.Name, event.LabelKind: t.entity.Kind,
			})
			if q.expr == "" {
				q.expr = fmt.Sprintf("(%s) / (%s)", over.of.expr, under.of.expr)
			}
			out = append(out, t)
		}
	}
	return out
}

// detect folds the minutes into the detectors of the pipeline, and gives the
// anomalies that go on at the end.
func (s *Reader) detect(all []*track, start time.Time) ([]event.Anomaly, error) {
	fold, err := detector.NewFold(detector.Metrics, 0, s.Detectors, s.Policies, nil)
	if err != nil {
		return nil, err
	}
	open := map[string]event.Anomaly{}
	for i := range steps {
		at := start.Add(time.Duration(i) * signalStep).UTC()
		var series []event.Series
		for _, t := range all {
			if v := t.values[i]; !math.IsNaN(v) && told[t.of.Signal] != "none" {
				series = append(series, event.Series{ID: t.labels.Hash(), Labels: t.labels, Points: []event.Point{{T: at.UnixMilli(), V: v}}})
			}
		}
		if _, err := fold.Apply(bus.Message{Data: event.MetricBatch{Step: at, Series: series}}); err != nil {
			return nil, err
		}
		out, err := fold.Apply(bus.Message{Data: event.Tick{Watermark: at}})
		if err != nil {
			return nil, err
		}
		for _, o := range out {
			if a, ok := o.Data().(event.Anomaly); ok && a.Ended != nil {
				delete(open, a.Key)
			} else if ok {
				open[a.Key] = a
			}
		}
	}
	var list []event.Anomaly
	for _, key := range slices.Sorted(maps.Keys(open)) {
		list = append(list, open[key])
	}
	slices.SortStableFunc(list, func(a, b event.Anomaly) int { return cmp.Compare(a.TailProb, b.TailProb) })
	return list, nil
}

// lull is how long failures may pause and still be the same trouble, in minutes.
const lull = 3

// failing is how much of a workload's requests failed in the last five minutes,
// and how much did before.
func failing(ratio, rate *track, start time.Time) check.Failing {
	f := check.Failing{Entity: ratio.entity, Query: ratio.of.expr}
	var usual []float64
	for i, v := range ratio.values {
		switch {
		case math.IsNaN(v):
		case i < steps-15:
			usual = append(usual, v)
		case i >= steps-5 && rate != nil && !math.IsNaN(rate.values[i]):
			all := rate.values[i] * signalStep.Seconds()
			f.All += all
			f.Failed += v * all
		}
	}
	if len(usual) > 0 {
		f.Usual = stat.Median(usual)
	}
	f.Known = time.Duration(len(usual)) * signalStep
	quiet := 0
	for i := steps - 1; i >= 0 && quiet <= lull; i-- {
		if v := ratio.values[i]; v > 3*f.Usual && v > 0.01 {
			f.Since, quiet = start.Add(time.Duration(i)*signalStep), 0
		} else {
			quiet++
		}
	}
	return f
}

func sum(values []float64, from, to int) float64 {
	total := 0.0
	for _, v := range values[from:to] {
		if !math.IsNaN(v) {
			total += v
		}
	}
	return total
}

// latest is the last value within so many steps, or NaN.
func latest(values []float64, within int) float64 {
	for i := len(values) - 1; i >= len(values)-within; i-- {
		if !math.IsNaN(values[i]) {
			return values[i]
		}
	}
	return math.NaN()
}

package prometheus

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// keyed is one series of an answer, by its fingerprint, with its value at a step.
type keyed struct {
	metric model.Metric
	key    model.Fingerprint
	value  float64
}

func keyOf(v model.Vector) []keyed {
	out := make([]keyed, len(v))
	for i, s := range v {
		out[i] = keyed{s.Metric, s.Metric.Fingerprint(), float64(s.Value)}
	}
	return out
}

// mapping is what a series of an answer is published as.
type mapping struct {
	labels event.Labels
	id     uint64
	ok     bool // it names an entity
}

// mapped maps a series of an answer. What it comes to is kept until the next
// probe, since the same series come at every step.
func (s *Source) mapped(known map[model.Fingerprint]mapping, key model.Fingerprint, m model.Metric, q boundQuery) mapping {
	if to, ok := known[key]; ok {
		return to
	}
	ls, ok := labels(s.entities, m, q, ownership{s.env.Workloads, s.owners})
	if ok {
		if len(q.Detectors) > 0 {
			ls = with(ls, event.LabelDetected, strings.Join(q.Detectors, ","))
		}
		ls = with(s.env.Redact.Labels(ls), event.LabelSource, s.cfg.Name)
	}
	to := mapping{ls, ls.Hash(), ok}
	if ls.Get(event.LabelWorkload) != "" && ls.Get(event.LabelKind) == "" && s.env.Workloads.Some() {
		return to // Kubernetes may know it by the next step
	}
	known[key] = to
	return to
}

// series maps an answer to our labels and joins what speaks of one entity.
func (s *Source) series(known map[model.Fingerprint]mapping, q boundQuery, samples []keyed, at time.Time) []event.Series {
	// Sums of floats depend on their order, and the answer's order is not
	// promised: sort first.
	slices.SortFunc(samples, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	type acc struct {
		labels event.Labels
		value  float64
		n      int
	}
	byID := map[uint64]*acc{}
	for _, sample := range samples {
		to := s.mapped(known, sample.key, sample.metric, q)
		if !to.ok {
			continue
		}
		value := sample.value
		a, ok := byID[to.id]
		if !ok {
			byID[to.id] = &acc{to.labels, value, 1}
			continue
		}
		a.n++
		switch q.Aggregate {
		case "max":
			a.value = max(a.value, value)
		case "min":
			a.value = min(a.value, value)
		default:
			a.value += value
		}
	}
	out := make([]event.Series, 0, len(byID))
	for id, a := range byID {
		if q.Aggregate == "avg" {
			a.value /= float64(a.n)
		}
		out = append(out, event.Series{ID: id, Labels: a.labels, Points: []event.Point{{T: at.UnixMilli(), V: a.value}}})
	}
	return out
}

func with(ls event.Labels, name, value string) event.Labels {
	out := append(slices.Clone(ls), event.Label{Name: name, Value: value})
	slices.SortFunc(out, func(a, b event.Label) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Batches splits the series of one query and step into batches of one
// partition and namespace each. The same series give the same batches with the
// same ids, in whatever order they come.
func Batches(source, query string, at time.Time, series []event.Series) []event.MetricBatch {
	type place struct {
		partition int
		namespace string
	}
	groups := map[place][]event.Series{}
	for _, s := range series {
		ns := s.Labels.Get(event.LabelNamespace)
		p := place{event.Partition(ns, s.Labels.Workload()), ns}
		groups[p] = append(groups[p], s)
	}
	places := make([]place, 0, len(groups))
	for p := range groups {
		places = append(places, p)
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.partition != b.partition {
			return a.partition - b.partition
		}
		return strings.Compare(a.namespace, b.namespace)
	})
	chunks := map[int]int{} // by partition: ids have no namespace
	var out []event.MetricBatch
	for _, p := range places {
		list := groups[p]
		slices.SortFunc(list, func(a, b event.Series) int { return cmp.Compare(a.ID, b.ID) })
		for batch := range chunked(list) {
			out = append(out, event.MetricBatch{
				Source: source, Query: query, Partition: p.partition, Namespace: p.namespace, Step: at.UTC(), Chunk: chunks[p.partition], Series: batch,
			})
			chunks[p.partition]++
		}
	}
	return out
}

// chunked splits series into lists of at most [event.MaxBatchSamples] points. A
// series without points is in none, and one with more is in several.
func chunked(list []event.Series) iter.Seq[[]event.Series] {
	return func(yield func([]event.Series) bool) {
		var chunk []event.Series
		room := event.MaxBatchSamples
		for _, s := range list {
			for points := s.Points; len(points) > 0; {
				n := min(room, len(points))
				s.Points = points[:n:n]
				chunk, points, room = append(chunk, s), points[n:], room-n
				if room == 0 {
					if !yield(chunk) {
						return
					}
					chunk, room = nil, event.MaxBatchSamples
				}
			}
		}
		if len(chunk) > 0 {
			yield(chunk)
		}
	}
}

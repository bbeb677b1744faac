package prometheus

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// answers is who answers PromQL: a server, or a recording.
type answers interface {
	Has(ctx context.Context, metrics []string, at time.Time) (map[string]bool, error)
	Instant(ctx context.Context, expr string, at time.Time) (model.Vector, error)
}

// Recorded is a source that reads a recording of golden signals as if it were
// a Prometheus: the same probe, the same mapping to entities, redaction, ratios
// and batches, with the same ids.
//
// A recording holds answers and not what they were computed from: a series is
// named for its signal and carries its family in oncall_family, as the
// collector publishes it. Without a family the signal's name is enough.
type Recorded struct {
	source *Source
	steps  []time.Time
	bySig  map[signal][]event.Series
	byExpr map[string]signal
	guards map[string][]string // metric to families
	wait   func(context.Context, time.Time) error
}

// signal names a query.
type signal struct{ family, name string }

var _ collector.Source = (*Recorded)(nil)

// NewRecorded makes a source of the recorded series of one source of metrics.
// wait is called before each step is read, and holds it back; nil reads at
// once. The error names series that are no signal of policies/queries.
func NewRecorded(name string, series []event.Series, env collector.Env, wait func(context.Context, time.Time) error) (*Recorded, error) {
	families, err := loadQueries(env.Policies)
	if err != nil {
		return nil, err
	}
	names, err := entities.Load(env.Policies)
	if err != nil {
		return nil, err
	}
	cfg := Config{}
	cfg.Name = name
	cfg.Fill()
	r := &Recorded{bySig: map[signal][]event.Series{}, byExpr: map[string]signal{}, guards: map[string][]string{}, wait: wait}
	r.source = &Source{cfg: cfg, env: env, ask: r, families: families, entities: names, owners: owners{}}
	ratios := map[signal]bool{}
	first := map[string]string{} // signal to the first family that has it
	for _, f := range families {
		if f.Guard != "" {
			r.guards[f.Guard] = append(r.guards[f.Guard], f.Family)
		}
		for _, q := range f.Queries {
			s := signal{f.Family, q.Signal}
			if first[q.Signal] == "" {
				first[q.Signal] = f.Family
			}
			if q.Ratio != nil {
				ratios[s] = true
				continue
			}
			r.byExpr[boundQuery{family: f.Family, Query: q}.text(cfg.Window)] = s
			r.bySig[s] = nil
		}
	}
	at := map[int64]bool{}
	for _, se := range series {
		name := se.Labels.Get(event.LabelName)
		s := signal{cmp.Or(se.Labels.Get(event.LabelFamily), first[name]), name}
		if ratios[s] {
			continue // computed again
		}
		if _, ok := r.bySig[s]; !ok {
			return nil, fmt.Errorf("series %s is no signal of policies/queries; a recording holds their answers, not what was scraped", se.Labels)
		}
		r.bySig[s] = append(r.bySig[s], r.asAsked(se))
		for _, p := range se.Points {
			at[p.T] = true
		}
	}
	for t := range at {
		r.steps = append(r.steps, time.UnixMilli(t).UTC())
	}
	slices.SortFunc(r.steps, time.Time.Compare)
	return r, nil
}

// asAsked gives a series back what mapping has taken from the answer, so that
// mapping it again gives the same: the claim's own label, and whose a pod is.
func (r *Recorded) asAsked(s event.Series) event.Series {
	s.Labels = slices.DeleteFunc(slices.Clone(s.Labels), func(l event.Label) bool {
		return l.Name == event.LabelSource || l.Name == event.LabelDetected // written last, on what the answer had
	})
	if _, name, ok := strings.Cut(s.Labels.Get(event.LabelEntity), "/PersistentVolumeClaim/"); ok && len(r.source.entities.PVC) > 0 {
		s.Labels = with(s.Labels, r.source.entities.PVC[0], name)
	}
	if w, kind := s.Labels.Get(event.LabelWorkload), s.Labels.Get(event.LabelKind); w != "" && kind != "" {
		r.source.owners.add(s.Labels.Get(event.LabelNamespace), s.Labels.Get(event.LabelPod), owner{kind, w})
	}
	return s
}

// Name is the name of the recorded source.
func (r *Recorded) Name() string { return r.source.cfg.Name }

// Run emits every recorded step and returns at the end of the recording.
func (r *Recorded) Run(ctx context.Context, _ []byte, emit collector.Emit) error {
	for _, at := range r.steps {
		if r.wait != nil {
			if err := r.wait(ctx, at); err != nil {
				return err
			}
		}
		// What is there is known for each step; a server is asked every few minutes.
		r.source.probed = time.Time{}
		events, err := r.source.read(ctx, at)
		if err != nil {
			return err
		}
		if err := emit(ctx, collector.Emission{Stream: event.Metrics, Events: events, Closed: at}); err != nil {
			return err
		}
	}
	return nil
}

// End is the last step; zero when there is none.
func (r *Recorded) End() time.Time {
	if len(r.steps) == 0 {
		return time.Time{}
	}
	return r.steps[len(r.steps)-1]
}

// Has says of guard metrics whether their families were answered at a step.
func (r *Recorded) Has(_ context.Context, metrics []string, at time.Time) (map[string]bool, error) {
	out := map[string]bool{}
	for _, m := range metrics {
		for s := range r.bySig {
			if slices.Contains(r.guards[m], s.family) && len(r.values(s, at)) > 0 {
				out[m] = true
				break
			}
		}
	}
	return out, nil
}

// Instant answers a query of the catalogue from the record.
func (r *Recorded) Instant(_ context.Context, expr string, at time.Time) (model.Vector, error) {
	s, ok := r.byExpr[expr]
	if !ok {
		return nil, nil
	}
	return r.values(s, at), nil
}

func (r *Recorded) values(s signal, at time.Time) model.Vector {
	var out model.Vector
	for _, se := range r.bySig[s] {
		i, ok := slices.BinarySearchFunc(se.Points, at.UnixMilli(), func(p event.Point, t int64) int { return cmp.Compare(p.T, t) })
		if !ok {
			continue
		}
		m := model.Metric{}
		for _, l := range se.Labels {
			m[model.LabelName(l.Name)] = model.LabelValue(l.Value)
		}
		out = append(out, &model.Sample{Metric: m, Value: model.SampleValue(se.Points[i].V), Timestamp: model.TimeFromUnixNano(at.UnixNano())})
	}
	return out
}

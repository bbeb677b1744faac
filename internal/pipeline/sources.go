package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// recordedSource is a source that ends.
type recordedSource interface {
	collector.Source
	End() time.Time
}

// collect runs the collector with sources that read the bundle, until all of
// it and its last ticks are on the bus.
func (r *Replay) collect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sources, err := r.sources(ctx)
	if err != nil {
		return err
	}
	set := collector.Settings{
		Env: r.Host.Env("collector"),
		// Nobody waits for a recording: a source that is slow is not blind.
		Patience: 365 * 24 * time.Hour,
	}
	ends := map[*event.Stream]time.Time{}
	ended := make(chan struct{}, len(sources)) // each ends once
	left := 0
	for stream, list := range sources {
		for _, s := range list {
			set.Sources = append(set.Sources, collector.Running{Source: ending{s, func() { ended <- struct{}{} }}, Streams: []*event.Stream{stream}})
			if end, ok := ends[stream]; !ok || s.End().Before(end) {
				ends[stream] = s.End() // a stream closes as far as its slowest source
			}
			left++
		}
	}
	done := make(chan error, 1) // the collector's end
	go func() { done <- collector.NewCollector(set).Run(ctx) }()
	for ; left > 0; left-- {
		select {
		case <-ended:
		case err := <-done:
			return cmp.Or(err, context.Cause(ctx), errors.New("collector ended before the recording"))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for stream, end := range ends {
		if err := r.ticked(ctx, stream, end); err != nil {
			return err
		}
	}
	cancel(nil)
	return clean(<-done)
}

// ticked waits for the tick that closes a stream.
func (r *Replay) ticked(ctx context.Context, s *event.Stream, end time.Time) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errDone := errors.New("ticked")
	err := r.Host.Bus.Read(ctx, s, bus.ReadOptions{Filters: []string{event.TickOf(s).Filter()}, Follow: true}, func(m bus.Message) error {
		if t, ok := m.Data.(event.Tick); ok && !t.Watermark.Before(end.Truncate(time.Millisecond)) {
			return errDone
		}
		return nil
	})
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// ending tells when a source has come to its end.
type ending struct {
	collector.Source
	ended func()
}

func (e ending) Run(ctx context.Context, cursor []byte, emit collector.Emit) error {
	err := e.Source.Run(ctx, cursor, emit)
	if err == nil {
		e.ended()
	}
	return err
}

// sources makes a source of each thing that the bundle holds, by the stream
// that it writes.
func (r *Replay) sources(ctx context.Context) (map[*event.Stream][]recordedSource, error) {
	red, err := redact.Load(ctx, redact.Settings{Policies: r.Host.Policies, Bus: r.Host.Bus})
	if err != nil {
		return nil, err
	}
	env := collector.Env{
		Log: r.Host.Log, Metrics: r.Host.Metrics, Health: r.Host.Health, Policies: r.Host.Policies, Now: time.Now,
		Redact: red, Audit: func(event.Audit) {}, Cluster: r.Host.Config.Cluster,
	}
	began := time.Now()
	m := r.Bundle.Manifest
	if r.Speed > 0 {
		r.Pace = Linear(later(m.Start, r.Span.From), r.Speed)
	}
	wait := func(ctx context.Context, at time.Time) error {
		if r.Clock != nil && m.End.After(m.Start) {
			r.Clock(at, float64(at.Sub(m.Start))/float64(m.End.Sub(m.Start)))
		}
		return r.wait(ctx, began, at)
	}
	out := map[*event.Stream][]recordedSource{}
	for _, f := range []func(collector.Env, func(context.Context, time.Time) error) (*event.Stream, []recordedSource, error){r.metricSources, r.logSources, r.kubernetesSource} {
		stream, list, err := f(env, wait)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			out[stream] = list
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("bundle %s: metrics.om, logs.jsonl, events.jsonl and objects.jsonl are empty", m.Name)
	}
	return out, nil
}

// within says whether a time is inside the window of the bundle. Objects of
// before it are what was there when it began.
func (r *Replay) within(t time.Time) bool {
	return Span{r.Bundle.Manifest.Start, r.end()}.Holds(t)
}

// sourceOf is the name of the source that a line or series came from.
func sourceOf(name, kind string) string { return cmp.Or(name, kind) }

func (r *Replay) metricSources(env collector.Env, wait func(context.Context, time.Time) error) (*event.Stream, []recordedSource, error) {
	if !r.Bundle.Has("metrics.om") {
		return event.Metrics, nil, nil
	}
	m, err := r.Bundle.Metrics()
	if err != nil {
		return nil, nil, err
	}
	by := map[string][]event.Series{}
	for _, s := range m.Series {
		s.Points = slices.DeleteFunc(s.Points, func(p event.Point) bool { return !r.within(p.Time()) })
		name := sourceOf(s.Labels.Get(event.LabelSource), "prometheus")
		by[name] = append(by[name], s)
	}
	var out []recordedSource
	for _, name := range slices.Sorted(maps.Keys(by)) {
		s, err := prometheus.NewRecorded(name, by[name], env, wait)
		if err != nil {
			return nil, nil, fmt.Errorf("bundle %s: metrics.om: %w", r.Bundle.Manifest.Name, err)
		}
		out = append(out, s)
	}
	return event.Metrics, out, nil
}

func (r *Replay) logSources(env collector.Env, wait func(context.Context, time.Time) error) (*event.Stream, []recordedSource, error) {
	if !r.Bundle.Has("logs.jsonl") {
		return event.Logs, nil, nil
	}
	by := map[string][]loki.Entry{}
	for l, err := range r.Bundle.Logs() {
		if err != nil {
			return nil, nil, err
		}
		if !r.within(l.Timestamp) || r.beyond(l.Timestamp.Add(1)) { // a line is in the window that ends after it
			continue
		}
		name := sourceOf(l.Labels[event.LabelSource], "loki")
		by[name] = append(by[name], loki.Entry{Time: l.Timestamp, Labels: l.Labels, Line: l.Line, Rate: l.Rate})
	}
	var out []recordedSource
	for _, name := range slices.Sorted(maps.Keys(by)) {
		out = append(out, loki.NewRecorded(name, by[name], r.Bundle.Manifest.Start, r.end(), r.Bundle.Manifest.Grain(), env, wait))
	}
	return event.Logs, out, nil
}

func (r *Replay) kubernetesSource(env collector.Env, wait func(context.Context, time.Time) error) (*event.Stream, []recordedSource, error) {
	m := r.Bundle.Manifest
	var objects []kubernetes.Observation
	if r.Bundle.Has("objects.jsonl") {
		for o, err := range r.Bundle.Objects() {
			if err != nil {
				return nil, nil, err
			}
			at, ok := o.Seen()
			if !ok {
				at = m.Start // without a word about it, it was always so
			}
			if r.beyond(at) {
				continue
			}
			objects = append(objects, kubernetes.Observation{Time: at, Object: o.JSON, Gone: o.Gone()})
		}
	}
	var events []json.RawMessage
	if r.Bundle.Has("events.jsonl") {
		for e, err := range r.Bundle.Lines("events.jsonl") {
			if err != nil {
				return nil, nil, err
			}
			var k event.KubeEvent
			if err := json.Unmarshal(e, &k); err != nil {
				return nil, nil, fmt.Errorf("bundle %s: events.jsonl: event %d: %w", m.Name, len(events)+1, err)
			}
			if r.within(k.Time()) {
				events = append(events, e)
			}
		}
	}
	if len(objects) == 0 && len(events) == 0 {
		return event.KubeEvents, nil, nil
	}
	edges, err := r.Bundle.Edges()
	if err != nil {
		return nil, nil, err
	}
	calls := map[event.Entity][]event.Entity{}
	for _, e := range edges {
		caller, ok1 := event.ParseEntity(e.Caller)
		callee, ok2 := event.ParseEntity(e.Callee)
		if !ok1 || !ok2 {
			return nil, nil, fmt.Errorf("bundle %s: edges.json: %q -> %q: write namespace/kind/name", m.Name, e.Caller, e.Callee)
		}
		calls[caller] = append(calls[caller], callee)
	}
	s, err := kubernetes.NewRecorded("kubernetes", kubernetes.Recording{Objects: objects, Events: events, Calls: calls, Start: m.Start, End: r.end(), Idle: m.Grain()}, env, wait)
	if err != nil {
		return nil, nil, fmt.Errorf("bundle %s: objects.jsonl, events.jsonl: %w", m.Name, err)
	}
	return event.KubeEvents, []recordedSource{s}, nil
}

// replayOf parts who replayed from who recorded.
const replayOf = ", from a recording by "

// Record writes what the replay found, with the telemetry that it came from,
// into a bundle's folder. Its window and objects are those of the bundle.
func (r *Replay) Record(ctx context.Context, dir string) error {
	m := r.Bundle.Manifest
	if !strings.Contains(m.MadeBy, replayOf) {
		m.MadeBy = "oncall " + service.Version() + replayOf + m.MadeBy
	}
	m.End = r.end()
	rec := Recording{Manifest: m, Warmed: len(r.given) > 0, ObjectsWritten: r.Bundle.Has("objects.jsonl")}
	if rec.ObjectsWritten {
		w, err := bundle.Create(dir, "objects.jsonl")
		if err != nil {
			return err
		}
		for o, err := range r.Bundle.Objects() {
			if at, ok := o.Seen(); ok && r.beyond(at) {
				continue
			}
			if err == nil {
				err = w.Write(o)
			}
			if err != nil {
				return errors.Join(err, w.Close())
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	_, err := Record(ctx, r.Host.Bus, dir, rec)
	return err
}

// observer writes objects.jsonl while objects are seen. Its first error stays.
type observer struct {
	mu  sync.Mutex // clusters are watched at once
	w   *bundle.Writer
	err error
}

func (o *observer) observe(seen kubernetes.Observation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.write(seen); err != nil && o.err == nil {
		o.err = fmt.Errorf("write objects.jsonl: %w", err)
	}
}

// write adds one state of an object.
func (o *observer) write(seen kubernetes.Observation) error {
	var fields map[string]any
	if err := json.Unmarshal(seen.Object, &fields); err != nil {
		return err
	}
	meta, _ := fields["metadata"].(map[string]any)
	if meta == nil {
		return errors.New("object without metadata")
	}
	notes, _ := meta["annotations"].(map[string]any)
	if notes == nil {
		notes = map[string]any{}
		meta["annotations"] = notes
	}
	notes[bundle.AnnotationSeen] = seen.Time.UTC().Format(time.RFC3339Nano)
	if seen.Gone {
		notes[bundle.AnnotationGone] = "true"
	}
	return o.w.Write(fields)
}

package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// Recording says what of a bus is recorded.
type Recording struct {
	// Incident narrows the recording to what is needed to understand one
	// incident: telemetry from before its onset to after its end, its own
	// revisions, reports and evidence. Empty: everything on the bus.
	Incident string
	// ObjectsWritten says that objects.jsonl is there already, written while the
	// objects were seen. Else it gets those that look-ups saw.
	ObjectsWritten bool
	// Warmed says that what runs on the bus began with states of another run, so
	// that nothing on it is the beginning of all that it found.
	Warmed bool
	// Manifest is what is known of the recording. A Start and End in it stay.
	Manifest bundle.Manifest
}

const (
	// before is how much telemetry an incident's recording holds from before its
	// onset: enough for detectors to learn what is normal.
	before = 30 * time.Minute
	// after is how much it holds from after its end.
	after = 5 * time.Minute
)

// recorded are the streams of a bundle. Evidence has a folder of its own.
var recorded = []*event.Stream{event.Metrics, event.Logs, event.KubeEvents, event.Anomalies, event.Incidents, event.Reports}

// Record writes what the bus holds into a bundle's folder: streams and evidence
// for an exact replay, and the same telemetry in the formats of other tools.
// Everything on the bus has been redacted.
func Record(ctx context.Context, b *bus.Bus, dir string, r Recording) (bundle.Manifest, error) {
	rec := &recorder{bus: b, dir: dir, r: r, m: r.Manifest, spanned: !r.Manifest.Start.IsZero() && !r.Manifest.End.IsZero()}
	rec.m.Messages = map[string]int{}
	rec.m.Incident = r.Incident
	for _, step := range []func(context.Context) error{rec.window, rec.begin, rec.streams, rec.evidence, rec.parts} {
		if err := step(ctx); err != nil {
			return rec.m, err
		}
	}
	return rec.m, bundle.WriteManifest(dir, rec.m)
}

type recorder struct {
	bus      *bus.Bus
	dir      string
	r        Recording
	m        bundle.Manifest
	from, to time.Time // of event time; zero: no bound
	onset    time.Time // of the incident
	cut      *cut      // that a warm recording begins with; nil: none
	// closed are the streams and the groups' partitions whose recording is over:
	// a tick or a watermark has passed the end.
	closed  map[string]bool
	objects []json.RawMessage
	spanned bool // start and end were given
	metrics bundle.Metrics
	series  map[uint64]int
	edges   map[bundle.Edge]bool
	logs    []bundle.LogEntry
	events  []event.KubeEvent
}

// window finds the time of the incident to record.
func (r *recorder) window(ctx context.Context) error {
	if r.r.Incident == "" {
		return nil
	}
	var last event.Incident
	err := r.bus.Read(ctx, event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
		if i, ok := m.Data.(event.Incident); ok && i.ID == r.r.Incident && i.Revision >= last.Revision {
			last = i
		}
		return nil
	})
	if err != nil {
		return err
	}
	if last.ID == "" {
		return fmt.Errorf("record: there is no incident %s on the bus", r.r.Incident)
	}
	r.onset = last.Onset
	r.from, r.to = last.Onset.Add(-before), last.Updated.Add(after)
	if last.ResolvedAt != nil {
		r.to = last.ResolvedAt.Add(after)
	}
	return nil
}

// begin finds what the recording can be: complete where the run's own beginning
// is still there, warm from the checkpoints of before the incident, or cold.
// It comes before any stream is read, so that what had been judged by now is in
// all of them.
func (r *recorder) begin(ctx context.Context) error {
	r.closed = map[string]bool{}
	var err error
	if r.m.Judged, err = judged(ctx, r.bus); err != nil {
		return err
	}
	if !r.to.IsZero() && (r.m.Judged.IsZero() || r.to.Before(r.m.Judged)) {
		r.m.Judged = r.to
	}
	if r.r.Incident != "" {
		r.to = r.m.Judged
	}
	if r.r.Warmed {
		r.m.State, r.m.Since, r.m.ExactFrom = bundle.Cold, time.Time{}, ""
		return nil
	}
	held, err := extents(ctx, r.bus)
	if err != nil {
		return err
	}
	r.m.State, r.m.Since, r.m.ExactFrom = bundle.Cold, time.Time{}, ""
	if r.r.Incident == "" && whole(held) {
		r.m.State = bundle.Complete
		return nil
	}
	if r.cut, err = chooseCut(ctx, r.bus, r.onset, held); err != nil {
		return err
	}
	switch {
	case r.cut != nil:
		r.m.State, r.m.Since, r.m.ExactFrom = bundle.Warm, r.cut.since, string(r.cut.exactFrom)
		return r.cut.write(ctx, r.bus, r.dir)
	case whole(held):
		// The run is too young for checkpoints of before: all of it is recorded.
		r.m.State, r.from = bundle.Complete, time.Time{}
	}
	return nil
}

// streams records the messages that belong to the window, and collects the
// telemetry in them for the readable parts.
func (r *recorder) streams(ctx context.Context) error {
	for _, s := range recorded {
		keep, err := r.choose(ctx, s)
		if err != nil {
			return err
		}
		w, err := bundle.Create(r.dir, "streams/"+s.Name+".jsonl.zst")
		if err != nil {
			return err
		}
		err = r.bus.ReadRaw(ctx, s, func(raw bus.Raw) error {
			if !keep[raw.Sequence] {
				return nil
			}
			return w.Write(bundle.Record{Sequence: raw.Sequence, Received: raw.Received, Subject: raw.Subject, Header: raw.Header, Payload: raw.Payload})
		})
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
		r.m.Messages[s.Name] = w.Len()
	}
	return nil
}

// choose decides which messages of a stream are recorded.
func (r *recorder) choose(ctx context.Context, s *event.Stream) (map[uint64]bool, error) {
	keep := map[uint64]bool{}
	known := map[string]uint64{} // topology from before the window, which holds until it is replaced
	err := r.bus.Read(ctx, s, bus.ReadOptions{}, func(m bus.Message) error {
		switch d := m.Data.(type) {
		case event.Incident:
			keep[m.Sequence] = r.told(d.ID, m.Time)
			if keep[m.Sequence] && d.Cluster != "" {
				// As the pipeline that ran calls it, whatever who records it does: a
				// replay has to call it the same.
				r.m.Cluster = d.Cluster
			}
			return nil
		case event.Report:
			keep[m.Sequence] = r.told(d.Incident, m.Time)
			return nil
		case event.Delivery:
			return nil // to whom it was told is not for a bundle that is passed on
		case event.Topology:
			if r.early(m.Time) && !r.warm(s) {
				delete(keep, known[d.Entity.String()])
				known[d.Entity.String()] = m.Sequence
				keep[m.Sequence] = true
				return nil
			}
		}
		if r.over(m) {
			return nil
		}
		keep[m.Sequence] = r.follows(s, m)
		if slices.Contains(telemetry, s) && (keep[m.Sequence] || !r.early(m.Time)) {
			r.take(m)
		}
		return nil
	})
	return keep, err
}

// told says whether a revision or a report is recorded.
func (r *recorder) told(incident string, at time.Time) bool {
	if r.r.Incident != "" {
		return incident == r.r.Incident
	}
	return r.cut == nil || at.After(r.cut.since)
}

// warm says whether a stream is recorded from the positions of the states on.
func (r *recorder) warm(s *event.Stream) bool {
	return r.cut != nil && (r.cut.exactFrom == FromTelemetry || s == event.Anomalies)
}

// follows says whether a message comes after the recording's beginning.
func (r *recorder) follows(s *event.Stream, m bus.Message) bool {
	switch {
	case !r.warm(s):
		return !r.early(m.Time)
	case s == event.Anomalies:
		return m.Sequence > r.cut.low
	}
	part, ok := partitionOf(m.Subject)
	_, tick := m.Data.(event.Tick)
	if !ok && !tick {
		return !r.early(m.Time)
	}
	for group, stream := range groups {
		if stream != s {
			continue
		}
		if ok {
			at, _ := r.cut.after(group, part)
			return m.Sequence > at
		}
		// A tick is for every partition: those that were further had it already,
		// and leave it out again.
		for p := range event.Partitions {
			if at, _ := r.cut.after(group, p); m.Sequence > at {
				return true
			}
		}
	}
	return false
}

// partitionOf reads the partition out of the subject of a message of telemetry;
// a tick has none, except in a recording of when each partition had its own.
func partitionOf(subject string) (int, bool) {
	tok := strings.SplitN(subject, ".", 4)
	if len(tok) < 3 {
		return 0, false
	}
	p, err := strconv.Atoi(tok[2])
	return p, err == nil
}

// over says whether a message comes after the recording's end. A stream ends
// with the first tick that reaches it, and a group's partition with such a
// watermark, so that a replay judges up to the end too.
func (r *recorder) over(m bus.Message) bool {
	if r.to.IsZero() {
		return false
	}
	switch d := m.Data.(type) {
	case event.Tick:
		part := m.Stream
		if d.Partition != nil {
			part += " " + event.PartitionToken(*d.Partition)
		}
		closed := r.closed[part]
		r.closed[part] = closed || !d.Watermark.Before(r.to)
		return closed
	case event.Watermark:
		part := d.Group + " " + event.PartitionToken(d.Partition)
		closed := r.closed[part]
		r.closed[part] = closed || !d.Time.Before(r.to)
		return closed
	}
	if part, ok := partitionOf(m.Subject); ok && m.Stream != event.Anomalies.Name {
		return r.closed[m.Stream] || r.closed[m.Stream+" "+event.PartitionToken(part)]
	}
	return m.Time.After(r.to)
}

func (r *recorder) early(t time.Time) bool { return !r.from.IsZero() && t.Before(r.from) }

// take collects one message of telemetry for the readable parts.
func (r *recorder) take(m bus.Message) {
	switch d := m.Data.(type) {
	case event.MetricBatch:
		r.span(d.Step, d.Step)
		if r.series == nil {
			r.series, r.metrics.Types = map[uint64]int{}, map[string]bundle.MetricType{}
		}
		for _, s := range d.Series {
			i, ok := r.series[s.ID]
			if !ok {
				i = len(r.metrics.Series)
				r.series[s.ID] = i
				r.metrics.Series = append(r.metrics.Series, event.Series{ID: s.ID, Labels: s.Labels})
				// What was a counter at the source is a rate here.
				r.metrics.Types[s.Labels.Get(event.LabelName)] = bundle.Gauge
			}
			r.metrics.Series[i].Points = append(r.metrics.Series[i].Points, s.Points...)
		}
	case event.LogBatch:
		r.span(d.Start, d.End)
		rate := d.SampledRate
		if rate <= 1 {
			rate = 0
		}
		for _, st := range d.Streams {
			for _, l := range st.Lines {
				r.logs = append(r.logs, bundle.LogEntry{Labels: st.Labels.Map(), Line: l.Text, Timestamp: l.Time.UTC(), Rate: rate})
			}
		}
	case event.KubeEvent:
		r.events = append(r.events, d)
	case event.Topology:
		for _, c := range d.Calls {
			if r.edges == nil {
				r.edges = map[bundle.Edge]bool{}
			}
			r.edges[bundle.Edge{Caller: d.Entity.String(), Callee: c.String()}] = true
		}
	case event.Tick:
		r.span(d.Watermark, d.Watermark)
	}
}

// span widens the time that the recording covers.
func (r *recorder) span(from, to time.Time) {
	if r.spanned {
		return
	}
	if r.m.Start.IsZero() || from.Before(r.m.Start) {
		r.m.Start = from.UTC()
	}
	if to.After(r.m.End) {
		r.m.End = to.UTC()
	}
}

func (r *recorder) evidence(ctx context.Context) error {
	w, err := bundle.Create(r.dir, "evidence/answers.jsonl.zst")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	err = r.bus.Read(ctx, event.Evidences, bus.ReadOptions{}, func(m bus.Message) error {
		e, ok := m.Data.(event.Evidence)
		if !ok || r.r.Incident != "" && e.Incident != r.r.Incident {
			return nil
		}
		r.keepObjects(e, seen)
		return w.Write(e)
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	r.m.Messages[event.Evidences.Name] = w.Len()
	return nil
}

// keepObjects collects the Kubernetes objects that a look-up saw.
func (r *recorder) keepObjects(e event.Evidence, seen map[string]bool) {
	if e.Source != evidence.Kubernetes || r.r.ObjectsWritten {
		return
	}
	list, _ := e.Values["items"].([]any)
	if o, ok := e.Values["object"]; ok {
		list = append(list, o)
	}
	for _, o := range list {
		fields, ok := o.(map[string]any)
		if !ok {
			continue
		}
		meta, _ := fields["metadata"].(map[string]any)
		kind, _ := fields["kind"].(string)
		if meta == nil || kind == "" || kind == "Event" {
			continue
		}
		notes, _ := meta["annotations"].(map[string]any)
		notes = maps.Clone(notes)
		if notes == nil {
			notes = map[string]any{}
		}
		version, _ := json.Marshal(fields) // it came out of JSON
		if seen[string(version)] {
			continue
		}
		seen[string(version)] = true
		notes[bundle.AnnotationSeen] = e.End.UTC().Format(time.RFC3339Nano)
		meta = maps.Clone(meta)
		meta["annotations"] = notes
		fields = maps.Clone(fields)
		fields["metadata"] = meta
		line, err := json.Marshal(fields)
		if err == nil {
			r.objects = append(r.objects, line)
		}
	}
}

// parts writes the telemetry for people and other tools.
func (r *recorder) parts(context.Context) error {
	for i := range r.metrics.Series {
		slices.SortStableFunc(r.metrics.Series[i].Points, func(a, b event.Point) int { return int(max(-1, min(1, a.T-b.T))) })
	}
	if err := bundle.WriteFile(r.dir, "metrics.om", func(w io.Writer) error { return bundle.WriteMetrics(w, &r.metrics) }); err != nil {
		return err
	}
	slices.SortStableFunc(r.logs, func(a, b bundle.LogEntry) int { return a.Timestamp.Compare(b.Timestamp) })
	slices.SortStableFunc(r.events, func(a, b event.KubeEvent) int { return a.Time().Compare(b.Time()) })
	edges := slices.SortedFunc(maps.Keys(r.edges), func(a, b bundle.Edge) int {
		return strings.Compare(a.Caller+" "+a.Callee, b.Caller+" "+b.Callee)
	})
	errs := []error{lines(r.dir, "logs.jsonl", r.logs), lines(r.dir, "events.jsonl", r.kubernetesEvents())}
	if !r.r.ObjectsWritten {
		errs = append(errs, lines(r.dir, "objects.jsonl", r.objects))
	}
	if len(edges) > 0 {
		errs = append(errs, bundle.WriteFile(r.dir, "edges.json", func(w io.Writer) error { return json.NewEncoder(w).Encode(edges) }))
	}
	return errors.Join(errs...)
}

// kubernetesEvent is an event with what Kubernetes writes at the top of every
// object, and with the times of the new API as it reads them.
type kubernetesEvent struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	event.KubeEvent
	EventTime string       `json:"eventTime,omitempty"`
	Series    *eventSeries `json:"series,omitempty"`
}

type eventSeries struct {
	Count            int    `json:"count"`
	LastObservedTime string `json:"lastObservedTime"`
}

// microTime has the six digits of a second that Kubernetes insists on.
const microTime = "2006-01-02T15:04:05.000000Z07:00"

func (r *recorder) kubernetesEvents() []kubernetesEvent {
	out := make([]kubernetesEvent, len(r.events))
	for i, e := range r.events {
		out[i] = kubernetesEvent{APIVersion: "v1", Kind: "Event", KubeEvent: e}
		if !e.EventTime.IsZero() {
			out[i].EventTime = e.EventTime.UTC().Format(microTime)
		}
		if e.Series != nil {
			out[i].Series = &eventSeries{e.Series.Count, e.Series.LastObservedTime.UTC().Format(microTime)}
		}
	}
	return out
}

// lines writes values one a line.
func lines[T any](dir, name string, values []T) error {
	w, err := bundle.Create(dir, name)
	if err != nil {
		return err
	}
	for _, v := range values {
		if err := w.Write(v); err != nil {
			return errors.Join(fmt.Errorf("write %s: %w", name, err), w.Close())
		}
	}
	return w.Close()
}

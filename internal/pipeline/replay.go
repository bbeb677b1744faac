package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// From says from where on a replay computes again.
type From string

// What a replay can begin with.
const (
	// FromSources reads metrics.om, logs.jsonl, events.jsonl and objects.jsonl
	// through the code of the collector's sources.
	FromSources From = "sources"
	// FromTelemetry feeds the recorded telemetry streams to the detectors.
	FromTelemetry From = "telemetry"
	// FromAnomalies feeds the recorded ANOMALIES stream to the correlator, in the
	// order in which it was recorded.
	FromAnomalies From = "anomalies"
)

// Replay feeds a bundle to the services on a bus of its own, and returns when
// nothing is left to do. Look-ups are answered from the bundle. The services
// read no clock, so that it takes as long as the work and not as long as the
// incident.
type Replay struct {
	Host   *Host
	Bundle *bundle.Bundle
	// From is where to begin; "": with the telemetry streams if the bundle has
	// them, else with the sources.
	From From
	// Span is the part that is shown, all of the recording when it is zero. What is
	// before From is folded too, as fast as it goes, so that the pipeline knows what
	// it had known by then, and is left out of Digest and Compare. What is after To
	// is not read.
	Span Span
	// Workers is how many detectors share the partitions; 0 means 1.
	Workers int
	// Pace says how long after the beginning an event time is fed; nil: at once.
	Pace func(time.Time) time.Duration
	// Speed paces recorded streams at a multiple of their own speed, from the first
	// message on, and sources from the bundle's start; 0: as Pace says.
	Speed float64
	// Clock is told the event time up to which has been fed, from 0 to 1 of all;
	// may be nil.
	Clock func(at time.Time, done float64)

	workers  []*Host
	fidelity Fidelity
	given    []bundle.Checkpoint // states that were restored
	seeded   uint64              // position in ANOMALIES here of what the correlator had folded
	after    uint64              // position in the recorded ANOMALIES that its state has
	begins   []byte              // that state; nil when it begins with none
}

// telemetry are the streams that a replay feeds.
var telemetry = []*event.Stream{event.Metrics, event.Logs, event.KubeEvents}

// start resolves From, and says when the bundle has nothing to begin with.
func (r *Replay) start() error {
	has := func(ss ...*event.Stream) bool {
		return slices.ContainsFunc(ss, func(s *event.Stream) bool { return slices.Contains(r.Bundle.Streams(), s.Name) })
	}
	name := r.Bundle.Manifest.Name
	switch {
	case r.From == "" && has(telemetry...):
		r.From = FromTelemetry
	case r.From == "":
		r.From = FromSources
	}
	switch {
	case r.From == FromTelemetry && !has(telemetry...):
		return usage("bundle %s holds no telemetry in streams/; replay it from %s", name, FromSources)
	case r.From == FromAnomalies && !has(event.Anomalies):
		return usage("bundle %s holds no streams/%s; replay it from %s", name, event.Anomalies.Name, FromTelemetry)
	case r.From == FromSources && !slices.ContainsFunc([]string{"metrics.om", "logs.jsonl", "events.jsonl", "objects.jsonl"}, r.Bundle.Has):
		return usage("bundle %s holds none of metrics.om, logs.jsonl, events.jsonl and objects.jsonl", name)
	case !slices.Contains([]From{FromSources, FromTelemetry, FromAnomalies}, r.From):
		return usage("cannot replay from %q: write %s, %s or %s", r.From, FromSources, FromTelemetry, FromAnomalies)
	}
	return r.checkSpan()
}

// patient is a grace with which the correlator waits for every group, however
// far behind the others it is.
const patient = 30 * 24 * time.Hour

// usage is an error of who asked for the replay.
func usage(format string, args ...any) error {
	return &service.UsageError{Err: fmt.Errorf(format, args...)}
}

// Run replays the bundle.
func (r *Replay) Run(ctx context.Context) error {
	if err := r.start(); err != nil {
		return err
	}
	recorded, err := r.evidence()
	if err != nil {
		return err
	}
	answers := evidence.NewRecorded(recorded)
	// What is late in a live run is noise in a replay: every revision gets its
	// report, so that which there are does not depend on speed.
	rc := r.Host.Config.Section(reasoner.Spec.Name).(reasoner.Config)
	rc.EveryRevision = true
	// Nothing is asked of a model either: its answers lie on the bus before the
	// reasoner looks for them.
	rc.Model.URL, rc.Model.Recorded = "", false
	for _, e := range recorded {
		if e.Source == reasoner.SourceModel {
			rc.Model.Recorded = true
			if err := r.Host.Bus.Publish(ctx, event.EvidenceFound.Out(e)); err != nil {
				return err
			}
		}
	}
	r.Host.Config.SetSection(reasoner.Spec.Name, rc)
	if err := r.restore(ctx); err != nil {
		return err
	}
	cc := r.Host.Config.Section(correlator.Spec.Name).(correlator.Config)
	theirs, heard, err := r.foreign(cc)
	if err != nil {
		return err
	}
	cc.Grace, cc.Heard = patient, heard
	r.Host.Config.SetSection(correlator.Spec.Name, cc)
	if err := r.republish(ctx, theirs); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := []func(context.Context) error{
		func(ctx context.Context) error { return r.Host.Run(ctx, r.services()...) },
		func(ctx context.Context) error {
			return r.Host.Bus.Serve(ctx, event.QuerySubject, "replay", func(ctx context.Context, body []byte) (any, error) {
				return r.answer(ctx, answers, body)
			})
		},
	}
	r.workers = []*Host{r.Host}
	for range r.Workers - 1 {
		w, err := r.Host.Worker(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = w.Close() }()
		r.workers = append(r.workers, w)
		run = append(run, func(ctx context.Context) error { return w.Run(ctx, detector.Spec) })
	}
	done := make(chan error, len(run)) // each ends once
	for _, f := range run {
		go func() {
			err := f(ctx)
			if err != nil {
				cancel(err)
			}
			done <- err
		}()
	}
	if r.From == FromSources {
		err = r.collect(ctx)
	} else {
		err = r.feed(ctx)
	}
	if err == nil {
		err = r.settle(ctx)
	}
	r.verify()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	cancel(nil)
	errs := []error{err}
	for range run {
		errs = append(errs, clean(<-done))
	}
	return errors.Join(errs...)
}

func clean(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (r *Replay) services() []service.Spec {
	if r.From == FromAnomalies {
		return []service.Spec{correlator.Spec, reasoner.Spec, notifier.Spec}
	}
	return []service.Spec{detector.Spec, correlator.Spec, reasoner.Spec, notifier.Spec}
}

// timed is a recorded message with the event time at which it is due.
type timed struct {
	bus.Raw
	due time.Time
}

// records are the recorded messages of the streams to feed, merged by event
// time. Streams share no order; within one it is that of the recording.
func (r *Replay) records() ([]timed, error) {
	feed := telemetry
	if r.From == FromAnomalies {
		feed = []*event.Stream{event.Anomalies}
	}
	var out []timed
	for _, s := range feed {
		if !slices.Contains(r.Bundle.Streams(), s.Name) {
			continue
		}
		var stream []timed
		for rec, err := range r.Bundle.Records(s.Name) {
			if err != nil {
				return nil, err
			}
			if s == event.Anomalies && rec.Sequence <= r.after {
				continue // the correlator's state has it
			}
			stream = append(stream, timed{Raw: bus.Raw{Sequence: rec.Sequence, Received: rec.Received, Subject: rec.Subject, Header: rec.Header, Payload: rec.Payload}})
		}
		out = append(out, r.untilTo(dueBy(stream))...)
	}
	slices.SortStableFunc(out, func(a, b timed) int { return a.due.Compare(b.due) })
	return out, nil
}

// dueBy says when the messages of one stream are due: with the watermark that
// closes over them, and what none closes over with the last.
func dueBy(stream []timed) []timed {
	var due time.Time
	for _, m := range stream {
		if at, ok := watermark(m.Raw); ok && at.After(due) {
			due = at
		}
	}
	for i, m := range slices.Backward(stream) {
		if at, ok := watermark(m.Raw); ok && at.Before(due) {
			due = at
		}
		stream[i].due = due
	}
	return stream
}

// untilTo leaves out what is due after the span.
func (r *Replay) untilTo(stream []timed) []timed {
	if r.Span.To.IsZero() {
		return stream
	}
	return slices.DeleteFunc(stream, func(m timed) bool { return m.due.After(r.Span.To) })
}

// watermark is the event time that a tick or a watermark closes.
func watermark(m bus.Raw) (time.Time, bool) {
	typ := first(m.Header["ce-type"])
	switch typ {
	case event.MetricsTick.Type, event.LogsTick.Type, event.EventsTick.Type, event.WatermarkPassed.Type:
		return eventTime(m.Header)
	}
	return time.Time{}, false
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (r *Replay) evidence() ([]event.Evidence, error) {
	var all []event.Evidence
	for e, err := range r.Bundle.Evidence() {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// maxRun is how many recorded messages are under way at once.
const maxRun = 256

func (r *Replay) feed(ctx context.Context) error {
	records, err := r.records()
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("bundle %s: the streams to replay are empty", r.Bundle.Manifest.Name)
	}
	began := time.Now()
	if r.Speed > 0 {
		r.Pace = Linear(later(records[0].due, r.Span.From), r.Speed)
	}
	for i := 0; i < len(records); {
		n := i + 1
		for n < len(records) && n-i < maxRun && records[n].due.Equal(records[i].due) {
			n++
		}
		if err := r.wait(ctx, began, records[i].due); err != nil {
			return err
		}
		run := make([]bus.Raw, 0, n-i)
		for _, m := range records[i:n] {
			run = append(run, m.Raw)
		}
		if err := r.Host.Bus.RepublishAll(ctx, run); err != nil {
			return err
		}
		i = n
		if r.Clock != nil {
			r.Clock(records[i-1].due, float64(i)/float64(len(records)))
		}
	}
	return nil
}

// wait holds an event time back until it is due.
func (r *Replay) wait(ctx context.Context, began, at time.Time) error {
	if r.Pace == nil {
		return nil
	}
	left := r.Pace(at) - time.Since(began)
	if left <= 0 {
		return nil
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// settle waits until every service has done what there is to do.
func (r *Replay) settle(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for calm := 0; calm < 3; {
		ok, err := r.settled(ctx)
		if err != nil {
			return err
		}
		if ok {
			calm++
		} else {
			calm = 0
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
	return nil
}

// groups are the folds and the streams they read.
var groups = map[string]*event.Stream{"metrics": event.Metrics, "logs": event.Logs, "events": event.KubeEvents}

func (r *Replay) settled(ctx context.Context) (bool, error) {
	if r.From != FromAnomalies {
		for group, s := range groups {
			if ok, err := r.folded(ctx, group, s); !ok || err != nil {
				return false, err
			}
		}
	}
	return r.Host.settled(ctx)
}

// folded says whether the workers have folded all of a stream, to the end of
// every partition. The cheap question, whether any is at its end, comes first.
func (r *Replay) folded(ctx context.Context, group string, s *event.Stream) (bool, error) {
	folded := func(p int) uint64 {
		seq := uint64(0)
		for _, w := range r.workers {
			seq = max(seq, w.Bus.Folded(group, p))
		}
		return seq
	}
	last, err := r.Host.Bus.Last(ctx, s)
	if err != nil || !slices.ContainsFunc(partitions(), func(p int) bool { return folded(p) >= last }) {
		return false, err
	}
	ends, err := r.Host.Bus.Ends(ctx, s)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(partitions(), func(p int) bool { return folded(p) < ends[p] }), nil
}

func partitions() []int {
	out := make([]int, event.Partitions)
	for p := range out {
		out[p] = p
	}
	return out
}

// settled says whether correlator, reasoner and notifier have nothing left to
// do.
func (h *Host) settled(ctx context.Context) (bool, error) {
	b := h.Bus
	end, err := b.Last(ctx, event.Anomalies)
	if err != nil || b.Folded(correlator.GroupName, 0) < end {
		return false, err
	}
	durables := map[string]*event.Stream{"reasoner": event.Incidents, "incident-state": event.Incidents, "notifier": event.Reports}
	if rc, ok := h.Config.Section(reasoner.Spec.Name).(reasoner.Config); ok && rc.Model.On() {
		durables[reasoner.ModelConsumer] = event.Reports
	}
	for durable, s := range durables {
		idle, err := b.Idle(ctx, s, durable)
		if err != nil || !idle {
			return false, nil //nolint:nilerr // a consumer that is not there yet has not begun
		}
	}
	cfg, _ := h.Config.Section(notifier.Spec.Name).(notifier.Config)
	for name := range cfg.Channels {
		idle, err := b.Idle(ctx, event.Notify, "notifier-"+name)
		if err != nil || !idle {
			return false, nil //nolint:nilerr // as above
		}
	}
	return true, nil
}

// answer answers a look-up from the record, and publishes the answer as the
// collector does, so that a replay can be recorded in turn.
func (r *Replay) answer(ctx context.Context, from evidence.Retriever, body []byte) (any, error) {
	q, err := evidence.ParseQuery(body)
	if err != nil {
		return nil, err
	}
	e, err := from.Retrieve(ctx, q)
	if err != nil {
		return nil, err
	}
	return e, r.Host.Bus.Publish(ctx, event.EvidenceFound.Out(e))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Linear paces event time at a multiple of its own speed, from start on.
func Linear(start time.Time, speed float64) func(time.Time) time.Duration {
	return func(at time.Time) time.Duration {
		return time.Duration(float64(at.Sub(start)) / cmp.Or(speed, 1))
	}
}

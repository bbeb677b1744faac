package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// Replay feeds a bundle's recorded telemetry to detector, correlator, reasoner
// and notifier on a bus of its own, and returns when nothing is left to do.
// Look-ups are answered from the bundle. The services read no clock, so that
// it takes as long as the work and not as long as the incident.
type Replay struct {
	Host   *Host
	Bundle *bundle.Bundle
	// Progress is told how many of the messages have been fed; may be nil.
	Progress func(done, total int)
}

// telemetry are the streams that a replay feeds.
var telemetry = []*event.Stream{event.Metrics, event.Logs, event.KubeEvents}

// Run replays the bundle.
func (r *Replay) Run(ctx context.Context) error {
	records, err := r.records()
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("bundle %s holds no recorded telemetry in streams/", r.Bundle.Manifest.Name)
	}
	answers, err := r.evidence()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 2) // the services and the look-ups
	go func() {
		err := r.Host.Run(ctx, detector.Spec, correlator.Spec, reasoner.Spec, notifier.Spec)
		if err != nil {
			cancel(err)
		}
		done <- err
	}()
	go func() {
		done <- r.Host.Bus.Serve(ctx, event.QuerySubject, "replay", func(ctx context.Context, body []byte) (any, error) {
			return answer(ctx, answers, body)
		})
	}()
	err = r.feed(ctx, records)
	if err == nil {
		err = r.settle(ctx)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	cancel(nil)
	return errors.Join(err, clean(<-done), clean(<-done))
}

func clean(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// records are the recorded messages of all telemetry streams, in the order in
// which the server stored them.
func (r *Replay) records() ([]bundle.Record, error) {
	var out []bundle.Record
	for _, s := range telemetry {
		if !slices.Contains(r.Bundle.Streams(), s.Name) {
			continue
		}
		for rec, err := range r.Bundle.Records(s.Name) {
			if err != nil {
				return nil, err
			}
			out = append(out, rec)
		}
	}
	slices.SortStableFunc(out, func(a, b bundle.Record) int { return a.Received.Compare(b.Received) })
	return out, nil
}

func (r *Replay) evidence() (*evidence.Recorded, error) {
	var all []event.Evidence
	if slices.Contains(r.Bundle.Streams(), event.Evidences.Name) {
		for rec, err := range r.Bundle.Records(event.Evidences.Name) {
			if err != nil {
				return nil, err
			}
			e, err := event.EvidenceFound.Decode(event.Attributes{}, rec.Payload)
			if err != nil {
				return nil, err
			}
			all = append(all, e.Data)
		}
	}
	return evidence.NewRecorded(all), nil
}

func (r *Replay) feed(ctx context.Context, records []bundle.Record) error {
	for i, rec := range records {
		if err := r.Host.Bus.Republish(ctx, rec.Subject, rec.Header, rec.Payload); err != nil {
			return err
		}
		if r.Progress != nil && (i%200 == 0 || i == len(records)-1) {
			r.Progress(i+1, len(records))
		}
	}
	return nil
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
	b := r.Host.Bus
	for group, s := range groups {
		end, err := b.Last(ctx, s)
		if err != nil {
			return false, err
		}
		behind := uint64(0)
		for p := range event.Partitions {
			behind = max(behind, b.Folded(group, p))
		}
		if behind < end {
			return false, nil
		}
	}
	end, err := b.Last(ctx, event.Anomalies)
	if err != nil || b.Folded(correlator.GroupName, 0) < end {
		return false, err
	}
	for durable, s := range map[string]*event.Stream{"reasoner": event.Incidents, "incident-state": event.Incidents, "notifier": event.Reports} {
		idle, err := b.Idle(ctx, s, durable)
		if err != nil || !idle {
			return false, nil //nolint:nilerr // a consumer that is not there yet has not begun
		}
	}
	cfg, _ := r.Host.Config.Section(notifier.Spec.Name).(notifier.Config)
	for name := range cfg.Channels {
		idle, err := b.Idle(ctx, event.Notify, "notifier-"+name)
		if err != nil || !idle {
			return false, nil //nolint:nilerr // as above
		}
	}
	return true, nil
}

func answer(ctx context.Context, from evidence.Retriever, body []byte) (any, error) {
	q, err := evidence.ParseQuery(body)
	if err != nil {
		return nil, err
	}
	return from.Retrieve(ctx, q)
}

// Record writes what the bus holds into a bundle's folder: telemetry and
// evidence for an exact replay, incidents and reports for a reader.
func Record(ctx context.Context, b *bus.Bus, dir string, m bundle.Manifest) (bundle.Manifest, error) {
	m.Messages = map[string]int{}
	m.State = "cold"
	for _, s := range []*event.Stream{event.Metrics, event.Logs, event.KubeEvents, event.Evidences, event.Anomalies, event.Incidents, event.Reports} {
		w, err := bundle.Create(dir, "streams/"+s.Name+".jsonl.zst")
		if err != nil {
			return m, err
		}
		err = b.ReadRaw(ctx, s, func(rec bus.Raw) error {
			if slices.Contains(telemetry, s) {
				if m.Start.IsZero() || rec.Received.Before(m.Start) {
					m.Start = rec.Received.UTC()
				}
				if rec.Received.After(m.End) {
					m.End = rec.Received.UTC()
				}
			}
			return w.Write(bundle.Record{Sequence: rec.Sequence, Received: rec.Received, Subject: rec.Subject, Header: rec.Header, Payload: rec.Payload})
		})
		if err := errors.Join(err, w.Close()); err != nil {
			return m, err
		}
		m.Messages[s.Name] = w.Len()
	}
	return m, bundle.WriteManifest(dir, m)
}

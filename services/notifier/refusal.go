package notifier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

const (
	// channelKind is the kind of the entity that a channel is in reports about
	// itself.
	channelKind = "Channel"
	// refusalRoute names the route of these in decisions and notifications.
	refusalRoute = "channels"
)

// refusal is a channel that refuses everything: what the other channels are
// told of it. It is stored, so that a restart does not tell them again.
type refusal struct {
	Channel string         `json:"channel"`
	Kind    string         `json:"kind"`
	Since   time.Time      `json:"since"`
	Why     string         `json:"why"`
	Waiting string         `json:"waiting"`  // headline of the first notification that it refused
	Urgency event.Priority `json:"priority"` // of that notification
	Told    []string       `json:"told,omitempty"`
}

// beginRefusal stops a channel, and tells the others.
func (s *Service) beginRefusal(ctx context.Context, st *store, o *outlet, n event.Notification, cause error) error {
	o.refuse(cause.Error(), s.now())
	s.metrics.refused.WithLabelValues(o.name).Set(1)
	f := refusal{
		Channel: o.name, Kind: o.info.Name, Since: s.now().UTC().Truncate(time.Second), Why: cause.Error(),
		Waiting: n.Report.Headline, Urgency: n.Report.Priority,
	}
	if n.Update == "digest" || n.Report.Entity.Kind == channelKind {
		f.Urgency = event.P3 // nobody waits for a page
	}
	for _, name := range sortedKeys(s.outlets) {
		if other := s.outlets[name]; name != o.name && other.works() {
			f.Told = append(f.Told, name)
		}
	}
	_, err := st.update(ctx, refusedKey(o.name), f, 0)
	if errors.Is(err, bus.ErrConflict) {
		return nil // it is known
	}
	if err != nil {
		return err
	}
	s.env.Log.Error("channel refuses everything, trying it once a minute", "channel", o.name, "told", len(f.Told), "err", cause)
	return s.tellRefusal(ctx, f, 1)
}

// endRefusal tells those who were told that the channel works again.
func (s *Service) endRefusal(ctx context.Context, st *store, o *outlet) error {
	s.metrics.refused.WithLabelValues(o.name).Set(0)
	f, rev, err := get[refusal](ctx, st, refusedKey(o.name))
	if err != nil || rev == 0 {
		return err
	}
	s.env.Log.Info("channel works again", "channel", o.name, "since", f.Since)
	if err := s.tellRefusal(ctx, f, 2); err != nil {
		return err
	}
	return st.drop(ctx, refusedKey(o.name))
}

// resumeRefusals continues with the channels that refused when the service
// stopped: they are tried at once.
func (s *Service) resumeRefusals(ctx context.Context, st *store) error {
	for name, o := range s.outlets {
		f, rev, err := get[refusal](ctx, st, refusedKey(name))
		if err != nil {
			return err
		}
		if rev == 0 {
			continue
		}
		o.refuse(f.Why, time.Time{})
		s.metrics.refused.WithLabelValues(name).Set(1)
		s.env.Health.Degraded("channel "+name, f.Why)
		if err := s.tellRefusal(ctx, f, 1); err != nil { // a crash may have come before it
			return err
		}
	}
	return nil
}

// tellRefusal queues revision 1, the refusal, or 2, its end, on the channels
// that are to be told.
func (s *Service) tellRefusal(ctx context.Context, f refusal, revision int) error {
	r := f.report(s.env.Cluster, s.cfg.GiveUpAfter)
	update := "opened"
	if revision > 1 {
		now := s.now().UTC()
		r.Revision, r.State, r.ResolvedAt, r.Time, r.Reason = revision, event.Resolved, &now, now, "resolved"
		r.TLDR = "It takes messages again; what waited is delivered."
		update = "resolved"
	}
	var out []event.Outgoing
	for _, name := range f.Told {
		if _, ok := s.outlets[name]; !ok {
			continue
		}
		out = append(out,
			event.NotificationQueued.Out(event.Notification{
				Incident: r.Incident, Revision: revision, Channel: name, Route: refusalRoute, Update: update, After: revision - 1, Report: r,
			}),
			event.Decided.Out(event.Decision{
				Incident: r.Incident, Revision: revision, Route: refusalRoute, Channel: name, Outcome: event.Sent, Priority: r.Priority,
				Entity: r.Entity, Headline: r.Headline, Rule: "channel " + f.Channel + " refuses everything", PolicyHash: s.env.Policies.Hash(), Time: r.Time,
			}))
	}
	return s.env.Bus.Publish(ctx, out...)
}

// report words a refusal.
func (f refusal) report(cluster string, keep time.Duration) event.Report {
	e := event.Entity{Cluster: cluster, Kind: channelKind, Name: f.Channel}
	return event.Report{
		Incident: event.IncidentID(e, "notifier", f.Since), Revision: 1, State: event.Open, Priority: f.Urgency, Cluster: cluster, Entity: e,
		Onset: f.Since, Time: f.Since, Reason: "opened", Symptom: "refuses every notification",
		Headline: Clip(fmt.Sprintf("%s %s notification channel %s: refuses every message since %s", f.Urgency, cluster, f.Channel, f.Since.Format("15:04")), 120),
		TLDR: fmt.Sprintf("What is sent to channel %s (%s) is refused: %s. It is tried once a minute; what is for it waits up to %v. The first that waits: %s",
			f.Channel, f.Kind, f.Why, keep, f.Waiting),
		Findings: []event.Finding{}, Evidence: []event.Evidence{},
		Causes: []event.Cause{{Text: f.Why, Entity: e, Confidence: event.High, Evidence: []string{}}},
		Checks: []event.Check{{Why: "configuration, credentials and rights of the channel", Command: "oncall doctor"}},
	}
}

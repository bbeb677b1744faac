package notifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// digestRoute names the route of digests in decisions and notifications.
const digestRoute = "digest"

// digests sends, once a day, what would have been sent and what is not worth a
// message of its own. Which day was done last is in the bucket, so that a
// restart neither repeats nor loses one.
func (s *Service) digests(ctx context.Context, st *store) error {
	at, err := time.Parse("15:04", s.cfg.Digest)
	if err != nil {
		return fmt.Errorf("notifier: digest: %w", err)
	}
	for {
		due := nextDigest(s.now().UTC(), at)
		timer := time.NewTimer(due.Sub(s.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if err := s.digest(ctx, st, due); err != nil {
			s.env.Log.Warn("digest skipped", "day", due.Format(time.DateOnly), "err", err)
		}
	}
}

func nextDigest(now, at time.Time) time.Time {
	due := time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, time.UTC)
	if !due.After(now) {
		due = due.AddDate(0, 0, 1)
	}
	return due
}

// digest collects the decisions of the day before due and sends them to every
// channel as one notification.
func (s *Service) digest(ctx context.Context, st *store, due time.Time) error {
	key := "digest." + due.Format(time.DateOnly)
	if _, _, err := st.kv.Get(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		return err // done before, or unreadable
	}
	var ds []event.Decision
	err := s.env.Bus.Read(ctx, event.Decisions, bus.ReadOptions{StartTime: due.Add(-24 * time.Hour)}, func(m bus.Message) error {
		if d, ok := m.Data.(event.Decision); ok && d.Route != digestRoute {
			ds = append(ds, d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r, ok := Digest(ds, due)
	if ok {
		for _, name := range sortedKeys(s.channels) {
			n := event.Notification{Incident: r.Incident, Revision: 1, Channel: name, Route: digestRoute, Update: "digest", Report: r}
			d := event.Decision{
				Incident: r.Incident, Revision: 1, Route: digestRoute, Channel: name, Outcome: event.Sent, Priority: event.P4,
				Entity: r.Entity, Headline: r.Headline, Rule: "digest at " + s.cfg.Digest, PolicyHash: s.env.Policies.Hash(), Time: due,
			}
			if err := s.env.Bus.Publish(ctx, event.NotificationQueued.Out(n), event.Decided.Out(d)); err != nil {
				return err
			}
		}
	}
	_, err = st.kv.Put(ctx, key, []byte(due.Format(time.RFC3339)))
	return err
}

// Digest writes the report of a day's decisions: the incidents that would have
// been sent, and those that were held, a line each, worst first. It returns
// false when there is nothing to tell.
func Digest(ds []event.Decision, due time.Time) (event.Report, bool) {
	last := map[string]event.Decision{} // the most telling decision of each incident
	for _, d := range ds {
		if d.Outcome != event.Shadow && d.Outcome != event.HeldBack {
			continue
		}
		old, ok := last[d.Incident]
		if !ok || d.Priority.Worse(old.Priority) || d.Priority == old.Priority && d.Revision > old.Revision {
			last[d.Incident] = d
		}
	}
	if len(last) == 0 {
		return event.Report{}, false
	}
	list := make([]event.Decision, 0, len(last))
	for _, k := range sortedKeys(last) {
		list = append(list, last[k])
	}
	slices.SortStableFunc(list, func(a, b event.Decision) int { return strings.Compare(string(a.Priority), string(b.Priority)) })
	pages, r := 0, event.Report{
		Incident: "digest-" + due.Format(time.DateOnly), Revision: 1, State: event.Resolved, Priority: event.P4,
		Entity: event.Entity{Kind: "Cluster", Name: "cluster"}, Onset: due.Add(-24 * time.Hour), Time: due, Reason: "digest",
		Findings: []event.Finding{}, Causes: []event.Cause{}, Checks: []event.Check{}, Evidence: []event.Evidence{},
	}
	for _, d := range list {
		if d.Priority.Pages() && d.Outcome == event.Shadow {
			pages++
		}
		r.Timeline = append(r.Timeline, event.TimelineEntry{Time: d.Time, Entity: d.Entity, What: d.Headline + " [" + string(d.Outcome) + ": " + d.Rule + "]", Ref: d.Incident})
		r.Checks = append(r.Checks, event.Check{Why: d.Headline, Command: "oncall why " + event.ShortID(d.Incident)})
	}
	r.Headline = fmt.Sprintf("Digest %s: %d incidents not sent, %d of them would have paged", due.Format(time.DateOnly), len(list), pages)
	r.TLDR = r.Headline + "."
	r.Status = r.TLDR
	return r, true
}

package notifier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

const (
	// digestRoute names the route of digests in decisions and notifications.
	digestRoute = "digest"
	// maxDigestLines bounds the incidents that a digest lists; it counts all.
	maxDigestLines = 25
	// maxDigestSpan bounds the days of a digest after a long stop.
	maxDigestSpan = 7 * 24 * time.Hour
)

// digests sends, once a day, what would have been sent and what is not worth a
// message of its own.
func (s *Service) digests(ctx context.Context, st *store) error {
	at, err := time.Parse("15:04", s.cfg.Digest)
	if err != nil {
		return fmt.Errorf("notifier: digest: %w", err)
	}
	for {
		if err := s.digestIfDue(ctx, st, at); err != nil && ctx.Err() == nil {
			s.env.Log.Warn("digest not queued, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.pace.digest):
		}
	}
}

// lastDigest is when the latest digest was due.
func lastDigest(now, at time.Time) time.Time {
	due := time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, time.UTC)
	if due.After(now) {
		due = due.AddDate(0, 0, -1)
	}
	return due
}

// digestIfDue queues the digest when one is due. Up to when the decisions were
// told is in the bucket, so that a restart neither repeats nor loses any: what
// became due meanwhile is sent late.
func (s *Service) digestIfDue(ctx context.Context, st *store, at time.Time) error {
	due := lastDigest(s.now().UTC(), at)
	last, rev, err := get[time.Time](ctx, st, digestKey)
	if err != nil {
		return err
	}
	if rev == 0 {
		// A new installation has nothing to tell of the day before it.
		_, err := st.update(ctx, digestKey, due, 0)
		return ignoreConflict(err)
	}
	if !due.After(last) {
		return nil
	}
	from := last
	if due.Sub(from) > maxDigestSpan {
		from = due.Add(-maxDigestSpan)
	}
	if err := s.digest(ctx, from, due); err != nil {
		return err
	}
	_, err = st.update(ctx, digestKey, due, rev)
	return ignoreConflict(err)
}

// ignoreConflict takes it that another member has done the same.
func ignoreConflict(err error) error {
	if errors.Is(err, bus.ErrConflict) {
		return nil
	}
	return err
}

// digest collects the decisions of a span and queues, for every channel for
// people, what it was not told.
func (s *Service) digest(ctx context.Context, from, due time.Time) error {
	var ds []event.Decision
	err := s.env.Bus.Read(ctx, event.Decisions, bus.ReadOptions{StartTime: from}, func(m bus.Message) error {
		if d, ok := m.Data.(event.Decision); ok && d.Route != digestRoute && d.Route != refusalRoute && m.Received.Before(due) {
			ds = append(ds, d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var out []event.Outgoing
	for _, name := range sortedKeys(s.outlets) {
		if s.outlets[name].info.Alerts {
			continue
		}
		r, ok := Digest(ds, DigestOf{Channel: name, Cluster: s.env.Cluster, Mode: s.cfg.Mode, From: from, Due: due})
		if !ok {
			continue
		}
		out = append(out,
			event.NotificationQueued.Out(event.Notification{Incident: r.Incident, Revision: 1, Channel: name, Route: digestRoute, Update: "digest", Report: r}),
			event.Decided.Out(event.Decision{
				Incident: r.Incident, Revision: 1, Route: digestRoute, Channel: name, Outcome: event.Sent, Priority: event.P4,
				Entity: r.Entity, Headline: r.Headline, Rule: "digest at " + s.cfg.Digest, PolicyHash: s.env.Policies.Hash(), Time: due,
			}))
	}
	return s.env.Bus.Publish(ctx, out...)
}

// DigestOf says whose digest of which time it is.
type DigestOf struct {
	Channel   string
	Cluster   string
	Mode      Mode
	From, Due time.Time
}

// The groups of a digest, in order.
var digestGroups = []struct {
	title, count string
	holds        func(event.Decision) bool
}{
	{"Would have paged", "would have paged", func(d event.Decision) bool { return d.Outcome == event.Shadow && d.Priority.Pages() }},
	{"Would have been sent", "would have been sent", func(d event.Decision) bool { return d.Outcome == event.Shadow }},
	{"Silenced", "silenced", func(d event.Decision) bool { return d.Outcome == event.Silenced || d.Outcome == event.Maintenance }},
	{"Held back", "held back", func(d event.Decision) bool { return d.Outcome == event.HeldBack }},
}

// Digest writes the report of the decisions about one channel: the incidents
// that it was told nothing of, grouped by what became of them, a line each,
// worst first. Incidents without a route are in every channel's. In shadow
// mode an empty one says so, since it is all that is heard of us; else it
// returns false when there is nothing to tell.
//
// The lines are in the report's timeline: a heading has no Ref, an incident's
// line has its id.
func Digest(ds []event.Decision, of DigestOf) (event.Report, bool) {
	groups := make([][]event.Decision, len(digestGroups))
	for _, d := range telling(ds, of.Channel) {
		for i, g := range digestGroups {
			if g.holds(d) {
				groups[i] = append(groups[i], d)
				break
			}
		}
	}
	var counts []string
	var lines []event.TimelineEntry
	left := maxDigestLines
	for i, g := range digestGroups {
		if len(groups[i]) == 0 {
			continue
		}
		counts = append(counts, fmt.Sprintf("%d %s", len(groups[i]), g.count))
		if left == 0 {
			continue
		}
		slices.SortStableFunc(groups[i], func(a, b event.Decision) int {
			return cmp.Or(strings.Compare(string(a.Priority), string(b.Priority)), a.Time.Compare(b.Time), strings.Compare(a.Incident, b.Incident))
		})
		heading := fmt.Sprintf("%s (%d)", g.title, len(groups[i]))
		if left < len(groups[i]) {
			heading = fmt.Sprintf("%s (%d of %d)", g.title, left, len(groups[i]))
		}
		lines = append(lines, event.TimelineEntry{Time: of.Due, What: heading})
		for _, d := range groups[i][:min(left, len(groups[i]))] {
			what := d.Headline
			if d.Outcome != event.Shadow {
				what += " (" + d.Rule + ")"
			}
			lines = append(lines, event.TimelineEntry{Time: d.Time, What: what, Ref: d.Incident})
			left--
		}
	}
	if len(lines) == 0 && of.Mode != ModeShadow {
		return event.Report{}, false
	}
	if of.Mode == ModeShadow && len(groups[0])+len(groups[1]) == 0 {
		counts = append([]string{"nothing would have been sent"}, counts...)
	}
	r := event.Report{
		Incident: "digest-" + of.Due.Format(time.DateOnly), Revision: 1, State: event.Resolved, Priority: event.P4, Cluster: of.Cluster,
		Entity: event.Entity{Kind: "Cluster", Name: cmp.Or(of.Cluster, "cluster")}, Onset: of.From, Time: of.Due, Reason: digestRoute,
		Findings: []event.Finding{}, Causes: []event.Cause{}, Checks: []event.Check{}, Evidence: []event.Evidence{}, Timeline: lines,
	}
	r.Headline = Clip(strings.Join(strings.Fields(fmt.Sprintf("Digest %s %s: %s", of.Cluster, of.Due.Format(time.DateOnly), strings.Join(counts, ", "))), " "), 120)
	r.TLDR = fmt.Sprintf("Incidents from %s to %s of which this channel was told nothing.", of.From.Format("2006-01-02 15:04"), of.Due.Format("2006-01-02 15:04 UTC"))
	if of.Mode == ModeShadow {
		r.TLDR += " Mode is shadow: nothing is sent but this."
	}
	r.Status = r.Headline + "."
	return r, true
}

// telling picks, of each incident, the decision about a channel that says
// most: sent before shadow before silenced before held, then the most urgent,
// then the latest. Incidents that were sent are left out.
func telling(ds []event.Decision, channel string) []event.Decision {
	rank := map[event.Outcome]int{event.Sent: 0, event.Shadow: 1, event.Silenced: 2, event.Maintenance: 2, event.HeldBack: 3}
	best := map[string]event.Decision{}
	for _, d := range ds {
		if d.Channel != channel && d.Channel != nowhere {
			continue
		}
		if d.Outcome == event.HeldBack && knows(d.Rule) {
			d.Outcome = event.Sent
		}
		old, ok := best[d.Incident]
		if !ok || cmp.Or(rank[d.Outcome]-rank[old.Outcome], strings.Compare(string(d.Priority), string(old.Priority)), old.Revision-d.Revision) < 0 {
			best[d.Incident] = d
		}
	}
	var out []event.Decision
	for _, k := range sortedKeys(best) {
		if best[k].Outcome != event.Sent {
			out = append(out, best[k])
		}
	}
	return out
}

// knows says that a rule held back what the channel knows already.
func knows(rule string) bool {
	return strings.HasPrefix(rule, ruleSentBefore) || strings.HasPrefix(rule, ruleNothingNew) || strings.HasPrefix(rule, ruleElsewhere)
}

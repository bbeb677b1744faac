package correlator

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// publish lets every incident's timers run and returns the revisions that are
// worth telling, in the order of the incidents' onsets.
func (f *fold) publish(now time.Time) []event.Outgoing {
	s := &f.State
	var out []event.Outgoing
	ids := sortedKeys(s.Incidents)
	slices.SortStableFunc(ids, func(a, b string) int { return s.Incidents[a].Onset.Compare(s.Incidents[b].Onset) })
	for _, id := range ids {
		inc := s.Incidents[id]
		if inc.Closed != nil && inc.Published.State == event.Resolved {
			if now.Sub(*inc.Closed) > f.policy.Reopen {
				delete(s.Incidents, id)
				for k, v := range s.ByAnomaly {
					if v == id {
						delete(s.ByAnomaly, k)
					}
				}
			}
			continue
		}
		f.calm(inc, now)
		if next, kind, ok := f.revise(inc, now); ok {
			inc.Published = next
			o := kind.Out(next)
			o.Traceparent = inc.Trace
			out = append(out, o)
		}
	}
	f.forget(now)
	return out
}

// forget drops loose anomalies that are too old to belong to anything new.
func (f *fold) forget(now time.Time) {
	s := &f.State
	s.Loose = slices.DeleteFunc(s.Loose, func(a event.Anomaly) bool { return now.Sub(a.WindowEnd) > f.policy.Lookback })
}

// calm closes an incident in which nothing has gone on for the quiet time. An
// anomaly goes on until its end, or until it has said nothing for the silence,
// unless a source is blind: then silence means nothing.
func (f *fold) calm(inc *incident, now time.Time) {
	if inc.Blind || inc.Closed != nil {
		return
	}
	var last time.Time
	for _, a := range inc.Anomalies {
		switch {
		case isContext(a):
		case a.Ended != nil:
			last = maxTime(last, *a.Ended)
		case now.Sub(a.WindowEnd) > f.policy.Silence && len(f.State.Blind) == 0:
			last = maxTime(last, a.WindowEnd)
		default:
			inc.Calm = time.Time{}
			return
		}
	}
	inc.Calm = maxTime(last, inc.Opened)
	if now.Sub(inc.Calm) >= f.quiet(inc) {
		inc.Closed = &now
	}
}

// quiet is how long an incident must be calm before it resolves. One that
// flaps has been called over too early again and again: each time past the
// policy's bound it waits twice as long, so that it stays one open incident
// and those who were told of it are not told of ends that are none.
func (f *fold) quiet(inc *incident) time.Duration {
	most := max(f.policy.Quiet, f.policy.Reopen)
	q := f.policy.Quiet
	for range inc.Flaps - f.policy.MaxFlaps {
		if q *= 2; q >= most {
			return most
		}
	}
	return q
}

// revise makes the next revision of an incident, if there is something to
// tell.
func (f *fold) revise(inc *incident, now time.Time) (event.Incident, event.Kind[event.Incident], bool) {
	old := inc.Published
	n := f.render(inc, now)
	n.Revision = old.Revision + 1
	if inc.Closed != nil {
		if old.Revision == 0 {
			return n, event.IncidentResolved, false // merged before anybody heard of it
		}
		n.State, n.ResolvedAt, n.Reason = event.Resolved, inc.Closed, "resolved"
		if inc.MergedTo != "" {
			n.Reason = "merged into " + inc.MergedTo
		}
		return n, event.IncidentResolved, true
	}
	n.State = event.Open
	switch {
	case old.Revision == 0:
		n.Reason = "opened"
		return n, event.IncidentOpened, true
	case old.State == event.Resolved:
		n.Reason = "reopened"
		return n, event.IncidentUpdated, true
	case n.Priority != old.Priority || n.Held != old.Held:
		n.Reason = "severity"
		return n, event.IncidentUpdated, true
	}
	if now.Sub(old.Updated) < 30*time.Second {
		return n, event.IncidentUpdated, false // let it develop
	}
	switch {
	case topSuspect(n) != topSuspect(old):
		n.Reason = "cause"
	case n.Symptom != old.Symptom && len(signals(n)) != len(signals(old)), !slices.Equal(signals(n), signals(old)), doubled(n, old):
		n.Reason = "anomalies"
	default:
		return n, event.IncidentUpdated, false
	}
	return n, event.IncidentUpdated, true
}

// doubled says whether an incident has grown enough to be told again.
func doubled(n, old event.Incident) bool {
	now, before := len(n.Anomalies)+n.Dropped, len(old.Anomalies)+old.Dropped
	return now > before && now >= 2*before
}

func topSuspect(i event.Incident) string {
	if len(i.Suspects) == 0 {
		return ""
	}
	s := i.Suspects[0]
	rev := ""
	if s.Change != nil {
		rev = string(s.Change.Kind) + s.Change.Revision
	}
	return fmt.Sprintf("%s %s %s", s.Entity, rev, s.Confidence)
}

// signals are the classes and signals that go on: what a reader would call new.
func signals(i event.Incident) []string {
	var out []string
	for _, a := range i.Anomalies {
		if !isContext(a) && a.Ended == nil {
			out = append(out, string(a.Class)+" "+a.Entity.Kind+"/"+a.Entity.Name+" "+a.Signal)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// render is the incident as it stands.
func (f *fold) render(inc *incident, now time.Time) event.Incident {
	if inc.Blind {
		return f.renderBlind(inc, now)
	}
	n := event.Incident{
		ID: inc.Published.ID, Cluster: f.cluster, Entity: f.affected(inc), Onset: inc.Onset.UTC(), Opened: inc.Opened.UTC(), Updated: now.UTC(),
		Blind: f.blindNow(), Flaps: inc.Flaps, PolicyHash: f.policyHash,
	}
	all := make([]event.Anomaly, 0, len(inc.Anomalies))
	for _, k := range sortedKeys(inc.Anomalies) {
		all = append(all, inc.Anomalies[k])
	}
	slices.SortStableFunc(all, worst)
	onset := inc.Onset
	var symptoms []event.Anomaly
	for _, a := range all {
		if a.Class == event.ClassSymptom && !isContext(a) {
			symptoms = append(symptoms, a)
		}
	}
	if len(symptoms) > 0 {
		onset = symptoms[0].Onset
		for _, a := range symptoms {
			if a.Onset.Before(onset) {
				onset = a.Onset
			}
		}
		n.Symptom = symptoms[0].Summary
	}
	n.Score, n.Contributions = composite(inc)
	n.Suspects = f.suspects(inc, onset)
	n.Dropped = max(0, inc.Seen-min(len(all), maxInEvent))
	n.Anomalies = all[:min(len(all), maxInEvent)]
	for _, k := range sortedKeys(inc.Roots) {
		n.Related = append(n.Related, inc.Roots[k])
	}
	n.Owner = f.owners.Of(n.Entity, f.State.Topology.labels(n.Entity))
	n.Title = f.title(n, all)
	n.Changes = f.changesOf(inc, onset)
	n.Timeline = timeline(all, n.Changes)
	f.prioritise(inc, &n, symptoms, now)
	return n
}

// worst orders anomalies for a reader: what goes on before what is over,
// symptoms before causes before the rest, by severity, then by surprise.
func worst(a, b event.Anomaly) int {
	rank := map[event.SignalClass]int{event.ClassSymptom: 0, event.ClassCause: 1, event.ClassSaturation: 2, event.ClassAmbient: 3}
	over := func(a event.Anomaly) int {
		if a.Ended != nil {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(rank[a.Class], rank[b.Class]), cmp.Compare(over(a), over(b)), cmp.Compare(b.Severity.Number(), a.Severity.Number()),
		cmp.Compare(a.TailProb, b.TailProb), a.Onset.Compare(b.Onset), strings.Compare(a.Key, b.Key),
	)
}

// affected is what the incident is about: the root with the worst symptom, or
// with the worst anomaly.
func (f *fold) affected(inc *incident) event.Entity {
	var best *event.Anomaly
	for _, k := range sortedKeys(inc.Anomalies) {
		a := inc.Anomalies[k]
		if isContext(a) {
			continue
		}
		if best == nil || worst(a, *best) < 0 {
			best = &a
		}
	}
	if best == nil {
		return inc.Root
	}
	return f.State.Topology.root(best.Entity)
}

func (f *fold) title(n event.Incident, all []event.Anomaly) string {
	text := n.Symptom
	if text == "" && len(all) > 0 {
		text = all[0].Summary
	}
	t := fmt.Sprintf("%s: %s", n.Entity, text)
	if others := len(n.Related) - 1; others > 0 {
		t += fmt.Sprintf(" (and %d more affected)", others)
	}
	return t
}

func (f *fold) changesOf(inc *incident, onset time.Time) []event.Change {
	var out []event.Change
	for i := len(f.State.Changes) - 1; i >= 0 && len(out) < 20; i-- {
		c := f.State.Changes[i]
		if onset.Sub(c.Time) <= f.policy.ChangeLookback && f.concerns(inc, f.State.Topology.root(c.Entity)) {
			out = append(out, c)
		}
	}
	return out
}

func timeline(all []event.Anomaly, changes []event.Change) []event.TimelineEntry {
	var out []event.TimelineEntry
	for _, a := range all {
		if a.Severity == event.Info && a.Detector == "change" {
			continue // its change has an entry of its own
		}
		out = append(out, event.TimelineEntry{Time: a.Onset.UTC(), Entity: a.Entity, What: a.Summary, Ref: a.Key})
		if a.Ended != nil && len(all) <= 10 {
			out = append(out, event.TimelineEntry{Time: a.Ended.UTC(), Entity: a.Entity, What: "over: " + a.Summary, Ref: a.Key})
		}
	}
	for _, c := range changes {
		out = append(out, event.TimelineEntry{Time: c.Time.UTC(), Entity: c.Entity, What: string(c.Kind) + ": " + c.Summary, Ref: c.Revision})
	}
	slices.SortStableFunc(out, func(a, b event.TimelineEntry) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.What, b.What), strings.Compare(a.Ref, b.Ref))
	})
	return out[:min(len(out), maxTimeline)]
}

// prioritise says how urgent an incident is. Only a symptom pages, and a
// symptom is never held back, by no budget and for no flapping: users feel each
// of its returns. What has none is a ticket, or a line in the digest when it
// flaps or its score does not pass the bound of the page budget.
func (f *fold) prioritise(inc *incident, n *event.Incident, symptoms []event.Anomaly, now time.Time) {
	n.Priority = event.P4
	for _, a := range n.Anomalies {
		if !isContext(a) {
			n.Priority = event.P3
		}
	}
	going := slices.ContainsFunc(symptoms, func(a event.Anomaly) bool { return a.Ended == nil })
	for _, a := range symptoms {
		if a.Ended != nil && going {
			continue
		}
		p := event.P2
		if a.Severity == event.Critical {
			p = event.P1
		}
		if p.Worse(n.Priority) {
			n.Priority = p
		}
	}
	if !symptomless(n, symptoms) || inc.MergedTo != "" {
		f.unodd(n.ID)
		return
	}
	switch n.Held = f.budget(inc, n.Score, now); {
	case n.Held != "":
		n.Priority = event.P4
	case inc.Flaps > f.policy.MaxFlaps:
		n.Priority = event.P4
		n.Held = fmt.Sprintf("no symptom, and flapping: reopened %d times", inc.Flaps)
	}
}

func (f *fold) renderBlind(inc *incident, now time.Time) event.Incident {
	b := inc.Published.Blind[0]
	return event.Incident{
		ID: inc.Published.ID, Priority: event.P3, Cluster: f.cluster, Entity: inc.Root, Title: blindTitle(b),
		Onset: inc.Onset, Opened: inc.Opened.UTC(), Updated: now.UTC(), Blind: []event.Blindness{b}, PolicyHash: f.policyHash,
		Owner: f.owners.Of(inc.Root, f.State.Topology.labels(inc.Root)), Anomalies: []event.Anomaly{}, Related: []event.Entity{inc.Root},
	}
}

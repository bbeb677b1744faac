package notifier

import (
	"fmt"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Verdict is what becomes of a report on one channel of one route.
type Verdict struct {
	Decision event.Decision
	// Update is why the channel is told, when it is.
	Update string
}

// inputs are what a decision rests on, beside the report.
type inputs struct {
	mode     Mode
	routes   []Route
	silenced string // description of the silence that matches, or ""
	policy   string // hash
	edits    func(channel string) bool
	// told is what a channel was told last; its Revision is 0 before the first.
	told func(channel string) Thread
}

// decide says what becomes of a report on every route. It is pure: the same
// report and inputs give the same verdicts, in the order of the routes.
func decide(r event.Report, in inputs) []Verdict {
	var out []Verdict
	seen := map[string]bool{}
	matched := false
	for _, route := range in.routes {
		if !route.matches(r) {
			continue
		}
		matched = true
		for _, ch := range route.Channels {
			if seen[ch] {
				continue // an earlier route decided for this channel
			}
			seen[ch] = true
			outcome, rule, update := in.judge(r, route, ch)
			out = append(out, Verdict{Update: update, Decision: decision(r, in, route.Name, ch, outcome, rule)})
		}
	}
	if !matched {
		out = append(out, Verdict{Decision: decision(r, in, "none", "none", event.HeldBack, "no route matches")})
	}
	return out
}

func decision(r event.Report, in inputs, route, channel string, o event.Outcome, rule string) event.Decision {
	return event.Decision{
		Incident: r.Incident, Revision: r.Revision, Route: route, Channel: channel, Outcome: o,
		Priority: r.Priority, Team: r.Owner.Team, Entity: r.Entity, Headline: r.Headline,
		Rule: rule, PolicyHash: in.policy, Time: r.Time,
	}
}

// judge applies the rules in order of precedence. A person who was told of an
// incident is told of its end, whatever else holds by then.
func (in inputs) judge(r event.Report, route Route, channel string) (o event.Outcome, rule, update string) {
	told := in.told(channel)
	known := told.Revision > 0
	if known && r.State == event.Resolved {
		return event.Sent, "told before, now resolved", "resolved"
	}
	switch {
	case in.silenced != "":
		return event.Silenced, "silence " + in.silenced, ""
	case r.Held != "":
		return event.HeldBack, r.Held, ""
	case !known && r.State == event.Resolved:
		return event.HeldBack, "resolved before anybody was told", ""
	case route.Least.Worse(r.Priority):
		return event.HeldBack, fmt.Sprintf("route %s: %s is less urgent than %s", route.Name, r.Priority, route.Least), ""
	case in.mode == ModeShadow:
		return event.Shadow, "notify.mode=shadow", ""
	case in.mode == ModeEnrich && !r.Firing && !known:
		return event.Shadow, "notify.mode=enrich: no firing alert in the incident", ""
	}
	switch {
	case !known:
		return event.Sent, "route " + route.Name, "opened"
	case r.Revision <= told.Revision:
		return event.HeldBack, fmt.Sprintf("revision %d was sent before", told.Revision), ""
	case r.Priority.Worse(told.Priority):
		return event.Sent, "priority rose from " + string(told.Priority), "severity"
	case topCause(r) != told.Cause && topCause(r) != "":
		return event.Sent, "the likely cause changed", "cause"
	case in.edits(channel):
		return event.Sent, "route " + route.Name + ": update in place", "updated"
	}
	return event.HeldBack, "nothing new worth a message: channel " + channel + " cannot edit", ""
}

func (route Route) matches(r event.Report) bool {
	in := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	return in(route.Match.Teams, r.Owner.Team) && in(route.Match.Namespaces, r.Entity.Namespace) && in(route.Match.Clusters, r.Cluster)
}

func topCause(r event.Report) string {
	if len(r.Causes) == 0 {
		return ""
	}
	return r.Causes[0].Text
}

// Labels are the labels by which silences and Alertmanager's routes know an
// incident. Only severity can change during its life.
func Labels(r event.Report) map[string]string {
	severity := map[event.Priority]string{event.P1: "critical", event.P2: "critical", event.P3: "warning", event.P4: "info"}[r.Priority]
	m := map[string]string{
		"alertname": "OncallIncident", "oncall_incident": r.Incident, "severity": severity,
		"kind": r.Entity.Kind, "name": r.Entity.Name,
	}
	for k, v := range map[string]string{"cluster": r.Cluster, "namespace": r.Entity.Namespace, "team": r.Owner.Team} {
		if v != "" {
			m[k] = v
		}
	}
	return m
}

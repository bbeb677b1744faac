package notifier

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Rules that hold something back from a channel that knows the incident.
const (
	ruleSentBefore = "sent before: revision "
	ruleOvertaken  = "overtaken by revision "
	ruleNothingNew = "nothing new worth a message: channel "
	ruleElsewhere  = "decided by route "
)

// nowhere stands in a decision for the channel or route that is not there.
const nowhere = "none"

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
	traits   func(channel string) Traits
	told     map[string]Told // by channel
	decided  int             // the highest revision that was decided about
}

// decide says what becomes of a report on every channel of every route that
// matches. It is pure: the same report and inputs give the same verdicts, in
// the order of the routes. A channel of two routes is told once, by the first
// of them that tells it anything.
func decide(r event.Report, in inputs) []Verdict {
	var out []Verdict
	by := map[string]string{} // channel to the route that tells it
	for _, route := range in.routes {
		if !route.matches(r) {
			continue
		}
		for _, ch := range route.Channels {
			v := in.judge(r, route, ch)
			if first, ok := by[ch]; ok {
				v = verdict{event.HeldBack, ruleElsewhere + first, ""}
			} else if v.outcome == event.Sent || v.outcome == event.Shadow {
				by[ch] = route.Name
			}
			out = append(out, Verdict{Update: v.update, Decision: decision(r, in, route.Name, ch, v)})
		}
		if len(route.Channels) == 0 { // only the default route can be without
			v := in.judge(r, route, nowhere)
			if v.outcome == event.Sent {
				v = verdict{event.HeldBack, "no channel is configured", ""}
			}
			out = append(out, Verdict{Decision: decision(r, in, route.Name, nowhere, v)})
		}
	}
	if len(out) == 0 {
		out = append(out, Verdict{Decision: decision(r, in, nowhere, nowhere, verdict{event.HeldBack, "no route matches", ""})})
	}
	return out
}

func decision(r event.Report, in inputs, route, channel string, v verdict) event.Decision {
	return event.Decision{
		Incident: r.Incident, Revision: r.Revision, Route: route, Channel: channel, Outcome: v.outcome,
		Priority: r.Priority, Team: r.Owner.Team, Entity: r.Entity, Headline: r.Headline,
		Rule: v.rule, PolicyHash: in.policy, Time: r.Time,
	}
}

// verdict is what judge says.
type verdict struct {
	outcome event.Outcome
	rule    string
	update  string // "" unless sent
}

// judge applies the rules in order of precedence. A person who was told of an
// incident is told of its end, whatever else holds by then; and a message that
// can be edited without disturbing anybody is kept up to date while a silence
// or a hold keeps the incident quiet.
func (in inputs) judge(r event.Report, route Route, channel string) verdict {
	told, traits := in.told[channel], in.traits(channel)
	known := told.Revision > 0
	quiet := func(o event.Outcome, rule string) verdict {
		if known && traits.Edits {
			return verdict{event.Sent, rule + ": its message is kept up to date, nobody is disturbed", "quiet"}
		}
		return verdict{o, rule, ""}
	}
	note := ""
	switch {
	case known && r.Revision <= told.Revision:
		return verdict{event.HeldBack, ruleSentBefore + strconv.Itoa(told.Revision), ""}
	case r.Revision < in.decided: // whatever became of the newer one, this is no longer so
		return verdict{event.HeldBack, ruleOvertaken + strconv.Itoa(in.decided), ""}
	case known && r.State == event.Resolved && !told.Resolved:
		return verdict{event.Sent, "told before, now resolved", "resolved"}
	case in.silenced != "" && traits.Alerts:
		note = "; silence " + in.silenced + " mutes it there"
	case in.silenced != "":
		return quiet(event.Silenced, "silence "+in.silenced)
	}
	switch {
	case r.Held != "":
		return quiet(event.HeldBack, r.Held)
	case !known && r.State == event.Resolved:
		return verdict{event.HeldBack, "resolved before anybody was told", ""}
	case route.Least.Worse(r.Priority):
		return quiet(event.HeldBack, fmt.Sprintf("route %s: %s is less urgent than %s", route.Name, r.Priority, route.Least))
	case in.mode == ModeShadow:
		return verdict{event.Shadow, "notify.mode=shadow", ""}
	case in.mode == ModeEnrich && traits.Alerts:
		return verdict{event.Shadow, "notify.mode=enrich: the alert is there already, and pages as it always does", ""}
	case in.mode == ModeEnrich && !r.Firing && !known:
		return verdict{event.Shadow, "notify.mode=enrich: no firing alert in the incident", ""}
	}
	switch news := told.News(r); {
	case news == "opened" && known:
		return verdict{event.Sent, "told of its end, and open again" + note, news}
	case news == "opened":
		return verdict{event.Sent, "route " + route.Name + note, news}
	case news == "severity":
		return verdict{event.Sent, "priority rose from " + string(told.Priority) + note, news}
	case news == "cause":
		return verdict{event.Sent, "the likely cause changed" + note, news}
	case traits.Edits:
		return verdict{event.Sent, "route " + route.Name + ": update in place" + note, news}
	}
	return verdict{event.HeldBack, ruleNothingNew + channel + " cannot edit", ""}
}

func (route Route) matches(r event.Report) bool {
	in := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	return in(route.Match.Teams, r.Owner.Team) && in(route.Match.Namespaces, r.Entity.Namespace) && in(route.Match.Clusters, r.Cluster)
}

package notifier

import (
	"fmt"
	"slices"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func report(change ...func(*event.Report)) event.Report {
	r := event.Report{
		Incident: "9kdq3vz7m2xha", Revision: 3, State: event.Open, Priority: event.P2, Cluster: "prod",
		Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}, Owner: event.Owner{Team: "payments"},
		Symptom: "12% of requests fail", Headline: "P2 prod shop/deployment/checkout", Firing: true,
		Causes: []event.Cause{{Text: "rollout v412", Confidence: event.High}},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func resolved(r *event.Report) { r.State = event.Resolved }
func held(r *event.Report)     { r.Held = "flapping: reopened 4 times" }
func quietly(r *event.Report)  { r.Firing = false }

func priority(p event.Priority) func(*event.Report) {
	return func(r *event.Report) { r.Priority = p }
}

func cause(s string, c event.Confidence) func(*event.Report) {
	return func(r *event.Report) { r.Causes = []event.Cause{{Text: s, Confidence: c}} }
}

// toldP2 knows the incident as report() is, one revision before.
var toldP2 = Told{Revision: 2, Priority: event.P2, Causes: []string{causeKey(report())}}

func TestJudge(t *testing.T) {
	const (
		edits = "edits" // one message, edited: Slack, a webhook
		cards = "cards" // a message each: Teams
		alert = "alert" // Alertmanager
	)
	toldEnd := toldP2
	toldEnd.Resolved = true
	for name, c := range map[string]struct {
		mode     Mode
		channel  string
		told     Told
		decided  int
		silenced string
		report   event.Report
		outcome  event.Outcome
		update   string
		rule     string
	}{
		"shadow sends nothing":                            {mode: ModeShadow, channel: edits, report: report(), outcome: event.Shadow, rule: "notify.mode=shadow"},
		"shadow holds what page would hold, too":          {mode: ModeShadow, channel: edits, report: report(held), outcome: event.HeldBack, rule: "flapping: reopened 4 times"},
		"shadow says what a silence would have muted":     {mode: ModeShadow, channel: edits, silenced: "s1", report: report(), outcome: event.Silenced, rule: "silence s1"},
		"shadow, but told before: the end is told":        {mode: ModeShadow, channel: edits, told: toldP2, report: report(resolved), outcome: event.Sent, update: "resolved", rule: "told before, now resolved"},
		"shadow, told before: nothing else is":            {mode: ModeShadow, channel: edits, told: toldP2, report: report(), outcome: event.Shadow, rule: "notify.mode=shadow"},
		"enrich sends about a firing alert":               {mode: ModeEnrich, channel: edits, report: report(), outcome: event.Sent, update: "opened", rule: "route all"},
		"enrich sends nothing else":                       {mode: ModeEnrich, channel: edits, report: report(quietly), outcome: event.Shadow, rule: "notify.mode=enrich: no firing alert in the incident"},
		"enrich goes on when the alert has stopped":       {mode: ModeEnrich, channel: edits, told: toldP2, report: report(quietly), outcome: event.Sent, update: "updated", rule: "route all: update in place"},
		"enrich does not page a second time":              {mode: ModeEnrich, channel: alert, report: report(), outcome: event.Shadow, rule: "notify.mode=enrich: the alert is there already, and pages as it always does"},
		"page sends without an alert":                     {mode: ModePage, channel: edits, report: report(quietly), outcome: event.Sent, update: "opened", rule: "route all"},
		"held is held":                                    {mode: ModePage, channel: cards, report: report(held), outcome: event.HeldBack, rule: "flapping: reopened 4 times"},
		"held when told: edited in silence":               {mode: ModePage, channel: edits, told: toldP2, report: report(held), outcome: event.Sent, update: "quiet", rule: "flapping: reopened 4 times: its message is kept up to date, nobody is disturbed"},
		"held when told: no card":                         {mode: ModePage, channel: cards, told: toldP2, report: report(held), outcome: event.HeldBack, rule: "flapping: reopened 4 times"},
		"silenced":                                        {mode: ModePage, channel: edits, silenced: "s1", report: report(), outcome: event.Silenced, rule: "silence s1"},
		"silenced when told: edited in silence":           {mode: ModePage, channel: edits, told: toldP2, silenced: "s1", report: report(priority(event.P1)), outcome: event.Sent, update: "quiet", rule: "silence s1: its message is kept up to date, nobody is disturbed"},
		"silenced when told: no card":                     {mode: ModePage, channel: cards, told: toldP2, silenced: "s1", report: report(priority(event.P1)), outcome: event.Silenced, rule: "silence s1"},
		"silenced when told: the end is told":             {mode: ModePage, channel: cards, told: toldP2, silenced: "s1", report: report(resolved), outcome: event.Sent, update: "resolved", rule: "told before, now resolved"},
		"held when told: the end is told":                 {mode: ModePage, channel: cards, told: toldP2, report: report(held, resolved), outcome: event.Sent, update: "resolved", rule: "told before, now resolved"},
		"Alertmanager gets what it silences itself":       {mode: ModePage, channel: alert, silenced: "s1", report: report(), outcome: event.Sent, update: "opened", rule: "route all; silence s1 mutes it there"},
		"a silence comes before a hold":                   {mode: ModePage, channel: edits, silenced: "s1", report: report(held), outcome: event.Silenced, rule: "silence s1"},
		"a hold comes before the route's least":           {mode: ModePage, channel: edits, report: report(held, priority(event.P4)), outcome: event.HeldBack, rule: "flapping: reopened 4 times"},
		"less urgent than the route's least":              {mode: ModePage, channel: edits, report: report(priority(event.P4)), outcome: event.HeldBack, rule: "route all: P4 is less urgent than P3"},
		"the least is sent":                               {mode: ModePage, channel: edits, report: report(priority(event.P3)), outcome: event.Sent, update: "opened", rule: "route all"},
		"fallen below the least when told: edited":        {mode: ModePage, channel: edits, told: toldP2, report: report(priority(event.P4)), outcome: event.Sent, update: "quiet", rule: "route all: P4 is less urgent than P3: its message is kept up to date, nobody is disturbed"},
		"the least comes before the mode":                 {mode: ModeShadow, channel: edits, report: report(priority(event.P4)), outcome: event.HeldBack, rule: "route all: P4 is less urgent than P3"},
		"resolved before anybody was told":                {mode: ModePage, channel: edits, report: report(resolved), outcome: event.HeldBack, rule: "resolved before anybody was told"},
		"resolved is told once":                           {mode: ModePage, channel: cards, told: toldEnd, report: report(resolved), outcome: event.HeldBack, rule: "nothing new worth a message: channel cards cannot edit"},
		"resolved and revised: edited":                    {mode: ModePage, channel: edits, told: toldEnd, report: report(resolved), outcome: event.Sent, update: "updated", rule: "route all: update in place"},
		"open again after its end was told":               {mode: ModePage, channel: cards, told: toldEnd, report: report(), outcome: event.Sent, update: "opened", rule: "told of its end, and open again"},
		"severity rises":                                  {mode: ModePage, channel: cards, told: toldP2, report: report(priority(event.P1)), outcome: event.Sent, update: "severity", rule: "priority rose from P2"},
		"severity rises and the cause changes: said once": {mode: ModePage, channel: cards, told: toldP2, report: report(priority(event.P1), cause("node lost", event.High)), outcome: event.Sent, update: "severity", rule: "priority rose from P2"},
		"severity falls: no card":                         {mode: ModePage, channel: cards, told: toldP2, report: report(priority(event.P3)), outcome: event.HeldBack, rule: "nothing new worth a message: channel cards cannot edit"},
		"severity falls: edited":                          {mode: ModePage, channel: edits, told: toldP2, report: report(priority(event.P3)), outcome: event.Sent, update: "updated", rule: "route all: update in place"},
		"the cause changes":                               {mode: ModePage, channel: cards, told: toldP2, report: report(cause("node lost", event.Medium)), outcome: event.Sent, update: "cause", rule: "the likely cause changed"},
		"a cause of low confidence disturbs nobody":       {mode: ModePage, channel: cards, told: toldP2, report: report(cause("node lost", event.Low)), outcome: event.HeldBack, rule: "nothing new worth a message: channel cards cannot edit"},
		"a number in the cause moves":                     {mode: ModePage, channel: cards, told: toldP2, report: report(cause("rollout v413.1", event.High)), outcome: event.HeldBack, rule: "nothing new worth a message: channel cards cannot edit"},
		"the cause is gone":                               {mode: ModePage, channel: cards, told: toldP2, report: report(func(r *event.Report) { r.Causes = nil }), outcome: event.HeldBack, rule: "nothing new worth a message: channel cards cannot edit"},
		"nothing new: no card":                            {mode: ModePage, channel: cards, told: toldP2, report: report(), outcome: event.HeldBack, rule: "nothing new worth a message: channel cards cannot edit"},
		"nothing new: edited":                             {mode: ModePage, channel: edits, told: toldP2, report: report(), outcome: event.Sent, update: "updated", rule: "route all: update in place"},
		"a revision that was told":                        {mode: ModePage, channel: edits, told: Told{Revision: 3, Priority: event.P2}, report: report(priority(event.P1)), outcome: event.HeldBack, rule: "sent before: revision 3"},
		"a revision that a newer one overtook":            {mode: ModePage, channel: edits, decided: 4, report: report(priority(event.P1)), outcome: event.HeldBack, rule: "overtaken by revision 4"},
		"a newer one overtook it when told: no edit back": {mode: ModePage, channel: edits, told: toldP2, decided: 4, report: report(priority(event.P1)), outcome: event.HeldBack, rule: "overtaken by revision 4"},
		"the newest itself is decided":                    {mode: ModePage, channel: edits, decided: 3, report: report(), outcome: event.Sent, update: "opened", rule: "route all"},
		"a revision that is late, even of the end":        {mode: ModePage, channel: edits, told: Told{Revision: 5, Priority: event.P2}, report: report(resolved), outcome: event.HeldBack, rule: "sent before: revision 5"},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputs{
				mode: c.mode, silenced: c.silenced, routes: []Route{{Name: "all", Channels: []string{c.channel}, Least: event.P3}}, policy: "abc",
				traits: func(ch string) Traits { return Traits{Edits: ch != cards, Alerts: ch == alert} },
				told:   map[string]Told{c.channel: c.told}, decided: c.decided,
			}
			got := decide(c.report, in)
			if len(got) != 1 {
				t.Fatalf("got %d verdicts, want 1", len(got))
			}
			d := got[0].Decision
			if d.Outcome != c.outcome || got[0].Update != c.update || d.Rule != c.rule {
				t.Errorf("got %s %q %q, want %s %q %q", d.Outcome, got[0].Update, d.Rule, c.outcome, c.update, c.rule)
			}
			if d.Incident != c.report.Incident || d.Revision != 3 || d.Channel != c.channel || d.Team != "payments" || d.PolicyHash != "abc" || d.Headline == "" {
				t.Errorf("the decision does not say what it is about: %+v", d)
			}
			if (d.Outcome == event.Sent) != (got[0].Update != "") {
				t.Errorf("%s with update %q", d.Outcome, got[0].Update)
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	match := func(r Route, teams, namespaces, clusters []string) Route {
		r.Match.Teams, r.Match.Namespaces, r.Match.Clusters = teams, namespaces, clusters
		return r
	}
	for name, c := range map[string]struct {
		routes []Route
		want   []string // route, channel, outcome
	}{
		"every route that matches applies": {
			[]Route{{Name: "a", Channels: []string{"x"}, Least: event.P3}, {Name: "b", Channels: []string{"y"}, Least: event.P3}},
			[]string{"a x sent: route a", "b y sent: route b"},
		},
		"a channel of two routes is told by the first": {
			[]Route{{Name: "a", Channels: []string{"x"}, Least: event.P3}, {Name: "b", Channels: []string{"x", "y"}, Least: event.P3}},
			[]string{"a x sent: route a", "b x held: decided by route a", "b y sent: route b"},
		},
		"a channel twice in a route is told once": {
			[]Route{{Name: "a", Channels: []string{"x", "x"}, Least: event.P3}},
			[]string{"a x sent: route a", "a x held: decided by route a"},
		},
		"a route that holds back leaves the channel to the next": {
			[]Route{{Name: "a", Channels: []string{"x"}, Least: event.P1}, {Name: "b", Channels: []string{"x"}, Least: event.P3}},
			[]string{"a x held: route a: P2 is less urgent than P1", "b x sent: route b"},
		},
		"by team, namespace and cluster": {
			[]Route{
				match(Route{Name: "a", Channels: []string{"x"}, Least: event.P3}, []string{"growth", "payments"}, []string{"shop"}, []string{"prod"}),
				match(Route{Name: "b", Channels: []string{"x"}, Least: event.P3}, []string{"growth"}, nil, nil),
				match(Route{Name: "c", Channels: []string{"x"}, Least: event.P3}, nil, []string{"cart"}, nil),
				match(Route{Name: "d", Channels: []string{"x"}, Least: event.P3}, nil, nil, []string{"dev"}),
			},
			[]string{"a x sent: route a"},
		},
		"no route matches": {
			[]Route{match(Route{Name: "b", Channels: []string{"x"}, Least: event.P3}, []string{"growth"}, nil, nil)},
			[]string{"none none held: no route matches"},
		},
		"no channel is configured": {
			[]Route{{Name: "default", Least: event.P3}},
			[]string{"default none held: no channel is configured"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range decide(report(), inputs{mode: ModePage, routes: c.routes, traits: func(string) Traits { return Traits{} }}) {
				got = append(got, fmt.Sprintf("%s %s %s: %s", v.Decision.Route, v.Decision.Channel, v.Decision.Outcome, v.Decision.Rule))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestShadowWithoutChannelsStillDecides(t *testing.T) {
	cfg := DefaultConfig()
	got := decide(report(), inputs{mode: cfg.Mode, routes: cfg.routes(), traits: func(string) Traits { return Traits{} }})
	if len(got) != 1 || got[0].Decision.Outcome != event.Shadow || got[0].Decision.Channel != nowhere {
		t.Errorf("got %+v, want one shadow decision", got)
	}
}

// A cause that comes and goes is news once; so is a severity.
func TestNewsIsNewsOnce(t *testing.T) {
	a, b := cause("rollout", event.High), cause("node lost", event.High)
	var told Told
	var got []string
	for i, change := range [][]func(*event.Report){
		{a}, {b}, {a}, {b, priority(event.P1)}, {a, priority(event.P3)}, {a, priority(event.P1)}, {resolved}, {resolved}, {a}, {b},
	} {
		r := report(change...)
		r.Revision = i + 1
		got = append(got, told.News(r))
		told = told.After(r)
	}
	want := []string{"opened", "cause", "updated", "severity", "updated", "updated", "resolved", "updated", "opened", "updated"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsToldIsBounded(t *testing.T) {
	var told Told
	for i := range 100 {
		told = told.After(report(cause(fmt.Sprint("cause ", string(rune('a'+i%26)), string(rune('a'+i/26))), event.High)))
	}
	if len(told.Causes) != maxCauses {
		t.Errorf("%d causes are remembered, want %d", len(told.Causes), maxCauses)
	}
}

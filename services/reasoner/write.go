package reasoner

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/runbook"
)

// maxHeadline is what a phone's lock screen shows.
const maxHeadline = 120

// write puts the report into words.
func (d *draft) write() {
	r := &d.report
	d.causes()
	d.commands()
	d.alerts()
	r.Headline = d.headline()
	r.TLDR = d.tldr()
	r.Status = d.status()
	r.Links = d.links()
	for _, b := range d.inc.Blind {
		r.Unknown = append(r.Unknown, fmt.Sprintf("%s cannot be read since %s: %s", b.Source, clock(b.Since), b.Reason))
	}
	books, err := d.r.books.Find(runbook.Query{Rules: d.rules, Alerts: d.alertNames(), Tags: d.tags, Text: d.inc.Symptom})
	if err == nil {
		r.Runbooks = append(r.Runbooks, books...)
	}
	for _, a := range d.inc.Anomalies {
		if a.RunbookURL != "" && !slices.ContainsFunc(r.Runbooks, func(b event.Runbook) bool { return b.Path == a.RunbookURL }) {
			// The alert's own runbook comes first: its author knew what it is for.
			r.Runbooks = slices.Insert(r.Runbooks, 0, event.Runbook{Title: a.Alert, Path: a.RunbookURL})
			break
		}
	}
}

// causes joins what the correlator suspects with what the rules found. A
// suspect's confidence rises when a rule explains the same thing; a cause that
// nothing but weak hints speaks for is not stated.
func (d *draft) causes() {
	for _, s := range d.inc.Suspects {
		c := event.Cause{Text: s.Why, Entity: s.Entity, Confidence: s.Confidence, Score: s.Score}
		if s.Change != nil {
			c.Evidence = append(c.Evidence, d.cite(changed(*s.Change)))
		}
		for _, f := range d.report.Findings {
			if f.Cause && f.Entity == s.Entity {
				c.Evidence = append(c.Evidence, f.Evidence...)
				if s.Change == nil {
					c.Text = fmt.Sprintf("%s: %s", s.Entity, f.Title)
				}
			}
		}
		if c.Evidence == nil {
			for _, a := range d.anomaliesOf(s.Entity) {
				if a.Class != event.ClassSymptom {
					c.Evidence = append(c.Evidence, d.cite(observed(a)))
					break
				}
			}
		}
		slices.Sort(c.Evidence)
		c.Evidence = slices.Compact(c.Evidence)
		if c.Confidence == "" || len(c.Evidence) == 0 || slices.ContainsFunc(d.report.Causes, func(o event.Cause) bool { return o.Text == c.Text }) {
			continue
		}
		d.report.Causes = append(d.report.Causes, c)
	}
	if len(d.report.Causes) == 0 {
		for _, f := range d.report.Findings {
			if f.Cause && f.Confidence != event.Low {
				d.report.Causes = append(d.report.Causes, event.Cause{
					Text: fmt.Sprintf("%s: %s", f.Entity, f.Title), Entity: f.Entity, Confidence: lower(f.Confidence), Evidence: f.Evidence,
				})
				break
			}
		}
	}
}

// lower is one step less sure: a rule that holds without any trace in the
// anomalies is a hint.
func lower(c event.Confidence) event.Confidence {
	if c == event.High {
		return event.Medium
	}
	return event.Low
}

func (d *draft) commands() {
	r := &d.report
	add := func(list *[]event.Check, c event.Check, most int) {
		if len(*list) < most && !slices.ContainsFunc(*list, func(o event.Check) bool { return o.Command == c.Command }) {
			*list = append(*list, c)
		}
	}
	for _, f := range r.Findings {
		for _, c := range f.Checks {
			add(&r.Checks, c, 6)
		}
		if f.Cause {
			for _, c := range f.Rollback {
				add(&r.Rollback, c, 3)
			}
		}
	}
	for _, a := range d.inc.Anomalies {
		for _, e := range a.Evidence {
			switch e.Source {
			case "prometheus":
				add(&r.Checks, event.Check{Why: "the series behind: " + a.Summary, Command: "promtool query instant $PROMETHEUS " + rule.Quote(e.Query)}, 6)
			case "loki":
				add(&r.Checks, event.Check{Why: "the lines behind: " + a.Summary, Command: "logcli query --since=1h " + rule.Quote(e.Query)}, 6)
			}
		}
	}
	if len(r.Checks) == 0 && d.inc.Entity.Namespace != "" {
		add(&r.Checks, event.Check{Why: "latest events", Command: "kubectl -n " + rule.Quote(d.inc.Entity.Namespace) + " get events --sort-by=.lastTimestamp"}, 6)
	}
}

func (d *draft) alertNames() []string {
	var out []string
	for _, a := range d.inc.Anomalies {
		if a.Alert != "" && !slices.Contains(out, a.Alert) {
			out = append(out, a.Alert)
		}
	}
	return out
}

func (d *draft) alerts() {
	count := map[string]int{}
	for _, a := range d.inc.Anomalies {
		if a.Alert != "" {
			count[a.Alert]++
			d.report.Firing = d.report.Firing || a.Ended == nil
		}
	}
	for _, name := range d.alertNames() {
		if n := count[name]; n > 1 {
			name = fmt.Sprintf("%s x%d", name, n)
		}
		d.report.Alerts = append(d.report.Alerts, name)
	}
}

// headline is severity, cluster, entity, symptom, since, owner.
func (d *draft) headline() string {
	i := d.inc
	what := cmp.Or(i.Symptom, strings.TrimPrefix(i.Title, i.Entity.String()+": "))
	tail := fmt.Sprintf(" since %s", clock(i.Onset))
	if i.Owner.Team != "" {
		tail += " @" + i.Owner.Team
	}
	head := string(i.Priority)
	if i.Cluster != "" {
		head += " " + i.Cluster
	}
	head += " " + i.Entity.String() + ": "
	return clip(head+clip(what, maxHeadline-len([]rune(head))-len([]rune(tail)))+tail, maxHeadline)
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:max(0, n-1)]) + "…"
}

func clock(t time.Time) string { return t.UTC().Format("15:04") }

// tldr is what, why and what next, a sentence each.
func (d *draft) tldr() string {
	r, i := d.report, d.inc
	var s []string
	what := cmp.Or(i.Symptom, i.Title)
	switch {
	case i.State == event.Resolved:
		end := i.Updated
		if i.ResolvedAt != nil {
			end = *i.ResolvedAt
		}
		s = append(s, fmt.Sprintf("Resolved at %s after %s: %s.", clock(end), age(end.Sub(i.Onset)), trimDot(what)))
	default:
		s = append(s, fmt.Sprintf("%s: %s, for %s.", i.Entity, trimDot(what), age(i.Updated.Sub(i.Onset))))
	}
	if len(r.Causes) == 0 {
		s = append(s, "No cause stands out.")
	} else {
		s = append(s, fmt.Sprintf("Likely cause (%s): %s.", r.Causes[0].Confidence, trimDot(r.Causes[0].Text)))
	}
	if i.State == event.Open && len(r.Rollback) > 0 {
		s = append(s, "A roll-back is suggested below and needs a human.")
	}
	return strings.Join(s, " ")
}

func trimDot(s string) string { return strings.TrimRight(strings.TrimSpace(s), ".") }

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}

// status is for people who do not run the system: what they may notice, since
// when, that it is worked on. No guesses, no internal names but the service's.
func (d *draft) status() string {
	i := d.inc
	name := i.Entity.Name
	if i.State == event.Resolved {
		end := i.Updated
		if i.ResolvedAt != nil {
			end = *i.ResolvedAt
		}
		return fmt.Sprintf("The problem with %s that began at %s UTC is over since %s UTC. We are looking into its cause and will follow up.", name, clock(i.Onset), clock(end))
	}
	effect := "is not working as it should"
	for _, a := range i.Anomalies {
		if a.Class != event.ClassSymptom {
			continue
		}
		switch {
		case strings.Contains(a.Signal, "latency"):
			effect = "is slower than usual"
		case strings.Contains(a.Signal, "error") || a.Detector == "burn_rate":
			effect = "answers some requests with errors"
		case strings.Contains(a.Signal, "replicas"):
			effect = "is running with less capacity than it should"
		}
		break
	}
	return fmt.Sprintf("Since %s UTC %s %s. The team on call has been informed and is investigating. Next update in 30 minutes.", clock(i.Onset), name, effect)
}

// links lead to the consoles, at the time of the incident.
func (d *draft) links() []event.Link {
	l, i := d.r.cfg.Links, d.inc
	from, to := i.Onset.Add(-30*time.Minute), i.Updated.Add(5*time.Minute)
	var metric, logs string
	for _, a := range i.Anomalies {
		for _, e := range a.Evidence {
			if e.Source == "prometheus" && metric == "" {
				metric = e.Query
			}
			if e.Source == "loki" && logs == "" {
				logs = e.Query
			}
		}
	}
	if logs == "" && i.Entity.Namespace != "" {
		logs = errorLines(i.Entity)
	}
	var out []event.Link
	if l.Prometheus != "" && metric != "" {
		q := url.Values{"g0.expr": {metric}, "g0.range_input": {"1h"}, "g0.end_input": {to.UTC().Format("2006-01-02 15:04:05")}, "g0.tab": {"graph"}}
		out = append(out, event.Link{Title: "Graph", URL: strings.TrimRight(l.Prometheus, "/") + "/graph?" + q.Encode()})
	}
	if l.Grafana != "" {
		if metric != "" {
			out = append(out, event.Link{Title: "Explore metrics", URL: explore(l.Grafana, l.GrafanaPrometheus, metric, from, to)})
		}
		if logs != "" {
			out = append(out, event.Link{Title: "Logs", URL: explore(l.Grafana, l.GrafanaLoki, logs, from, to)})
		}
	}
	if l.Alertmanager != "" {
		f := url.QueryEscape(fmt.Sprintf(`{namespace=%q}`, i.Entity.Namespace))
		out = append(out, event.Link{Title: "Silence", URL: strings.TrimRight(l.Alertmanager, "/") + "/#/silences/new?filter=" + f})
	}
	return out
}

// explore is the address of a query in Grafana's Explore (schema version 1).
func explore(base, uid, expr string, from, to time.Time) string {
	pane := fmt.Sprintf(`{"a":{"datasource":%q,"queries":[{"refId":"A","expr":%q,"datasource":{"uid":%q}}],"range":{"from":"%d","to":"%d"}}}`,
		uid, expr, uid, from.UnixMilli(), to.UnixMilli())
	return strings.TrimRight(base, "/") + "/explore?" + url.Values{"schemaVersion": {"1"}, "panes": {pane}, "orgId": {"1"}}.Encode()
}

package triage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/runbook"
)

// Run reads everything about one thing and puts it together. The error is that
// the cluster could not be read at all, or that ctx is done.
func Run(ctx context.Context, s Sources, e event.Entity, alert *Alert, o Options) (*Result, error) {
	g, err := gather(ctx, s, e, o)
	if err != nil {
		return nil, err
	}
	r := &Result{
		Entity: g.root, Pod: g.pod, Alert: alert, Time: o.Now.UTC().Truncate(time.Second), Since: o.Now.Add(-o.Since).UTC().Truncate(time.Second),
		Pods: []Pod{}, Nodes: []Node{}, Around: []Neighbour{}, Neighbours: []Neighbour{}, Changes: []Change{}, Probes: []Probe{}, Events: []EventGroup{}, Metrics: []Metric{}, Similar: []Similar{},
		Runbooks: []event.Runbook{}, Findings: []event.Finding{}, Checks: []event.Check{}, Rollback: []event.Check{}, Evidence: []event.Evidence{}, NotRead: []check.Unchecked{},
	}
	a := &assembly{g: g, s: s, r: r, ids: map[string]string{}}
	return r, a.assemble(ctx)
}

// assembly makes the result of what was gathered.
type assembly struct {
	g   *gathered
	s   Sources
	r   *Result
	ids map[string]string
	// other is what the trouble around it says, when nothing is said of itself.
	other *Verdict
}

// cite adds evidence to the result once, and gives its id there.
func (a *assembly) cite(e event.Evidence) string {
	key := e.Digest + e.Query
	if id := a.ids[key]; id != "" {
		return id
	}
	id := fmt.Sprintf("E%d", len(a.r.Evidence)+1)
	e.ID, e.Values = id, nil
	a.ids[key] = id
	a.r.Evidence = append(a.r.Evidence, e)
	return id
}

func (a *assembly) line(s string) string { return a.s.Redact.Line(s) }

// notRead notes what was not read. What one reason kept from being read is told
// once.
func (a *assembly) notRead(what, why string) {
	i := slices.IndexFunc(a.r.NotRead, func(u check.Unchecked) bool {
		// With or without the name of the source before it.
		return strings.HasSuffix(u.Why, why) || strings.HasSuffix(why, u.Why)
	})
	if i < 0 {
		a.r.NotRead = append(a.r.NotRead, check.Unchecked{What: what, Why: why})
		return
	}
	if u := &a.r.NotRead[i]; u.What != what && !slices.Contains(strings.Split(u.What, "; "), what) {
		u.What += "; " + what
	}
}

func (a *assembly) assemble(ctx context.Context) error {
	g, r := a.g, a.r
	object, _ := g.c.Workload(g.root)
	var moved time.Time
	if d, ok := object.(*appsv1.Deployment); ok {
		moved = kube.Moved(d)
	}
	r.Changes = append(r.Changes, history(g.root, g.revisions, moved, a.line)...)
	lines := g.lines()
	logged, trouble := patterns(lines)

	// What is known beside the cluster's objects helps the rules to explain.
	known := check.Known{Changes: before(r.Changes, a.began()), Answers: map[string]event.Evidence{}}
	changes := a.changesEvidence()
	known.Answers["changes"] = changes
	if len(trouble) > 0 {
		known.Answers["logs"] = a.troubleEvidence(trouble)
	}
	if e, ok := g.crash(lines); ok {
		known.Answers["crash"] = e
	}
	opt := check.Options{Rules: a.s.Rules, Redact: a.s.Redact, Ask: a.s.Ask, Context: a.s.Context, Exempt: a.s.Exempt, Known: map[event.Entity]check.Known{g.root: known}}
	if al := r.Alert; al != nil && al.Firing {
		opt.Reported = []check.Problem{reported(g.root, al)}
	}
	x, err := check.Examine(ctx, g.c, opt)
	if err != nil {
		return err
	}
	from := map[string]event.Evidence{}
	for _, e := range x.Evidence {
		from[e.ID] = e
	}
	again := func(ids []string) []string {
		out := []string{}
		for _, id := range ids {
			out = append(out, a.cite(from[id]))
		}
		return out
	}
	a.status(x, again)
	pods := a.cite(g.podsEvidence(a.s.Redact))
	r.Ready, r.Wanted = g.c.Replicas(g.root)
	r.Pods, r.Restarts = g.podLines(a.line, []string{pods})
	a.around(x.Roots, again)
	if r.Status == "" {
		r.Status = a.well()
	}
	r.Nodes = append(r.Nodes, g.nodeLines(a.cite, a.s.Redact)...)
	var others []Neighbour
	others, r.More = g.neighbours(x.Roots, r.Around, again, a.othersEvidence, a.line)
	r.Neighbours = append(r.Neighbours, others...)
	for i := range r.Changes {
		r.Changes[i].Evidence = []string{a.cite(changes)}
	}
	a.events()
	a.logs(logged, trouble, len(lines))
	a.histories(ctx, r.Logs.Patterns)
	likePatterns(g.incidents, r.Logs.Patterns, g.c.Now, a.cite, a.line)
	a.metrics()
	a.doubts()
	a.verdict(changes)
	r.Similar = append(r.Similar, similar(g.incidents, g.root, g.c.Now, a.cite, a.line)...)
	a.owner(object)
	for _, u := range x.NotChecked {
		// Of the logs of each container it was said already.
		if !strings.HasPrefix(u.What, "last lines of ") {
			a.notRead(u.What, u.Why)
		}
	}
	for _, u := range slices.Concat(g.notRead, a.s.NotAsked) {
		a.notRead(u.What, u.Why)
	}
	a.next()
	return a.runbooks()
}

// began is since when pods of the workload are in trouble; zero when none is.
func (a *assembly) began() time.Time {
	var t time.Time
	for _, p := range a.g.pods {
		if _, since, bad := a.g.c.Trouble(p); bad && (t.IsZero() || since.Before(t)) {
			t = since
		}
	}
	if al := a.r.Alert; t.IsZero() && al != nil && al.Firing {
		t = al.Since
	}
	return t
}

// reported is an alert that fires as a problem of what it is about.
func reported(e event.Entity, a *Alert) check.Problem {
	p := check.Problem{Entity: e, Root: e, State: true, Urgency: event.Broken, Severity: event.Critical, Since: a.Since, Title: "alert " + cmp.Or(a.Labels["alertname"], "without a name") + " fires", Detail: a.Summary, Seen: []string{"alert " + a.Matchers}}
	if s := a.Labels["severity"]; s == "warning" || s == "info" || s == "none" || s == "ticket" {
		p.Urgency, p.Severity = event.Soon, event.Warning
	}
	return p
}

// changesEvidence is what was read of the revisions.
func (a *assembly) changesEvidence() event.Evidence {
	var lines []string
	for _, c := range a.r.Changes {
		lines = append(lines, fmt.Sprintf("%s revision %s: %s", c.Time.Format(time.RFC3339), c.Revision, c.Summary))
	}
	return evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("revisions %s %s/%s", a.g.root.Namespace, a.g.root.Kind, a.g.root.Name), End: a.g.c.Now, Entity: a.g.root}, lines, nil)
}

// maxTrouble is how many lines that look like trouble the rules read.
const maxTrouble = 30

func (a *assembly) troubleEvidence(trouble []line) event.Evidence {
	var lines []string
	for _, l := range trouble[max(0, len(trouble)-maxTrouble):] {
		lines = append(lines, strings.TrimSpace(stamp(l.at)+" "+l.text))
	}
	return evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("lines that look like trouble in the logs of %s", check.Name(a.g.root)), Start: a.r.Since, End: a.g.c.Now, Entity: a.g.root}, lines, nil)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// maxCrash is how many of a crashed container's last lines are quoted.
const maxCrash = 40

// crash are the last lines of the first container that crashed: what the cluster
// has of its run before, or else what Loki has of that time, which are the lines
// that look like trouble.
func (g *gathered) crash(lines []line) (event.Evidence, bool) {
	for i, k := range g.containers {
		e := g.logs[i]
		if !k.previous || e.Failed != "" || len(e.Excerpt) == 0 {
			continue
		}
		return evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: e.Query, End: g.c.Now, Entity: g.root}, slices.Clone(e.Excerpt[max(0, len(e.Excerpt)-maxCrash):]), nil), true
	}
	for _, p := range g.looked() {
		for _, s := range p.Status.ContainerStatuses {
			end := s.LastTerminationState.Terminated
			if end == nil || end.ExitCode == 0 || s.RestartCount == 0 {
				continue
			}
			from, until := end.StartedAt.Add(-clocksDiffer), end.FinishedAt.Add(clocksDiffer)
			var last []string
			for _, l := range lines {
				if l.pod == p.Name && l.loki && l.at.After(from) && l.at.Before(until) {
					last = append(last, strings.TrimSpace(stamp(l.at)+" "+l.text))
				}
			}
			if len(last) == 0 {
				continue
			}
			slices.Sort(last) // by their times
			return evidence.New(evidence.Query{Source: evidence.Loki, Expr: g.loki.Query, Start: from, End: until, Entity: g.root}, last[max(0, len(last)-maxCrash):], nil), true
		}
	}
	return event.Evidence{}, false
}

// clocksDiffer is by how much the clocks of nodes and of those who ship logs may.
const clocksDiffer = 5 * time.Second

func (a *assembly) runbooks() error {
	r := a.r
	if a.s.Runbooks == nil || r.Urgency == "" && r.Alert == nil {
		return nil
	}
	q := runbook.Query{Text: r.Verdict.Text + " " + r.Status}
	if r.Verdict.Rule != "" {
		q.Rules = append(q.Rules, r.Verdict.Rule)
	}
	for _, f := range r.Findings {
		if f.Urgency != event.Hygiene && f.Cause && !slices.Contains(q.Rules, f.Rule) {
			q.Rules = append(q.Rules, f.Rule)
		}
	}
	if r.Alert != nil {
		if n := r.Alert.Labels["alertname"]; n != "" {
			q.Alerts = []string{n}
		}
	}
	found, err := a.s.Runbooks.Find(q)
	r.Runbooks = append(r.Runbooks, found...)
	return err
}

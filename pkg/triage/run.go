package triage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/rule"
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
		Pods: []Pod{}, Nodes: []Node{}, Neighbours: []Neighbour{}, Changes: []Change{}, Probes: []Probe{}, Events: []EventGroup{}, Metrics: []Metric{}, Similar: []Similar{},
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

func (a *assembly) notRead(what, why string) {
	u := check.Unchecked{What: what, Why: why}
	if !slices.Contains(a.r.NotRead, u) {
		a.r.NotRead = append(a.r.NotRead, u)
	}
}

func (a *assembly) assemble(ctx context.Context) error {
	g, r := a.g, a.r
	object, _ := g.c.Workload(g.root)
	r.Changes = append(r.Changes, history(g.root, g.revisions, moved(object), a.line)...)
	lines := g.lines()
	logged, trouble := patterns(lines)

	// What is known beside the cluster's objects helps the rules to explain.
	known := check.Known{Changes: before(r.Changes, a.began()), Answers: map[string]event.Evidence{}}
	changes := a.changesEvidence()
	known.Answers["changes"] = changes
	if len(trouble) > 0 {
		known.Answers["logs"] = a.troubleEvidence(trouble)
	}
	if e, ok := g.crash(); ok {
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
	if r.Status == "" {
		r.Status = a.well()
	}
	a.verdict(changes)
	r.Nodes = append(r.Nodes, g.nodeLines(a.cite, a.s.Redact)...)
	others, more := g.neighbours(x.Roots, again, a.othersEvidence, a.line)
	r.Neighbours = append(r.Neighbours, others...)
	if more > 0 {
		a.notRead("neighbours", fmt.Sprintf("%d more are in trouble and left out here: oncall health -n %s", more, g.root.Namespace))
	}
	for i := range r.Changes {
		r.Changes[i].Evidence = []string{a.cite(changes)}
	}
	a.events()
	a.logs(logged, trouble, len(lines))
	likePatterns(g.incidents, r.Logs.Patterns, g.c.Now, a.cite, a.line)
	a.metrics()
	r.Similar = append(r.Similar, similar(g.incidents, g.root, g.c.Now, a.cite, a.line)...)
	a.owner(object)
	for _, u := range x.NotChecked {
		a.notRead(u.What, u.Why)
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

// status takes what health says of the thing.
func (a *assembly) status(x *check.Result, again func([]string) []string) {
	i := slices.IndexFunc(x.Roots, func(r check.Root) bool { return r.Entity == a.g.root })
	if i < 0 {
		return
	}
	root := x.Roots[i]
	for _, f := range root.Findings {
		if f.Urgency == event.Hygiene {
			continue // health --hygiene tells what is untidy
		}
		f.Evidence = again(f.Evidence)
		a.r.Findings = append(a.r.Findings, f)
	}
	if root.Urgency == event.Hygiene {
		return
	}
	a.r.Urgency, a.r.Began, a.r.Status = root.Urgency, root.Since, root.Line(a.g.c.Now)
}

// well is the line of a thing that nothing is wrong with.
func (a *assembly) well() string {
	r := a.r
	s := fmt.Sprintf("%d/%d ready", r.Ready, r.Wanted)
	if r.Wanted == 0 {
		s = "no pods are wanted"
	}
	if r.Restarts > 0 {
		s += ", " + evidence.Count(r.Restarts, "restart") + " in the life of its pods"
	}
	return s
}

// verdict chooses what explains the trouble best.
func (a *assembly) verdict(changes event.Evidence) {
	r := a.r
	v := &r.Verdict
	v.Evidence = []string{}
	if r.Urgency == "" && r.Ready < r.Wanted {
		v.Text = "fewer pods are ready than wanted, and none is seen in trouble: they may be starting, or may not be read"
		return
	}
	if r.Urgency == "" {
		v.Text = "nothing is wrong with it now, as far as could be read"
		if al := r.Alert; al != nil && !al.Firing {
			v.Text += "; whether the alert fires is not known"
		}
		return
	}
	var causes []event.Finding
	for _, f := range r.Findings {
		if f.Cause && f.Urgency != event.Hygiene && rankOf(f.Confidence) > 0 {
			causes = append(causes, f)
		}
	}
	slices.SortStableFunc(causes, func(a, b event.Finding) int {
		return cmp.Or(rankOf(b.Confidence)-rankOf(a.Confidence), b.Severity.Number()-a.Severity.Number())
	})
	// The rules' own finding about the change says it better.
	rollout, change := rolledOut(r.Changes, a.began(), a.g.c.Now)
	var after *Statement
	if change != nil {
		after = &Statement{Text: rollout, Confidence: event.Medium, Evidence: []string{a.cite(changes)}}
		if len(causes) == 0 || rankOf(causes[0].Confidence) < rankOf(event.Medium) {
			v.Confidence, v.Text, v.Rule, v.Evidence, after = event.Medium, after.Text, "after_rollout", after.Evidence, nil
		}
	}
	for _, f := range causes {
		if v.Text == "" {
			v.Confidence, v.Text, v.Detail, v.Rule, v.Evidence = f.Confidence, f.Title, f.Detail, f.Rule, f.Evidence
			continue
		}
		if len(v.Besides) < 3 {
			v.Besides = append(v.Besides, Statement{f.Title, f.Confidence, f.Evidence})
		}
	}
	if after != nil {
		v.Besides = append(v.Besides, *after)
	}
	if v.Text == "" {
		v.Text = "no cause stands out"
	}
}

func rankOf(c event.Confidence) int {
	return map[event.Confidence]int{event.High: 3, event.Medium: 2, event.Low: 1}[c]
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

// crash are the last lines of the first container that crashed.
func (g *gathered) crash() (event.Evidence, bool) {
	for i, k := range g.containers {
		e := g.logs[i]
		if !k.previous || e.Failed != "" || len(e.Excerpt) == 0 {
			continue
		}
		return evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: e.Query, End: g.c.Now, Entity: g.root}, slices.Clone(e.Excerpt[max(0, len(e.Excerpt)-maxCrash):]), nil), true
	}
	return event.Evidence{}, false
}

// next are the commands to look further with: those of what explains it first.
func (a *assembly) next() {
	r := a.r
	add := func(to *[]event.Check, c event.Check, most int) {
		if len(*to) < most && !slices.ContainsFunc(*to, func(o event.Check) bool { return o.Command == c.Command }) {
			*to = append(*to, c)
		}
	}
	findings := slices.Clone(r.Findings)
	slices.SortStableFunc(findings, func(x, y event.Finding) int {
		rank := func(f event.Finding) int { return 10*boolRank(f.Cause) + rankOf(f.Confidence) }
		return rank(y) - rank(x)
	})
	if r.Urgency != "" {
		for _, first := range []bool{true, false} { // one of each, before more of one
			for _, f := range findings {
				if f.Urgency == event.Hygiene || len(f.Checks) == 0 {
					continue
				}
				list := f.Checks[:1]
				if !first {
					list = f.Checks[1:]
				}
				for _, c := range list {
					add(&r.Checks, c, maxChecks)
				}
			}
		}
		revised := slices.ContainsFunc(r.Changes, func(c Change) bool { return c.Kind == event.Rollout && !c.First })
		for _, f := range findings {
			for _, c := range f.Rollback {
				if !c.Undoes() || revised { // a first revision has none before it
					add(&r.Rollback, c, 2)
				}
			}
		}
	}
	if r.Verdict.Rule == "after_rollout" && len(r.Changes) > 0 {
		add(&r.Checks, event.Check{Why: "what each revision was", Command: a.kubectl("rollout history %s %s", strings.ToLower(a.g.root.Kind), a.g.root.Name)}, maxChecks)
		if slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, a.g.root.Kind) {
			add(&r.Rollback, event.Check{Why: "return to the revision before", Command: a.kubectl("rollout undo %s %s", strings.ToLower(a.g.root.Kind), a.g.root.Name)}, 2)
		}
	}
	if len(r.Logs.Patterns) > 0 && r.Logs.Patterns[0].Trouble && !strings.HasSuffix(r.Logs.Patterns[0].Where, "(Loki)") {
		p := r.Logs.Patterns[0]
		pod, name, _ := strings.Cut(p.Where, " ")
		command := a.kubectl("logs %s -c %s --tail=100", pod, name)
		if p.Previous {
			command = a.kubectl("logs %s -c %s --previous --tail=100", pod, name)
		}
		if !slices.ContainsFunc(r.Checks, func(c event.Check) bool { return strings.Contains(c.Command, " logs "+pod) }) {
			add(&r.Checks, event.Check{Why: "the lines around the commonest error", Command: command}, maxChecks)
		}
	}
	for _, n := range r.Nodes {
		if !n.OK && len(n.Evidence) > 0 {
			add(&r.Checks, event.Check{Why: "the node: " + n.State, Command: strings.Replace(a.kubectl("describe node %s", n.Name), " -n "+rule.Quote(a.g.root.Namespace), "", 1)}, maxChecks)
		}
	}
	if len(r.Checks) == 0 {
		add(&r.Checks, event.Check{Why: "its state and events", Command: a.kubectl("describe %s %s", strings.ToLower(a.g.root.Kind), a.g.root.Name)}, maxChecks)
	}
}

// kubectl is a command in the namespace and context of the thing.
func (a *assembly) kubectl(format string, args ...any) string {
	c := "kubectl "
	if a.s.Context != "" {
		c += "--context " + rule.Quote(a.s.Context) + " "
	}
	for i := range args {
		if s, ok := args[i].(string); ok {
			args[i] = rule.Quote(s)
		}
	}
	return c + "-n " + rule.Quote(a.g.root.Namespace) + " " + fmt.Sprintf(format, args...)
}

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

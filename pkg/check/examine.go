package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// Options are what [Examine] uses beside the cluster.
type Options struct {
	Rules  *rule.Engine
	Redact evidence.Redactor
	// Ask reads the last lines of containers that crashed. Nil: they are not read.
	Ask evidence.Retriever
	// Context is the kubectl context to print in commands; "" leaves it out.
	Context string
	// Exempt are declared exceptions.
	Exempt Exemptions
	// Reported is what somebody else says is wrong, such as an alert that fires.
	Reported []Problem
	// Known is what was found out about roots beside the cluster's objects. It
	// explains those in trouble.
	Known map[event.Entity]Known
}

// Known is what the rules are told about a root beside its objects.
type Known struct {
	Changes []event.Change
	// Answers are look-ups by the names of [rule.Lookups]; "changes" is what a
	// finding about Changes cites.
	Answers map[string]event.Evidence
}

// Result is what an examination found.
type Result struct {
	Cluster    string           `json:"cluster"`
	Namespace  string           `json:"namespace,omitempty"` // the only one that was looked at
	Time       time.Time        `json:"time"`
	Version    string           `json:"version,omitempty"` // of the API server
	Pods       int              `json:"pods"`
	Nodes      int              `json:"nodes"`
	Roots      []Root           `json:"roots"` // what is wrong, worst first
	Evidence   []event.Evidence `json:"evidence"`
	NotChecked []Unchecked      `json:"not_checked"`
	Exempt     int              `json:"exempt"`           // findings that an exemption covers
	Ending     []string         `json:"ending,omitempty"` // exemptions that end within a week, or have ended
}

// Root is one thing that somebody would have to mend, with everything that was
// found about it.
type Root struct {
	Entity   event.Entity    `json:"entity"`
	Urgency  event.Urgency   `json:"urgency"`
	Severity event.Severity  `json:"severity"`
	State    string          `json:"state"`            // how it is: 0/6 ready
	Why      string          `json:"why,omitempty"`    // what explains that best, if anything does
	Effect   string          `json:"effect,omitempty"` // what it takes down
	Since    time.Time       `json:"since,omitzero"`
	Findings []event.Finding `json:"findings"` // how it is first, then why
}

// maxExplained bounds how many things in trouble the rules are asked about, and
// maxCrashes for how many a crashed container's last lines are read. A cluster
// with more has one trouble, not hundreds.
const (
	maxExplained = 200
	maxCrashes   = 8
)

// Examine runs the checks and explains what they found. It fails only when ctx
// is done.
func Examine(ctx context.Context, c *Cluster, o Options) (*Result, error) {
	return examine(ctx, c, All, o)
}

func examine(ctx context.Context, c *Cluster, checks []Info, o Options) (*Result, error) {
	problems, skipped := run(c, checks)
	out := &Result{Namespace: c.Namespace, Time: c.Now.UTC().Truncate(time.Second), Version: c.Version, Pods: len(c.Pods), Nodes: len(c.Nodes), NotChecked: skipped, Roots: []Root{}, Evidence: []event.Evidence{}}
	if out.NotChecked == nil {
		out.NotChecked = []Unchecked{}
	}
	problems, out.Exempt, out.Ending = o.Exempt.apply(problems, c.Now)
	for _, p := range o.Reported {
		problems = append(problems, c.filled(p, "reported"))
	}
	x := examiner{c: c, o: o, out: out, cited: map[string]string{}}
	roots := group(problems)
	if logs := x.evidence(ctx, roots); len(logs) > 0 {
		after := *c
		after.unreadLogs = logs
		more, _ := run(&after, logChecks)
		more, exempt, _ := o.Exempt.apply(more, c.Now)
		out.Exempt += exempt
		out.NotChecked = append(out.NotChecked, after.unread()...)
		roots = join(roots, more)
	}
	for i := range roots {
		g := &roots[i]
		for _, p := range g.problems {
			g.findings = append(g.findings, x.finding(p))
		}
		if g.answers != nil && o.Rules != nil {
			if err := x.explain(ctx, g); err != nil {
				return nil, err
			}
		}
		root := g.root()
		root.Why = o.Redact.Line(root.Why) // a part of it may come from a problem as it was found
		out.Roots = append(out.Roots, root)
	}
	slices.SortStableFunc(out.Roots, worse)
	return out, ctx.Err()
}

// worse orders what is to be looked at first.
func worse(a, b Root) int {
	rank := map[event.Urgency]int{event.Broken: 0, event.Soon: 1, event.Hygiene: 2}
	return cmp.Or(rank[a.Urgency]-rank[b.Urgency], b.Severity.Number()-a.Severity.Number(), strings.Compare(a.Entity.String(), b.Entity.String()))
}

// subject is a root while it is examined.
type subject struct {
	entity   event.Entity
	problems []Problem
	findings []event.Finding
	answers  map[string]event.Evidence // by look-up name, see rule.Lookups
}

// group brings together what was found about each root.
func group(problems []Problem) []subject { return join(nil, problems) }

// join adds to roots what was found later.
func join(out []subject, problems []Problem) []subject {
	at := map[event.Entity]int{}
	for i, g := range out {
		at[g.entity] = i
	}
	for _, p := range problems {
		i, ok := at[p.Root]
		if !ok {
			i = len(out)
			at[p.Root] = i
			out = append(out, subject{entity: p.Root})
		}
		out[i].problems = append(out[i].problems, p)
	}
	return out
}

// urgency is the most urgent of what the checks found.
func (g *subject) urgency() event.Urgency {
	u := event.Hygiene
	for _, p := range g.problems {
		if p.Urgency == event.Broken || p.Urgency == event.Soon && u == event.Hygiene {
			u = p.Urgency
		}
	}
	return u
}

// root says in one line how the thing is and why.
func (g *subject) root() Root {
	r := Root{Entity: g.entity, Urgency: g.urgency(), Findings: g.findings}
	var state *Problem
	cause, beside := "", "" // findings are in the order of how much they explain
	var effects []string
	for i, f := range g.findings {
		switch {
		case i < len(g.problems) && g.problems[i].Effect:
			effects = append(effects, f.Title)
		case f.Urgency != r.Urgency:
			continue
		case i < len(g.problems) && g.problems[i].State:
			if state == nil {
				state, r.State, r.Since = &g.problems[i], f.Title, f.Since
			}
		case f.Cause && cause == "":
			cause = f.Title
		case beside == "":
			beside = f.Title
		}
		if i < len(g.problems) && f.Severity.Number() > r.Severity.Number() {
			r.Severity = f.Severity // what a rule says of the cause is not how bad it is
		}
	}
	r.Effect = list(effects, 3)
	if state == nil {
		r.State = cmp.Or(cause, beside, r.Effect)
		if i := slices.IndexFunc(g.findings, func(f event.Finding) bool { return f.Title == r.State }); i >= 0 {
			r.Since = g.findings[i].Since
		}
		return r
	}
	r.Why = cmp.Or(cause, state.Brief, beside)
	if r.Why == "" && len(state.Detail) < 120 {
		r.Why = state.Detail
	}
	r.Why = strings.TrimPrefix(r.Why, r.State+": ")
	if strings.Contains(r.State, r.Why) {
		r.Why = ""
	}
	return r
}

// examiner makes findings with their evidence.
type examiner struct {
	c     *Cluster
	o     Options
	out   *Result
	cited map[string]string // digest → id
}

// cite adds evidence to the result once, and gives its id there.
func (x *examiner) cite(e event.Evidence) string {
	if id := x.cited[e.Digest+e.Query]; id != "" {
		return id
	}
	e.ID = fmt.Sprintf("E%d", len(x.out.Evidence)+1)
	x.cited[e.Digest+e.Query] = e.ID
	e.Values = nil // what the rules read; people read the excerpt
	x.out.Evidence = append(x.out.Evidence, e)
	return e.ID
}

func (x *examiner) finding(p Problem) event.Finding {
	seen := make([]string, len(p.Seen))
	for i, l := range p.Seen {
		seen[i] = x.o.Redact.Line(l)
	}
	q := evidence.Query{Source: evidence.Kubernetes, Expr: query("object", p.Entity), End: x.c.Now, Entity: p.Entity}
	if p.Query != "" {
		q.Source, q.Expr = p.Source, p.Query
	}
	id := x.cite(evidence.New(q, seen, nil))
	f := event.Finding{
		ID: event.FindingID(p.check, p.Entity), Rule: p.check, Entity: p.Entity, Urgency: p.Urgency, Severity: p.Severity, Confidence: p.Confidence, Cause: p.Cause,
		Title: x.o.Redact.Line(p.Title), Detail: x.o.Redact.Line(p.Detail), Evidence: []string{id}, Checks: x.commands(p.Next), Rollback: x.commands(p.Rollback),
	}
	if !p.Since.IsZero() {
		f.Since = p.Since.UTC()
	}
	return f
}

// commands are commands for the context that was asked.
func (x *examiner) commands(list []event.Check) []event.Check {
	out := slices.Clone(list)
	for i := range out {
		if x.o.Context != "" {
			out[i].Command = strings.ReplaceAll(out[i].Command, "kubectl ", "kubectl --context "+rule.Quote(x.o.Context)+" ")
		}
	}
	return out
}

func query(verb string, e event.Entity) string {
	if verb == "object" {
		if e.Namespace == "" {
			return fmt.Sprintf("object %s %s", e.Kind, e.Name)
		}
		return fmt.Sprintf("object %s %s/%s", e.Kind, e.Namespace, e.Name)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s/%s", verb, e.Namespace, e.Kind, e.Name))
}

// explained are the kinds that the rules know something about.
var explained = []string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Rollout", "Node", "PersistentVolumeClaim", "HorizontalPodAutoscaler", "ResourceQuota"}

// evidence gathers what the rules read about the roots in trouble. Only the
// last lines of crashed containers are asked for; all else was read already. It
// gives those that could not be read.
func (x *examiner) evidence(ctx context.Context, roots []subject) (unread []unreadLog) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	asked, looked := 0, 0
	for i := range roots {
		g := &roots[i]
		if g.urgency() == event.Hygiene || !slices.Contains(explained, g.entity.Kind) || looked >= maxExplained {
			continue
		}
		looked++
		g.answers = x.answers(g.entity)
		maps.Copy(g.answers, x.o.Known[g.entity].Answers)
		pod, container, node, ok := x.c.crashed(g.entity)
		if _, known := g.answers["crash"]; known {
			continue
		}
		if x.o.Ask == nil || !ok || asked >= maxCrashes {
			continue
		}
		asked++
		wg.Go(func() {
			q := evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("logs %s/%s %s previous", g.entity.Namespace, pod, container), End: x.c.Now, Limit: 20, Entity: g.entity}
			e, err := x.o.Ask.Retrieve(ctx, q)
			if err != nil {
				return // ctx is done
			}
			mu.Lock()
			defer mu.Unlock()
			g.answers["crash"] = e
			if e.Failed != "" && e.Failed != "not found" { // a pod that is gone by now
				unread = append(unread, unreadLog{g.entity.Namespace, pod, container, node, e.Failed})
			}
		})
	}
	wg.Wait()
	return unread
}

// answers are the look-ups of the rules, answered from what was read.
func (x *examiner) answers(e event.Entity) map[string]event.Evidence {
	from := evidence.Answers{Redact: x.o.Redact}
	ask := func(verb string, about event.Entity, limit int) evidence.Query {
		return evidence.Query{Source: evidence.Kubernetes, Expr: query(verb, about), End: x.c.Now, Limit: limit, Entity: e}
	}
	out := map[string]event.Evidence{}
	pods := x.c.pods[e]
	if e.Kind == "Node" {
		pods = nil
		for _, p := range x.c.Pods {
			if p.Spec.NodeName == e.Name {
				pods = append(pods, p)
			}
		}
	}
	if len(pods) > 0 {
		items := make([]Object, 0, len(pods))
		for _, p := range pods {
			items = append(items, x.c.decoded("Pod", x.c.current(p)))
		}
		out["pods"] = from.Pods(ask("pods", e, 260), items, false)
	}
	if events := x.c.about(e, pods); len(events) > 0 {
		out["events"] = from.Events(ask("events", e, 50), events, false)
	}
	if o := x.c.object(e); o != nil {
		out["object"] = from.Object(ask("object", e, 1), x.c.decoded(e.Kind, o))
	}
	for _, h := range x.c.HPAs {
		if r := h.Spec.ScaleTargetRef; h.Namespace == e.Namespace && r.Kind == e.Kind && r.Name == e.Name {
			out["hpa"] = from.Object(ask("object", entity("HorizontalPodAutoscaler", h), 1), x.c.decoded("HorizontalPodAutoscaler", h))
		}
	}
	if n := x.c.shared(pods); n != nil && e.Kind != "Node" {
		out["node"] = from.Object(ask("object", entity("Node", n), 1), x.c.decoded("Node", n))
	}
	return out
}

// explain adds what the rules say about a root. None can make it more urgent
// than the checks found it.
func (x *examiner) explain(ctx context.Context, g *subject) error {
	matches, err := x.o.Rules.Eval(ctx, rule.Input{Entity: g.entity, Changes: x.o.Known[g.entity].Changes, Evidence: g.answers, Context: x.o.Context})
	if err != nil {
		return err
	}
	urgency := g.urgency()
	slices.SortStableFunc(matches, func(a, b rule.Match) int {
		return cmp.Or(certainty(b.Finding)-certainty(a.Finding), b.Finding.Severity.Number()-a.Finding.Severity.Number())
	})
	for _, m := range matches {
		f := m.Finding
		if Restates(f.Rule) {
			continue
		}
		cited := m.Evidence
		if len(cited) == 0 {
			cited = []string{"changes"} // all else that a rule can speak of is a look-up
		}
		for _, name := range cited {
			if e, ok := g.answers[name]; ok && e.Failed == "" {
				f.Evidence = append(f.Evidence, x.cite(e))
			}
		}
		if len(f.Evidence) == 0 {
			continue // a rule about anomalies, which there are none of
		}
		f.Checks = slices.DeleteFunc(slices.Clone(f.Checks), func(k event.Check) bool { return x.c.noMetrics() && topped.MatchString(k.Command) })
		if f.Urgency == event.Broken && urgency == event.Soon || urgency == event.Hygiene {
			f.Urgency = urgency
		}
		if f.Since.IsZero() && len(g.findings) > 0 {
			f.Since = g.findings[0].Since
		}
		g.findings = append(g.findings, f)
	}
	return nil
}

// topped are commands that ask for what pods use now.
var topped = regexp.MustCompile(`^kubectl .*\btop (pods|nodes)\b`)

// noMetrics says whether nobody answers kubectl top.
func (c *Cluster) noMetrics() bool {
	return c.Read("apiservices") && !slices.ContainsFunc(c.APIServices, func(o Object) bool { return text(o, "spec", "group") == "metrics.k8s.io" })
}

// restated are rules that say of an incident what a check has said already.
var restated = []string{"below_desired", "daemon_below_desired", "rollout_stuck", "node_not_ready", "node_pressure", "node_network", "node_flapped", "job_failed", "cronjob_missed", "hpa_at_max", "pvc_pending", "pvc_lost", "quota_near"}

// Restates says whether a rule says of an incident what a check says of an
// object: how it is, and not why.
func Restates(rule string) bool { return slices.Contains(restated, rule) }

// general are rules that say in general what these checks and rules say by name.
var general = map[string][]string{
	"config_missing": {"references"}, "service_account_missing": {"references", "pod_creation"}, "unschedulable_volume": {"references", "claims"},
	"unschedulable_affinity": {"pods"}, "crash_loop_clean_exit": {"liveness_failing"}, "killed_from_outside": {"liveness_failing"},
}

// General says whether a rule says only in general what another rule or a check
// says by name.
func General(rule, of string) bool { return slices.Contains(general[rule], of) }

// certainty ranks what explains before what accompanies.
func certainty(f event.Finding) int {
	n := map[event.Confidence]int{event.High: 2, event.Medium: 1}[f.Confidence]
	if f.Cause {
		n += 10
	}
	return n
}

// Line says how the thing is, for how long, and why: 0/6 ready 9m: OOMKilled.
func (r Root) Line(now time.Time) string {
	s := r.State
	if !r.Since.IsZero() {
		// The age stands behind how it is, and not behind the words of a controller.
		head, words, said := strings.Cut(s, ": ")
		s = head + " " + span(now.Sub(r.Since))
		if said {
			s += ": " + words
		}
	}
	if r.Why != "" {
		s += ": " + r.Why
	}
	if r.Effect != "" && r.Effect != r.State {
		s += "; " + r.Effect
	}
	return s
}

// Next is the first thing to check: what the likeliest cause says, else what
// the state says.
func (r Root) Next() (event.Check, bool) {
	for _, causes := range []bool{true, false} {
		for _, f := range r.Findings {
			if f.Cause == causes && len(f.Checks) > 0 {
				return f.Checks[0], true
			}
		}
	}
	return event.Check{}, false
}

package cost

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// The rules, as findings name them.
const (
	ruleCrash          = "cost_crash"
	ruleIdle           = "cost_idle"
	ruleOverRequested  = "cost_over_requested"
	ruleUnderRequested = "cost_under_requested"
	ruleOOM            = "cost_oom_killed"
	ruleThrottled      = "cost_throttled"
	ruleNoRequests     = "cost_no_requests"
	ruleNoLimits       = "cost_no_limits"
	ruleSkewed         = "cost_skewed_limits"
	ruleClaim          = "cost_unused_claim"
	ruleVolume         = "cost_released_volume"
	ruleBalancer       = "cost_balancer_without_backends"
	ruleUnschedulable  = "cost_unschedulable"
	ruleTooLarge       = "cost_too_large"
	ruleSpread         = "cost_spread"
	ruleInit           = "cost_init_container"
)

// noted is what is found about one thing.
type noted struct {
	rule     string
	entity   event.Entity
	urgency  event.Urgency
	title    string
	detail   string
	since    time.Time
	seen     []string // what was read of the API
	evidence []event.Evidence
	next     []event.Check
}

// finding makes a finding of what was noted.
func (x *examiner) finding(n noted) event.Finding {
	severity := map[event.Urgency]event.Severity{event.Broken: event.Critical, event.Soon: event.Warning, event.Hygiene: event.Info}[n.urgency]
	f := event.Finding{
		ID: event.FindingID(n.rule, n.entity), Rule: n.rule, Entity: n.entity, Urgency: n.urgency, Severity: severity, Confidence: event.High, Since: n.since,
		Title: x.o.Redact.Line(n.title), Detail: x.o.Redact.Line(n.detail), Checks: x.commands(n.next),
	}
	lines := make([]string, len(n.seen))
	for i, l := range n.seen {
		lines[i] = x.o.Redact.Line(l)
	}
	q := evidence.Query{Source: evidence.Kubernetes, Expr: strings.TrimSpace(fmt.Sprintf("object %s %s", n.entity.Kind, n.entity.Namespace+"/"+n.entity.Name)), End: x.c.Now, Entity: n.entity}
	f.Evidence = append(f.Evidence, x.cite(evidence.New(q, lines, nil)))
	for _, e := range n.evidence {
		f.Evidence = append(f.Evidence, x.cite(e))
	}
	return f
}

// cite adds evidence to the report once, and gives its id there.
func (x *examiner) cite(e event.Evidence) string {
	key := e.Digest + e.Query
	if id := x.cited[key]; id != "" {
		return id
	}
	e.ID = fmt.Sprintf("E%d", len(x.out.Evidence)+1)
	x.cited[key] = e.ID
	x.out.Evidence = append(x.out.Evidence, e)
	return e.ID
}

func (x *examiner) commands(list []event.Check) []event.Check {
	for i := range list {
		if x.o.Context != "" {
			list[i].Command = strings.ReplaceAll(list[i].Command, "kubectl ", "kubectl --context "+rule.Quote(x.o.Context)+" ")
		}
	}
	return list
}

// add puts a finding on the line of its thing.
func (x *examiner) add(to map[event.Entity]*Item, team string, n noted) *Item {
	i := to[n.entity]
	f := x.finding(n)
	if i == nil {
		i = &Item{Entity: n.entity, Team: team, Title: f.Title}
		to[n.entity] = i
	}
	i.Findings = append(i.Findings, f)
	return i
}

func kubectl(namespace, format string, args ...any) string {
	return "kubectl -n " + namespace + " " + fmt.Sprintf(format, args...)
}

// restless are the waiting reasons of containers that hold what they request and
// do nothing with it.
var restless = []string{"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}

// stuck is why a pod holds its requests for nothing, and since when.
func stuck(p *corev1.Pod, now time.Time) (why string, since time.Time) {
	for _, st := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		w := st.State.Waiting
		if w == nil || !slices.Contains(restless, w.Reason) {
			continue
		}
		since = p.CreationTimestamp.Time
		for _, k := range p.Status.Conditions {
			if k.Type == corev1.PodReady && k.Status != corev1.ConditionTrue && !k.LastTransitionTime.IsZero() {
				since = k.LastTransitionTime.Time
			}
		}
		if now.Sub(since) > 10*time.Minute {
			return w.Reason, since
		}
	}
	return "", since
}

// idleCores is the highest use over minutes of a pod that does nothing: what a
// runtime's own timers take.
const idleCores = 0.003

// workload tells of one workload.
func (x *examiner) workload(w *workload) {
	e := w.entity
	seen := w.lines()
	whole := Amount{} // what it wastes whatever its requests are
	if held, why, since, n := x.crashing(w); n > 0 {
		whole = held
		i := x.add(x.waste, w.team, noted{
			rule: ruleCrash, entity: e, urgency: event.Hygiene, since: since, seen: seen, title: fmt.Sprintf("%d of %s in %s since %s, holding what they request", n, evidence.Count(len(w.pods), "pod"), why, check.Age(x.c.Now.Sub(since))),
			next: []event.Check{{Why: "why it does not run", Command: "oncall triage --workload " + rule.Quote(e.Namespace+"/"+e.Name)}},
		})
		i.Risk = Risk{"low", "nothing runs in them"}
	}
	if idle, ok := w.idle(x.o.Usage); ok && !w.system() {
		i := x.add(x.waste, w.team, noted{
			rule: ruleIdle, entity: e, urgency: event.Hygiene, seen: seen, evidence: x.measured(w), title: fmt.Sprintf("idle: at most %s cores in a pod in %s", cores(idle), Span(x.o.Usage.History)),
			next: []event.Check{{Why: "does anything call it?", Command: kubectl(e.Namespace, "get endpointslices,ingress")}},
		})
		i.Risk = Risk{"medium", "it may be needed, though it does nothing; ask its owner"}
		whole = w.held
	}
	var all judged
	for _, k := range w.containers {
		j := x.judge(w, k)
		if k.shared {
			j.lacks, j.over = nil, Amount{}
		}
		all.advice, all.left, all.lacks, all.over = append(all.advice, j.advice...), append(all.left, j.left...), append(all.lacks, j.lacks...), all.over.Plus(j.over)
	}
	x.lifelong(w, seen, &all)
	x.rightSize(w, all, whole, seen)
	x.usages(w)
	if i := x.waste[e]; i != nil && x.weight(whole) > x.weight(i.Amount) {
		i.Amount = whole
	}
	x.declared(w, seen)
	for _, l := range all.left {
		x.out.LeftAlone = append(x.out.LeftAlone, Left{e, l})
	}
}

// system says whether a workload is the cluster's own: what idles there does so on
// purpose.
func (w *workload) system() bool {
	return slices.Contains([]string{"kube-system", "kube-public", "kube-node-lease"}, w.entity.Namespace)
}

// rightSize tells of requests that are above or below what was used.
func (x *examiner) rightSize(w *workload, all judged, whole Amount, seen []string) {
	e := w.entity
	counted := x.weight(whole) < x.weight(all.over)
	var frees, takes Amount
	var down, up []Advice
	for _, a := range all.advice {
		if a.lowers() {
			down, frees = append(down, a), frees.Plus(a.Saves)
		} else {
			up, takes = append(up, a), takes.Plus(a.Saves.times(-1))
		}
	}
	if x.weight(all.over) > 0 && e.Kind != "Job" { // what it does, it does once
		x.out.Unused = sum(x.out.Unused, all.over)
		title, risk := "requests "+held2(w.held)+", "+held2(all.over)+" of it above the highest use", x.risk(w)
		if len(down) == 0 {
			risk = Risk{Unknown, why(all.left)}
		}
		i := x.add(x.waste, w.team, noted{rule: ruleOverRequested, entity: e, urgency: event.Hygiene, seen: seen, evidence: x.measured(w), title: title, next: []event.Check{{Why: "what its pods use now", Command: kubectl(e.Namespace, "top pods --containers")}}})
		switch {
		case counted && len(i.Findings) > 1 && whole.Cores+whole.GiB == 0:
			i.Amount = i.Amount.Plus(all.over)
		case counted || len(i.Findings) == 1:
			i.Amount, i.Risk = all.over, risk
		}
		i.Advice, i.Left = append(i.Advice, down...), all.left
	}
	for _, l := range all.lacks {
		i := x.add(x.short, w.team, noted{rule: l.rule, entity: e, urgency: event.Soon, seen: seen, evidence: x.measured(w), title: l.title, next: []event.Check{{Why: "how its containers end and what they use", Command: "oncall triage --workload " + rule.Quote(e.Namespace+"/"+e.Name)}}})
		i.Amount, i.Advice, i.Left = takes, up, all.left
		i.Risk = Risk{"high", map[string]string{
			ruleOOM: "it is killed again at the same use", ruleThrottled: "it waits for CPU while there is some", ruleUnderRequested: "nodes are filled by its requests, and it is the first to go or to wait when they are full",
		}[l.rule]}
	}
	if len(all.lacks) == 0 && len(up) > 0 {
		// No request at all: told with what is declared.
		i := x.add(x.short, w.team, x.noRequests(w, seen))
		i.Amount, i.Advice, i.Left = takes, up, all.left
		i.Risk = Risk{"medium", "the scheduler takes it to need nothing"}
	}
	if len(down)+len(up) > 0 {
		x.out.Changes.Workloads++
		x.out.Changes.Frees, x.out.Changes.Takes = x.out.Changes.Frees.Plus(frees), x.out.Changes.Takes.Plus(takes)
	}
}

func sum(a *Amount, b Amount) *Amount {
	if a != nil {
		b = a.Plus(b)
	}
	return &b
}

// risk is that of lower requests.
func (x *examiner) risk(w *workload) Risk {
	least := time.Duration(0)
	for _, k := range w.containers {
		if k.use != nil && !k.init && (least == 0 || k.use.History < least) {
			least = k.use.History
		}
	}
	switch {
	case w.entity.Kind == "CronJob":
		return Risk{"medium", "it runs at times, and a larger run than those seen may come"}
	case least < 14*Day:
		return Risk{"medium", "from " + Span(least) + " of history; what happens once a month is not in it"}
	}
	return Risk{"low", "the highest use of " + Span(least) + " fits"}
}

// why names the first reasons for which something is left alone.
func why(left []LeftAlone) string {
	var out []string
	for _, l := range left {
		if !slices.Contains(out, l.Why) {
			out = append(out, l.Why)
		}
	}
	if len(out) > 2 {
		out = append(out[:2], "and more")
	}
	return strings.Join(out, "; ")
}

func held2(a Amount) string {
	var out []string
	if a.Cores > 0.0005 {
		out = append(out, cores(a.Cores)+" cores")
	}
	if a.GiB > 0.0005 {
		out = append(out, size(a.GiB*gib))
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, " and ")
}

// crashing is what pods hold that cannot run.
func (x *examiner) crashing(w *workload) (held Amount, why string, since time.Time, n int) {
	for _, p := range w.pods {
		reason, at := stuck(p, x.c.Now)
		if reason == "" {
			continue
		}
		if n++; since.IsZero() || at.Before(since) {
			since, why = at, reason
		}
	}
	return w.held.times(float64(n) / float64(max(1, len(w.pods)))), why, since, n
}

// idle is the highest CPU use of a workload that does nothing.
func (w *workload) idle(u *Usage) (highest float64, ok bool) {
	if u == nil || len(w.pods) == 0 || !slices.Contains([]string{"Deployment", "StatefulSet", "ReplicaSet", "Rollout", "Pod"}, w.entity.Kind) {
		return 0, false
	}
	for _, k := range w.containers {
		if k.init && k.use == nil {
			continue
		}
		if k.use == nil || k.shared || k.use.History < MinHistory || !(k.use.MaxCPU <= idleCores) {
			return 0, false
		}
		highest = max(highest, k.use.MaxCPU)
	}
	return highest, w.held.Cores+w.held.GiB > 0
}

// lines say what the containers of a workload request, for evidence.
func (w *workload) lines() []string {
	out := []string{fmt.Sprintf("%d pods hold %s cores and %s", len(w.pods), cores(w.held.Cores), size(w.held.GiB*gib))}
	for _, k := range w.containers {
		out = append(out, fmt.Sprintf("container %s: requests %s, limits %s", k.name, listed(k.resources.Requests), listed(k.resources.Limits)))
	}
	return out
}

func listed(l corev1.ResourceList) string {
	var out []string
	for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, ok := l[r]; ok {
			out = append(out, string(r)+"="+q.String())
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, " ")
}

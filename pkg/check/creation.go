package check

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// retried is how long the last refusal counts: controllers that were refused
// try again at least every sixteen minutes.
const retried = 20 * time.Minute

// refused is the newest event that says that a pod of a workload could not be
// created, and since when none can be; none when a pod was created since.
func (c *Cluster) refused(root event.Entity) (ev event.KubeEvent, since time.Time, ok bool) {
	take := func(e event.Entity) {
		for _, w := range c.warned(e, retried, "FailedCreate") {
			if first := w.FirstTimestamp; since.IsZero() || !first.IsZero() && first.Before(since) {
				since = first
			}
			if !ok || w.Time().After(ev.Time()) {
				ev, ok = w, true
			}
		}
	}
	take(root)
	for r, up := range c.controller {
		if up.Entity() == root {
			take(r.Entity())
		}
	}
	for _, p := range c.pods[root] {
		if ok && p.CreationTimestamp.After(ev.Time()) {
			return event.KubeEvent{}, time.Time{}, false
		}
	}
	if since.IsZero() {
		since = ev.Time()
	}
	return ev, since, ok
}

// refusal is a reason for which the API server refuses a pod, as the controller
// that wanted it quotes it. What goes into a command is the name of an object, and
// nothing else that an event says.
type refusal struct {
	says  *regexp.Regexp
	title string // with the groups of says
	next  func(namespace string, groups []string) event.Check
}

var refusals = []refusal{
	{
		regexp.MustCompile(`exceeded quota: ([a-z0-9][-.a-z0-9]*), requested: (.+?), used: (.+?), limited: (.+)$`), "quota $1 refuses more: $4 allowed, $3 used, $2 asked for",
		func(ns string, g []string) event.Check {
			return event.Check{Why: "what uses the quota", Command: kubectl(ns, "describe resourcequota %s", g[1])}
		},
	},
	{
		regexp.MustCompile(`failed quota: ([a-z0-9][-.a-z0-9]*): (must specify .+)$`), "quota $1 refuses its pods: they $2",
		func(ns string, g []string) event.Check {
			return event.Check{Why: "what the quota demands", Command: kubectl(ns, "describe resourcequota %s", g[1])}
		},
	},
	{
		regexp.MustCompile(`serviceaccount "([^"]+)" not found`), "ServiceAccount $1 does not exist, so no pod can be created",
		func(ns string, _ []string) event.Check {
			return event.Check{Why: "the ServiceAccounts there are", Command: kubectl(ns, "get serviceaccounts")}
		},
	},
	{
		regexp.MustCompile(`violates PodSecurity "([^":]+)[^"]*": (.+)$`), "Pod Security level $1 refuses its pods: $2",
		func(ns string, _ []string) event.Check {
			return event.Check{Why: "the level that the namespace enforces", Command: "kubectl get namespace " + ns + " --show-labels"}
		},
	},
	{
		regexp.MustCompile(`no PriorityClass with name (\S+) was found`), "PriorityClass $1 does not exist, so no pod can be created",
		func(string, []string) event.Check {
			return event.Check{Why: "the PriorityClasses there are", Command: "kubectl get priorityclasses"}
		},
	},
	{
		regexp.MustCompile(`RuntimeClass "([^"]+)" not found`), "RuntimeClass $1 does not exist, so no pod can be created",
		func(string, []string) event.Check {
			return event.Check{Why: "the RuntimeClasses there are", Command: "kubectl get runtimeclasses"}
		},
	},
	{
		regexp.MustCompile(`failed calling webhook "([^"]+)": (.+)$`), "webhook $1 does not answer, so no pod can be created: $2",
		func(string, []string) event.Check {
			return event.Check{Why: "the webhook's service and failure policy", Command: "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"}
		},
	},
	{
		regexp.MustCompile(`admission webhook "([^"]+)" denied the request: ?(.*)$`), "webhook $1 refuses its pods: $2",
		func(string, []string) event.Check {
			return event.Check{Why: "the webhook and what it covers", Command: "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"}
		},
	},
	{
		regexp.MustCompile(`ValidatingAdmissionPolicy '([a-z0-9][-.a-z0-9]*)' [^:]*denied request: ?(.*)$`), "admission policy $1 refuses its pods: $2",
		func(_ string, g []string) event.Check {
			return event.Check{Why: "what the policy demands", Command: "kubectl describe validatingadmissionpolicy " + g[1]}
		},
	},
	{
		regexp.MustCompile(`forbidden: \[?((?:maximum|minimum) (?:cpu|memory|[\w./-]+) .+?)\]?$`), "limit range refuses its pods: $1",
		func(ns string, _ []string) event.Check {
			return event.Check{Why: "what the namespace demands", Command: kubectl(ns, "describe limitranges")}
		},
	},
}

// readRefusal says in a line why a pod was refused, and what to check next.
func readRefusal(e event.Entity, message string) (title string, next event.Check) {
	message = strings.Join(strings.Fields(message), " ")
	for _, r := range refusals {
		if m := r.says.FindStringSubmatchIndex(message); m != nil {
			title = string(r.says.ExpandString(nil, r.title, message, m))
			return oneLine(strings.TrimRight(title, ": "), 180), r.next(e.Namespace, r.says.FindStringSubmatch(message))
		}
	}
	return "pods cannot be created: " + oneLine(message, 160), describe(e, "its conditions and events")
}

// creation tells of workloads whose pods the API server refuses. Their state
// says how many they lack.
func creation(c *Cluster, found func(Problem)) {
	tell := func(e event.Entity, since time.Time, ready, want int, line, message string) {
		if want == 0 {
			return
		}
		title, next := readRefusal(e, message)
		p := Problem{
			Entity: e, Root: e, Urgency: event.Broken, Cause: true, Severity: below(ready, want), Since: since, Title: title, Detail: message,
			Seen: []string{line}, Next: []event.Check{next, describe(e, "its conditions and events")},
		}
		state := p
		state.State, state.Cause, state.Detail, state.Title, state.Next = true, false, "", fmt.Sprintf("%d/%d ready", ready, want), p.Next[1:]
		switch e.Kind {
		case "ReplicaSet", "Job":
			state.Title = "pods cannot be created"
		}
		if ready >= want {
			// What runs is enough; what should replace it cannot come.
			p.Urgency, state.Urgency, state.Title = event.Soon, event.Soon, "the next pod cannot be created"
		}
		found(state)
		found(p)
	}
	told := map[event.Entity]bool{}
	for _, d := range c.Deployments {
		e := entity("Deployment", d)
		f, ok := condition(d.Status.Conditions, "ReplicaFailure")
		if !ok {
			continue
		}
		told[e] = true
		if c.age(f.LastTransitionTime) < starting/4 {
			continue
		}
		tell(e, f.LastTransitionTime.Time, int(d.Status.ReadyReplicas), wanted(d.Spec.Replicas), fmt.Sprintf("condition ReplicaFailure=True %s: %s", f.Reason, f.Message), f.Message)
	}
	events := func(e event.Entity, ready, want int) {
		ev, since, ok := c.refused(e)
		if !ok || told[e] {
			return
		}
		if c.Now.Sub(since) < starting/4 {
			return
		}
		told[e] = true
		tell(e, since, ready, want, fmt.Sprintf("event %s x%d: %s", ev.Reason, ev.Occurrences(), ev.Message), ev.Message)
	}
	for _, s := range c.StatefulSets {
		if int(s.Status.Replicas) < wanted(s.Spec.Replicas) {
			events(entity("StatefulSet", s), int(s.Status.ReadyReplicas), wanted(s.Spec.Replicas))
		}
	}
	for _, d := range c.DaemonSets {
		if d.Status.CurrentNumberScheduled < d.Status.DesiredNumberScheduled {
			events(entity("DaemonSet", d), int(d.Status.NumberReady), int(d.Status.DesiredNumberScheduled))
		}
	}
	for _, r := range c.ReplicaSets {
		e := entity("ReplicaSet", r)
		if _, owned := c.controller[kube.Ref{Namespace: e.Namespace, Kind: e.Kind, Name: e.Name}]; !owned {
			ready, _ := c.replicas(e, c.pods[e])
			events(e, ready, ready+1)
		}
	}
	for _, j := range c.Jobs {
		e := entity("Job", j)
		if _, _, _, _, done := ended(j); done || j.Status.Active > 0 || c.rootOf(e) != e {
			continue
		}
		events(e, 0, 1)
	}
	for _, k := range c.CronJobs {
		e := entity("CronJob", k)
		if len(k.Status.Active) > 0 {
			events(e, 0, 1)
		}
	}
}

// lacking tells of Deployments, StatefulSets and DaemonSets that have fewer pods
// than they should, though nothing refuses them: their controller does nothing.
func lacking(c *Cluster, found func(Problem)) {
	tell := func(e event.Entity, since time.Time, ready, have, want int) {
		if have >= want {
			return
		}
		if _, _, ok := c.refused(e); ok {
			return
		}
		for _, p := range c.pods[e] {
			if p.DeletionTimestamp != nil || c.deadNodes[p.Spec.NodeName] || c.age(p.CreationTimestamp) < stalled {
				return // one goes and another comes
			}
		}
		found(Problem{
			Entity: e, State: true, Urgency: event.Broken, Severity: below(ready, want), Confidence: event.Medium, Since: since, Title: fmt.Sprintf("%d/%d ready", ready, want),
			Brief: fmt.Sprintf("%s of %d exist, and no event says why", evidence.Count(have, "pod"), want),
			Seen:  []string{fmt.Sprintf("status.replicas=%d readyReplicas=%d, wanted %d", have, ready, want)},
			Next:  []event.Check{describe(e, "its conditions and events"), {Why: "is the controller manager well?", Command: "kubectl -n kube-system get pods -l component=kube-controller-manager"}},
		})
	}
	for _, d := range c.Deployments {
		progress, _ := condition(d.Status.Conditions, "Progressing")
		if _, failed := condition(d.Status.Conditions, "ReplicaFailure"); failed || c.age(d.CreationTimestamp) < stalled || !progress.LastUpdateTime.IsZero() && c.age(progress.LastUpdateTime) < stalled || d.Status.ObservedGeneration < d.Generation {
			continue
		}
		tell(entity("Deployment", d), progress.LastUpdateTime.Time, int(d.Status.ReadyReplicas), int(d.Status.Replicas), wanted(d.Spec.Replicas))
	}
	for _, s := range c.StatefulSets {
		e := entity("StatefulSet", s)
		if c.age(s.CreationTimestamp) < stalled || s.Status.ObservedGeneration < s.Generation || s.Spec.PodManagementPolicy != "Parallel" && s.Status.ReadyReplicas < s.Status.Replicas {
			continue // it waits for the pod before, which is told
		}
		tell(e, time.Time{}, int(s.Status.ReadyReplicas), int(s.Status.Replicas), wanted(s.Spec.Replicas))
	}
	for _, d := range c.DaemonSets {
		if c.age(d.CreationTimestamp) < stalled || d.Status.ObservedGeneration < d.Generation {
			continue
		}
		tell(entity("DaemonSet", d), time.Time{}, int(d.Status.NumberReady), int(d.Status.CurrentNumberScheduled), int(d.Status.DesiredNumberScheduled))
	}
}

// standing is how long an update may make no pod before it stands still.
const standing = 10 * time.Minute

// updates tells of StatefulSets and DaemonSets of which some pods are still of
// the revision before, and no pod is being replaced.
func updates(c *Cluster, found func(Problem)) {
	tell := func(e event.Entity, updated, want, minReady int) {
		if updated >= want {
			return
		}
		newest := standing + 2*time.Duration(minReady)*time.Second
		for _, p := range c.pods[e] {
			if p.DeletionTimestamp != nil || c.age(p.CreationTimestamp) < newest {
				return
			}
		}
		found(Problem{
			Entity: e, State: true, Urgency: event.Soon, Title: fmt.Sprintf("update stands still: %d of %d updated", updated, want), Confidence: event.Medium,
			Seen: []string{fmt.Sprintf("%d of %d pods are of the newest revision; none is being replaced, and the youngest is older than %s", updated, want, span(newest))},
			Next: []event.Check{{Why: "how far it is", Command: kubectl(e.Namespace, "rollout status %s %s --watch=false", strings.ToLower(e.Kind), e.Name)}, describe(e, "its events")},
		})
	}
	for _, s := range c.StatefulSets {
		u := s.Spec.UpdateStrategy
		if u.Type == "OnDelete" || s.Status.CurrentRevision == s.Status.UpdateRevision || s.Status.ObservedGeneration < s.Generation {
			continue
		}
		want := wanted(s.Spec.Replicas)
		if r := u.RollingUpdate; r != nil && r.Partition != nil {
			want -= int(*r.Partition)
		}
		tell(entity("StatefulSet", s), int(s.Status.UpdatedReplicas), want, int(s.Spec.MinReadySeconds))
	}
	for _, d := range c.DaemonSets {
		if d.Spec.UpdateStrategy.Type == "OnDelete" || d.Status.ObservedGeneration < d.Generation || d.Status.CurrentNumberScheduled < d.Status.DesiredNumberScheduled {
			continue
		}
		tell(entity("DaemonSet", d), int(d.Status.UpdatedNumberScheduled), int(d.Status.DesiredNumberScheduled), int(d.Spec.MinReadySeconds))
	}
}

// endings are kubelet's and controllers' warnings that a pod did not end as it
// should, with what they mean.
var endings = []struct{ reason, means string }{
	{"FailedPreStopHook", "PreStop hook fails: pods end without having been drained"},
	{"ExceededGracePeriod", "containers do not stop within their grace period, and are killed"},
	{"FailedKillPod", "a pod cannot be killed"},
	{"FailedDaemonPod", "pods fail and are replaced again and again"},
}

// lastWarnings tells of warnings that no state shows: what they are about is
// gone, or well again.
func lastWarnings(c *Cluster, found func(Problem)) {
	type seen struct {
		root event.Entity
		what int
	}
	last := map[seen]event.KubeEvent{}
	count := map[seen]int{}
	var order []seen
	for _, ev := range c.Events {
		if c.Now.Sub(ev.Time()) > recently {
			continue
		}
		for i, k := range endings {
			if k.reason != ev.Reason {
				continue
			}
			s := seen{c.ownerOf(ev.Entity()), i}
			if count[s] == 0 {
				order = append(order, s)
			}
			count[s] += max(1, ev.Occurrences())
			last[s] = ev
		}
	}
	for _, s := range order {
		ev, k := last[s], endings[s.what]
		found(Problem{
			Entity: s.root, Root: s.root, Urgency: event.Soon, Since: ev.Time(), Title: k.means, Detail: ev.Message, Cause: true, Confidence: event.Medium,
			Seen: []string{fmt.Sprintf("event %s of %s x%d in the last hour: %s", ev.Reason, Name(ev.Entity()), count[s], oneLine(ev.Message, 300))},
			Next: []event.Check{{Why: "when, and how often", Command: kubectl(s.root.Namespace, "get events --field-selector reason=%s", k.reason)}},
		})
	}
}

// ownerOf is the root of an object that may be gone. A pod that is has its
// owner's name before its own suffix.
func (c *Cluster) ownerOf(e event.Entity) event.Entity {
	root := c.rootOf(e)
	if e.Kind != "Pod" || root != e {
		return root
	}
	i := strings.LastIndexByte(e.Name, '-')
	if i < 0 {
		return e
	}
	for _, kind := range []string{"ReplicaSet", "StatefulSet", "DaemonSet", "Job"} {
		up := event.Entity{Namespace: e.Namespace, Kind: kind, Name: e.Name[:i]}
		if above := c.rootOf(up); above != up {
			return above
		}
		if c.object(up) != nil {
			return up
		}
	}
	return e
}

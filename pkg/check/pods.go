package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// Guards against what is on its way: a pod that starts, a rollout that moves, a
// node that restarts. They are shorter than the kubernetes-mixin's fifteen
// minutes, since somebody who asks now wants to know now.
const (
	starting    = time.Minute      // for a pod to be scheduled, created and ready
	terminating = 5 * time.Minute  // beyond the grace period
	recently    = time.Hour        // for restarts, evictions and warnings to count
	gated       = 10 * time.Minute // for a scheduling gate to open
	fetching    = 10 * time.Minute // for a large image, or an init container that goes on
	preparing   = 3 * time.Minute  // of that, until somebody who asks wants to know
)

// stuck are reasons for which a container waits that do not end by themselves
// at the first or second try, or that only an edit ends.
var stuck = []string{
	"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable",
	"SignatureValidationFailed", "CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError",
}

// trouble is what is wrong with one pod.
type trouble struct {
	pod   *corev1.Pod
	what  string // one or two words: CrashLoopBackOff, not ready, Pending
	since time.Time
	soon  bool // it serves, and something is wrong with it
}

// troubleOf says what is wrong with a pod, if anything is. A pod on a node that
// is not ready is the node's trouble, and one that is replaced is nobody's.
func (c *Cluster) troubleOf(p *corev1.Pod) (trouble, bool) {
	t := trouble{pod: p, since: p.CreationTimestamp.Time}
	if c.deadNodes[p.Spec.NodeName] {
		return t, false
	}
	if at := p.DeletionTimestamp; at != nil {
		// The timestamp holds the grace period already.
		t.what, t.since = "Terminating", at.Time
		return t, c.age(*at) > terminating
	}
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		return t, false
	case corev1.PodFailed:
		return c.failed(t)
	case corev1.PodUnknown:
		t.what = "Unknown"
		return t, true
	}
	ready, isReady := condition(p.Status.Conditions, corev1.PodReady)
	if at := ready.LastTransitionTime; !at.IsZero() && !isReady {
		t.since = at.Time // a container that crashes says only when it last did
	}
	if what, ok := c.waiting(p); ok {
		t.what = what
		if c.age(p.CreationTimestamp) < starting/4 && strings.Contains(what, "Create") {
			return t, false // what it waits for may come after it
		}
		// A container that runs for a moment is ready for a moment; the kubelet's
		// events go back to the first time that it held it back.
		for _, ev := range c.warned(entity("Pod", p), recently, "BackOff", "Failed", "FailedMount", "FailedCreatePodSandBox") {
			if first := ev.FirstTimestamp; !first.IsZero() && first.Before(t.since) {
				t.since = first
			}
		}
		return t, true
	}
	scheduled, isScheduled := condition(p.Status.Conditions, corev1.PodScheduled)
	if p.Status.Phase == corev1.PodPending && !isScheduled {
		switch {
		case len(p.Spec.SchedulingGates) > 0 || scheduled.Reason == corev1.PodReasonSchedulingGated:
			t.what, t.soon = "SchedulingGated", true
			return t, c.age(p.CreationTimestamp) > gated
		case scheduled.Reason == corev1.PodReasonUnschedulable:
			t.what = "Unschedulable"
			// An autoscaler that makes room says so.
			return t, c.age(p.CreationTimestamp) > starting/4
		}
		t.what = "Pending"
		return t, c.age(p.CreationTimestamp) > starting
	}
	if !isReady && ready.Reason != "PodCompleted" {
		if p.Status.Phase == corev1.PodPending {
			return c.unstarted(t)
		}
		t.what = "not ready"
		if g := closed(p); g != "" {
			t.what = "not ready by its gate " + g
		}
		return t, c.Now.Sub(t.since) > startup(p)
	}
	return c.restarted(t)
}

// unstarted are pods that have a node, and no container of theirs that serves
// yet. One whose image is large or whose init container does its work is
// nobody's trouble for a while.
func (c *Cluster) unstarted(t trouble) (trouble, bool) {
	p := t.pod
	if len(c.warned(entity("Pod", p), recently, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume", "NetworkNotReady")) > 0 {
		t.what = "not started"
		return t, c.age(p.CreationTimestamp) > starting/4
	}
	t.what = "not started"
	for _, s := range p.Status.InitContainerStatuses {
		if r := s.State.Running; r != nil && !(s.Started != nil && *s.Started) { // a sidecar has started
			t.what, t.since = "in init container "+s.Name, r.StartedAt.Time
		}
	}
	d := c.Now.Sub(t.since)
	t.soon = d < fetching
	return t, d > preparing
}

// closed is the first readiness gate of a pod that is not open, though its
// containers are ready.
func closed(p *corev1.Pod) string {
	if _, ok := condition(p.Status.Conditions, corev1.ContainersReady); !ok {
		return ""
	}
	for _, g := range p.Spec.ReadinessGates {
		if _, open := condition(p.Status.Conditions, g.ConditionType); !open {
			return string(g.ConditionType)
		}
	}
	return ""
}

// failed are pods that ended badly. Those of a Job are the Job's to tell, and
// those that were evicted long ago are only left over.
func (c *Cluster) failed(t trouble) (trouble, bool) {
	p := t.pod
	if up := p.OwnerReferences; len(up) > 0 && up[0].Kind == "Job" {
		return t, false
	}
	t.what = "Failed"
	if p.Status.Reason != "" {
		t.what = p.Status.Reason
	}
	ended := p.CreationTimestamp.Time
	for _, s := range p.Status.ContainerStatuses {
		e := s.State.Terminated
		if e == nil {
			continue
		}
		if e.ExitCode != 0 && p.Status.Reason == "" {
			t.what = fmt.Sprintf("Failed: container %s exits with code %d", s.Name, e.ExitCode)
		}
		if e.FinishedAt.After(ended) {
			ended = e.FinishedAt.Time
		}
	}
	if d, ok := condition(p.Status.Conditions, corev1.DisruptionTarget); ok && d.LastTransitionTime.After(ended) {
		ended = d.LastTransitionTime.Time
	}
	t.since = ended
	// Its controller has made another; that it was evicted at all may be a sign.
	t.soon = len(p.OwnerReferences) > 0
	return t, !t.soon || c.Now.Sub(ended) < recently
}

// waiting says for what a container of the pod waits that will not come by
// itself.
func (c *Cluster) waiting(p *corev1.Pod) (what string, ok bool) {
	for i, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range list {
			if w := s.State.Waiting; w != nil && slices.Contains(stuck, w.Reason) {
				if i == 0 {
					return "init " + w.Reason, true
				}
				return w.Reason, true
			}
			// Between two tries the container is merely dead, or not ready yet.
			e := s.State.Terminated
			if e == nil && !s.Ready && s.RestartCount >= 2 && i > 0 {
				e = s.LastTerminationState.Terminated
			}
			switch {
			case e == nil || e.ExitCode == 0 || c.age(e.FinishedAt) > recently:
			case i == 0:
				return fmt.Sprintf("init container %s exits with code %d", s.Name, e.ExitCode), true
			case p.Spec.RestartPolicy == corev1.RestartPolicyAlways && (s.RestartCount > 0 || e.Reason == "OOMKilled"):
				if e.Reason == "" || e.Reason == "Error" {
					return fmt.Sprintf("crashing with exit code %d", e.ExitCode), true
				}
				return e.Reason, true
			}
		}
	}
	return "", false
}

// startup is how long a pod may be unready before that says anything: what its
// probes grant it, and a minute.
func startup(p *corev1.Pod) time.Duration {
	grant := starting
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		started := false
		for _, s := range p.Status.ContainerStatuses {
			if s.Name == c.Name && s.Started != nil {
				started = *s.Started
			}
		}
		var d time.Duration
		if s := c.StartupProbe; s != nil && !started {
			d += time.Duration(s.InitialDelaySeconds+max(s.FailureThreshold, 1)*max(s.PeriodSeconds, 1)) * time.Second
		}
		if r := c.ReadinessProbe; r != nil {
			d += time.Duration(r.InitialDelaySeconds) * time.Second
		}
		grant = max(grant, starting+d)
	}
	return min(grant, 15*time.Minute)
}

// restarted are pods that are ready again, and were not long ago.
func (c *Cluster) restarted(t trouble) (trouble, bool) {
	for _, s := range t.pod.Status.ContainerStatuses {
		e := s.LastTerminationState.Terminated
		if e == nil || c.age(e.FinishedAt) > recently || e.ExitCode == 0 || s.RestartCount == 0 {
			continue
		}
		why := e.Reason
		if why == "" || why == "Error" {
			why = fmt.Sprintf("exit code %d", e.ExitCode)
		}
		// One restart after an error is what restarts are for.
		if e.Reason != "OOMKilled" && s.RestartCount < 3 {
			continue
		}
		t.what, t.since, t.soon = fmt.Sprintf("restarted %d times, last: %s", s.RestartCount, why), e.FinishedAt.Time, true
		if s.RestartCount == 1 {
			t.what = "restarted: " + why
		}
		return t, true
	}
	return t, false
}

var podChecks = []Info{{
	Name: "pods",
	Doc: "Pods that wait (CrashLoopBackOff, ImagePullBackOff, CreateContainerConfigError …), cannot be scheduled, stay unready, are stuck terminating, were evicted, or restart again and again; one finding for each workload, and the rules say why. " +
		"Not: pods that are starting within what their probes grant, that fetch an image or run an init container for less than three minutes (soon, until ten), that are being replaced, that completed, that belong to a node which is not ready, or that were restarted once.",
	Needs: []string{"pods"},
	Run:   pods,
}}

// pods tells the trouble of pods by the workload that they belong to.
func pods(c *Cluster, found func(Problem)) {
	for root, all := range c.ordered() {
		var bad, shaky []trouble
		for _, p := range all {
			if t, ok := c.troubleOf(p); ok && t.soon {
				shaky = append(shaky, t)
			} else if ok {
				bad = append(bad, t)
			}
		}
		switch {
		case len(bad) > 0:
			ready, want := c.replicas(root, all)
			p := Problem{Entity: root, Root: root, State: true, Urgency: event.Broken, Since: oldest(bad), Seen: seen(c, bad)}
			if ready > 0 {
				p.Severity = event.Warning
			}
			if hold := bad[0].pod.Finalizers; bad[0].what == "Terminating" && len(hold) > 0 {
				p.Brief = "it waits for its finalizer " + list(hold, 3)
			}
			if root.Kind == "Pod" {
				p.Title = bad[0].what
			} else {
				p.Title = fmt.Sprintf("%d/%d ready", ready, want)
				if ready >= want {
					p.Title = fmt.Sprintf("%s beside %d ready", evidence.Count(len(bad), "pod"), ready)
				}
				p.Detail = kinds(bad)
			}
			p.Next = []event.Check{describe(entity("Pod", bad[0].pod), "its state and events")}
			if root.Kind != "Pod" {
				p.Next = []event.Check{{Why: "its pods", Command: kubectl(root.Namespace, "get pods %s-o wide", c.selectorFlag(root))}, describe(entity("Pod", bad[0].pod), "the pod that is worst")}
			}
			found(p)
			for _, t := range bad {
				if why, ok := unplaced(c, root, t.pod); ok && t.what == "Unschedulable" {
					found(why)
					break
				}
			}
		case len(shaky) > 0:
			found(Problem{
				Entity: root, Root: root, State: true, Urgency: event.Soon, Since: oldest(shaky), Seen: seen(c, shaky), Title: kinds(shaky),
				Next: []event.Check{describe(entity("Pod", shaky[0].pod), "last states and events")},
			})
		}
	}
}

func oldest(list []trouble) time.Time {
	return slices.MinFunc(list, func(a, b trouble) int { return a.since.Compare(b.since) }).since
}

// kinds counts the troubles: 4 CrashLoopBackOff, 2 not ready.
func kinds(list []trouble) string {
	count := map[string]int{}
	var order []string
	for _, t := range list {
		if count[t.what]++; count[t.what] == 1 {
			order = append(order, t.what)
		}
	}
	if len(list) == 1 {
		return order[0]
	}
	slices.SortStableFunc(order, func(a, b string) int { return count[b] - count[a] })
	var parts []string
	for _, o := range order[:min(3, len(order))] {
		parts = append(parts, fmt.Sprintf("%d %s", count[o], o))
	}
	return strings.Join(parts, ", ")
}

func seen(c *Cluster, list []trouble) []string {
	var out []string
	for _, t := range list[:min(len(list), 20)] {
		line := fmt.Sprintf("pod %s %s %s since %s", t.pod.Name, t.pod.Status.Phase, t.what, t.since.UTC().Format(time.RFC3339))
		if t.pod.Spec.NodeName != "" {
			line += " node=" + t.pod.Spec.NodeName
		}
		out = append(out, line)
		for _, s := range slices.Concat(t.pod.Status.InitContainerStatuses, t.pod.Status.ContainerStatuses) {
			if w := s.State.Waiting; w != nil && w.Message != "" {
				out = append(out, fmt.Sprintf("  container %s waiting %s: %s", s.Name, w.Reason, w.Message))
			}
		}
		if s, ok := condition(t.pod.Status.Conditions, corev1.PodScheduled); !ok && s.Message != "" {
			out = append(out, "  not scheduled: "+s.Message)
		}
		if hold := t.pod.Finalizers; len(hold) > 0 && t.pod.DeletionTimestamp != nil {
			out = append(out, "  finalizers "+strings.Join(hold, ", "))
		}
		if g := closed(t.pod); g != "" {
			k, _ := condition(t.pod.Status.Conditions, corev1.PodConditionType(g))
			out = append(out, strings.TrimRight(fmt.Sprintf("  readiness gate %s %s: %s", g, cmp.Or(k.Reason, "is not set"), k.Message), ": "))
		}
		if t.pod.Status.Message != "" {
			out = append(out, "  "+t.pod.Status.Message)
		}
	}
	return out
}

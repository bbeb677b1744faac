package check

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// ordered are the roots of pods with their pods, by name.
func (c *Cluster) ordered() iter.Seq2[event.Entity, []*corev1.Pod] {
	roots := slices.SortedFunc(maps.Keys(c.pods), func(a, b event.Entity) int { return strings.Compare(a.String(), b.String()) })
	return func(yield func(event.Entity, []*corev1.Pod) bool) {
		for _, r := range roots {
			if !yield(r, c.pods[r]) {
				return
			}
		}
	}
}

// replicas are how many pods of a workload are ready, and how many there should
// be: what it asks for, or, of a kind that does not say, how many there are.
func (c *Cluster) replicas(root event.Entity, all []*corev1.Pod) (ready, want int) {
	for _, p := range all {
		if _, ok := condition(p.Status.Conditions, corev1.PodReady); ok && p.DeletionTimestamp == nil && !c.deadNodes[p.Spec.NodeName] {
			ready++
		}
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed {
			want++
		}
	}
	switch o := c.object(root).(type) {
	case *appsv1.Deployment:
		want = wanted(o.Spec.Replicas)
	case *appsv1.StatefulSet:
		want = wanted(o.Spec.Replicas)
	case *appsv1.DaemonSet:
		want = int(o.Status.DesiredNumberScheduled)
	}
	return ready, want
}

func wanted(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// object is a workload or node that was read, or nil.
func (c *Cluster) object(e event.Entity) any {
	switch e.Kind {
	case "Deployment":
		return named(c.Deployments, e)
	case "StatefulSet":
		return named(c.StatefulSets, e)
	case "DaemonSet":
		return named(c.DaemonSets, e)
	case "Job":
		return named(c.Jobs, e)
	case "CronJob":
		return named(c.CronJobs, e)
	case "Node":
		return named(c.Nodes, e)
	case "Pod":
		return named(c.Pods, e)
	case "PersistentVolumeClaim":
		return named(c.PVCs, e)
	case "HorizontalPodAutoscaler":
		return named(c.HPAs, e)
	case "Service":
		return named(c.Services, e)
	case "ResourceQuota":
		return named(c.Quotas, e)
	}
	return nil
}

// named finds an object in a list in order of names. It gives nil, and not a
// nil pointer, when there is none.
func named[T metav1.Object](list []T, e event.Entity) any {
	i, ok := slices.BinarySearchFunc(list, e, func(o T, e event.Entity) int {
		if d := strings.Compare(o.GetNamespace(), e.Namespace); d != 0 {
			return d
		}
		return strings.Compare(o.GetName(), e.Name)
	})
	if !ok {
		return nil
	}
	return list[i]
}

// selectorFlag narrows kubectl get pods to those of a workload.
func (c *Cluster) selectorFlag(root event.Entity) string {
	var s *metav1.LabelSelector
	switch o := c.object(root).(type) {
	case *appsv1.Deployment:
		s = o.Spec.Selector
	case *appsv1.StatefulSet:
		s = o.Spec.Selector
	case *appsv1.DaemonSet:
		s = o.Spec.Selector
	}
	if s == nil || len(s.MatchLabels) == 0 {
		return ""
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		parts = append(parts, k+"="+s.MatchLabels[k])
	}
	return "-l " + strings.Join(parts, ",") + " "
}

// stalled is how long a controller may leave a wish unheeded.
const stalled = 2 * time.Minute

var workloadChecks = []Info{
	{
		Name: "deployments", Needs: []string{"deployments"},
		Doc: "Deployments whose rollout passed its deadline, or whose controller does not heed them. Not: a rollout that moves, a paused one, or none wanted.",
		Run: deployments,
	},
	{
		Name: "statefulsets", Needs: []string{"statefulsets"},
		Doc: "StatefulSets that name a Service which is not there, or whose controller does not heed them.",
		Run: statefulSets,
	},
	{
		Name: "daemonsets", Needs: []string{"daemonsets"},
		Doc: "DaemonSets with pods on nodes that they do not choose, or whose controller does not heed them.",
		Run: daemonSets,
	},
	{
		Name: "pod_creation", Needs: []string{"pods", "events"},
		Doc: "Workloads, also bare ReplicaSets and Jobs, whose pods the API server refuses: by quota, limit range, Pod Security, a webhook, or for a ServiceAccount, PriorityClass or RuntimeClass that does not exist. Not: a refusal after which a pod was created, or that is seconds old.",
		Run: creation,
	},
	{
		Name: "replicas", Needs: []string{"pods", "events"},
		Doc: "Deployments, StatefulSets and DaemonSets with fewer pods than they should have, though nothing refuses them. Not: while a pod of theirs comes or goes, or when those that lack were on a node that is not ready.",
		Run: lacking,
	},
	{
		Name: "updates", Needs: []string{"pods", "statefulsets", "daemonsets"},
		Doc: "StatefulSets and DaemonSets of which some pods stay of the revision before. Not: an update that replaces a pod, or one that waits for somebody (OnDelete, partition).",
		Run: updates,
	},
	{
		Name: "pod_endings", Needs: []string{"events"},
		Doc: "Workloads whose pods, in the last hour, failed their PreStop hook, did not stop within their grace period, could not be killed, or failed on a node again and again (DaemonSets).",
		Run: lastWarnings,
	},
}

func deployments(c *Cluster, found func(Problem)) {
	for _, d := range c.Deployments {
		e := entity("Deployment", d)
		history := event.Check{Why: "what was rolled out, and when", Command: kubectl(d.Namespace, "rollout history deployment %s", d.Name)}
		progress, ok := condition(d.Status.Conditions, appsv1.DeploymentProgressing)
		if !ok && progress.Reason == "ProgressDeadlineExceeded" && !d.Spec.Paused {
			var rollback []event.Check
			if d.Annotations["deployment.kubernetes.io/revision"] != "1" { // the first has none before it
				rollback = []event.Check{{Why: "return to the revision before", Command: kubectl(d.Namespace, "rollout undo deployment %s", d.Name)}}
			}
			var waits []trouble // of pods that nobody need mend, such as those that a gate holds
			for _, p := range c.pods[e] {
				if t, ok := c.troubleOf(p); ok && t.soon {
					waits = append(waits, t)
				}
			}
			brief := ""
			if len(waits) > 0 {
				brief = kinds(waits)
			}
			found(Problem{
				Entity: e, State: true, Brief: brief, Urgency: event.Broken, Severity: below(int(d.Status.ReadyReplicas), wanted(d.Spec.Replicas)), Since: progress.LastTransitionTime.Time,
				Title: fmt.Sprintf("rollout stuck: %d of %d updated, %d ready", d.Status.UpdatedReplicas, wanted(d.Spec.Replicas), d.Status.ReadyReplicas), Detail: progress.Message,
				Seen: []string{"condition Progressing=False ProgressDeadlineExceeded: " + progress.Message}, Next: []event.Check{history, describe(e, "its conditions and events")},
				Rollback: rollback,
			})
		}
		c.unheeded(e, d.Generation, d.Status.ObservedGeneration, d.CreationTimestamp, found)
	}
}

// below is how bad it is that a workload is not as it should be: critical when
// nothing of it serves.
func below(ready, want int) event.Severity {
	if ready == 0 && want > 0 {
		return event.Critical
	}
	return event.Warning
}

// unheeded tells that a controller has not seen the last edit of its object.
func (c *Cluster) unheeded(e event.Entity, generation, observed int64, created metav1.Time, found func(Problem)) {
	if observed >= generation || c.age(created) < stalled {
		return
	}
	// When the last edit was is not known; the controller's own events tell.
	found(Problem{
		Entity: e, Urgency: event.Soon, Confidence: event.Medium, Title: fmt.Sprintf("its controller has seen generation %d of %d", observed, generation),
		Detail: "An edit has not been acted upon. If that lasts, the controller manager is down or busy.", Seen: []string{fmt.Sprintf("metadata.generation=%d status.observedGeneration=%d", generation, observed)},
		Next: []event.Check{{Why: "is the controller manager well?", Command: "kubectl -n kube-system get pods -l component=kube-controller-manager"}, describe(e, "its status and events")},
	})
}

func statefulSets(c *Cluster, found func(Problem)) {
	for _, s := range c.StatefulSets {
		e := entity("StatefulSet", s)
		c.unheeded(e, s.Generation, s.Status.ObservedGeneration, s.CreationTimestamp, found)
		if n := s.Spec.ServiceName; n != "" && !c.exists("services", s.Namespace, n) {
			found(Problem{
				Entity: e, Urgency: event.Soon, Title: fmt.Sprintf("its Service %s is not there: the pods have no names in DNS", n), Seen: []string{"spec.serviceName=" + n, "no Service of that name in " + s.Namespace},
				Next: []event.Check{{Why: "the Services there are", Command: kubectl(s.Namespace, "get services")}},
			})
		}
	}
}

func daemonSets(c *Cluster, found func(Problem)) {
	for _, d := range c.DaemonSets {
		e := entity("DaemonSet", d)
		c.unheeded(e, d.Generation, d.Status.ObservedGeneration, d.CreationTimestamp, found)
		if n := d.Status.NumberMisscheduled; n > 0 && c.age(d.CreationTimestamp) > stalled {
			found(Problem{
				Entity: e, Urgency: event.Soon, Title: fmt.Sprintf("%s on nodes that it does not choose", evidence.Count(int(n), "pod")), Seen: []string{fmt.Sprintf("status.numberMisscheduled=%d", n)},
				Next: []event.Check{describe(e, "its node selector and tolerations"), {Why: "where its pods run", Command: kubectl(d.Namespace, "get pods %s-o wide", c.selectorFlag(e))}},
			})
		}
	}
}

// oneLine shortens a message to what fits behind a title.
func oneLine(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

package check

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var planChecks = []Info{
	{
		Name: "surplus", Needs: []string{"deployments"},
		Doc: "Deployments that have more pods than they should for over ten minutes, though no rollout moves: their controller takes none away. Not: the surge of a rollout, or one that is paused.",
		Run: surplus,
	},
	{
		Name: "plan_hygiene", Needs: []string{"nodes", "pods", "horizontalpodautoscalers", "resourcequotas", "deployments", "statefulsets"},
		Doc: "HorizontalPodAutoscalers whose maximum requests more than the nodes have free, and quotas that together promise more than one and a half times what the nodes have. Both only matter where nobody adds nodes. Not: when one namespace is looked at.",
		Run: plans,
	},
}

// settled is how long after the end of a rollout there may be too many pods.
const settled = 10 * time.Minute

func surplus(c *Cluster, found func(Problem)) {
	for _, d := range c.Deployments {
		have, want := int(d.Status.Replicas), wanted(d.Spec.Replicas)
		progress, ok := condition(d.Status.Conditions, appsv1.DeploymentProgressing)
		if have <= want || d.Spec.Paused || d.Status.UpdatedReplicas < d.Status.Replicas || d.Status.ObservedGeneration < d.Generation || !ok || progress.Reason != "NewReplicaSetAvailable" || c.age(progress.LastUpdateTime) < settled {
			continue
		}
		e := entity("Deployment", d)
		found(Problem{
			Entity: e, Urgency: event.Soon, Confidence: event.Medium, Title: fmt.Sprintf("has %d pods, and should have %d: its controller takes none away", have, want),
			Seen: []string{fmt.Sprintf("spec.replicas=%d status.replicas=%d status.updatedReplicas=%d, rollout ended %s ago", want, have, d.Status.UpdatedReplicas, span(c.age(progress.LastUpdateTime)))},
			Next: []event.Check{{Why: "its pods", Command: kubectl(d.Namespace, "get pods %s-o wide", c.selectorFlag(e))}, describe(e, "its events")},
		})
	}
}

// promised is how many times over quotas may promise what nodes have; the
// kubernetes-mixin's KubeCPUQuotaOvercommit.
const promised = 1.5

func plans(c *Cluster, found func(Problem)) {
	if c.Namespace != "" || len(c.Nodes) == 0 {
		return
	}
	var has, used [2]resource.Quantity // cpu, memory
	for _, n := range c.Nodes {
		if !n.Spec.Unschedulable && !c.deadNodes[n.Name] {
			has[0].Add(*n.Status.Allocatable.Cpu())
			has[1].Add(*n.Status.Allocatable.Memory())
		}
	}
	for _, p := range c.Pods {
		if p.Spec.NodeName != "" && p.Status.Phase != corev1.PodFailed {
			add(&used, &p.Spec, 1)
		}
	}
	for _, h := range c.HPAs {
		var spec *corev1.PodSpec
		switch o := c.object(event.Entity{Namespace: h.Namespace, Kind: h.Spec.ScaleTargetRef.Kind, Name: h.Spec.ScaleTargetRef.Name}).(type) {
		case *appsv1.Deployment:
			spec = &o.Spec.Template.Spec
		case *appsv1.StatefulSet:
			spec = &o.Spec.Template.Spec
		default:
			continue
		}
		var more [2]resource.Quantity
		add(&more, spec, int64(h.Spec.MaxReplicas-h.Status.CurrentReplicas))
		for i, name := range []string{"cpu", "memory"} {
			free := has[i].DeepCopy()
			free.Sub(used[i])
			if more[i].Cmp(free) <= 0 || has[i].IsZero() {
				continue
			}
			e := entity("HorizontalPodAutoscaler", h)
			found(Problem{
				Entity: e, Root: e, Urgency: event.Hygiene, Title: fmt.Sprintf("at its maximum it requests %s more, and the nodes have %s free", amount(more[i], name), amount(free, name)),
				Seen: []string{fmt.Sprintf("maxReplicas=%d currentReplicas=%d, %s of the nodes %s, requested %s", h.Spec.MaxReplicas, h.Status.CurrentReplicas, name, has[i].String(), used[i].String())},
				Next: []event.Check{{Why: "what nodes have and what is requested", Command: "kubectl describe nodes"}},
			})
			break
		}
	}
	var promise [2]resource.Quantity
	for _, q := range c.Quotas {
		for i, names := range [2][2]corev1.ResourceName{{corev1.ResourceRequestsCPU, corev1.ResourceCPU}, {corev1.ResourceRequestsMemory, corev1.ResourceMemory}} {
			hard, ok := q.Spec.Hard[names[0]]
			if !ok {
				hard = q.Spec.Hard[names[1]]
			}
			promise[i].Add(hard)
		}
	}
	for i, name := range []string{"cpu", "memory"} {
		if p, h := promise[i].AsApproximateFloat64(), has[i].AsApproximateFloat64(); h > 0 && p > promised*h {
			e := event.Entity{Kind: "Cluster", Name: "cluster"}
			found(Problem{
				Entity: e, Root: e, Urgency: event.Hygiene, Title: fmt.Sprintf("quotas promise %s, and the nodes have %s", amount(promise[i], name), amount(has[i], name)),
				Seen: []string{fmt.Sprintf("sum of requests.%s of all ResourceQuotas=%s, allocatable=%s", name, promise[i].String(), has[i].String())},
				Next: []event.Check{{Why: "the quotas", Command: "kubectl get resourcequotas -A"}},
			})
		}
	}
}

// add adds what so many pods request.
func add(to *[2]resource.Quantity, s *corev1.PodSpec, times int64) {
	for i := range s.Containers {
		r := s.Containers[i].Resources.Requests
		for j, q := range []resource.Quantity{r.Cpu().DeepCopy(), r.Memory().DeepCopy()} {
			q.Mul(max(times, 0))
			to[j].Add(q)
		}
	}
}

package check

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// unplaced says why none of the nodes that a pod selects by label takes it:
// the scheduler counts reasons over all nodes, and not over those few.
func unplaced(c *Cluster, root event.Entity, p *corev1.Pod) (Problem, bool) {
	if len(p.Spec.NodeSelector) == 0 || !c.Read("nodes") {
		return Problem{}, false
	}
	want := labels.SelectorFromSet(p.Spec.NodeSelector)
	var chosen, cordoned, dead, tainted []string
	var taint string
	for _, n := range c.Nodes {
		if !want.Matches(labels.Set(n.Labels)) {
			continue
		}
		chosen = append(chosen, n.Name)
		i := slices.IndexFunc(n.Spec.Taints, func(t corev1.Taint) bool {
			return t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(p, t) && !slices.ContainsFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool { return o.Key == "" && (o.Effect == "" || o.Effect == t.Effect) })
		})
		switch {
		case c.deadNodes[n.Name]:
			dead = append(dead, n.Name)
		case n.Spec.Unschedulable:
			cordoned = append(cordoned, n.Name)
		case i >= 0:
			tainted, taint = append(tainted, n.Name), n.Spec.Taints[i].ToString()
		}
	}
	out := Problem{
		Entity: root, Root: root, Urgency: event.Broken, Cause: true, Seen: []string{fmt.Sprintf("nodeSelector %s chooses %s of %d", want, evidence.Count(len(chosen), "node"), len(c.Nodes))},
		Next: []event.Check{{Why: "the nodes with those labels", Command: fmt.Sprintf("kubectl get nodes -l %s -o wide", want)}},
	}
	all := func(some []string) bool { return len(some) > 0 && len(some) == len(chosen) }
	switch {
	case len(chosen) == 0:
		out.Title = fmt.Sprintf("Pods cannot be scheduled: no node has the labels %s", want)
		out.Next = []event.Check{{Why: "the labels that nodes have", Command: "kubectl get nodes --show-labels"}}
	case all(cordoned):
		out.Title = fmt.Sprintf("Pods cannot be scheduled: of the nodes they select, every one is cordoned (%s)", list(cordoned, 3))
	case all(dead):
		out.Title = fmt.Sprintf("Pods cannot be scheduled: of the nodes they select, none is ready (%s)", list(dead, 3))
	case all(tainted):
		out.Title = fmt.Sprintf("Pods cannot be scheduled: the nodes they select have the taint %s", taint)
		out.Next = []event.Check{{Why: "the taints", Command: "kubectl describe node " + tainted[0]}}
	default:
		return Problem{}, false // the scheduler says it better
	}
	return out, true
}

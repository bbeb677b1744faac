package check

import (
	"fmt"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var budgetChecks = []Info{
	{
		Name: "budgets", Needs: []string{"poddisruptionbudgets", "pods"},
		Doc: "PodDisruptionBudgets that allow no eviction though all their pods are healthy, so that a node cannot be drained, that cannot be reckoned, or several on one pod, of which evictions fail. With too few healthy pods, the workload's line says so. Not: budgets younger than two minutes, or whose pods start.",
		Run: budgets,
	},
	{
		Name: "budget_hygiene", Needs: []string{"poddisruptionbudgets", "pods", "deployments", "statefulsets"},
		Doc: "PodDisruptionBudgets that select no pod. Not: when the workload they are for is scaled to zero.",
		Run: idleBudgets,
	},
}

func budgets(c *Cluster, found func(Problem)) {
	on := map[event.Entity][]string{} // workloads → budgets
	var order []event.Entity
	for _, b := range c.PDBs {
		e := entity("PodDisruptionBudget", b)
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			continue
		}
		pods := c.selected(b.Namespace, sel)
		for _, p := range pods {
			root := c.root(p)
			if len(on[root]) == 0 {
				order = append(order, root)
			}
			if n := len(on[root]); n == 0 || on[root][n-1] != b.Name {
				on[root] = append(on[root], b.Name)
			}
		}
		if c.age(b.CreationTimestamp) < stalled || b.Status.ObservedGeneration < b.Generation || len(pods) == 0 {
			continue
		}
		s := &b.Status
		p := Problem{
			Entity: e, Root: e, Urgency: event.Soon, Next: []event.Check{describe(e, "what it demands, and what there is")},
			Seen: []string{fmt.Sprintf("%s; expectedPods=%d currentHealthy=%d desiredHealthy=%d disruptionsAllowed=%d", demand(b), s.ExpectedPods, s.CurrentHealthy, s.DesiredHealthy, s.DisruptionsAllowed)},
		}
		allowed, _ := condition(s.Conditions, policyv1.DisruptionAllowedCondition)
		switch {
		case allowed.Status == metav1.ConditionFalse && allowed.Reason == policyv1.SyncFailedReason:
			p.State, p.Since, p.Title, p.Brief = true, allowed.LastTransitionTime.Time, "cannot be reckoned, so that no pod can be evicted", oneLine(allowed.Message, 140)
			found(p)
		case s.ExpectedPods == 0 || s.DisruptionsAllowed > 0:
		case s.CurrentHealthy >= s.ExpectedPods:
			p.Title = fmt.Sprintf("no node with its pods can be drained: %s, and %s healthy", demand(b), healthy(s.CurrentHealthy, s.ExpectedPods))
			found(p)
		case s.CurrentHealthy < s.DesiredHealthy && c.age(allowed.LastTransitionTime) > stalled:
			p.Root, p.Since = c.root(pods[0]), allowed.LastTransitionTime.Time
			p.Title = fmt.Sprintf("budget %s wants %d healthy and has %d: drains wait", b.Name, s.DesiredHealthy, s.CurrentHealthy)
			found(p)
		}
	}
	for _, root := range order {
		if names := on[root]; len(names) > 1 {
			found(Problem{
				Entity: root, Root: root, Urgency: event.Soon, Title: fmt.Sprintf("%d PodDisruptionBudgets select it (%s): every eviction fails", len(names), list(names, 3)),
				Seen: []string{"budgets that select its pods: " + strings.Join(names, ", ")}, Next: []event.Check{{Why: "their selectors", Command: kubectl(root.Namespace, "get poddisruptionbudgets -o yaml")}},
			})
		}
	}
}

func healthy(n, of int32) string {
	if of == 1 {
		return "its one pod is"
	}
	return fmt.Sprintf("all %d are", n)
}

func demand(b *policyv1.PodDisruptionBudget) string {
	switch {
	case b.Spec.MinAvailable != nil:
		return "minAvailable is " + b.Spec.MinAvailable.String()
	case b.Spec.MaxUnavailable != nil:
		return "maxUnavailable is " + b.Spec.MaxUnavailable.String()
	}
	return "it demands nothing"
}

func idleBudgets(c *Cluster, found func(Problem)) {
	for _, b := range c.PDBs {
		sel, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil || c.age(b.CreationTimestamp) < stalled || b.Status.ExpectedPods > 0 || len(c.selected(b.Namespace, sel)) > 0 || c.forTemplate(b.Namespace, sel) {
			continue
		}
		e := entity("PodDisruptionBudget", b)
		found(Problem{
			Entity: e, Root: e, Urgency: event.Hygiene, Title: "selects no pod", Seen: []string{"spec.selector " + metav1.FormatLabelSelector(b.Spec.Selector) + " fits no pod"},
			Next: []event.Check{{Why: "labels of the pods there are", Command: kubectl(b.Namespace, "get pods --show-labels")}},
		})
	}
}

// forTemplate says whether a selector fits what a Deployment or StatefulSet
// would make, however many it makes now.
func (c *Cluster) forTemplate(namespace string, s labels.Selector) bool {
	for _, d := range c.Deployments {
		if d.Namespace == namespace && s.Matches(labels.Set(d.Spec.Template.Labels)) {
			return true
		}
	}
	for _, d := range c.StatefulSets {
		if d.Namespace == namespace && s.Matches(labels.Set(d.Spec.Template.Labels)) {
			return true
		}
	}
	return false
}

package check

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Around are the things that stand on lines of their own and whose trouble is a
// workload's, too: Services that choose its pods, Ingresses and routes that lead
// to those, what scales it, budgets and network policies of its pods, and claims
// that they mount. A thing of a kind that was not read is not among them.
func (c *Cluster) Around(root event.Entity) []event.Entity {
	var out []event.Entity
	own := c.labelsOf(root)
	chosen := func(s *metav1.LabelSelector) bool {
		sel, err := metav1.LabelSelectorAsSelector(s)
		return err == nil && s != nil && len(own) > 0 && sel.Matches(own)
	}
	services := map[string]bool{}
	for _, s := range c.Services {
		if s.Namespace == root.Namespace && selecting(s) && labels.SelectorFromSet(s.Spec.Selector).Matches(own) {
			services[s.Name] = true
			out = append(out, entity("Service", s))
		}
	}
	for _, i := range c.Ingresses {
		if i.Namespace == root.Namespace && slices.ContainsFunc(backends(i), func(b backend) bool { return services[b.service] }) {
			out = append(out, entity("Ingress", i))
		}
	}
	for _, r := range slices.Concat(c.customs("HTTPRoute"), c.customs("GRPCRoute")) {
		e := entityOf(r)
		leads := slices.ContainsFunc(objects(r, "spec", "rules"), func(rule Object) bool {
			return slices.ContainsFunc(objects(rule, "backendRefs"), func(b Object) bool {
				return orElse(text(b, "namespace"), e.Namespace) == root.Namespace && services[text(b, "name")]
			})
		})
		if leads {
			out = append(out, e)
		}
	}
	for _, h := range c.HPAs {
		if r := h.Spec.ScaleTargetRef; h.Namespace == root.Namespace && r.Kind == root.Kind && r.Name == root.Name {
			out = append(out, entity("HorizontalPodAutoscaler", h))
		}
	}
	for _, b := range c.PDBs {
		if b.Namespace == root.Namespace && chosen(b.Spec.Selector) {
			out = append(out, entity("PodDisruptionBudget", b))
		}
	}
	for _, p := range c.NetworkPolicies {
		if p.Namespace == root.Namespace && chosen(&p.Spec.PodSelector) {
			out = append(out, entity("NetworkPolicy", p))
		}
	}
	for _, p := range c.pods[root] {
		for _, v := range p.Spec.Volumes {
			if k := v.PersistentVolumeClaim; k != nil {
				if e := (event.Entity{Namespace: p.Namespace, Kind: "PersistentVolumeClaim", Name: k.ClaimName}); !slices.Contains(out, e) {
					out = append(out, e)
				}
			}
		}
	}
	return out
}

// labelsOf are those of the pods that a workload makes, or has.
func (c *Cluster) labelsOf(root event.Entity) labels.Set {
	for _, s := range c.shapes(root.Namespace) {
		if s.root == root && len(s.labels) > 0 {
			return s.labels
		}
	}
	if pods := c.pods[root]; len(pods) > 0 {
		return pods[0].Labels
	}
	return nil
}

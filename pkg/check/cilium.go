package check

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var ciliumHygiene = []Info{{
	Name: "cilium_hygiene", Needs: append([]string{"pods"}, shaping...), Partly: []string{"nodes", "ciliumnetworkpolicies.cilium.io", "ciliumclusterwidenetworkpolicies.cilium.io"},
	Doc: "CiliumNetworkPolicies and CiliumClusterwideNetworkPolicies that choose no pod, or with a node selector no node. Not: those that choose all; selectors by Cilium's own labels, such as the namespace's; a policy younger than a minute; pods of a workload that runs now and then or is scaled to zero. Endpoints and identities, Cilium's own bookkeeping, are not read.",
	Run: ciliumPolicies,
}}

// ciliumSelector is a selector of Cilium's as one of Kubernetes'; ok is false when
// it asks for what is no label of a pod.
func ciliumSelector(o Object) (s labels.Selector, ok bool) {
	plain := func(key string) (string, bool) {
		key = strings.TrimPrefix(strings.TrimPrefix(key, "k8s:"), "any:")
		return key, !strings.Contains(key, ":") && !strings.HasPrefix(key, "io.cilium.") && !strings.HasPrefix(key, "io.kubernetes.pod.")
	}
	out := metav1.LabelSelector{MatchLabels: map[string]string{}}
	match, _ := o["matchLabels"].(Object)
	for k, v := range match {
		name, is := plain(k)
		value, isText := v.(string)
		if !is || !isText {
			return nil, false
		}
		out.MatchLabels[name] = value
	}
	for _, e := range objects(o, "matchExpressions") {
		name, is := plain(text(e, "key"))
		if !is {
			return nil, false
		}
		r := metav1.LabelSelectorRequirement{Key: name, Operator: metav1.LabelSelectorOperator(text(e, "operator"))}
		values, _ := e["values"].([]any)
		for _, v := range values {
			r.Values = append(r.Values, fmt.Sprint(v))
		}
		out.MatchExpressions = append(out.MatchExpressions, r)
	}
	s, err := metav1.LabelSelectorAsSelector(&out)
	return s, err == nil && !s.Empty()
}

func ciliumPolicies(c *Cluster, found func(Problem)) {
	for _, o := range c.Foreign {
		kind := text(o, "kind")
		if kind != "CiliumNetworkPolicy" && kind != "CiliumClusterwideNetworkPolicy" || c.Now.Sub(since(o, "metadata", "creationTimestamp")) < starting || text(o, "metadata", "deletionTimestamp") != "" {
			continue
		}
		e := entityOf(o)
		for _, of := range []string{"endpointSelector", "nodeSelector"} {
			spec, _ := at(o, "spec", of).(Object)
			sel, ok := ciliumSelector(spec)
			if !ok {
				continue
			}
			var what string
			var chosen bool
			if of == "nodeSelector" {
				what, chosen = "node", !c.Read("nodes") || slices.ContainsFunc(c.Nodes, func(n *corev1.Node) bool { return sel.Matches(labels.Set(n.Labels)) })
			} else {
				in := func(namespace string) bool { return e.Namespace == "" || namespace == e.Namespace }
				what, chosen = "pod", slices.ContainsFunc(c.Pods, func(p *corev1.Pod) bool { return in(p.Namespace) && sel.Matches(labels.Set(p.Labels)) }) ||
					slices.ContainsFunc(c.shapes(e.Namespace), func(t shape) bool { return sel.Matches(t.labels) })
			}
			if chosen {
				continue
			}
			found(Problem{
				Entity: e, Root: e, Urgency: event.Hygiene, Title: "selects no " + what + ": " + oneLine(sel.String(), 80), Seen: []string{fmt.Sprintf("spec.%s %s chooses no %s", of, sel, what)},
				Next: []event.Check{{Why: "its selectors", Command: kubectl(e.Namespace, "describe %s %s", foreignOf[kind].resource(), e.Name)}},
			})
		}
	}
}

// choosing is a policy's choice of pods.
type choosing struct {
	namespace string          // "" for all
	selector  labels.Selector // nil where it cannot be judged, and may choose any
}

// ciliumChoices are those of Cilium's policies.
func (c *Cluster) ciliumChoices() []choosing {
	var out []choosing
	for _, o := range c.Foreign {
		spec, ok := at(o, "spec", "endpointSelector").(Object)
		if kind := text(o, "kind"); !ok || kind != "CiliumNetworkPolicy" && kind != "CiliumClusterwideNetworkPolicy" {
			continue
		}
		choice := choosing{namespace: text(o, "metadata", "namespace")}
		if sel, ok := ciliumSelector(spec); ok {
			choice.selector = sel
		}
		out = append(out, choice)
	}
	return out
}

func (k choosing) may(p *corev1.Pod) bool {
	return (k.namespace == "" || k.namespace == p.Namespace) && (k.selector == nil || k.selector.Matches(labels.Set(p.Labels)))
}

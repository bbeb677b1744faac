package check

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var policyChecks = []Info{
	{
		Name: "isolated_services", Needs: []string{"networkpolicies", "services", "pods"}, Partly: shaping,
		Doc: "Services to whose pods all NetworkPolicies together let nobody in, or let in nobody who is there, or only at other ports. It is inferred from the policies, so that confidence is medium. " +
			"Not: a default-deny beside a policy that allows; pods that use the node's network; peers by address; peers of workloads that run now and then.",
		Run: isolatedServices,
	},
	{
		Name: "no_dns", Needs: []string{"networkpolicies", "pods"},
		Doc: "Workloads whose NetworkPolicies let them reach others by their labels and nobody at a DNS port. Inferred: confidence is medium. Not: pods that may reach nobody at all, or only addresses; that do not use the cluster's DNS; or that use the node's network.",
		Run: noDNS,
	},
}

// policyHygiene are NetworkPolicies that do nothing.
var policyHygiene = []Info{{
	Name: "policy_hygiene", Needs: append([]string{"networkpolicies", "pods"}, shaping...),
	Doc: "NetworkPolicies that select no pod. Not: those that select all pods of a namespace that is empty, or the pods of a workload that runs now and then or is scaled to zero.",
	Run: policyHygieneOf,
}}

// isolates says whether a policy concerns a direction. An empty list of types
// means ingress, and egress where there are rules for it.
func isolates(n *networkingv1.NetworkPolicy, t networkingv1.PolicyType) bool {
	if len(n.Spec.PolicyTypes) == 0 {
		return t == networkingv1.PolicyTypeIngress || len(n.Spec.Egress) > 0
	}
	return slices.Contains(n.Spec.PolicyTypes, t)
}

// policiesOn are the policies that concern a pod in a direction.
func (c *Cluster) policiesOn(p *corev1.Pod, t networkingv1.PolicyType) []*networkingv1.NetworkPolicy {
	if p.Spec.HostNetwork {
		return nil
	}
	var out []*networkingv1.NetworkPolicy
	for _, n := range c.NetworkPolicies {
		if n.Namespace == p.Namespace && isolates(n, t) && selects(&n.Spec.PodSelector, p) {
			out = append(out, n)
		}
	}
	return out
}

// reaches says whether any peer of a rule is there. No peers are all.
func (c *Cluster) reaches(namespace string, peers []networkingv1.NetworkPolicyPeer, dns bool) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			return true // who has the address cannot be seen
		}
		in := func(ns string) bool { return ns == namespace }
		if p.NamespaceSelector != nil {
			if c.Namespace != "" || !c.Read("namespaces") {
				return true
			}
			in = func(ns string) bool { return c.chosenNamespace(ns, p.NamespaceSelector) }
		}
		if dns && p.NamespaceSelector == nil {
			return false // DNS is in a namespace of its own
		}
		all := p.PodSelector == nil
		sel := labels.Everything()
		if !all {
			s, err := metav1.LabelSelectorAsSelector(p.PodSelector)
			if err != nil {
				return true
			}
			sel = s
		}
		if dns && all {
			return slices.ContainsFunc(c.Namespaces, func(n *corev1.Namespace) bool { return dnsNamespace(n.Name) && in(n.Name) })
		}
		if dns && !c.seesDNS() {
			return true // it may answer outside the cluster, or on the nodes
		}
		for _, pod := range c.Pods {
			if in(pod.Namespace) && sel.Matches(labels.Set(pod.Labels)) && (!dns || dnsNamespace(pod.Namespace)) {
				return true
			}
		}
		if !dns && !c.shaped() {
			return true
		}
		return slices.ContainsFunc(c.shapes(""), func(t shape) bool {
			return (t.done || t.want == 0) && in(t.root.Namespace) && sel.Matches(t.labels) && !dns
		})
	})
}

// seesDNS says whether any pod is there that may be the cluster's DNS.
func (c *Cluster) seesDNS() bool {
	return slices.ContainsFunc(c.Pods, func(p *corev1.Pod) bool {
		return dnsNamespace(p.Namespace) && (p.Labels["k8s-app"] == "kube-dns" || strings.Contains(p.Name, "dns"))
	})
}

// dnsNamespace says whether the cluster's DNS may run in a namespace.
func dnsNamespace(ns string) bool { return ns == "kube-system" || strings.Contains(ns, "dns") }

func (c *Cluster) chosenNamespace(name string, s *metav1.LabelSelector) bool {
	sel, err := metav1.LabelSelectorAsSelector(s)
	n, _ := named(c.Namespaces, event.Entity{Name: name}).(*corev1.Namespace)
	if err != nil || n == nil {
		return err != nil
	}
	return sel.Matches(labels.Merge(n.Labels, labels.Set{corev1.LabelMetadataName: name}))
}

// admits says whether a rule's ports hold one at which a pod listens. No ports
// are all.
func admits(ports []networkingv1.NetworkPolicyPort, p *corev1.Pod, to intstr.IntOrString, proto corev1.Protocol) bool {
	if len(ports) == 0 {
		return true
	}
	n, name := to.IntValue(), ""
	for _, l := range listed(p) {
		if to.Type == intstr.String && l.Name == to.StrVal {
			n = int(l.ContainerPort)
		}
		if int(l.ContainerPort) == n || to.Type == intstr.String && l.Name == to.StrVal {
			name = l.Name
		}
	}
	return slices.ContainsFunc(ports, func(q networkingv1.NetworkPolicyPort) bool {
		if q.Protocol != nil && protocol(*q.Protocol) != protocol(proto) || q.Protocol == nil && protocol(proto) != corev1.ProtocolTCP {
			return false
		}
		switch {
		case q.Port == nil:
			return true
		case q.Port.Type == intstr.String:
			return q.Port.StrVal == name || name == "" // a name that cannot be resolved proves nothing
		case q.EndPort != nil:
			return n >= q.Port.IntValue() && n <= int(*q.EndPort)
		}
		return q.Port.IntValue() == n
	})
}

func isolatedServices(c *Cluster, found func(Problem)) {
	type cut struct {
		problem  Problem
		services []string
	}
	var order []string
	cuts := map[string]*cut{} // by policies and what is wrong with them
	for _, s := range c.Services {
		chosen, ready := c.behind(s)
		if len(ready) == 0 || slices.ContainsFunc(chosen, func(p *corev1.Pod) bool { return len(c.policiesOn(p, networkingv1.PolicyTypeIngress)) == 0 }) {
			continue
		}
		policies := c.policiesOn(ready[0], networkingv1.PolicyTypeIngress)
		rules, peered, ported, ports := c.letIn(s, ready[0], policies)
		var why string
		switch {
		case rules == 0:
			why = "its pods are isolated, and nobody is let in"
		case peered == 0:
			why = "let in are only peers of which none is there"
		case ported == 0:
			why = fmt.Sprintf("let in is port %s, and the Service leads elsewhere", list(ports, 3))
		default:
			continue
		}
		// Whoever mends it edits the policy that is most about these pods.
		about := policies[0]
		var names []string
		for _, n := range policies {
			names = append(names, n.Name)
			if len(n.Spec.Ingress) > 0 && len(about.Spec.Ingress) == 0 {
				about = n
			}
		}
		key := s.Namespace + "/" + strings.Join(names, ",") + why
		k := cuts[key]
		if k == nil {
			k = &cut{problem: Problem{
				Entity: entity("NetworkPolicy", about), State: true, Urgency: event.Soon, Confidence: event.Medium, Brief: why,
				Next: []event.Check{{Why: "what the policies let in", Command: kubectl(s.Namespace, "describe networkpolicy %s", strings.Join(names[:min(3, len(names))], " "))}},
			}}
			if len(names) > 1 {
				k.problem.Brief += " (NetworkPolicies " + list(names, 3) + " together)"
			}
			cuts[key], order = k, append(order, key)
		}
		k.services = append(k.services, s.Name)
		k.problem.Seen = append(k.problem.Seen, fmt.Sprintf("Service %s: %s selected for ingress by NetworkPolicies %s: %s, %d with a peer that is there, %d of them for a port of the Service", s.Name, evidence.Count(len(chosen), "pod"), list(names, 5), evidence.Count(rules, "rule"), peered, ported))
	}
	for _, key := range order {
		k := cuts[key]
		k.problem.Title = "seems to cut off Service " + k.services[0]
		if len(k.services) > 1 {
			k.problem.Title = "seems to cut off Services " + list(k.services, 3)
		}
		found(k.problem)
	}
}

// letIn counts the rules for a Service's pods: all, those with a peer that is
// there, and of those the ones for a port that the Service leads to; and names
// the ports there are.
func (c *Cluster) letIn(s *corev1.Service, pod *corev1.Pod, policies []*networkingv1.NetworkPolicy) (rules, peered, ported int, ports []string) {
	for _, n := range policies {
		for i := range n.Spec.Ingress {
			r := &n.Spec.Ingress[i]
			rules++
			if !c.reaches(n.Namespace, r.From, false) {
				continue
			}
			peered++
			if slices.ContainsFunc(s.Spec.Ports, func(q corev1.ServicePort) bool {
				to := q.TargetPort
				if to.Type == intstr.Int && to.IntVal == 0 {
					to = intstr.FromInt32(q.Port)
				}
				return admits(r.Ports, pod, to, q.Protocol)
			}) {
				ported++
			}
			for _, q := range r.Ports {
				if q.Port != nil && !slices.Contains(ports, q.Port.String()) {
					ports = append(ports, q.Port.String())
				}
			}
		}
	}
	return rules, peered, ported, ports
}

func noDNS(c *Cluster, found func(Problem)) {
	for root, pods := range c.ordered() {
		pod := pods[0]
		if d := pod.Spec.DNSPolicy; d == corev1.DNSNone || d == corev1.DNSDefault || slices.Contains(systemNamespaces, root.Namespace) {
			continue
		}
		policies := c.policiesOn(pod, networkingv1.PolicyTypeEgress)
		named, resolves := false, len(policies) == 0
		var names []string
		for _, n := range policies {
			names = append(names, n.Name)
			for i := range n.Spec.Egress {
				r := &n.Spec.Egress[i]
				if slices.ContainsFunc(r.To, func(p networkingv1.NetworkPolicyPeer) bool { return p.IPBlock == nil }) {
					named = true // to call by labels is to call by a Service's name
				}
				resolves = resolves || dnsPort(r.Ports) && (c.reaches(n.Namespace, r.To, true) || slices.ContainsFunc(r.To, localDNS))
			}
		}
		if resolves || !named {
			continue
		}
		found(Problem{
			Entity: root, Root: root, State: true, Urgency: event.Soon, Confidence: event.Medium, Title: "seems cut off from DNS", Brief: fmt.Sprintf("it is let out to others, and to nobody at port 53 (NetworkPolicy %s)", list(names, 3)),
			Seen: []string{fmt.Sprintf("%s selected for egress by NetworkPolicies %s; no rule allows port 53 to kube-system or everybody", evidence.Count(len(pods), "pod"), list(names, 5))},
			Next: []event.Check{{Why: "what the policies let out", Command: kubectl(root.Namespace, "describe networkpolicy %s", strings.Join(names[:min(3, len(names))], " "))}},
		})
	}
}

// localDNS says whether a peer holds link-local addresses, where a node's own
// DNS cache answers.
func localDNS(p networkingv1.NetworkPolicyPeer) bool {
	if p.IPBlock == nil {
		return false
	}
	block, err := netip.ParsePrefix(p.IPBlock.CIDR)
	return err == nil && block.Contains(netip.AddrFrom4([4]byte{169, 254, 20, 10}))
}

// dnsPort says whether a rule's ports hold one at which DNS pods answer: 53, or
// what some distributions' pods have behind it.
func dnsPort(ports []networkingv1.NetworkPolicyPort) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(q networkingv1.NetworkPolicyPort) bool {
		if q.Port == nil || q.Port.Type == intstr.String {
			return q.Port == nil || strings.Contains(q.Port.StrVal, "dns")
		}
		return slices.ContainsFunc([]int{53, 1053, 5353, 8053}, func(n int) bool {
			return q.Port.IntValue() == n || q.EndPort != nil && n >= q.Port.IntValue() && n <= int(*q.EndPort)
		})
	})
}

func policyHygieneOf(c *Cluster, found func(Problem)) {
	for _, n := range c.NetworkPolicies {
		sel, err := metav1.LabelSelectorAsSelector(&n.Spec.PodSelector)
		if err != nil || sel.Empty() || len(c.selected(n.Namespace, sel)) > 0 || c.age(n.CreationTimestamp) < starting ||
			slices.ContainsFunc(c.shapes(n.Namespace), func(t shape) bool { return sel.Matches(t.labels) }) {
			continue
		}
		e := entity("NetworkPolicy", n)
		found(Problem{
			Entity: e, Urgency: event.Hygiene, Title: "selects no pod: " + oneLine(sel.String(), 80), Seen: []string{"spec.podSelector " + sel.String() + " chooses no pod of " + n.Namespace},
			Next: []event.Check{{Why: "the labels that pods have", Command: kubectl(n.Namespace, "get pods --show-labels")}},
		})
	}
}

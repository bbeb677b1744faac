package check

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// assigning is how long a cloud may take to give a load balancer its address,
// and a controller to look at what it was given.
const assigning = 5 * time.Minute

var serviceChecks = []Info{
	{
		Name: "service_endpoints", Needs: []string{"services", "pods"}, Partly: shaping,
		Doc: "Services whose selector chooses no pod, with the label that nearly does; those whose pods are all unready are told on the line of the workload that takes them down. " +
			"Not: ExternalName, without a selector, younger than a minute, of a workload that is scaled to zero or of a Job that is done, or of pods that are starting.",
		Run: serviceEndpoints,
	},
	{
		Name: "service_ports", Needs: []string{"services", "pods"},
		Doc: "Services with a named target port that none of their pods has, or has for another protocol only. Not: a number that no container lists, which is for information only and told as hygiene.",
		Run: servicePorts,
	},
	{
		Name: "load_balancers", Needs: []string{"services"},
		Doc: "Services of type LoadBalancer without an address for more than five minutes, or whose controller reports errors. Not: errors of more than an hour ago.",
		Run: loadBalancers,
	},
}

// networkHygiene are the checks of what is untidy between pods.
var networkHygiene = []Info{{
	Name: "service_hygiene", Needs: []string{"services", "pods"},
	Doc: "Services with one pod behind them, and numeric target ports that no container lists though it lists others. Not: headless Services, system namespaces.",
	Run: serviceHygiene,
}}

// selecting says whether a Service chooses pods by labels.
func selecting(s *corev1.Service) bool {
	return s.Spec.Type != corev1.ServiceTypeExternalName && len(s.Spec.Selector) > 0
}

// behind are the pods that a Service chooses, and of those the ones that are
// ready to answer.
func (c *Cluster) behind(s *corev1.Service) (chosen, ready []*corev1.Pod) {
	if !selecting(s) {
		return nil, nil
	}
	for _, p := range c.selected(s.Namespace, labels.SelectorFromSet(s.Spec.Selector)) {
		if p.Status.Phase == corev1.PodFailed {
			continue
		}
		chosen = append(chosen, p)
		if _, ok := condition(p.Status.Conditions, corev1.PodReady); (ok || s.Spec.PublishNotReadyAddresses) && p.DeletionTimestamp == nil && !c.deadNodes[p.Spec.NodeName] {
			ready = append(ready, p)
		}
	}
	return chosen, ready
}

// inTrouble says whether something that is told already explains that a
// workload's pods are not there or not ready, and whether they are on their way.
func (c *Cluster) inTrouble(root event.Entity) (trouble, starting bool) {
	pods := c.pods[root]
	for _, p := range pods {
		if t, ok := c.troubleOf(p); ok && !t.soon {
			return true, false
		}
	}
	switch o := c.object(root).(type) {
	case *appsv1.Deployment:
		_, refused := condition(o.Status.Conditions, appsv1.DeploymentReplicaFailure)
		progress, moves := condition(o.Status.Conditions, appsv1.DeploymentProgressing)
		if refused || !moves && progress.Reason == "ProgressDeadlineExceeded" {
			return true, false
		}
	case *appsv1.StatefulSet:
		if len(c.warned(root, recently, "FailedCreate")) > 0 {
			return true, false
		}
	}
	return false, len(pods) > 0
}

// lost says on the lines of those who are at fault what a Service's lack of
// ready pods takes down. It gives false when nobody who is told already is.
func (c *Cluster) lost(chosen []*corev1.Pod, p Problem, found func(Problem)) bool {
	told := map[event.Entity]bool{}
	for _, pod := range chosen {
		root := c.root(pod)
		if c.deadNodes[pod.Spec.NodeName] {
			root = event.Entity{Kind: "Node", Name: pod.Spec.NodeName}
		} else if bad, _ := c.inTrouble(root); !bad {
			continue
		}
		if told[root] {
			continue
		}
		told[root] = true
		q := p
		q.Root, q.Effect = root, true
		found(q)
	}
	return len(told) > 0
}

func serviceEndpoints(c *Cluster, found func(Problem)) {
	for _, s := range c.Services {
		if !selecting(s) || s.DeletionTimestamp != nil || c.age(s.CreationTimestamp) < starting {
			continue
		}
		chosen, ready := c.behind(s)
		if len(ready) > 0 {
			continue
		}
		e := entity("Service", s)
		down := Problem{
			Entity: e, Urgency: event.Broken, Title: "Service " + s.Name + " has no endpoint", Seen: []string{fmt.Sprintf("selector %s chooses %s, none ready", set(s.Spec.Selector), evidence.Count(len(chosen), "pod"))},
			Next: []event.Check{{Why: "the pods behind the Service", Command: kubectl(s.Namespace, "get pods -l %s -o wide", set(s.Spec.Selector))}},
		}
		if dns(s) {
			down.Title = "DNS is down: no name resolves in the cluster"
		}
		if len(chosen) > 0 {
			// Pods that are starting are nobody's trouble.
			c.lost(chosen, down, found)
			continue
		}
		wants, idle := event.Entity{}, event.Entity{}
		for _, t := range c.shapes(s.Namespace) {
			if !labels.SelectorFromSet(s.Spec.Selector).Matches(t.labels) {
				continue
			}
			if t.want > 0 {
				wants = t.root
			} else {
				idle = t.root
			}
		}
		switch {
		case !wants.IsZero():
			// Its pods are not made, or not yet; the workload says why.
			if bad, _ := c.inTrouble(wants); bad {
				down.Root, down.Effect = wants, true
				found(down)
			}
			continue
		case !idle.IsZero() && dns(s):
			down.State, down.Brief = true, Name(idle)+" is scaled to zero"
			found(down)
			continue
		case !idle.IsZero(), !c.shaped():
			continue
		}
		down.State, down.Title, down.Severity = true, "no endpoint", event.Warning
		down.Seen[0] = fmt.Sprintf("selector %s chooses no pod of %s", set(s.Spec.Selector), s.Namespace)
		down.Brief = fmt.Sprintf("its selector %s chooses no pod", set(s.Spec.Selector))
		if dns(s) {
			down.Title, down.Severity = "DNS is down", event.Critical
		}
		near := c.nearly(s)
		if near != "" {
			down.Brief += "; " + near
			down.Seen = append(down.Seen, near)
		} else if s.Spec.ClusterIP == corev1.ClusterIPNone && !dns(s) {
			// Charts make such Services for what a managed cluster hides, and for
			// peers that are not there yet.
			down.Urgency, down.Severity = event.Hygiene, event.Info
		}
		if users := c.usersOf(s); len(users) > 0 {
			down.Detail = "Used by " + list(users, 5) + "."
		}
		down.Next = []event.Check{
			{Why: "the labels that pods have, against " + set(s.Spec.Selector), Command: kubectl(s.Namespace, "get pods --show-labels")},
			describe(e, "selector, ports and endpoints"),
		}
		found(down)
	}
}

// dns says whether a Service is the cluster's DNS, which every distribution
// calls kube-dns or labels so.
func dns(s *corev1.Service) bool {
	return s.Namespace == "kube-system" && (s.Name == "kube-dns" || s.Labels["k8s-app"] == "kube-dns") && s.Spec.ClusterIP != corev1.ClusterIPNone
}

// nearly names the workload whose pods differ from a selector in one label.
func (c *Cluster) nearly(s *corev1.Service) string {
	best := ""
	for _, p := range c.byNamespace[s.Namespace] {
		var differ []string
		for _, k := range slices.Sorted(maps.Keys(s.Spec.Selector)) {
			if p.Labels[k] != s.Spec.Selector[k] {
				differ = append(differ, k)
			}
		}
		if len(differ) != 1 {
			continue
		}
		k := differ[0]
		v, has := p.Labels[k]
		switch {
		case len(s.Spec.Selector) == 1 && (!has || !similar(v, s.Spec.Selector[k], s.Name)):
			// With one label alone every pod would be near.
		case !has && best == "":
			best = fmt.Sprintf("%s has no label %s", short(c.root(p)), k)
		case has:
			return fmt.Sprintf("%s has %s=%s", short(c.root(p)), k, v)
		}
	}
	return best
}

// similar says whether a label's value is likely what a selector means.
func similar(have, want, service string) bool {
	return have == service || strings.HasPrefix(have, want) || strings.HasPrefix(want, have) || strings.EqualFold(have, want)
}

// short is an entity's name within its own namespace.
func short(e event.Entity) string {
	e.Namespace = ""
	return Name(e)
}

// usersOf are those who lead to a Service.
func (c *Cluster) usersOf(s *corev1.Service) []string {
	var out []string
	for _, i := range c.Ingresses {
		if i.Namespace == s.Namespace && slices.ContainsFunc(backends(i), func(b backend) bool { return b.service == s.Name }) {
			out = append(out, Name(entity("Ingress", i)))
		}
	}
	return out
}

// set writes labels as kubectl -l reads them.
func set(l map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, k+"="+l[k])
	}
	return strings.Join(parts, ",")
}

// listed are the ports of a pod's containers, sidecars among them.
func listed(p *corev1.Pod) []corev1.ContainerPort {
	var out []corev1.ContainerPort
	for i := range p.Spec.Containers {
		out = append(out, p.Spec.Containers[i].Ports...)
	}
	for i := range p.Spec.InitContainers {
		if r := p.Spec.InitContainers[i].RestartPolicy; r != nil && *r == corev1.ContainerRestartPolicyAlways {
			out = append(out, p.Spec.InitContainers[i].Ports...)
		}
	}
	return out
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func servicePorts(c *Cluster, found func(Problem)) {
	for _, s := range c.Services {
		_, ready := c.behind(s)
		if len(ready) == 0 {
			continue // nobody would answer at the right port either
		}
		var wrong, seen []string
		for _, port := range s.Spec.Ports {
			if port.TargetPort.Type != intstr.String {
				continue
			}
			name, fits, other := port.TargetPort.StrVal, false, corev1.Protocol("")
			var have []string
			for _, p := range ready {
				for _, l := range listed(p) {
					switch {
					case l.Name == name && protocol(l.Protocol) == protocol(port.Protocol):
						fits = true
					case l.Name == name:
						other = protocol(l.Protocol)
					case l.Name != "" && !slices.Contains(have, l.Name):
						have = append(have, l.Name)
					}
				}
			}
			if fits {
				continue
			}
			slices.Sort(have)
			why := fmt.Sprintf("port %d leads to %s, which no pod has", port.Port, name)
			switch {
			case other != "":
				why = fmt.Sprintf("port %d leads to %s by %s, and pods have that by %s", port.Port, name, protocol(port.Protocol), other)
			case len(have) > 0:
				why += fmt.Sprintf(" (they have %s)", list(have, 4))
			}
			wrong = append(wrong, why)
			seen = append(seen, fmt.Sprintf("targetPort %s/%s; container ports of %s: %s", name, protocol(port.Protocol), evidence.Count(len(ready), "pod"), strings.Join(have, ", ")))
		}
		if len(wrong) == 0 {
			continue
		}
		p := Problem{
			Entity: entity("Service", s), State: true, Urgency: event.Broken, Title: "no endpoint", Brief: strings.Join(wrong, "; "), Seen: seen,
			Next: []event.Check{
				{Why: "the names of its pods' ports", Command: kubectl(s.Namespace, "get pod %s -o yaml", ready[0].Name)},
				describe(entity("Service", s), "target ports and endpoints"),
			},
		}
		if len(wrong) < len(s.Spec.Ports) {
			p.Title, p.Severity = fmt.Sprintf("no endpoint for %d of %s", len(wrong), evidence.Count(len(s.Spec.Ports), "port")), event.Warning
		}
		found(p)
	}
}

func loadBalancers(c *Cluster, found func(Problem)) {
	for _, s := range c.Services {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		e := entity("Service", s)
		p := Problem{Entity: e, State: true, Next: []event.Check{describe(e, "its events: what the load balancer's controller says")}}
		said := c.warned(e, recently, "SyncLoadBalancerFailed", "UpdateLoadBalancerFailed", "CreatingLoadBalancerFailed", "AllocationFailed", "LoadBalancerMixedProtocolNotSupported", "UnAvailableLoadBalancer", "FailedDeployModel", "FailedBuildModel")
		if len(said) > 0 {
			last := said[len(said)-1]
			p.Brief = last.Reason + ": " + oneLine(last.Message, 140)
			p.Seen = append(p.Seen, fmt.Sprintf("event %s x%d: %s", last.Reason, last.Occurrences(), last.Message))
			p.Since = last.FirstTimestamp
		}
		switch {
		case len(s.Status.LoadBalancer.Ingress) == 0 && c.age(s.CreationTimestamp) > assigning:
			p.Urgency, p.Title, p.Since = event.Broken, "load balancer has no address", s.CreationTimestamp.Time
			p.Seen = append(p.Seen, "status.loadBalancer is empty")
			if p.Brief == "" {
				p.Brief = "no controller has said anything about it"
				if class := s.Spec.LoadBalancerClass; class != nil {
					p.Brief += " (class " + *class + ")"
				}
			}
			p.Severity = event.Warning // it may still be reached within the cluster
		case len(s.Status.LoadBalancer.Ingress) > 0 && len(said) > 0:
			p.Urgency, p.Title = event.Soon, "load balancer cannot be updated"
		default:
			continue
		}
		found(p)
	}
}

func serviceHygiene(c *Cluster, found func(Problem)) {
	for _, s := range c.Services {
		if slices.Contains(systemNamespaces, s.Namespace) || s.Spec.ClusterIP == corev1.ClusterIPNone {
			continue
		}
		chosen, ready := c.behind(s)
		if len(ready) == 0 {
			continue
		}
		var lacks []string
		if len(chosen) == 1 {
			lacks = append(lacks, "a single pod behind it: it is gone while that is replaced")
		}
		for _, port := range s.Spec.Ports {
			to, some, fits := port.TargetPort.IntValue(), false, false
			if port.TargetPort.Type != intstr.Int {
				continue
			}
			if to == 0 {
				to = int(port.Port)
			}
			for _, l := range listed(ready[0]) {
				some = true
				fits = fits || int(l.ContainerPort) == to && protocol(l.Protocol) == protocol(port.Protocol)
			}
			if some && !fits {
				lacks = append(lacks, "no container lists port "+strconv.Itoa(to)+"/"+string(protocol(port.Protocol)))
			}
		}
		if len(lacks) > 0 {
			found(Problem{
				Entity: entity("Service", s), Urgency: event.Hygiene, Title: strings.Join(lacks, "; "), Seen: []string{fmt.Sprintf("%s behind it, of which the first is %s", evidence.Count(len(chosen), "pod"), chosen[0].Name)},
				Next: []event.Check{describe(entity("Service", s), "ports and endpoints")},
			})
		}
	}
}

// serves says whether anybody answers for a Service, and if not, why.
func (c *Cluster) serves(namespace, name string) (ok bool, why string, chosen []*corev1.Pod) {
	s, _ := named(c.Services, event.Entity{Namespace: namespace, Kind: "Service", Name: name}).(*corev1.Service)
	if s == nil {
		return !c.Read("services"), fmt.Sprintf("its Service %s/%s is not there", namespace, name), nil
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return true, "", nil
	}
	why = fmt.Sprintf("its Service %s/%s has no ready endpoint", namespace, name)
	if !selecting(s) {
		if !c.Read("endpointslices") {
			return true, "", nil
		}
		return slices.ContainsFunc(c.endpoints[namespace+"/"+name], func(l *discoveryv1.EndpointSlice) bool {
			return slices.ContainsFunc(l.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Conditions.Ready == nil || *e.Conditions.Ready })
		}), why, nil
	}
	if !c.Read("pods") {
		return true, "", nil
	}
	chosen, ready := c.behind(s)
	if len(ready) > 0 {
		return true, "", nil
	}
	if len(chosen) > 0 {
		why += fmt.Sprintf(": %s of %s not ready", evidence.Count(len(chosen), "pod"), short(c.root(chosen[0])))
	} else {
		why += ": no pod has " + set(s.Spec.Selector)
		for _, t := range c.shapes(namespace) {
			if labels.SelectorFromSet(s.Spec.Selector).Matches(t.labels) && t.want == 0 && !t.done {
				why = fmt.Sprintf("its Service %s/%s has no ready endpoint: %s is scaled to zero", namespace, name, short(t.root))
			}
		}
	}
	return false, why, chosen
}

// whoAnswers is the next check for a Service that nobody answers for: its pods,
// or, when it has none, what there is that should make them.
func (c *Cluster) whoAnswers(namespace, name string) event.Check {
	s, _ := named(c.Services, event.Entity{Namespace: namespace, Kind: "Service", Name: name}).(*corev1.Service)
	if s != nil && !selecting(s) {
		return event.Check{Why: "who answers for its Service", Command: kubectl(namespace, "get endpointslices -l kubernetes.io/service-name=%s", name)}
	}
	if s != nil {
		if chosen, _ := c.behind(s); len(chosen) > 0 {
			return event.Check{Why: "the pods that should answer", Command: kubectl(namespace, "get pods -l %s -o wide", set(s.Spec.Selector))}
		}
	}
	return event.Check{Why: "whether what should answer is there, or scaled to zero", Command: kubectl(namespace, "get services,deployments,statefulsets,daemonsets")}
}

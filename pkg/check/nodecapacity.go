package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// nodeWarnings are reasons of events about nodes that say something is wrong
// with the node as a whole.
var nodeWarnings = map[string]string{
	"SystemOOM": "ran out of memory as a whole", "OOMKilling": "the kernel killed processes for lack of memory", "InvalidDiskCapacity": "the kubelet cannot tell the size of its image disk",
	"FreeDiskSpaceFailed": "the kubelet cannot free disk space", "ImageGCFailed": "the kubelet cannot remove images", "ContainerGCFailed": "the kubelet cannot remove containers",
	"NodeShutdown": "shuts down", "EvictionThresholdMet": "reclaims resources, and may evict pods", "KubeletSetupFailed": "the kubelet cannot start", "NodeNotReady": "was not ready",
}

// flaps is how often a node may become unready in an hour; the
// kubernetes-mixin's KubeNodeReadinessFlapping has more than two in 15 minutes.
const flaps = 2

func nodeEvents(c *Cluster, found func(Problem)) {
	for _, n := range c.Nodes {
		e := entity("Node", n)
		if c.deadNodes[n.Name] {
			continue
		}
		last := map[string]event.KubeEvent{}
		times := map[string]int{}
		for _, ev := range c.warned(e, recently) {
			if _, ok := nodeWarnings[ev.Reason]; ok {
				last[ev.Reason] = ev
				times[ev.Reason] += ev.Occurrences()
			}
		}
		for _, reason := range slices.Sorted(maps.Keys(last)) {
			ev, title := last[reason], nodeWarnings[reason]
			if reason == "NodeNotReady" {
				if times[reason] <= flaps {
					continue
				}
				title = fmt.Sprintf("readiness flaps: %d times not ready in the last hour", times[reason])
			}
			if reason == "InvalidDiskCapacity" && c.age(n.CreationTimestamp) < recently {
				continue // every kubelet says so once when it starts
			}
			found(Problem{
				Entity: e, State: true, Urgency: event.Soon, Since: ev.Time(), Title: title, Detail: ev.Message,
				Seen: []string{fmt.Sprintf("event %s x%d: %s", reason, times[reason], ev.Message)}, Next: []event.Check{describe(e, "conditions and events")},
			})
		}
	}
}

func nodeCapacity(c *Cluster, found func(Problem)) {
	held := map[string]int{}
	var cpu, memory resource.Quantity
	for _, p := range c.Pods {
		if p.Spec.NodeName != "" && p.Status.Phase != corev1.PodFailed {
			held[p.Spec.NodeName]++
			for i := range p.Spec.Containers {
				r := p.Spec.Containers[i].Resources.Requests
				cpu.Add(*r.Cpu())
				memory.Add(*r.Memory())
			}
		}
	}
	var sum, largest [2]resource.Quantity // cpu, memory
	for _, n := range c.Nodes {
		e := entity("Node", n)
		a := n.Status.Allocatable
		if most := a.Pods().Value(); most > 0 && float64(held[n.Name]) > 0.95*float64(most) {
			found(Problem{
				Entity: e, Urgency: event.Soon, Title: fmt.Sprintf("holds %d of the %d pods it may", held[n.Name], most), Seen: []string{fmt.Sprintf("%d pods on it, allocatable pods=%d", held[n.Name], most)},
				Next: []event.Check{{Why: "how full the nodes are", Command: "kubectl describe nodes"}},
			})
		}
		if n.Spec.Unschedulable || c.deadNodes[n.Name] {
			continue
		}
		for i, q := range []*resource.Quantity{a.Cpu(), a.Memory()} {
			sum[i].Add(*q)
			if q.Cmp(largest[i]) > 0 {
				largest[i] = *q
			}
		}
	}
	if len(c.Nodes) < 3 || c.Namespace != "" {
		return
	}
	for i, requested := range []resource.Quantity{cpu, memory} {
		name := []string{"cpu", "memory"}[i]
		left := sum[i]
		left.Sub(largest[i])
		if requested.Cmp(left) <= 0 {
			continue
		}
		e := event.Entity{Kind: "Cluster", Name: "cluster"}
		found(Problem{
			Entity: e, Root: e, Urgency: event.Soon, Severity: event.Info, Title: fmt.Sprintf("pods request %s, and without its largest node the cluster has %s", amount(requested, name), amount(left, name)),
			Detail: "If that node dies, some pods find no place.", Seen: []string{fmt.Sprintf("requested %s=%s, allocatable %s=%s on nodes that take pods, largest node %s", name, requested.String(), name, sum[i].String(), largest[i].String())},
			Next: []event.Check{{Why: "requests by node", Command: "kubectl describe nodes"}},
		})
	}
}

// amount is a quantity for people: cores, or GiB.
func amount(q resource.Quantity, name string) string {
	if name == "cpu" {
		return fmt.Sprintf("%.1f cores", q.AsApproximateFloat64())
	}
	return fmt.Sprintf("%.1f GiB", q.AsApproximateFloat64()/(1<<30))
}

// skew is how many minor versions a kubelet may be older than the API server.
const skew = 3

// supported is how long a minor version of Kubernetes gets fixes, counted from
// its release (kubernetes.io/releases/patch-releases, "support period": twelve
// months and two of maintenance).
const supported = 14 * 30 * 24 * time.Hour

// serverAge tells of an API server that was built so long ago that its minor
// version, which is older, gets no fixes any more.
func serverAge(c *Cluster, found func(Problem)) {
	if c.Built.IsZero() || c.Now.Sub(c.Built) < supported {
		return
	}
	e := event.Entity{Kind: "Cluster", Name: "cluster"}
	found(Problem{
		Entity: e, Root: e, Urgency: event.Hygiene, Title: fmt.Sprintf("Kubernetes %s gets no fixes any more: it was built %s ago", c.Version, span(c.Now.Sub(c.Built))),
		Seen: []string{fmt.Sprintf("GET /version: gitVersion %s, buildDate %s", c.Version, c.Built.UTC().Format(time.RFC3339))},
		Next: []event.Check{{Why: "versions of all nodes, which are upgraded after it", Command: "kubectl get nodes -o wide"}},
	})
}

func nodeVersions(c *Cluster, found func(Problem)) {
	server, err := version.ParseGeneric(c.Version)
	if err != nil || server.Minor() == 0 {
		return // a build without a version
	}
	for _, n := range c.Nodes {
		kubelet, err := version.ParseGeneric(n.Status.NodeInfo.KubeletVersion)
		if err != nil || kubelet.Major() != server.Major() {
			continue
		}
		var title string
		switch {
		case kubelet.Minor() > server.Minor():
			title = fmt.Sprintf("kubelet %s is newer than the API server %s", n.Status.NodeInfo.KubeletVersion, c.Version)
		case kubelet.Minor()+skew < server.Minor():
			title = fmt.Sprintf("kubelet %s is more than %d minor versions older than the API server %s", n.Status.NodeInfo.KubeletVersion, skew, c.Version)
		default:
			continue
		}
		found(Problem{
			Entity: entity("Node", n), Urgency: event.Soon, Title: title, Detail: "Neither is supported: kubernetes.io/releases/version-skew-policy.",
			Seen: []string{"status.nodeInfo.kubeletVersion=" + n.Status.NodeInfo.KubeletVersion, "API server " + c.Version}, Next: []event.Check{{Why: "versions of all nodes", Command: "kubectl get nodes -o wide"}},
		})
	}
}

func nodeHygiene(c *Cluster, found func(Problem)) {
	control := 0
	for _, n := range c.Nodes {
		if _, ok := n.Labels["node-role.kubernetes.io/control-plane"]; ok {
			control++
		}
		var untidy []string
		if n.Spec.Unschedulable && !c.deadNodes[n.Name] {
			untidy = append(untidy, "cordoned: takes no new pods")
		}
		for _, t := range n.Spec.Taints {
			if t.Effect == corev1.TaintEffectPreferNoSchedule || strings.HasPrefix(t.Key, "node.kubernetes.io/") || strings.HasPrefix(t.Key, "node-role.kubernetes.io/") {
				continue
			}
			if !slices.ContainsFunc(c.Pods, func(p *corev1.Pod) bool { return tolerates(p, t) }) {
				untidy = append(untidy, fmt.Sprintf("no pod tolerates its taint %s", t.Key))
			}
		}
		if len(untidy) > 0 {
			found(Problem{
				Entity: entity("Node", n), Urgency: event.Hygiene, Title: strings.Join(untidy, "; "), Seen: []string{fmt.Sprintf("spec.unschedulable=%v, %s", n.Spec.Unschedulable, evidence.Count(len(n.Spec.Taints), "taint"))},
				Next: []event.Check{describe(entity("Node", n), "taints and events")},
			})
		}
	}
	if control == 1 && len(c.Nodes) > 1 {
		e := event.Entity{Kind: "Cluster", Name: "cluster"}
		found(Problem{
			Entity: e, Root: e, Urgency: event.Hygiene, Title: "one control-plane node: when it goes, so does the API server", Seen: []string{"1 node with the label node-role.kubernetes.io/control-plane"},
			Next: []event.Check{{Why: "roles of the nodes", Command: "kubectl get nodes"}},
		})
	}
}

// tolerates says whether a pod names the taint in a toleration of its own; one
// that tolerates everything says nothing about this taint.
func tolerates(p *corev1.Pod, t corev1.Taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool {
		return o.Key == t.Key && (o.Effect == "" || o.Effect == t.Effect) && (o.Operator == corev1.TolerationOpExists || o.Value == t.Value)
	})
}

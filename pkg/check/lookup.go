package check

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// decoded is an object as the API would give it in JSON, which is what rules
// read.
func (c *Cluster) decoded(kind string, o any) Object {
	body, err := json.Marshal(o)
	if err != nil {
		return Object{"kind": kind} // a type of Kubernetes' own is always written
	}
	var out Object
	if json.Unmarshal(body, &out) != nil {
		return Object{"kind": kind}
	}
	out["kind"] = kind
	return out
}

// current is a pod without what is over: how a container ended long ago
// explains nothing of how it is now.
func (c *Cluster) current(p *corev1.Pod) *corev1.Pod {
	old := func(s corev1.ContainerStatus) bool {
		e := s.LastTerminationState.Terminated
		return e != nil && c.age(e.FinishedAt) > recently && s.State.Running != nil
	}
	if !slices.ContainsFunc(p.Status.ContainerStatuses, old) {
		return p
	}
	out := *p
	out.Status.ContainerStatuses = slices.Clone(p.Status.ContainerStatuses)
	for i := range out.Status.ContainerStatuses {
		if s := &out.Status.ContainerStatuses[i]; old(*s) {
			s.LastTerminationState, s.RestartCount = corev1.ContainerState{}, 0
		}
	}
	return &out
}

// about are the recent warnings about an entity, its pods, and what stands
// between them, without those that a pod has outlived: that it waited for a node
// explains nothing of how it runs.
func (c *Cluster) about(e event.Entity, pods []*corev1.Pod) []event.KubeEvent {
	seen := map[event.Entity]bool{e: true}
	there := map[event.Entity]*corev1.Pod{}
	if e.Kind != "Node" {
		for _, p := range pods {
			seen[entity("Pod", p)] = true
			there[entity("Pod", p)] = p
			for _, o := range p.OwnerReferences {
				seen[event.Entity{Namespace: p.Namespace, Kind: o.Kind, Name: o.Name}] = true
			}
		}
	}
	for r, up := range c.controller {
		if up.Entity() == e {
			seen[r.Entity()] = true // a ReplicaSet or Job that has no pods
		}
	}
	var out []event.KubeEvent
	for about := range seen {
		for _, ev := range c.events[about] {
			if p := there[about]; c.Now.Sub(ev.Time()) <= recently && (p == nil || !kube.StandingOf(p).Outlived(ev)) {
				out = append(out, ev)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b event.KubeEvent) int {
		if d := a.Time().Compare(b.Time()); d != 0 {
			return d
		}
		return strings.Compare(a.Metadata.UID, b.Metadata.UID)
	})
	return out
}

// crashed is a container of the root's pods that ended badly not long ago, and
// the node that it is on.
func (c *Cluster) crashed(root event.Entity) (pod, container, node string, ok bool) {
	for _, p := range c.pods[root] {
		if t, bad := c.troubleOf(p); !bad || t.what == "Terminating" {
			continue
		}
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if e := s.LastTerminationState.Terminated; e != nil && s.RestartCount > 0 && e.ExitCode != 0 {
				return p.Name, s.Name, p.Spec.NodeName, true
			}
		}
	}
	return "", "", "", false
}

// shared is the one node on which all pods in trouble are, or nil.
func (c *Cluster) shared(pods []*corev1.Pod) *corev1.Node {
	name := ""
	for _, p := range pods {
		if _, ready := condition(p.Status.Conditions, corev1.PodReady); ready || p.Spec.NodeName == "" {
			continue
		}
		if name != "" && name != p.Spec.NodeName {
			return nil
		}
		name = p.Spec.NodeName
	}
	return c.node[name]
}

// NodeAt is the node of a name, or of one of its addresses, by which Prometheus
// knows it.
func (c *Cluster) NodeAt(name string) (event.Entity, bool) {
	if n := c.node[name]; n != nil {
		return entity("Node", n), true
	}
	for _, n := range c.Nodes {
		if slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return a.Address == name }) {
			return entity("Node", n), true
		}
	}
	return event.Entity{}, false
}

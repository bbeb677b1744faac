package correlator

import (
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/owner"
)

// topology is what the cluster looked like, from the log.
type topology struct {
	Workloads map[string]event.Topology `json:"workloads"` // by entity
	pods      map[string]string         // namespace/pod to workload's entity
	nodes     map[string][]string       // node to entities of workloads with pods there
	services  map[string]string         // namespace/service to workload's entity
	callers   map[string][]string       // entity to entities of workloads that call it
}

func newTopology() *topology { return &topology{Workloads: map[string]event.Topology{}} }

func (t *topology) put(n event.Topology) {
	key := n.Entity.String()
	if n.Deleted {
		delete(t.Workloads, key)
	} else {
		t.Workloads[key] = n
	}
	t.pods = nil // made again when needed
}

func (t *topology) index() {
	if t.pods != nil {
		return
	}
	t.pods, t.nodes, t.services, t.callers = map[string]string{}, map[string][]string{}, map[string]string{}, map[string][]string{}
	for _, key := range sortedKeys(t.Workloads) {
		w := t.Workloads[key]
		for _, p := range w.Pods {
			t.pods[w.Entity.Namespace+"/"+p.Pod] = key
			if p.Node != "" && !slices.Contains(t.nodes[p.Node], key) {
				t.nodes[p.Node] = append(t.nodes[p.Node], key)
			}
		}
		for _, s := range w.Services {
			t.services[w.Entity.Namespace+"/"+s] = key
		}
	}
	for _, key := range sortedKeys(t.Workloads) {
		for _, e := range t.Workloads[key].Calls {
			callee := t.root(e).String()
			t.callers[callee] = append(t.callers[callee], key)
		}
	}
}

// root is the workload an entity belongs to, or itself.
func (t *topology) root(e event.Entity) event.Entity {
	t.index()
	e.Cluster = ""
	switch e.Kind {
	case "Pod":
		if k, ok := t.pods[e.Namespace+"/"+e.Name]; ok {
			return t.Workloads[k].Entity
		}
		return t.named(e.Namespace, event.WorkloadOfPod(e.Name))
	case "Service":
		if k, ok := t.services[e.Namespace+"/"+e.Name]; ok {
			return t.Workloads[k].Entity
		}
	case "ReplicaSet":
		return t.named(e.Namespace, event.WorkloadOfPod(e.Name+"-xxxxx")) // its hash stands where a pod's would
	case "Workload":
		return t.named(e.Namespace, e.Name)
	}
	return e
}

// named finds the workload of a name whose kind is not known.
func (t *topology) named(namespace, name string) event.Entity {
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Rollout", "Job"} {
		e := event.Entity{Namespace: namespace, Kind: kind, Name: name}
		if _, ok := t.Workloads[e.String()]; ok {
			return e
		}
	}
	return event.Entity{Namespace: namespace, Kind: "Workload", Name: name}
}

// nodesOf are the nodes that run pods of a workload.
func (t *topology) nodesOf(root event.Entity) []string {
	var out []string
	for _, p := range t.Workloads[root.String()].Pods {
		if p.Node != "" && !slices.Contains(out, p.Node) {
			out = append(out, p.Node)
		}
	}
	return out
}

// on are the workloads with pods on a node.
func (t *topology) on(node string) []string {
	t.index()
	return t.nodes[node]
}

// calls says whether caller is known to call callee.
func (t *topology) calls(caller, callee event.Entity) bool {
	return slices.ContainsFunc(t.Workloads[caller.String()].Calls, func(e event.Entity) bool { return t.root(e) == callee })
}

// linked are the workloads that a workload calls, or that call it.
func (t *topology) linked(root event.Entity) []string {
	t.index()
	out := slices.Clone(t.callers[root.String()])
	for _, e := range t.Workloads[root.String()].Calls {
		out = append(out, t.root(e).String())
	}
	return out
}

// aliases are other names of a workload: a source that does not know kinds
// calls it Workload.
func (t *topology) aliases(root event.Entity) []string {
	if root.Namespace == "" {
		return nil
	}
	kinds := []string{"Workload"}
	if root.Kind == "Workload" {
		kinds = []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Rollout", "Job"}
	}
	for i, k := range kinds {
		kinds[i] = event.Entity{Namespace: root.Namespace, Kind: k, Name: root.Name}.String()
	}
	return kinds
}

// labels are the ownership labels of a workload.
func (t *topology) labels(root event.Entity) owner.Labels {
	return owner.Labels{
		Own:       t.Workloads[root.String()].Labels,
		Namespace: t.Workloads[event.Entity{Kind: "Namespace", Name: root.Namespace}.String()].Labels,
	}
}

// relation is how two things hang together, strongest first. Zero: not at all.
type relation int

const (
	unrelated     relation = iota
	sameNamespace          // and nearly at the same time
	sameNode
	neighbours // one calls the other
	placed     // a workload and a node that runs it
	same
)

// relate compares two roots.
func (t *topology) relate(a, b event.Entity) relation {
	switch {
	case a == b, a.Namespace == b.Namespace && a.Name == b.Name && (a.Kind == "Workload" || b.Kind == "Workload"):
		return same
	case a.Kind == "Node" && b.Kind != "Node":
		return t.relate(b, a)
	case b.Kind == "Node" && slices.Contains(t.nodesOf(a), b.Name):
		return placed
	case t.calls(a, b), t.calls(b, a):
		return neighbours
	case a.Namespace != "" && a.Namespace == b.Namespace:
		return sameNamespace
	case a.Namespace != "" && b.Kind == "Namespace" && a.Namespace == b.Name, b.Namespace != "" && a.Kind == "Namespace" && b.Namespace == a.Name:
		return sameNamespace
	}
	return unrelated
}

// near says whether two times lie within d of each other.
func near(a, b time.Time, d time.Duration) bool { return a.Sub(b).Abs() <= d }

package cost

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// full is how far nodes may be filled when others are emptied into them: room is
// left for a rollout.
const full = 0.9

// room is a node and what is free on it.
type room struct {
	node          *corev1.Node
	cores, gibs   float64 // free, of the part that may be filled
	slots         int
	movable       []*corev1.Pod
	stays         bool // something on it cannot be moved
	heldC, heldGB float64
}

// spread tells of nodes that could be emptied into the others: their pods' requests,
// selectors, taints and affinities allow it.
func (x *examiner) spread() {
	if x.c.Namespace != "" || !x.c.Read("nodes") || !x.c.Read("pods") || len(x.c.Nodes) < 2 {
		return
	}
	rooms := x.rooms()
	var emptied []*room
	var gain Amount
	order := slices.Clone(rooms)
	slices.SortStableFunc(order, func(a, b *room) int {
		return cmp.Or(cmp.Compare(a.heldC, b.heldC), strings.Compare(a.node.Name, b.node.Name))
	})
	gone := map[*room]bool{}
	for _, r := range order {
		if r.stays || len(rooms)-len(emptied) < 3 || !moved(r, rooms, gone) {
			continue // two nodes remain, so that one may die
		}
		gone[r] = true
		emptied = append(emptied, r)
		gain = gain.Plus(x.o.Prices.priced(quantity(r.node.Status.Allocatable, "cpu"), quantity(r.node.Status.Allocatable, "memory")/gib, x.rates[r.node.Name]))
	}
	if len(emptied) == 0 {
		return
	}
	var names, seen []string
	for _, r := range emptied {
		names = append(names, r.node.Name)
		seen = append(seen, r.line())
	}
	for _, r := range rooms {
		if !gone[r] && len(seen) < 40 {
			seen = append(seen, r.line())
		}
	}
	shown := strings.Join(names[:min(3, len(names))], ", ")
	if n := len(names) - 3; n > 0 {
		shown += fmt.Sprintf(" and %d more", n)
	}
	i := x.add(x.waste, "", noted{
		rule: ruleSpread, entity: event.Entity{Kind: "Cluster", Name: "cluster"}, urgency: event.Hygiene, seen: seen,
		title: fmt.Sprintf("%d of %d nodes could be emptied into the others: %s", len(names), len(x.c.Nodes), shown),
		next:  []event.Check{{Why: "what is on it", Command: "kubectl get pods -A -o wide --field-selector spec.nodeName=" + names[0]}},
	})
	i.Amount, i.Risk = gain, Risk{"medium", "judged by requests, selectors, taints and affinities alone; its pods restart elsewhere"}
}

func (r *room) line() string {
	a := r.node.Status.Allocatable
	return fmt.Sprintf("node %s: %s of %s cores and %s of %s requested", r.node.Name, cores(r.heldC), cores(quantity(a, "cpu")), size(r.heldGB*gib), size(quantity(a, "memory")))
}

// rooms are the nodes that take pods, with what is free on them.
func (x *examiner) rooms() []*room {
	var out []*room
	at := map[string]*room{}
	for _, n := range x.c.Nodes {
		ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
		if n.Spec.Unschedulable || !ready {
			continue
		}
		_, control := n.Labels["node-role.kubernetes.io/control-plane"]
		r := &room{node: n, cores: full * quantity(n.Status.Allocatable, "cpu"), gibs: full * quantity(n.Status.Allocatable, "memory") / gib, slots: int(quantity(n.Status.Allocatable, "pods")), stays: control}
		out, at[n.Name] = append(out, r), r
	}
	for _, w := range x.workloads {
		for _, p := range w.pods {
			r := at[p.Spec.NodeName]
			if r == nil {
				continue
			}
			c, m := held(&p.Spec)
			r.cores, r.gibs, r.slots = r.cores-c, r.gibs-m, r.slots-1
			r.heldC, r.heldGB = r.heldC+c, r.heldGB+m
			switch {
			case w.entity.Kind == "DaemonSet" || p.Annotations["kubernetes.io/config.mirror"] != "":
				// It ends with the node.
			case w.entity.Kind == "Pod" || w.entity.Kind == "Job" || w.entity.Kind == "CronJob" || !movable(p):
				r.stays = true
			default:
				r.movable = append(r.movable, p)
			}
		}
	}
	return out
}

// movable says whether where a pod may run is known from its requests, selector
// and tolerations alone.
func movable(p *corev1.Pod) bool {
	if p.Annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false" || p.Annotations["karpenter.sh/do-not-disrupt"] == "true" {
		return false
	}
	if a := p.Spec.Affinity; a != nil {
		if a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil ||
			a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 ||
			a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			return false
		}
	}
	if slices.ContainsFunc(p.Spec.TopologySpreadConstraints, func(c corev1.TopologySpreadConstraint) bool {
		return c.WhenUnsatisfiable == corev1.DoNotSchedule
	}) {
		return false
	}
	// A volume may be of one zone or one node.
	return !slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.HostPath != nil
	})
}

// moved puts the pods of a node into the others, the largest first; false, with
// nothing changed, when one finds no place.
func moved(from *room, rooms []*room, gone map[*room]bool) bool {
	pods := slices.Clone(from.movable)
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		ca, ma := held(&a.Spec)
		cb, mb := held(&b.Spec)
		return cmp.Or(cmp.Compare(cb, ca), cmp.Compare(mb, ma))
	})
	at := map[*corev1.Pod]*room{}
	for _, p := range pods {
		c, m := held(&p.Spec)
		i := slices.IndexFunc(rooms, func(r *room) bool {
			return r != from && !gone[r] && r.slots > 0 && r.cores >= c && r.gibs >= m && welcome(p, r.node)
		})
		if i < 0 {
			for p, r := range at {
				c, m := held(&p.Spec)
				r.cores, r.gibs, r.slots = r.cores+c, r.gibs+m, r.slots+1
			}
			return false
		}
		r := rooms[i]
		r.cores, r.gibs, r.slots = r.cores-c, r.gibs-m, r.slots-1
		at[p] = r
	}
	for _, p := range pods {
		at[p].movable = append(at[p].movable, p) // they may be emptied with them later
	}
	return true
}

// welcome says whether a node has the labels a pod wants, and no taint that it does
// not tolerate.
func welcome(p *corev1.Pod, n *corev1.Node) bool {
	if !labelled(n.Labels, p.Spec.NodeSelector) {
		return false
	}
	return !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect != corev1.TaintEffectPreferNoSchedule && !slices.ContainsFunc(p.Spec.Tolerations, func(o corev1.Toleration) bool {
			return (o.Effect == "" || o.Effect == t.Effect) && (o.Key == "" && o.Operator == corev1.TolerationOpExists || o.Key == t.Key && (o.Operator == corev1.TolerationOpExists || o.Value == t.Value))
		})
	})
}

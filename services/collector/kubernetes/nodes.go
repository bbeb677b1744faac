package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// node is what is known of a node.
type node struct {
	uid        string
	created    time.Time
	conditions map[string]condition
	cordoned   bool
	cordonedAt time.Time
	taints     []string // without those that repeat conditions or the cordon
	hosts      []string // zone, instance type
	labels     map[string]string
	drained    bool // the drain of this cordon was told
	leaving    map[kube.Ref]bool
}

type condition struct {
	status, reason string
	since          time.Time
}

func (w *world) takeNode(o *corev1.Node, tell bool) {
	next := &node{uid: string(o.UID), created: o.CreationTimestamp.UTC(), conditions: map[string]condition{}, cordoned: o.Spec.Unschedulable, labels: w.ownership(o), leaving: map[kube.Ref]bool{}}
	for _, c := range o.Status.Conditions {
		next.conditions[string(c.Type)] = condition{string(c.Status), c.Reason, c.LastTransitionTime.UTC()}
	}
	for _, t := range o.Spec.Taints {
		if t.Key == corev1.TaintNodeUnschedulable && t.TimeAdded != nil {
			next.cordonedAt = t.TimeAdded.UTC()
		}
		if !strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			next.taints = append(next.taints, t.ToString())
		}
	}
	slices.Sort(next.taints)
	for _, k := range []string{corev1.LabelTopologyZone, corev1.LabelInstanceTypeStable} {
		if v := o.Labels[k]; v != "" {
			next.hosts = append(next.hosts, v)
		}
	}
	old := w.nodes[o.Name]
	w.nodes[o.Name] = next
	if old == nil || old.conditions["Ready"].status != next.conditions["Ready"].status || !slices.Equal(old.hosts, next.hosts) || !maps.Equal(old.labels, next.labels) {
		w.dirty[nodeRef(o.Name)] = true
	}
	if old != nil && old.cordoned && next.cordoned {
		next.drained, next.leaving = old.drained, old.leaving
		if next.cordonedAt.IsZero() {
			next.cordonedAt = old.cordonedAt
		}
	}
	if next.cordoned && next.cordonedAt.IsZero() {
		next.cordonedAt = w.when(w.editOf(o))
	}
	if !tell {
		return
	}
	w.tellNode(o.Name, old, next)
}

func nodeRef(name string) kube.Ref { return kube.Ref{Kind: "Node", Name: name} }

// tellNode tells what differs between two states of a node; old is nil for one
// that has joined.
func (w *world) tellNode(name string, old, next *node) {
	entity := nodeRef(name).Entity()
	if old == nil {
		w.change(event.Change{
			Kind: event.NodeState, Entity: entity, Time: next.created, Revision: "joined-" + next.uid, Summary: "node joined the cluster",
		})
		return
	}
	for _, typ := range slices.Sorted(maps.Keys(next.conditions)) {
		was, is := old.conditions[typ], next.conditions[typ]
		if was.status == is.status || was.status == "" && is.status == "False" {
			continue
		}
		w.change(event.Change{
			Kind: event.NodeState, Entity: entity, Time: is.since, Revision: fmt.Sprintf("%s-%s-%d", typ, is.status, is.since.Unix()),
			Summary: fmt.Sprintf("condition %s %s -> %s (%s)", typ, orUnset(was.status), is.status, is.reason),
			Fields:  []event.FieldChange{{Path: "status.conditions[" + typ + "]", From: was.status, To: is.status}},
		})
	}
	if old.cordoned != next.cordoned {
		at, what := next.cordonedAt, "cordoned"
		if !next.cordoned {
			at, what = w.now(), "uncordoned"
		}
		// An uncordon is named for the cordon that it ends, which every run knows.
		w.change(event.Change{
			Kind: event.NodeState, Entity: entity, Time: at, Revision: fmt.Sprintf("%s-%d", what, maxTime(old.cordonedAt, next.cordonedAt).Unix()), Summary: "node " + what,
			Fields: []event.FieldChange{{Path: "spec.unschedulable", From: fmt.Sprint(old.cordoned), To: fmt.Sprint(next.cordoned)}},
		})
	}
	if !slices.Equal(old.taints, next.taints) {
		from, to := strings.Join(old.taints, ","), strings.Join(next.taints, ",")
		w.change(event.Change{
			Kind: event.NodeState, Entity: entity, Time: w.now(), Revision: fmt.Sprintf("taints-%08x-%08x", uint32(event.HashStrings(from)), uint32(event.HashStrings(to))),
			Summary: fmt.Sprintf("taints %s -> %s", orUnset(from), orUnset(to)), Fields: []event.FieldChange{{Path: "spec.taints", From: from, To: to}},
		})
	}
}

func orUnset(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *world) dropNode(name string) {
	n, ok := w.nodes[name]
	if !ok {
		return
	}
	delete(w.nodes, name)
	w.dirty[nodeRef(name)] = true
	if w.started {
		w.left(name, n.uid)
	}
}

func (w *world) left(name, uid string) {
	w.change(event.Change{
		Kind: event.NodeState, Entity: nodeRef(name).Entity(), Time: w.now(), Revision: "left-" + uid, Summary: "node left the cluster",
	})
}

// noteDrain notices that a cordoned node is being emptied: a pod was evicted
// from it, or pods of two workloads are leaving it.
func (w *world) noteDrain(p *pod) {
	n := w.nodes[p.node]
	if n == nil || !n.cordoned || n.drained || p.root.Kind == "DaemonSet" {
		return
	}
	n.leaving[p.root] = true
	if !p.evicted && len(n.leaving) < 2 {
		return
	}
	n.drained = true
	w.change(event.Change{
		Kind: event.Drain, Entity: nodeRef(p.node).Entity(), Time: w.now(), Revision: fmt.Sprintf("drain-%d", n.cordonedAt.Unix()),
		Summary: "node is being drained",
	})
}

// fingerprint is the state of a node in the cursor.
func (n *node) fingerprint() savedNode {
	s := savedNode{UID: n.uid, Cordoned: n.cordoned, CordonedAt: n.cordonedAt, Taints: n.taints, Conditions: map[string]string{}}
	for t, c := range n.conditions {
		s.Conditions[t] = c.status
	}
	return s
}

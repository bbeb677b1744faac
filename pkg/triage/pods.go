package triage

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// maxPods is how many pods of a workload are told.
const maxPods = 20

// podsEvidence answers what was read of the pods.
func (g *gathered) podsEvidence(redact evidence.Redactor) event.Evidence {
	items := make([]map[string]any, 0, len(g.pods))
	for _, p := range g.looked() {
		items = append(items, decoded("Pod", p))
	}
	of := g.root
	if g.pod != "" {
		of = event.Entity{Namespace: g.root.Namespace, Kind: "Pod", Name: g.pod}
	}
	e := evidence.Answers{Redact: redact}.Pods(evidence.Query{Source: evidence.Kubernetes, Expr: fmt.Sprintf("pods %s %s/%s", of.Namespace, of.Kind, of.Name), End: g.c.Now, Limit: maxPods, Entity: g.root}, items, false)
	e.Values = nil // people read the excerpt
	return e
}

func decoded(kind string, o any) map[string]any {
	var out map[string]any
	body, err := json.Marshal(o)
	if err != nil || json.Unmarshal(body, &out) != nil {
		out = map[string]any{}
	}
	out["kind"] = kind
	return out
}

// podLines say how each pod is; the one that was asked about stands first, then
// those in trouble.
func (g *gathered) podLines(line func(string) string, cited []string) (out []Pod, restarts int) {
	pods := slices.Clone(g.pods)
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return boolRank(b.Name == g.pod) - boolRank(a.Name == g.pod) })
	for _, p := range pods {
		one := Pod{Name: p.Name, Node: p.Spec.NodeName, State: strings.ToLower(string(p.Status.Phase)), Evidence: cited}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				one.Ready, one.State, one.Since = true, "ready", c.LastTransitionTime.UTC()
			}
		}
		what, since, bad := g.c.Trouble(p)
		n := g.c.Node(p.Spec.NodeName)
		switch {
		case bad:
			one.State, one.Since = what, since.UTC()
		case p.DeletionTimestamp != nil:
			one.State = "terminating"
		case n != nil && !nodeReady(n):
			one.Ready, one.State, one.Since = false, "its node is not ready", time.Time{}
		case !one.Ready && one.State == "running":
			one.State = "not ready yet"
		}
		for i, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
			for _, s := range list {
				restarts += int(s.RestartCount)
				k := Container{Name: s.Name, Init: i == 0, Restarts: int(s.RestartCount)}
				if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
					k.Waiting, k.Message = w.Reason, line(w.Message)
				}
				end := s.LastTerminationState.Terminated
				if s.State.Terminated != nil {
					end = s.State.Terminated
				}
				if end != nil && !(i == 0 && end.ExitCode == 0) {
					k.Last = &Termination{Reason: end.Reason, ExitCode: int(end.ExitCode), Signal: int(end.Signal), Message: line(strings.TrimSpace(end.Message))}
					k.Last.Started, k.Last.Finished = utc(end.StartedAt.Time), utc(end.FinishedAt.Time)
				}
				if k.Restarts > 0 || k.Waiting != "" || k.Last != nil {
					one.Containers = append(one.Containers, k)
				}
			}
		}
		out = append(out, one)
	}
	return out[:min(len(out), maxPods)], restarts
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// nodeState says how a node is, and the lines that say so.
func nodeState(n *corev1.Node) (state string, ok bool, seen []string) {
	var bad []string
	for _, c := range n.Status.Conditions {
		seen = append(seen, fmt.Sprintf("condition %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
		switch c.Type {
		case corev1.NodeReady:
		case corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeNetworkUnavailable:
			if c.Status == corev1.ConditionTrue {
				bad = append(bad, string(c.Type))
			}
		}
	}
	if !nodeReady(n) {
		bad = append([]string{"NotReady"}, bad...)
	}
	if n.Spec.Unschedulable {
		seen = append(seen, "spec.unschedulable=true")
		bad = append(bad, "cordoned")
	}
	if len(bad) == 0 {
		return "Ready, no pressure", true, seen
	}
	return strings.Join(bad, ", "), false, seen
}

// nodeLines say how the nodes are that the pods are on.
func (g *gathered) nodeLines(cite func(event.Evidence) string, redact evidence.Redactor) []Node {
	var out []Node
	for _, name := range g.nodes() {
		one := Node{Name: name, Evidence: []string{}}
		for _, p := range g.pods {
			if p.Spec.NodeName == name {
				one.Pods++
			}
		}
		for _, p := range g.guests[name] {
			if _, _, bad := g.c.Trouble(p); bad && g.c.RootOfPod(p) != g.root {
				one.Troubled++
			}
		}
		n := g.c.Node(name)
		if n == nil {
			one.State = "not read" // said among what was not
			out = append(out, one)
			continue
		}
		var seen []string
		one.State, one.OK, seen = nodeState(n)
		for i := range seen {
			seen[i] = redact.Line(seen[i])
		}
		one.Evidence = []string{cite(evidence.New(evidence.Query{Source: evidence.Kubernetes, Expr: "object Node " + name, End: g.c.Now, Entity: event.Entity{Kind: "Node", Name: name}}, seen, nil))}
		out = append(out, one)
	}
	return out
}

// maxNeighbours is how many other things in trouble are told.
const maxNeighbours = 5

// neighbours are what else is in trouble: in the namespace as health tells it,
// and on the nodes.
func (g *gathered) neighbours(roots []check.Root, around []Neighbour, cite func([]string) []string, pods func([]*corev1.Pod, string) string, line func(string) string) (out []Neighbour, more int) {
	told := map[event.Entity]bool{g.root: true}
	for _, n := range around {
		told[n.Entity] = true
	}
	for _, r := range roots {
		if told[r.Entity] || r.Urgency == event.Hygiene || r.Entity.Namespace != g.root.Namespace {
			continue
		}
		told[r.Entity] = true
		if len(out) >= maxNeighbours {
			more++
			continue
		}
		out = append(out, Neighbour{Entity: r.Entity, Where: g.root.Namespace, Status: r.Line(g.c.Now), Evidence: cite(r.Findings[0].Evidence)})
	}
	for _, node := range g.nodes() {
		bad := map[event.Entity][]*corev1.Pod{}
		for _, p := range g.guests[node] {
			root := g.c.RootOfPod(p)
			if _, _, is := g.c.Trouble(p); is && !told[root] {
				bad[root] = append(bad[root], p)
			}
		}
		roots := make([]event.Entity, 0, len(bad))
		for e := range bad {
			roots = append(roots, e)
		}
		slices.SortFunc(roots, func(a, b event.Entity) int { return cmp.Or(len(bad[b])-len(bad[a]), a.Compare(b)) })
		for _, e := range roots {
			told[e] = true
			if len(out) >= maxNeighbours {
				more++
				continue
			}
			what, since, _ := g.c.Trouble(bad[e][0])
			out = append(out, Neighbour{Entity: e, Where: node, Status: line(fmt.Sprintf("%s %s", what, age(g.c.Now.Sub(since)))), Evidence: []string{pods(bad[e], node)}})
		}
	}
	return out, more
}

// age is a span of time as the lines of health have it.
func age(d time.Duration) string { return check.Age(d) }

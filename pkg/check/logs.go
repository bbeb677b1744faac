package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// unreadLog is a crashed container of which the last lines were asked for and
// could not be read.
type unreadLog struct{ namespace, pod, container, node, why string }

// noKubelet is how a reason begins when it is the kubelet that did not answer.
const noKubelet = "unreachable: the API server cannot reach the node's kubelet"

// logChecks are run after the last lines of crashed containers were asked for.
var logChecks = []Info{{
	Name: "unreadable_logs", Needs: []string{"nodes"},
	Doc: "Nodes whose kubelet the API server does not reach when the last lines of a crashed container are asked for: neither logs nor exec work there. What else keeps logs from being read is said under not checked. Not: a node that is not ready, which has a line already, or younger than a minute.",
	Run: unreadableLogs,
}}

func unreadableLogs(c *Cluster, found func(Problem)) {
	seen := map[string][]string{}
	for _, l := range c.unreadLogs {
		if strings.HasPrefix(l.why, noKubelet) {
			seen[l.node] = append(seen[l.node], fmt.Sprintf("logs of %s/%s container %s: %s", l.namespace, l.pod, l.container, l.why))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		n := c.node[name]
		if n == nil || c.deadNodes[name] || c.age(n.CreationTimestamp) < starting {
			continue
		}
		slices.Sort(seen[name])
		_, why, _ := strings.Cut(seen[name][0], noKubelet+": ")
		e := entity("Node", n)
		found(Problem{
			Entity: e, Urgency: event.Soon, State: true, Title: "the API server does not reach its kubelet: no logs, no exec", Brief: oneLine(why, 100), Seen: seen[name],
			Next: []event.Check{describe(e, "its addresses and the port of its kubelet"), {Why: "what stands between: a firewall, a tunnel", Command: "kubectl get nodes -o wide"}},
		})
	}
}

// unread says of the logs that were not read for another reason which and why: a
// line for each kind of reason, with the first of them.
func (c *Cluster) unread() []Unchecked {
	of, first := map[string][]string{}, map[string]unreadLog{}
	for _, l := range c.unreadLogs {
		if strings.HasPrefix(l.why, noKubelet) && !c.deadNodes[l.node] && c.node[l.node] != nil {
			continue
		}
		kind, _, _ := strings.Cut(l.why, ":")
		of[kind] = append(of[kind], l.namespace+"/"+l.pod+" "+l.container)
		if was, ok := first[kind]; !ok || l.namespace+"/"+l.pod < was.namespace+"/"+was.pod {
			first[kind] = l // they come in the order of their answers
		}
	}
	var out []Unchecked
	for _, kind := range slices.Sorted(maps.Keys(of)) {
		slices.Sort(of[kind])
		out = append(out, Unchecked{fmt.Sprintf("last lines of %s (%s)", evidence.Count(len(of[kind]), "crashed container"), list(of[kind], 3)), first[kind].why})
	}
	return out
}

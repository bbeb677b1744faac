package check

import (
	"fmt"
	"regexp"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var nodeChecks = []Info{
	{
		Name: "nodes", Needs: []string{"nodes"},
		Doc: "Nodes that are not ready, with how many pods that concerns (those are not told again), under memory, disk or PID pressure, without network, or with a condition that a problem detector set. Not: a node younger than two minutes.",
		Run: nodes,
	},
	{
		Name: "node_events", Needs: []string{"nodes", "events"},
		Doc: "Nodes that ran out of memory as a whole, cannot free disk, shut down, or whose readiness flaps, in the last hour. Not: nodes that are not ready now, which are told already.",
		Run: nodeEvents,
	},
	{
		Name: "node_capacity", Needs: []string{"nodes", "pods"},
		Doc: "Nodes with more than 95 % of the pods they may hold; and a cluster whose pods request more than its nodes have without the largest of them, so that one node's death leaves pods without a place. Not: clusters of one or two nodes, which never could.",
		Run: nodeCapacity,
	},
	{
		Name: "node_versions", Needs: []string{"nodes"},
		Doc: "Kubelets newer than the API server, or more than three minor versions older (kubernetes.io/releases/version-skew-policy). Not: the skew of an upgrade that goes on.",
		Run: nodeVersions,
	},
	{
		Name: "server_age",
		Doc:  "An API server that was built over fourteen months ago, so that its minor version gets no fixes any more. Not: builds that do not say when they were made.",
		Run:  serverAge,
	},
	{
		Name: "node_clocks", Needs: []string{"nodes", "leases"},
		Doc: "Nodes whose clock is more than half a minute ahead of the API server's, or more than two minutes behind, by the leases that kubelets renew every ten seconds. Not: nodes that are not ready, of which a lease says nothing.",
		Run: nodeClocks,
	},
	{
		Name: "node_hygiene", Needs: []string{"nodes", "pods"},
		Doc: "Nodes cordoned, a single control-plane node, and taints that no pod tolerates.",
		Run: nodeHygiene,
	},
}

// calm are the conditions that a healthy node has, with the status that is well.
var calm = map[corev1.NodeConditionType]corev1.ConditionStatus{
	corev1.NodeReady: corev1.ConditionTrue, corev1.NodeMemoryPressure: corev1.ConditionFalse, corev1.NodeDiskPressure: corev1.ConditionFalse,
	corev1.NodePIDPressure: corev1.ConditionFalse, corev1.NodeNetworkUnavailable: corev1.ConditionFalse,
}

// praise are the endings of conditions that others set and that are good when
// they hold, such as k3s' EtcdIsVoter.
var praise = regexp.MustCompile(`(Ready|Healthy|Available|Valid|Voter|Synced|Enabled|Up|OK|Succeeded)$`)

func nodes(c *Cluster, found func(Problem)) {
	guests := map[string]int{}
	for _, p := range c.Pods {
		if p.Spec.NodeName != "" && p.DeletionTimestamp == nil {
			guests[p.Spec.NodeName]++
		}
	}
	of := "" // which pods were read
	if c.Namespace != "" {
		of = " of " + c.Namespace
	}
	for _, n := range c.Nodes {
		e := entity("Node", n)
		look := []event.Check{describe(e, "conditions, taints and events"), {Why: "what runs there", Command: "kubectl get pods -A -o wide --field-selector spec.nodeName=" + n.Name}}
		ready, ok := condition(n.Status.Conditions, corev1.NodeReady)
		if !ok {
			if c.age(n.CreationTimestamp) < 2*time.Minute {
				continue // it is joining
			}
			why := oneLine(ready.Message, 100)
			if ready.Status == corev1.ConditionUnknown || why == "" {
				why = "the kubelet is silent"
			}
			p := Problem{
				Entity: e, State: true, Urgency: event.Broken, Since: ready.LastTransitionTime.Time, Title: "NotReady", Brief: fmt.Sprintf("%s; %s%s affected", why, evidence.Count(guests[n.Name], "pod"), of), Next: look,
				Seen: []string{fmt.Sprintf("condition Ready=%s %s: %s, since %s", ready.Status, ready.Reason, ready.Message, ready.LastTransitionTime.UTC().Format(time.RFC3339)), fmt.Sprintf("%s on it", evidence.Count(guests[n.Name], "pod"))},
			}
			if n.Spec.Unschedulable && guests[n.Name] == 0 {
				// Somebody is taking it away.
				p.Urgency, p.Severity = event.Hygiene, event.Info
			}
			found(p)
			continue
		}
		for i := range n.Status.Conditions {
			k := &n.Status.Conditions[i]
			if want, known := calm[k.Type]; known && k.Status == want || !known && (k.Status != corev1.ConditionTrue || praise.MatchString(string(k.Type))) {
				continue
			}
			if k.Status == corev1.ConditionUnknown {
				continue // the kubelet has not said yet
			}
			urgency := event.Broken
			if _, known := calm[k.Type]; !known {
				urgency = event.Soon
			}
			found(Problem{
				Entity: e, State: true, Urgency: urgency, Severity: event.Warning, Since: k.LastTransitionTime.Time, Title: string(k.Type), Brief: oneLine(k.Message, 110), Next: look,
				Seen: []string{fmt.Sprintf("condition %s=%s %s: %s", k.Type, k.Status, k.Reason, k.Message)},
			})
		}
	}
}

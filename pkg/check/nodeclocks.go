package check

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// How far a kubelet's clock may be from the API server's. A lease is renewed
// every ten seconds, and of a node that has just died it is up to forty old.
const (
	clockAhead  = 30 * time.Second
	clockBehind = 2 * time.Minute
)

// nodeClocks compares what time it is for kubelets with what it is for the API
// server: a node whose lease is old stays ready as long as the lease changes.
func nodeClocks(c *Cluster, found func(Problem)) {
	for _, l := range c.Leases {
		n := c.node[text(l, "metadata", "name")]
		renewed, err := time.Parse(time.RFC3339, text(l, "spec", "renewTime"))
		if n == nil || err != nil || text(l, "metadata", "namespace") == "kube-system" || c.deadNodes[n.Name] {
			continue
		}
		if ready, _ := condition(n.Status.Conditions, corev1.NodeReady); c.age(ready.LastTransitionTime) < clockBehind {
			continue // it has just come, or come back
		}
		ahead := renewed.Sub(c.Now)
		var way string
		switch {
		case ahead > clockAhead:
			way = "ahead of"
		case -ahead > clockBehind:
			way = "behind"
		default:
			continue
		}
		e := entity("Node", n)
		found(Problem{
			Entity: e, Urgency: event.Soon, Title: fmt.Sprintf("its clock is %s %s the API server's", span(ahead.Abs()), way), Detail: "Certificates and tokens are refused before their time or after it, and times in its logs are wrong.",
			Seen: []string{fmt.Sprintf("lease renewTime %s, and the API server has %s", renewed.UTC().Format(time.RFC3339), c.Now.UTC().Format(time.RFC3339))},
			Next: []event.Check{{Why: "what time it is for the kubelet", Command: "kubectl -n kube-node-lease get lease " + n.Name + " -o yaml"}, describe(e, "its conditions and events")},
		})
	}
}

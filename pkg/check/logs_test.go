package check

import (
	"context"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// silent answers no look-up, and says why.
type silent string

func (s silent) Retrieve(_ context.Context, q evidence.Query) (event.Evidence, error) {
	return evidence.Failed(q, string(s)), nil
}

func TestLogsThatCannotBeReadAreSaid(t *testing.T) {
	const objects = `kind: Node
metadata: {name: n1, creationTimestamp: ago(900h)}
status: {conditions: [{type: Ready, status: "READY"}]}
---
kind: Pod
metadata: {name: crash, namespace: shop, creationTimestamp: ago(10m)}
spec: {nodeName: n1, containers: [{name: app, image: "r.example/app:v2"}]}
status:
  phase: Running
  conditions: [{type: PodScheduled, status: "True"}, {type: Ready, status: "False", reason: ContainersNotReady, lastTransitionTime: ago(9m)}]
  containerStatuses: [{name: app, ready: false, restartCount: 6, image: "", imageID: "", state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, reason: Error, finishedAt: ago(1m)}}}]`
	cases := map[string]struct {
		why, ready      string
		node, unchecked string // what is said of the node, and under not checked
	}{
		"a kubelet that is not reached is its node's trouble": {
			why: noKubelet + ": dial tcp 10.0.0.7:10250: i/o timeout", ready: "True",
			node: "the API server does not reach its kubelet: no logs, no exec: dial tcp 10.0.0.7:10250: i/o timeout",
		},
		"a node that is not ready has its line already": {why: noKubelet + ": dial tcp 10.0.0.7:10250: i/o timeout", ready: "Unknown"},
		"a right that is missing is said": {
			why: "forbidden: pods \"crash\" is forbidden: cannot get resource \"pods/log\"", ready: "True", unchecked: "last lines of 1 crashed container (shop/crash app)",
		},
		"a pod that is gone by now is nobody's trouble": {why: "not found", ready: "True"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r, err := Examine(t.Context(), read(t, strings.Replace(objects, "READY", c.ready, 1)), Options{Redact: redact.New(redact.Options{}), Ask: silent(c.why)})
			if err != nil {
				t.Fatal(err)
			}
			node, unchecked := "", ""
			for _, root := range r.Roots {
				for _, f := range root.Findings {
					if f.Rule == "unreadable_logs" {
						node = root.Line(noon)
					}
				}
			}
			for _, u := range r.NotChecked {
				if u.Why == c.why {
					unchecked = u.What
				}
			}
			if node != c.node {
				t.Errorf("of the node %q, want %q", node, c.node)
			}
			if unchecked != c.unchecked {
				t.Errorf("not checked %q, want %q", unchecked, c.unchecked)
			}
		})
	}
}

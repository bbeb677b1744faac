package check

import (
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/redact"
)

// TestWhatAPodHasOutlivedExplainsNothing is of a workload that says something
// new in its logs: what an event says stood in the way of its pod counts while
// it does.
func TestWhatAPodHasOutlivedExplainsNothing(t *testing.T) {
	const warning = `---
kind: Event
metadata: {name: e1, namespace: shop, uid: e1}
type: Warning
reason: REASON
message: "MESSAGE"
count: 1
involvedObject: {kind: Pod, namespace: shop, name: web-6b8d7c9f4-x2x8q}
firstTimestamp: ago(2m)
lastTimestamp: ago(2m)
`
	const running, waiting = `, containerStatuses: [{name: app, ready: true, state: {running: {startedAt: ago(SINCE)}}}]`, `, containerStatuses: [{name: app, state: {waiting: {reason: ContainerCreating}}}]`
	taints := "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }."
	for name, c := range map[string]struct {
		reason, message, status string
		node                    string
		want                    string // what the line of the workload says
	}{
		"it waited for a node and has one":        {"FailedScheduling", taints, strings.ReplaceAll(running, "SINCE", "90s"), "nodeName: n1, ", "new in its logs"},
		"it waits for a node":                     {"FailedScheduling", taints, "", "", "Pods cannot be scheduled"},
		"its volume was late and it runs":         {"FailedMount", `MountVolume.SetUp failed for volume "conf" : configmap "conf" not found`, strings.ReplaceAll(running, "SINCE", "90s"), "nodeName: n1, ", "new in its logs"},
		"its volume is not there":                 {"FailedMount", `MountVolume.SetUp failed for volume "conf" : configmap "conf" not found`, waiting, "nodeName: n1, ", "A ConfigMap or Secret that the pod needs is missing"},
		"it ran before its volume was not there":  {"FailedMount", `MountVolume.SetUp failed for volume "conf" : configmap "conf" not found`, strings.ReplaceAll(running, "SINCE", "50m"), "nodeName: n1, ", "A ConfigMap or Secret that the pod needs is missing"},
		"it has no sandbox, and had none so long": {"FailedCreatePodSandBox", "failed to set up sandbox container network: plugin calico failed (add)", strings.ReplaceAll(running, "SINCE", "90s"), "nodeName: n1, ", "new in its logs"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := strings.ReplaceAll(shopWeb, "nodeName: n1, ", c.node)
			objects = strings.Replace(objects, `startTime: ago(AGE), conditions`, `startTime: ago(AGE)`+c.status+`, conditions`, 1)
			objects += strings.NewReplacer("REASON", c.reason, "MESSAGE", strings.ReplaceAll(c.message, `"`, `\"`)).Replace(warning)
			cluster := read(t, strings.ReplaceAll(objects, "AGE", "1h"))
			cluster.Signals = &Signals{Statements: []Statement{{
				Entity: webDeployment, Template: "dial <*>: refused", Example: "dial db: refused", Query: "{}", Lines: 12, Before: habit(0, 20),
				Known: 4 * time.Hour, First: noon.Add(-time.Minute), Last: noon,
			}}}
			x, err := Examine(t.Context(), cluster, Options{Rules: rules(t), Redact: redact.New(redact.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range x.Roots {
				if r.Entity == webDeployment {
					if !strings.Contains(r.Line(noon), c.want) {
						t.Errorf("%q, want %q", r.Line(noon), c.want)
					}
					return
				}
			}
			t.Errorf("nothing of %s", Name(webDeployment))
		})
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// checkout is a deployment that runs on the real node.
func checkout(version string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: real}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: real, labels: {team: payments}}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app: checkout}}
  template:
    metadata: {labels: {app: checkout}}
    spec:
      hostNetwork: true
      automountServiceAccountToken: false
      nodeSelector: {type: real}
      terminationGracePeriodSeconds: 1
      containers:
      - name: checkout
        image: localhost/checkout:%s
        imagePullPolicy: Never
        resources: {limits: {memory: 48Mi}}
`, version)
}

// TestALeakOnARealNodeIsOOMKilledAndItsRolloutNamed rolls a version out that
// leaks, onto a real kubelet with a real memory limit: the kernel kills it.
func TestALeakOnARealNodeIsOOMKilledAndItsRolloutNamed(t *testing.T) {
	if m := testbed.NodeMissing(); m != "" {
		t.Skip(m)
	}
	t.Parallel()
	ctx := t.Context()
	w := empty(t)
	w.nats = must(w.bed.StartNATS(ctx, testbed.NATSConfig{Servers: 1, Accounts: w.keys(t)}))(t)
	w.cluster = must(w.bed.StartKubernetes(ctx))(t)
	w.loki = must(w.bed.StartLoki(ctx, testbed.LokiConfig{}))(t)
	node := must(w.bed.StartNode(ctx, w.cluster, testbed.NodeConfig{Name: "real-0", Loki: w.loki}))(t)
	ksm := must(w.bed.StartKubeStateMetrics(ctx, w.cluster.Kubeconfig))(t)
	scrapes := append(node.Scrapes(), testbed.Scrape{Job: "kube-state-metrics", Targets: []string{ksm.Addr}, Honor: true})
	w.prom = must(w.bed.StartPrometheus(ctx, testbed.PrometheusConfig{Scrapes: scrapes}))(t)
	check(t, w.cluster.Apply(ctx, checkout("v1")))
	check(t, w.cluster.WaitReady(ctx, "real", "checkout"))
	// The first look at what there is to read is at a step that has passed.
	for _, metric := range []string{`http_requests_total{namespace="real",code="200"} offset 30s`, `kube_pod_owner{namespace="real"} offset 30s`} {
		eventually(t, 2*time.Minute, metric+" in Prometheus", func() bool {
			got, err := w.prom.Query(ctx, metric)
			return err == nil && len(got) > 0
		})
	}
	w.watch(t, nil)
	w.settle(t)
	check(t, w.cluster.Apply(ctx, checkout("v2")))
	began := time.Now()
	d := w.receiver.wait(t, "real", 4*time.Minute, "an OOM kill, with the rollout as its cause", func(r event.Report) bool {
		return want{
			entity: "real/deployment/checkout", cause: "v1 -> v2", finding: "OOMKilled", rollback: true, evidence: "OOMKilled", check: "kubectl -n real",
		}.lacks(r) == ""
	})
	t.Logf("told %v after the rollout\n%s", d.at.Sub(began).Round(time.Second), describe(d.Report))
	sound(t, d.Report)
	w.tap(t)
}

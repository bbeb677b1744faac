//go:build e2e

package e2e

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// budgets allow each workload of the shop one pod less than it has.
const budgets = `apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: shop}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: cart, namespace: shop}
spec: {minAvailable: 1, selector: {matchLabels: {app: cart}}}
`

// afterDrain is how long, in event time, is listened to after a drain: longer
// than anything that a missing pod could be noticed by as urgent.
const afterDrain = time.Minute

// TestADrainedNodeIsAChangeAndNoPage empties a node of a healthy cluster as
// kubectl drain does, while every service watches.
func TestADrainedNodeIsAChangeAndNoPage(t *testing.T) {
	ctx := t.Context()
	w := &world{}
	w.bed = must(testbed.New(folder(t)))(t)
	t.Cleanup(w.bed.Close)
	w.receiver = newReceiver(t, w.bed)
	w.secrets(t)
	w.cluster = must(w.bed.StartKubernetes(ctx))(t)
	check(t, w.cluster.AddNodes(ctx, 3))
	check(t, w.cluster.Apply(ctx, rights()))
	ksm := must(w.bed.StartKubeStateMetrics(ctx, w.cluster.Kubeconfig))(t)
	shop := must(w.bed.StartShop(ctx, testbed.ShopConfig{Cluster: w.cluster, Workloads: []string{"web", "cart"}}))(t)
	check(t, w.cluster.Apply(ctx, budgets))
	since := time.Now().Add(-burning)
	w.prom = must(w.bed.StartPrometheus(ctx, testbed.PrometheusConfig{
		Scrapes: []testbed.Scrape{{Job: "kube-state-metrics", Targets: []string{ksm.Addr}, Honor: true}, shop.Scrape()},
		History: []map[string][]string{must(shop.History(ctx, since))(t)},
	}))(t)
	w.inProcess(t, since)
	w.heard(t, time.Now(), "metrics", "events")

	began := time.Now()
	node := w.drain(t, "shop")
	t.Logf("%s was drained in %v", node, time.Since(began).Round(time.Millisecond))
	w.heard(t, time.Now().Add(afterDrain), "metrics", "events")

	changes := map[event.ChangeKind]bool{}
	check(t, w.bus.Read(ctx, event.Anomalies, bus.ReadOptions{}, func(m bus.Message) error {
		if c, ok := m.Data.(event.Change); ok && c.Entity.Kind == "Node" && c.Entity.Name == node {
			changes[c.Kind] = true
		}
		return nil
	}))
	if !changes[event.Drain] || !changes[event.NodeState] {
		t.Errorf("the correlator was told of %v at %s, want its cordon and its drain", changes, node)
	}
	check(t, w.bus.Read(ctx, event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
		if i, ok := m.Data.(event.Incident); ok && i.Priority != event.P4 {
			t.Errorf("an incident of a drain: %s %s %s (%s)", i.Priority, i.Entity, i.Title, i.Reason)
		}
		return nil
	}))
	check(t, w.bus.Read(ctx, event.Decisions, bus.ReadOptions{}, func(m bus.Message) error {
		if d, ok := m.Data.(event.Decision); ok && d.Outcome == event.Sent {
			t.Errorf("somebody was told of a drain: %s %s %s", d.Priority, d.Entity, d.Headline)
		}
		return nil
	}))
	for _, d := range w.receiver.all() {
		t.Errorf("the webhook was called for a drain:\n%s", describe(d.Report))
	}
	// Who is quiet about everything proves nothing.
	shop.Fail("web", 0.9, 0)
	w.receiver.wait(t, "shop", 3*time.Minute, "a page, when the requests do fail", func(r event.Report) bool { return r.Priority.Pages() })
}

// inProcess runs every service in this process on a bus of its own, with the
// metrics of since read as after an outage.
func (w *world) inProcess(t *testing.T, since time.Time) {
	t.Helper()
	text := must(yaml.Marshal(object{
		"cluster": "testbed", "obs": object{"listen": "", "log_level": "error"},
		"collector": object{
			"prometheus": []object{{"url": w.prom.URL, "step": "15s", "delay": "2s", "window": "20s", "max_query_qps": 100}},
			"kubernetes": []object{{"kubeconfig": must(w.cluster.KubeconfigFor(testbed.Reader))(t), "history": "1m"}},
		},
		"notifier": object{"mode": "page", "max_per_minute": 600, "channels": object{
			"hook": object{"type": "webhook", "url": "http://" + w.receiver.addr + "/hook", "secret_file": w.secret},
		}},
	}))(t)
	cfg := must(service.Parse("drain.yaml", text, nil, pipeline.Services...))(t)
	h := must(pipeline.Open(t.Context(), cfg, pipeline.Options{Data: t.TempDir(), MaxBytes: 1 << 30}))(t)
	w.bus = h.Bus
	kv := must(h.Bus.KV(t.Context(), bus.BucketCollector))(t)
	must(kv.Put(t.Context(), "prometheus", prometheus.After(since.Truncate(15*time.Second))))(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		_ = h.Close()
	})
}

// heard waits until every group has judged up to a time.
func (w *world) heard(t *testing.T, at time.Time, groups ...string) {
	t.Helper()
	marks := map[string]time.Time{}
	next := uint64(1)
	eventually(t, time.Until(at)+2*time.Minute, "watermarks of "+at.UTC().Format(time.TimeOnly), func() bool {
		_ = w.bus.Read(t.Context(), event.Anomalies, bus.ReadOptions{StartSeq: next}, func(m bus.Message) error {
			next = m.Sequence + 1
			if v, ok := m.Data.(event.Watermark); ok {
				marks[v.Group] = v.Time
			}
			return nil
		})
		return !slices.ContainsFunc(groups, func(g string) bool { return marks[g].Before(at) })
	})
}

// drain does what kubectl drain does to a node that runs pods of a namespace:
// it cordons it, then evicts every pod, again and again while a budget forbids
// it, and returns when all is running elsewhere.
func (w *world) drain(t *testing.T, namespace string) (node string) {
	t.Helper()
	ctx := t.Context()
	type pod struct {
		Metadata struct{ Name, UID string }
		Spec     struct{ NodeName string }
	}
	on := func(node string) (out []pod) {
		var list struct{ Items []pod }
		check(t, w.cluster.Get(ctx, "/api/v1/namespaces/"+namespace+"/pods", &list))
		for _, p := range list.Items {
			if node == "" || p.Spec.NodeName == node {
				out = append(out, p)
			}
		}
		return out
	}
	pods := on("")
	if len(pods) == 0 {
		t.Fatalf("no pod runs in %s", namespace)
	}
	node = pods[0].Spec.NodeName
	check(t, w.cluster.Patch(ctx, "/api/v1/nodes/"+node, `{"spec":{"unschedulable":true}}`))
	eventually(t, time.Minute, node+" without pods", func() bool {
		left := on(node)
		for _, p := range left {
			err := w.cluster.Create(ctx, "/api/v1/namespaces/"+namespace+"/pods/"+p.Metadata.Name+"/eviction", object{
				"apiVersion": "policy/v1", "kind": "Eviction", "metadata": object{"name": p.Metadata.Name, "namespace": namespace},
			})
			refused, ok := errors.AsType[*testbed.StatusError](err)
			if err != nil && (!ok || refused.Code != http.StatusTooManyRequests && refused.Code != http.StatusNotFound) {
				t.Fatalf("evict %s: %v", p.Metadata.Name, err)
			}
		}
		return len(left) == 0
	})
	for _, name := range []string{"web", "cart"} {
		check(t, w.cluster.WaitReady(ctx, namespace, name))
	}
	return node
}

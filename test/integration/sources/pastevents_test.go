//go:build e2e

package sources

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// TestAFirstStartKnowsEventsOfARollBack lists events of four minutes ago: about a pod
// of a rollout that was rolled back, about one that waited for a node and runs, and
// about one that crashes still.
func TestAFirstStartKnowsEventsOfARollBack(t *testing.T) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cluster, err := bed(t).StartKubernetes(ctx)
	must(err)
	must(cluster.AddNodes(ctx, 1))
	must(cluster.Apply(ctx, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"))
	account := "/api/v1/namespaces/shop/serviceaccounts/default"
	must(cluster.Wait(ctx, account, func(ctx context.Context) (bool, error) {
		err := cluster.Get(ctx, account, nil)
		return err == nil, err
	}))
	must(cluster.Deploy(ctx, testbed.Deployment{Namespace: "shop", Name: "web", Replicas: 1}))
	must(cluster.Deploy(ctx, testbed.Deployment{Namespace: "shop", Name: "cart", Replicas: 1, Fault: "crashloop"}))
	must(cluster.WaitReady(ctx, "shop", "web"))
	pods := map[string]string{} // by app
	must(cluster.Wait(ctx, "both have pods", func(ctx context.Context) (bool, error) {
		var list struct {
			Items []struct {
				Metadata struct {
					Name   string
					Labels map[string]string
				}
			}
		}
		err := cluster.Get(ctx, "/api/v1/namespaces/shop/pods", &list)
		for _, p := range list.Items {
			pods[p.Metadata.Labels["app"]] = p.Metadata.Name
		}
		return err == nil && pods["web"] != "" && pods["cart"] != "", err
	}))
	at := time.Now().Add(-4 * time.Minute).UTC().Format(time.RFC3339)
	for _, e := range []struct{ name, pod, reason string }{
		{"rolled-back", "web-5c9f8d7b6-x2x8q", "BackOff"},
		{"waited", pods["web"], "FailedScheduling"},
		{"crashes", pods["cart"], "BackOff"},
	} {
		must(cluster.Apply(ctx, fmt.Sprintf(`apiVersion: v1
kind: Event
metadata: {name: %s, namespace: shop}
involvedObject: {apiVersion: v1, kind: Pod, namespace: shop, name: %s}
reason: %s
message: it happened
type: Warning
count: 3
firstTimestamp: %s
lastTimestamp: %s
`, e.name, e.pod, e.reason, at, at)))
	}

	cfg := kubernetes.Config{Name: "kubernetes", Cluster: kube.Config{Kubeconfig: cluster.Kubeconfig}}
	cfg.Fill()
	client, err := kube.New(cfg.Cluster, kube.Settings{Name: cfg.Name})
	must(err)
	src := kubernetes.New(cfg, client, env(t, bustest.Start(t)))
	running, stop := context.WithCancel(ctx)
	var mu sync.Mutex
	past := map[string]bool{}
	done := make(chan error, 1)
	go func() {
		done <- src.Run(running, nil, func(_ context.Context, e collector.Emission) error {
			mu.Lock()
			defer mu.Unlock()
			for _, o := range e.Events {
				if k, ok := o.Data().(event.KubeEvent); ok && k.Message == "it happened" {
					past[k.Metadata.Name] = k.Past
				}
			}
			return nil
		})
	}()
	want := map[string]bool{"rolled-back": true, "waited": true, "crashes": false}
	must(cluster.Wait(ctx, "the events", func(context.Context) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return len(past) == len(want), nil
	}))
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the source ended with %v", err)
	}
	if !maps.Equal(past, want) {
		t.Errorf("past: %v, want %v", past, want)
	}
}

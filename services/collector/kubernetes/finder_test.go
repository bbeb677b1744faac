package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/services/collector"
)

func TestOtherSourcesAreToldWhichWorkloadANameIs(t *testing.T) {
	s := newAPIServer(t)
	shop(s)
	now := time.Now()
	s.put("statefulsets", object{"metadata": metaOf("twice", now), "spec": object{"replicas": 1}})
	s.put("deployments", deployment("twice", 1, 1, 1, now))
	cfg := Config{}
	cfg.Fill()
	known := &collector.Workloads{}
	src := New(cfg, s.client(t, nil), collector.Env{Log: slog.New(slog.DiscardHandler), Health: obs.NewHealth(time.Now), Now: time.Now, Redact: plain{}, Workloads: known})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- src.Run(ctx, nil, func(context.Context, collector.Emission) error { return nil })
	}()
	known.Wait(t.Context(), 20*time.Second)
	checkout := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}
	for name, tc := range map[string]struct {
		ask  func() (event.Entity, bool)
		want event.Entity
	}{
		"a pod that is there":         {func() (event.Entity, bool) { return known.OfPod("shop", "checkout-bbbb-x2x8q") }, checkout},
		"a pod that is gone, by name": {func() (event.Entity, bool) { return known.OfPod("shop", "checkout-7d4b9c6f5-zzzzz") }, checkout},
		"a name":                      {func() (event.Entity, bool) { return known.Named("shop", "checkout") }, checkout},
		"a name that two have":        {func() (event.Entity, bool) { return known.Named("shop", "twice") }, event.Entity{}},
		"a name that nobody has":      {func() (event.Entity, bool) { return known.Named("shop", "nobody") }, event.Entity{}},
		"a pod of nobody":             {func() (event.Entity, bool) { return known.OfPod("shop", "lonely") }, event.Entity{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := tc.ask(); got != tc.want || ok != (tc.want.Kind != "") {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

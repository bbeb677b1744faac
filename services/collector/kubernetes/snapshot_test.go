package kubernetes

import (
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/collector"
)

// plain changes no text.
type plain struct{ collector.Redactor }

func (plain) Line(s string) string { return s }

func snapshotEnv(t *testing.T) collector.Env {
	t.Helper()
	store, err := policy.NewStore(fstest.MapFS{"ownership.yaml": {Data: []byte("labels: [squad]\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return collector.Env{Log: slog.New(slog.DiscardHandler), Health: obs.NewHealth(time.Now), Now: time.Now, Redact: plain{}, Policies: store}
}

func TestASnapshotHoldsTheLabelsThatTheOwnershipPolicyReads(t *testing.T) {
	s := newAPIServer(t)
	shop(s)
	now := time.Now()
	d := deployment("web", 1, 1, 1, now)
	d["metadata"].(object)["annotations"] = object{"squad": "front", "other": "not told"}
	s.put("deployments", d)
	s.put("namespaces", object{"metadata": object{"name": "shop", "labels": object{"squad": "trade", "kubernetes.io/metadata.name": "shop"}}})
	s.put("namespaces", object{"metadata": object{"name": "quiet"}})
	got, err := Snapshot(t.Context(), Config{}, s.client(t, nil), snapshotEnv(t))
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]map[string]string{}
	for _, o := range got {
		labels[o.Entity.String()] = o.Labels
	}
	for entity, want := range map[string]map[string]string{
		"shop/deployment/web": {"squad": "front", "team": "payments"}, "namespace/shop": {"squad": "trade"},
	} {
		if !maps.Equal(labels[entity], want) {
			t.Errorf("%s has %v, want %v", entity, labels[entity], want)
		}
	}
	if _, ok := labels["namespace/quiet"]; ok {
		t.Error("a namespace that says nothing of its owner is told")
	}
	i := 0
	for ; i < len(got) && got[i].Entity != (event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}); i++ {
	}
	if i == len(got) || len(got[i].Pods) != 1 || got[i].Pods[0].Pod != "checkout-bbbb-x2x8q" {
		t.Errorf("the pod is nobody's: %+v", got)
	}
	for _, r := range s.requests {
		if strings.Contains(r.path, "configmaps") || strings.Contains(r.path, "events") {
			t.Errorf("asked for %s, which says nothing of owners", r.path)
		}
	}
}

func TestASnapshotOfAClusterThatDoesNotAnswerSaysWhy(t *testing.T) {
	s := newAPIServer(t)
	s.down = true
	if got, err := Snapshot(t.Context(), Config{}, s.client(t, nil), snapshotEnv(t)); err == nil || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("got %v and %v, want what the server said", got, err)
	}
}

package collector

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// one knows one workload and its pod.
type one struct{ event.Entity }

func (o one) OfPod(namespace, pod string) (event.Entity, bool) {
	return o.Entity, namespace == o.Namespace && pod == o.Name+"-0"
}

func (o one) Named(namespace, name string) (event.Entity, bool) {
	return o.Entity, namespace == o.Namespace && name == o.Name
}

func TestWorkloadsAreKnownOnceTheirClusterHasListedThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, known := &Workloads{}, make(chan struct{})
		w.Add(one{event.Entity{Namespace: "shop", Kind: "StatefulSet", Name: "db"}}, known)
		if _, ok := w.OfPod("shop", "db-0"); ok {
			t.Error("a cluster that has listed nothing was asked")
		}
		start := time.Now()
		w.Wait(t.Context(), 30*time.Second)
		if waited := time.Since(start); waited != 30*time.Second {
			t.Errorf("waited %s for a cluster that does not answer, want 30s", waited)
		}
		time.AfterFunc(3*time.Second, func() { close(known) })
		start = time.Now()
		w.Wait(t.Context(), 30*time.Second)
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %s for a cluster that takes 3s", waited)
		}
		if e, ok := w.OfPod("shop", "db-0"); !ok || e.Kind != "StatefulSet" {
			t.Errorf("the pod is of %v", e)
		}
		if e, ok := w.Named("shop", "db"); !ok || e.Kind != "StatefulSet" {
			t.Errorf("the name is of %v", e)
		}
		if _, ok := w.Named("shop", "web"); ok {
			t.Error("a workload that is not there was found")
		}
	})
}

func TestWithoutAClusterNothingIsKnownAndNobodyWaits(t *testing.T) {
	var none *Workloads
	none.Wait(t.Context(), time.Hour)
	if _, ok := none.OfPod("shop", "db-0"); ok || none.Some() {
		t.Error("nobody knows something")
	}
}

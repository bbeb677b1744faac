package prometheus

import (
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// cluster knows the pods of one Deployment.
type cluster struct{}

var web = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}

func (cluster) OfPod(namespace, pod string) (event.Entity, bool) {
	return web, namespace == "shop" && strings.HasPrefix(pod, "web-")
}

func (cluster) Named(namespace, name string) (event.Entity, bool) {
	return web, namespace == "shop" && name == "web"
}

func TestASeriesIsCalledTheSameBeforeAndAfterKubeStateMetricsComesUp(t *testing.T) {
	const pod = "web-7d4b9c6f5-x2x8q"
	there := []string{"http_requests_total"}
	srv := serve(t, func(query string, at float64) []sample {
		if out, ok := guards(query, at, there...); ok {
			return out
		}
		switch {
		case strings.Contains(query, "(kube_pod_owner)"):
			return []sample{one(at, 1, "namespace", "shop", "pod", pod, "owner_kind", "ReplicaSet", "owner_name", "web-7d4b9c6f5")}
		case strings.Contains(query, "(kube_replicaset_owner)"):
			return []sample{one(at, 1, "namespace", "shop", "replicaset", "web-7d4b9c6f5", "owner_kind", "Deployment", "owner_name", "web")}
		case strings.Contains(query, "http_requests_total") && !strings.Contains(query, "code"):
			return []sample{one(at, 5, "namespace", "shop", "pod", pod)}
		}
		return nil
	})
	s := newTestSource(t, builtin(t), srv.URL, nil)
	s.env.Workloads = &collector.Workloads{}
	known := make(chan struct{})
	close(known)
	s.env.Workloads.Add(cluster{}, known)
	start := time.Unix(1_772_000_000, 0).Truncate(30 * time.Second)
	entities := func(at time.Time) map[string]bool {
		t.Helper()
		events, err := s.read(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, e := range events {
			for _, se := range e.Data().(event.MetricBatch).Series {
				out[se.Labels.Entity().String()] = true
			}
		}
		return out
	}
	before := entities(start)
	there = append(there, "kube_pod_owner")
	after := entities(start.Add(30 * time.Second))
	for when, got := range map[string]map[string]bool{"before": before, "after": after} {
		if len(got) != 1 || !got[web.String()] {
			t.Errorf("%s: series of %v, want %s alone", when, got, web)
		}
	}
}

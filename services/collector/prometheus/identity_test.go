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

func TestAServiceOfTraefikIsTheWorkloadBehindIt(t *testing.T) {
	workloads := &collector.Workloads{}
	known := make(chan struct{})
	close(known)
	workloads.Add(cluster{}, known)
	for name, c := range map[string]struct {
		own  ownership
		in   string
		want string
	}{
		"a service and its port":               {ownership{cluster: workloads}, "shop-web-80@kubernetes", "shop/web Deployment"},
		"a port with a name that has a dash":   {ownership{cluster: workloads}, "shop-web-http-alt@kubernetes", "shop/web Deployment"},
		"a route of Traefik's own kind":        {ownership{cluster: workloads}, "shop-web-80@kubernetescrd", "shop/web Deployment"},
		"a workload that nobody knows":         {ownership{cluster: workloads}, "shop-pay-80@kubernetes", "/ "},
		"a service of another provider":        {ownership{cluster: workloads}, "shop-web-80@docker", "/ "},
		"a name that is no service of Traefik": {ownership{cluster: workloads}, "shop-web", "/ "},
		"nothing":                              {ownership{}, "@kubernetes", "/ "},
		"dashes alone":                         {ownership{}, "---@kubernetes", "/ "},
		"a namespace and a name with dashes, by what kube-state-metrics knows": {
			ownership{metrics: owners{"my-shop//web-front": {"StatefulSet", "web-front"}}}, "my-shop-web-front-80@kubernetes", "my-shop/web-front StatefulSet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ns, workload, kind := c.own.behind(c.in)
			if kind == "" {
				ns, workload = "", ""
			}
			if got := ns + "/" + workload + " " + kind; got != c.want {
				t.Errorf("%s is %q, want %q", c.in, got, c.want)
			}
		})
	}
}

//go:build e2e

package sources

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// exported is what one exporter says of ten requests a second, each of which takes
// 80 ms: GOOD counts those of its successes, BAD those of its failures, which are one
// in ten, and ALL both.
type exported struct {
	text   string
	target map[string]string // labels of the target, as the Prometheus operator gives them
	honor  bool
	entity string // what it is about
}

// series writes a counter, and a histogram of the same requests.
func series(counter, good, bad, histogram, labels, bound string) string {
	var b strings.Builder
	if good != "" {
		fmt.Fprintf(&b, "%s{%s} GOOD\n%[1]s{%[3]s} BAD\n", counter, good, bad)
	}
	for _, le := range []string{bound, "+Inf"} {
		fmt.Fprintf(&b, "%s_bucket{%s,le=%q} ALL\n", histogram, labels, le)
	}
	return b.String()
}

// split is a histogram whose count tells failures apart, as OpenTelemetry's do.
func split(histogram, good, bad, bound string) string {
	var b strings.Builder
	for labels, n := range map[string]string{good: "GOOD", bad: "BAD"} {
		fmt.Fprintf(&b, "%s_count{%s} %s\n", histogram, labels, n)
		for _, le := range []string{bound, "+Inf"} {
			fmt.Fprintf(&b, "%s_bucket{%s,le=%q} %s\n", histogram, labels, le, n)
		}
	}
	return b.String()
}

// families are what exporters write. Each speaks of a namespace of its own, so that
// none stands back for another.
var families = map[string]exported{
	"istio": {
		text: series("istio_requests_total",
			`reporter="destination",destination_workload="web",destination_workload_namespace="mesh",request_protocol="http",response_code="200"`,
			`reporter="destination",destination_workload="web",destination_workload_namespace="mesh",request_protocol="http",response_code="503"`,
			"istio_request_duration_milliseconds", `reporter="destination",destination_workload="web",destination_workload_namespace="mesh"`, "100") +
			series("istio_requests_total", `reporter="source",destination_workload="web",destination_workload_namespace="mesh",response_code="200"`,
				`reporter="source",destination_workload="web",destination_workload_namespace="mesh",response_code="503"`, "unread", `a="b"`, "1"),
		target: map[string]string{"namespace": "mesh", "pod": "web-7d4b9c6f5-x2x8q"}, entity: "mesh/workload/web",
	},
	// gRPC answers 200 whatever becomes of the call.
	"istio of gRPC": {
		text: series("istio_requests_total",
			`reporter="destination",destination_workload="pay",destination_workload_namespace="mesh",request_protocol="grpc",response_code="200",grpc_response_status="0"`,
			`reporter="destination",destination_workload="pay",destination_workload_namespace="mesh",request_protocol="grpc",response_code="200",grpc_response_status="14"`,
			"istio_request_duration_milliseconds", `reporter="destination",destination_workload="pay",destination_workload_namespace="mesh"`, "100"),
		target: map[string]string{"namespace": "mesh", "pod": "pay-7d4b9c6f5-x2x8q"}, entity: "mesh/workload/pay",
	},
	"linkerd": {
		text: series("response_total", `direction="inbound",classification="success",status_code="200"`, `direction="inbound",classification="failure",status_code="503"`,
			"response_latency_ms", `direction="inbound"`, "100") +
			series("response_total", `direction="outbound",classification="success"`, `direction="outbound",classification="failure"`, "unread", `a="b"`, "1"),
		target: map[string]string{"namespace": "meshed", "pod": "web-7d4b9c6f5-x2x8q", "deployment": "web"}, entity: "meshed/deployment/web",
	},
	"ingress_nginx": {
		text: series("nginx_ingress_controller_requests", `namespace="edge",ingress="web",service="web",status="200"`, `namespace="edge",ingress="web",service="web",status="502"`,
			"nginx_ingress_controller_request_duration_seconds", `namespace="edge",ingress="web",service="web"`, "0.1"),
		target: map[string]string{"namespace": "ingress-nginx", "pod": "ingress-nginx-controller-x2x8q", "service": "ingress-nginx-controller-metrics"}, entity: "edge/workload/web",
	},
	"envoy": {
		text: series("envoy_cluster_upstream_rq_xx", `envoy_cluster_name="shop_web_80",envoy_response_code_class="2"`, `envoy_cluster_name="shop_web_80",envoy_response_code_class="5"`,
			"envoy_cluster_upstream_rq_time", `envoy_cluster_name="shop_web_80"`, "100"),
		target: map[string]string{"namespace": "gateway", "pod": "envoy-7d4b9c6f5-x2x8q"}, entity: "gateway/workload/envoy",
	},
	// The Kubernetes API is not watched here: what the service is, nobody knows.
	"traefik": {
		text: series("traefik_service_requests_total", `service="front-web-80@kubernetes",code="200",method="GET",protocol="http"`, `service="front-web-80@kubernetes",code="500",method="GET",protocol="http"`,
			"traefik_service_request_duration_seconds", `service="front-web-80@kubernetes"`, "0.1"),
		target: map[string]string{"namespace": "traefik", "pod": "traefik-7d4b9c6f5-x2x8q", "service": "traefik"}, entity: "traefik/workload/front-web-80@kubernetes",
	},
	"otel_http": {
		text: split("http_server_request_duration_seconds", `k8s_namespace_name="otel",k8s_deployment_name="web",service_name="web",http_response_status_code="200"`,
			`k8s_namespace_name="otel",k8s_deployment_name="web",service_name="web",http_response_status_code="500"`, "0.1"),
		honor: true, entity: "otel/deployment/web",
	},
	"otel_http_old": {
		text:  split("http_server_duration_milliseconds", `k8s_namespace_name="old",k8s_deployment_name="web",http_status_code="200"`, `k8s_namespace_name="old",k8s_deployment_name="web",http_status_code="503"`, "100"),
		honor: true, entity: "old/deployment/web",
	},
	"otel_rpc": {
		text:  split("rpc_server_duration_milliseconds", `k8s_namespace_name="rpc",k8s_deployment_name="web",rpc_grpc_status_code="0"`, `k8s_namespace_name="rpc",k8s_deployment_name="web",rpc_grpc_status_code="14"`, "100"),
		honor: true, entity: "rpc/deployment/web",
	},
	"otel_rpc_call": {
		text:  split("rpc_server_call_duration_seconds", `k8s_namespace_name="call",k8s_deployment_name="web",rpc_response_status_code="OK"`, `k8s_namespace_name="call",k8s_deployment_name="web",rpc_response_status_code="UNAVAILABLE"`, "0.1"),
		honor: true, entity: "call/deployment/web",
	},
	"grpc": {
		text:   series("grpc_server_handled_total", `grpc_method="Pay",grpc_code="OK"`, `grpc_method="Pay",grpc_code="Unavailable"`, "grpc_server_handling_seconds", `grpc_method="Pay"`, "0.1"),
		target: map[string]string{"namespace": "grpc", "pod": "web-7d4b9c6f5-x2x8q"}, entity: "grpc/workload/web",
	},
	"http_requests_total": {
		text:   series("http_requests_total", `code="200"`, `code="500"`, "http_request_duration_seconds", `handler="/"`, "0.1"),
		target: map[string]string{"namespace": "plain", "pod": "web-7d4b9c6f5-x2x8q"}, entity: "plain/workload/web",
	},
}

// others are guard metrics of the families that are not about requests: with them,
// every family is asked for at each step.
const others = "apiserver_request_total 1\ncontainer_memory_working_set_bytes 1\ncertmanager_certificate_expiration_timestamp_seconds 1\ncoredns_dns_responses_total 1\nkube_pod_info 1\nkubelet_volume_stats_capacity_bytes 1\nnode_cpu_seconds_total 1\n"

// TestEveryFamilyOfRequestsIsRead has a real Prometheus scrape what the exporters of
// all families write, and holds what is read against what was served.
func TestEveryFamilyOfRequestsIsRead(t *testing.T) {
	began := time.Now()
	var scrapes []testbed.Scrape
	for name, x := range families {
		exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			n := 10 * time.Since(began).Seconds()
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			_, _ = fmt.Fprint(w, strings.NewReplacer("GOOD", fmt.Sprint(0.9*n), "BAD", fmt.Sprint(0.1*n), "ALL", fmt.Sprint(n)).Replace(x.text), others)
		}))
		defer exporter.Close()
		scrapes = append(scrapes, testbed.Scrape{Job: strings.ReplaceAll(name, " ", "-"), Targets: []string{strings.TrimPrefix(exporter.URL, "http://")}, Labels: x.target, Honor: x.honor})
	}
	server, err := bed(t).StartPrometheus(t.Context(), testbed.PrometheusConfig{Scrapes: scrapes})
	if err != nil {
		t.Fatal(err)
	}
	e := env(t, nil)
	asked := map[string]bool{}
	sent := make(chan event.Audit, 100_000) // of a few minutes
	e.Audit = func(a event.Audit) { sent <- a }
	cfg := prometheus.Config{Step: time.Second, Delay: 2 * time.Second, Window: 10 * time.Second, WarmStart: prometheus.WarmStart{Off: true}}
	cfg.URL = server.URL
	s, err := prometheus.New(cfg, e)
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string]string{}
	for name, x := range families {
		for signal := range map[string]float64{"request_rate": 0, "error_ratio": 0, "latency_p99": 0} {
			wrong[strings.Fields(name)[0]+" "+signal+" "+x.entity] = "nothing"
		}
	}
	defer func() {
		if t.Failed() {
			t.Logf("not as served: %v", wrong)
		}
	}()
	until(t, "what every family serves", emissions(t, s), func(em collector.Emission) bool {
		for _, o := range em.Events {
			b, ok := o.Data().(event.MetricBatch)
			if !ok {
				continue
			}
			for _, s := range b.Series {
				key := s.Labels.Get(event.LabelFamily) + " " + s.Labels.Get(event.LabelName) + " " + s.Labels.Entity().String()
				if _, ok := wrong[key]; !ok {
					continue
				}
				got, want := s.Points[0].V, map[string]float64{"request_rate": 10, "error_ratio": 0.1, "latency_p99": 0.1}[s.Labels.Get(event.LabelName)]
				if s.Labels.Get(event.LabelUnit) == "ms" {
					got /= 1000
				}
				if wrong[key] = fmt.Sprint(got); math.Abs(got-want) < 0.1*want {
					delete(wrong, key)
				}
			}
		}
		return len(wrong) == 0
	})
	for len(sent) > 0 {
		// A source that is behind asks the same of many steps at once.
		if a := <-sent; strings.HasPrefix(a.Operation, "query") && !strings.Contains(a.Query, "__name__") && !strings.Contains(a.Query, "_owner") {
			asked[a.Query] = true
		}
	}
	if len(asked) > prometheus.MaxQueries || len(asked) < 45 {
		t.Errorf("%d queries a step, want those of all families and at most %d: %v", len(asked), prometheus.MaxQueries, slices.Sorted(maps.Keys(asked)))
	}
	t.Logf("%d queries a step", len(asked))
}

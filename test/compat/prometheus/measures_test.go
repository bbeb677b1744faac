package compat

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// histories are two hours of each measure's metrics, a sample a minute: of what is
// beyond its bound, which the labels call bad, and of what looks like it.
var histories = map[string]string{
	"cpu_throttled": `
container_cpu_cfs_periods_total{namespace="shop",pod="bad",container="app"} 0+600x120
container_cpu_cfs_throttled_periods_total{namespace="shop",pod="bad",container="app"} 0+300x120
container_cpu_cfs_periods_total{namespace="shop",pod="idle",container="app"} 0+20x120
container_cpu_cfs_throttled_periods_total{namespace="shop",pod="idle",container="app"} 0+15x120
container_cpu_cfs_periods_total{namespace="shop",pod="busy",container="app"} 0+600x120
container_cpu_cfs_throttled_periods_total{namespace="shop",pod="busy",container="app"} 0+60x120`,
	"cpu_near_limit": `
container_cpu_usage_seconds_total{namespace="shop",pod="bad",container="app"} 0+54x120
container_spec_cpu_quota{namespace="shop",pod="bad",container="app"} 100000x120
container_spec_cpu_period{namespace="shop",pod="bad",container="app"} 100000x120
container_cpu_usage_seconds_total{namespace="shop",pod="large",container="app"} 0+54x120
container_spec_cpu_quota{namespace="shop",pod="large",container="app"} 200000x120
container_spec_cpu_period{namespace="shop",pod="large",container="app"} 100000x120
container_cpu_usage_seconds_total{namespace="shop",pod="unlimited",container="app"} 0+540x120`,
	"cpu_above_request": `
container_cpu_usage_seconds_total{namespace="shop",pod="bad",container="app"} 0+120x120
kube_pod_container_resource_requests{namespace="shop",pod="bad",container="app",resource="cpu",unit="core"} 0.5x120
container_cpu_usage_seconds_total{namespace="shop",pod="tiny",container="app"} 0+6x120
kube_pod_container_resource_requests{namespace="shop",pod="tiny",container="app",resource="cpu",unit="core"} 0.01x120
container_cpu_usage_seconds_total{namespace="shop",pod="fits",container="app"} 0+90x120
kube_pod_container_resource_requests{namespace="shop",pod="fits",container="app",resource="cpu",unit="core"} 1x120`,
	"memory_above_request": `
container_memory_working_set_bytes{namespace="shop",pod="bad",container="app"} 1e9x120
kube_pod_container_resource_requests{namespace="shop",pod="bad",container="app",resource="memory",unit="byte"} 5e8x120
container_memory_working_set_bytes{namespace="shop",pod="tiny",container="app"} 2e8x120
kube_pod_container_resource_requests{namespace="shop",pod="tiny",container="app",resource="memory",unit="byte"} 5e7x120
container_memory_working_set_bytes{namespace="shop",pod="peak",container="app"} 1e8x100 1e9x20
kube_pod_container_resource_requests{namespace="shop",pod="peak",container="app",resource="memory",unit="byte"} 5e8x120`,
	"cpu_request_idle": `
container_cpu_usage_seconds_total{namespace="shop",pod="bad",container="app"} 0+3x120
kube_pod_container_resource_requests{namespace="shop",pod="bad",container="app",resource="cpu",unit="core"} 2x120
container_cpu_usage_seconds_total{namespace="shop",pod="small",container="app"} 0+0.1x120
kube_pod_container_resource_requests{namespace="shop",pod="small",container="app",resource="cpu",unit="core"} 0.5x120
container_cpu_usage_seconds_total{namespace="shop",pod="used",container="app"} 0+60x120
kube_pod_container_resource_requests{namespace="shop",pod="used",container="app",resource="cpu",unit="core"} 2x120`,
	"memory_request_idle": `
container_memory_working_set_bytes{namespace="shop",pod="bad",container="app"} 1e8x120
kube_pod_container_resource_requests{namespace="shop",pod="bad",container="app",resource="memory",unit="byte"} 8e9x120
container_memory_working_set_bytes{namespace="shop",pod="peak",container="app"} 1e8x90 7e9x30
kube_pod_container_resource_requests{namespace="shop",pod="peak",container="app",resource="memory",unit="byte"} 8e9x120`,
	"node_memory": `
node_memory_MemTotal_bytes{instance="bad:9100"} 100x120
node_memory_MemAvailable_bytes{instance="bad:9100"} 5x120
node_memory_MemTotal_bytes{instance="peak:9100"} 100x120
node_memory_MemAvailable_bytes{instance="peak:9100"} 50x115 5x5`,
	"node_cpu": `
node_cpu_seconds_total{instance="bad:9100",cpu="0",mode="idle"} 0+1x120
node_cpu_seconds_total{instance="bad:9100",cpu="1",mode="idle"} 0+2x120
node_cpu_seconds_total{instance="busy:9100",cpu="0",mode="idle"} 0+1x120
node_cpu_seconds_total{instance="busy:9100",cpu="1",mode="idle"} 0+40x120`,
	"pleg": `
kubelet_pleg_relist_duration_seconds_bucket{node="bad",le="1"} 0+0x120
kubelet_pleg_relist_duration_seconds_bucket{node="bad",le="10"} 0+1x120
kubelet_pleg_relist_duration_seconds_bucket{node="bad",le="60"} 0+60x120
kubelet_pleg_relist_duration_seconds_bucket{node="bad",le="+Inf"} 0+60x120
kubelet_pleg_relist_duration_seconds_bucket{node="fast",le="1"} 0+60x120
kubelet_pleg_relist_duration_seconds_bucket{node="fast",le="10"} 0+60x120
kubelet_pleg_relist_duration_seconds_bucket{node="fast",le="+Inf"} 0+60x120`,
	"pod_start": `
kubelet_pod_worker_duration_seconds_bucket{node="bad",le="60"} 0+0x120
kubelet_pod_worker_duration_seconds_bucket{node="bad",le="300"} 0+2x120
kubelet_pod_worker_duration_seconds_bucket{node="bad",le="+Inf"} 0+2x120
kubelet_pod_worker_duration_seconds_bucket{node="one",le="60"} 0+0x120
kubelet_pod_worker_duration_seconds_bucket{node="one",le="300"} 0+0.1x120
kubelet_pod_worker_duration_seconds_bucket{node="one",le="+Inf"} 0+0.1x120`,
	"kubelet_client_certificate": `
kubelet_certificate_manager_client_ttl_seconds{node="bad"} 90000-60x120
kubelet_certificate_manager_client_ttl_seconds{node="fresh"} 9000000-60x120`,
	"kubelet_server_certificate": `
kubelet_certificate_manager_server_ttl_seconds{node="bad"} 90000-60x120
kubelet_certificate_manager_server_ttl_seconds{node="none"} 9e18x120`,
	"kubelet_renewal": `
kubelet_certificate_manager_client_expiration_renew_errors{node="bad"} 0x100 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
kubelet_certificate_manager_client_expiration_renew_errors{node="once"} 0x10 1x110`,
	"kubelet_server_renewal": `
kubelet_server_expiration_renew_errors{node="bad"} 0x100 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
kubelet_server_expiration_renew_errors{node="never"} 0x120`,
	"kubelet_down": `
up{job="kubelet",node="bad",metrics_path="/metrics"} 1x90 0x30
up{job="kubelet",node="bad",metrics_path="/metrics/cadvisor"} 1x90 0x30
up{job="kubelet",node="restarts",metrics_path="/metrics"} 1x115 0x5
up{job="kubelet",node="gone",metrics_path="/metrics"} 1x50 0x10
up{job="kubelet",node="closed",metrics_path="/metrics"} 0x120`,
	"targets_down": `
up{job="bad",namespace="kube-system",instance="a"} 1x90 0x30
up{job="bad",namespace="kube-system",instance="b"} 1x120
up{job="closed",namespace="kube-system",instance="a"} 0x120
up{job="restarts",namespace="shop",instance="a"} 1x116 0x4
up{job="replaced",namespace="shop",instance="a"} 1x60 0x20
up{job="replaced",namespace="shop",instance="b"} _x80 1x40
up{job="kubelet",namespace="kube-system",node="n"} 1x90 0x30`,
	"targets_never_up": `
up{job="bad",namespace="kube-system",instance="a"} 0x120
up{job="new",namespace="shop",instance="a"} _x110 0x10
up{job="down",namespace="shop",instance="a"} 1x90 0x30`,
	"config_refused": `
prometheus_config_last_reload_successful{namespace="monitoring",pod="bad"} 1x90 0x30
prometheus_config_last_reload_successful{namespace="monitoring",pod="mended"} 0x115 1x5`,
	"alertmanager_config_refused": `
alertmanager_config_last_reload_successful{namespace="monitoring",pod="bad"} 1x90 0x30
alertmanager_config_last_reload_successful{namespace="monitoring",pod="well"} 1x120`,
	"rules_failing": `
prometheus_rule_evaluation_failures_total{namespace="monitoring",pod="bad",rule_group="a"} 0+1x120
prometheus_rule_evaluation_failures_total{namespace="monitoring",pod="well",rule_group="a"} 5x120`,
	"notifications_failing": `
alertmanager_notifications_total{namespace="monitoring",pod="bad",integration="slack"} 0+2x120
alertmanager_notifications_failed_total{namespace="monitoring",pod="bad",integration="slack"} 0+1x120
alertmanager_notifications_total{namespace="monitoring",pod="once",integration="slack"} 0+2x120
alertmanager_notifications_failed_total{namespace="monitoring",pod="once",integration="slack"} 0x115 1x5`,
	"api_burns_fast": `
apiserver_request_total{verb="GET",code="200"} 0+80x120
apiserver_request_total{verb="GET",code="500"} 0+20x120
apiserver_request_total{verb="WATCH",code="500"} 0+9000x120`,
	"api_burns": `
apiserver_request_total{verb="GET",code="200"} 0+90x120
apiserver_request_total{verb="GET",code="503"} 0+10x120`,
	"api_terminates": `
apiserver_request_total{verb="GET",code="200"} 0+90x120
apiserver_request_terminations_total{verb="GET",code="429"} 0+60x120`,
	"api_clients_failing": `
rest_client_requests_total{namespace="kube-system",pod="bad",code="200"} 0+90x120
rest_client_requests_total{namespace="kube-system",pod="bad",code="500"} 0+10x120
rest_client_requests_total{namespace="kube-system",pod="few",code="200"} 0+1x120
rest_client_requests_total{namespace="kube-system",pod="few",code="500"} 0+1x120
rest_client_requests_total{namespace="kube-system",pod="well",code="200"} 0+900x120
rest_client_requests_total{namespace="kube-system",pod="well",code="500"} 0+4x120`,
	"api_client_certificates": `
apiserver_client_certificate_expiration_seconds_bucket{le="86400"} 0+5x120
apiserver_client_certificate_expiration_seconds_bucket{le="604800"} 0+5x120
apiserver_client_certificate_expiration_seconds_bucket{le="2592000"} 0+10x120
apiserver_client_certificate_expiration_seconds_bucket{le="+Inf"} 0+10x120`,
	"aggregated_errors": `
aggregator_unavailable_apiservice_total{name="bad",reason="FailedDiscoveryCheck"} 0+1x120
aggregator_unavailable_apiservice_total{name="once",reason="FailedDiscoveryCheck"} 0x115 1x5`,
	"aggregated_down": `
aggregator_unavailable_apiservice{name="bad"} 0x116 1x4
aggregator_unavailable_apiservice{name="well"} 0x120`,
	"deprecated_api": `
apiserver_requested_deprecated_apis{group="policy",version="v1beta1",resource="bad",removed_release="1.25"} 1x120
apiserver_requested_deprecated_apis{group="",version="v1",resource="componentstatuses",removed_release=""} 1x120`,
}

// well are the metrics of what is well, of measures that have one series or none.
var well = map[string]string{
	"api_burns_fast": `
apiserver_request_total{verb="GET",code="200"} 0+80x60 4800+100x60
apiserver_request_total{verb="GET",code="500"} 0+20x60 1200+0x60`,
	"api_burns": `
apiserver_request_total{verb="GET",code="200"} 0+100x120
apiserver_request_total{verb="GET",code="404"} 0+50x120
apiserver_request_total{verb="GET",code="503"} 0+1x120`,
	"api_terminates": `
apiserver_request_total{verb="GET",code="200"} 0+90x120
apiserver_request_terminations_total{verb="GET",code="429"} 0+6x120`,
	"api_client_certificates": `
apiserver_client_certificate_expiration_seconds_bucket{le="604800"} 0+0x120
apiserver_client_certificate_expiration_seconds_bucket{le="2592000"} 0+10x120
apiserver_client_certificate_expiration_seconds_bucket{le="+Inf"} 0+10x120`,
}

// TestAMeasureTellsWhatIsBeyondItsBoundAndNothingElse asks Prometheus' own engine.
func TestAMeasureTellsWhatIsBeyondItsBoundAndNothingElse(t *testing.T) {
	for _, m := range check.Measures {
		t.Run(m.Name, func(t *testing.T) {
			if histories[m.Name] == "" {
				t.Fatal("there is no history of it")
			}
			injected(t, plain, m.Expr)
			if !strings.Contains(m.Expr, m.Guard) || !strings.Contains(histories[m.Name], m.Guard) {
				t.Errorf("its guard %s is no metric of it", m.Guard)
			}
			got := ask(t, histories[m.Name], m.Expr)
			if len(got) != 1 || len(well[m.Name]) == 0 && !slices.ContainsFunc(got[0], func(v string) bool { return v == "bad" || v == "bad:9100" }) {
				t.Errorf("got %q, want what is bad and nothing else", got)
			}
			if w := well[m.Name]; w != "" {
				if got := ask(t, w, m.Expr); len(got) > 0 {
					t.Errorf("of what is well: got %q", got)
				}
			}
			if m.Of == "workload" {
				if got := ask(t, histories[m.Name], upstream.InjectPromQL(m.Expr, `namespace="other"`)); len(got) > 0 {
					t.Errorf("of another namespace: got %q", got)
				}
			}
		})
	}
}

// ask gives the values of the labels of each series of an answer.
func ask(t *testing.T, history, expr string) [][]string {
	t.Helper()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1e6)
	store := promqltest.LoadedStorage(t, "load 1m"+strings.ReplaceAll(history, "\n", "\n  "))
	q, err := engine.NewInstantQuery(context.Background(), store, nil, expr, time.Unix(0, 0).Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	v, err := q.Exec(context.Background()).Vector()
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for _, s := range v {
		values := []string{}
		for _, l := range slices.Sorted(maps.Values(s.Metric.Map())) {
			values = append(values, l)
		}
		out = append(out, values)
	}
	return out
}

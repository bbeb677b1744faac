package check

import "github.com/oncall-copilot/oncall/pkg/event"

// Measure is something that Prometheus knows and no object shows: an expression
// whose answer has a series for each thing that is beyond a bound, and none of
// what is well.
type Measure struct {
	Name string
	// Guard is a metric without which there is nothing to ask.
	Guard string
	// Expr is PromQL. It is true over all of a span, so that a peak is none.
	Expr string
	// Of is what its labels name: workload, node, apiservice, job or cluster. Only
	// what is of workloads and jobs is asked for one namespace.
	Of string
	// Holds is the bound in words.
	Holds string
}

// Measured is what a [Measure] says of one thing.
type Measured struct {
	Name   string // of the Measure
	Entity event.Entity
	Labels map[string]string // of the series
	Value  float64
	Query  string // what was asked
}

// Measures are all of them. Bounds are those of the kubernetes-mixin's alerts
// where it has one, and of Popeye else, with the guards that made people silence
// them.
var Measures = []Measure{
	{
		// Periods in which the container had nothing to do are not counted by the
		// kernel: of a tenth of the time at least something can be said.
		Name: "cpu_throttled", Guard: "container_cpu_cfs_periods_total", Of: "workload", Holds: "more than a quarter of a container's CPU periods in 15 minutes",
		Expr: `max by (namespace, pod) (sum by (namespace, pod, container) (increase(container_cpu_cfs_throttled_periods_total{container!=""}[15m])) / (sum by (namespace, pod, container) (increase(container_cpu_cfs_periods_total{container!=""}[15m])) > 900)) > 0.25`,
	},
	{
		Name: "cpu_near_limit", Guard: "container_spec_cpu_quota", Of: "workload", Holds: "over 80 % of its limit on average over 15 minutes",
		Expr: `max by (namespace, pod) (sum by (namespace, pod, container) (rate(container_cpu_usage_seconds_total{container!=""}[15m])) / (sum by (namespace, pod, container) (container_spec_cpu_quota{container!=""} / container_spec_cpu_period{container!=""}) > 0)) > 0.8`,
	},
	{
		Name: "cpu_above_request", Guard: "kube_pod_container_resource_requests", Of: "workload", Holds: "twice its request, and half a core more, on average over an hour",
		Expr: `max by (namespace, pod) (sum by (namespace, pod, container) (rate(container_cpu_usage_seconds_total{container!=""}[1h])) / (sum by (namespace, pod, container) (kube_pod_container_resource_requests{resource="cpu"}) > 0) > 2 and sum by (namespace, pod, container) (rate(container_cpu_usage_seconds_total{container!=""}[1h])) - sum by (namespace, pod, container) (kube_pod_container_resource_requests{resource="cpu"}) > 0.5)`,
	},
	{
		Name: "memory_above_request", Guard: "kube_pod_container_resource_requests", Of: "workload", Holds: "one and a half times its request, and 256 MiB more, all of an hour",
		Expr: `max by (namespace, pod) (sum by (namespace, pod, container) (min_over_time(container_memory_working_set_bytes{container!=""}[1h])) / (sum by (namespace, pod, container) (kube_pod_container_resource_requests{resource="memory"}) > 0) > 1.5 and sum by (namespace, pod, container) (min_over_time(container_memory_working_set_bytes{container!=""}[1h])) - sum by (namespace, pod, container) (kube_pod_container_resource_requests{resource="memory"}) > 268435456)`,
	},
	{
		Name: "cpu_request_idle", Guard: "kube_pod_container_resource_requests", Of: "workload", Holds: "less than a tenth of its request over an hour, which is a core or more",
		Expr: `min by (namespace, pod) (sum by (namespace, pod, container) (rate(container_cpu_usage_seconds_total{container!=""}[1h])) / (sum by (namespace, pod, container) (kube_pod_container_resource_requests{resource="cpu"}) >= 1) < 0.1)`,
	},
	{
		Name: "memory_request_idle", Guard: "kube_pod_container_resource_requests", Of: "workload", Holds: "never a fifth of its request in an hour, which is 2 GiB or more",
		Expr: `min by (namespace, pod) (sum by (namespace, pod, container) (max_over_time(container_memory_working_set_bytes{container!=""}[1h])) / (sum by (namespace, pod, container) (kube_pod_container_resource_requests{resource="memory"}) >= 2147483648) < 0.2)`,
	},

	{
		Name: "node_memory", Guard: "node_memory_MemAvailable_bytes", Of: "node", Holds: "over 90 % in use all of 15 minutes",
		Expr: `max by (node, instance) (min_over_time((1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)[15m:1m])) > 0.9`,
	},
	{
		Name: "node_cpu", Guard: "node_cpu_seconds_total", Of: "node", Holds: "over 90 % in use on average over 15 minutes",
		Expr: `1 - avg by (node, instance) (rate(node_cpu_seconds_total{mode="idle"}[15m])) > 0.9`,
	},
	{
		Name: "pleg", Guard: "kubelet_pleg_relist_duration_seconds_bucket", Of: "node", Holds: "a 99th percentile of 10 s or more in five minutes",
		Expr: `histogram_quantile(0.99, sum by (node, instance, le) (rate(kubelet_pleg_relist_duration_seconds_bucket[5m]))) >= 10`,
	},
	{
		Name: "pod_start", Guard: "kubelet_pod_worker_duration_seconds_bucket", Of: "node", Holds: "a 99th percentile over 60 s, of five or more, in 15 minutes",
		Expr: `histogram_quantile(0.99, sum by (node, instance, le) (rate(kubelet_pod_worker_duration_seconds_bucket[15m]))) > 60 and sum by (node, instance) (increase(kubelet_pod_worker_duration_seconds_bucket{le="+Inf"}[15m])) >= 5`,
	},
	{
		Name: "kubelet_client_certificate", Guard: "kubelet_certificate_manager_client_ttl_seconds", Of: "node", Holds: "less than a week left",
		Expr: `min by (node, instance) (kubelet_certificate_manager_client_ttl_seconds) < 604800`,
	},
	{
		Name: "kubelet_server_certificate", Guard: "kubelet_certificate_manager_server_ttl_seconds", Of: "node", Holds: "less than a week left",
		Expr: `min by (node, instance) (kubelet_certificate_manager_server_ttl_seconds) < 604800`,
	},
	{
		Name: "kubelet_renewal", Guard: "kubelet_certificate_manager_client_expiration_renew_errors", Of: "node", Holds: "errors within the last hour",
		Expr: `sum by (node, instance) (increase(kubelet_certificate_manager_client_expiration_renew_errors[1h])) > 0`,
	},
	{
		Name: "kubelet_server_renewal", Guard: "kubelet_server_expiration_renew_errors", Of: "node", Holds: "errors within the last hour",
		Expr: `sum by (node, instance) (increase(kubelet_server_expiration_renew_errors[1h])) > 0`,
	},
	{
		Name: "kubelet_down", Guard: "up", Of: "node", Holds: "not once in ten minutes, though within the day before",
		Expr: `max by (node, instance) (up{job=~".*kubelet.*"} == 0 and max_over_time(up[10m]) == 0 and max_over_time(up[1d]) == 1)`,
	},

	{
		// What nobody ever could read is a matter of addresses and rights: of a
		// controller manager that listens on its own host only, say.
		Name: "targets_down", Guard: "up", Of: "job", Holds: "more than a tenth of a job, not once in ten minutes, though within the day before",
		Expr: `count by (namespace, job) (up{job!~".*kubelet.*"} == 0 and max_over_time(up[10m]) == 0 and max_over_time(up[1d]) == 1) / count by (namespace, job) (up) > 0.1`,
	},
	{
		Name: "targets_never_up", Guard: "up", Of: "job", Holds: "never within a day, and asked for an hour",
		Expr: `count by (namespace, job) (up == 0 and max_over_time(up[1d]) == 0 and up offset 1h) / count by (namespace, job) (up) > 0.1`,
	},
	{
		Name: "config_refused", Guard: "prometheus_config_last_reload_successful", Of: "workload", Holds: "not once in ten minutes",
		Expr: `max by (namespace, pod, job) (max_over_time(prometheus_config_last_reload_successful[10m])) == 0`,
	},
	{
		Name: "alertmanager_config_refused", Guard: "alertmanager_config_last_reload_successful", Of: "workload", Holds: "not once in ten minutes",
		Expr: `max by (namespace, pod, job) (max_over_time(alertmanager_config_last_reload_successful[10m])) == 0`,
	},
	{
		Name: "rules_failing", Guard: "prometheus_rule_evaluation_failures_total", Of: "workload", Holds: "twice or more in 15 minutes",
		Expr: `sum by (namespace, pod, job, rule_group) (increase(prometheus_rule_evaluation_failures_total[15m])) >= 2`,
	},
	{
		Name: "notifications_failing", Guard: "alertmanager_notifications_failed_total", Of: "workload", Holds: "three or more, and a hundredth of them, in 15 minutes",
		Expr: `sum by (namespace, pod, job, integration) (increase(alertmanager_notifications_failed_total[15m])) / sum by (namespace, pod, job, integration) (increase(alertmanager_notifications_total[15m])) > 0.01 and sum by (namespace, pod, job, integration) (increase(alertmanager_notifications_failed_total[15m])) >= 3`,
	},

	{
		// SRE Workbook, chapter 5, of an objective of 99 %.
		Name: "api_burns_fast", Guard: "apiserver_request_total", Of: "cluster", Holds: "14.4 times an error budget of 1 %, over an hour and over five minutes",
		Expr: `sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT",code=~"5.."}[1h])) / sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT"}[1h])) > 0.144 and sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT",code=~"5.."}[5m])) / sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT"}[5m])) > 0.144`,
	},
	{
		Name: "api_burns", Guard: "apiserver_request_total", Of: "cluster", Holds: "6 times an error budget of 1 %, over six hours and over half an hour",
		Expr: `sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT",code=~"5.."}[6h])) / sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT"}[6h])) > 0.06 and sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT",code=~"5.."}[30m])) / sum(rate(apiserver_request_total{verb!~"WATCH|CONNECT"}[30m])) > 0.06`,
	},
	{
		Name: "api_terminates", Guard: "apiserver_request_terminations_total", Of: "cluster", Holds: "more than a fifth of all requests in ten minutes",
		Expr: `sum(rate(apiserver_request_terminations_total[10m])) / (sum(rate(apiserver_request_total[10m])) + sum(rate(apiserver_request_terminations_total[10m]))) > 0.2`,
	},
	{
		Name: "api_clients_failing", Guard: "rest_client_requests_total", Of: "workload", Holds: "more than a hundredth, and 20, in 15 minutes",
		Expr: `sum by (namespace, pod, job, instance) (rate(rest_client_requests_total{code=~"5.."}[15m])) / sum by (namespace, pod, job, instance) (rate(rest_client_requests_total[15m])) > 0.01 and sum by (namespace, pod, job, instance) (increase(rest_client_requests_total{code=~"5.."}[15m])) >= 20`,
	},
	{
		Name: "api_client_certificates", Guard: "apiserver_client_certificate_expiration_seconds_bucket", Of: "cluster", Holds: "the shortest hundredth within a week",
		Expr: `histogram_quantile(0.01, sum by (le) (rate(apiserver_client_certificate_expiration_seconds_bucket[15m]))) < 604800`,
	},
	{
		Name: "aggregated_errors", Guard: "aggregator_unavailable_apiservice_total", Of: "apiservice", Holds: "more than four times in ten minutes",
		Expr: `sum by (name) (increase(aggregator_unavailable_apiservice_total[10m])) > 4`,
	},
	{
		Name: "aggregated_down", Guard: "aggregator_unavailable_apiservice", Of: "apiservice", Holds: "less than 85 % of ten minutes",
		Expr: `1 - max by (name) (avg_over_time(aggregator_unavailable_apiservice[10m])) < 0.85`,
	},
	{
		Name: "deprecated_api", Guard: "apiserver_requested_deprecated_apis", Of: "cluster", Holds: "asked for since the API server started",
		Expr: `max by (group, version, resource, removed_release) (apiserver_requested_deprecated_apis{removed_release!=""})`,
	},
}

package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// metricsAPI is an API by another server that is available now, and one that is not.
const metricsAPI = `
---
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io, creationTimestamp: ago(900h)}
spec: {group: metrics.k8s.io, version: v1beta1}
status: {conditions: [{type: Available, status: "True", lastTransitionTime: ago(9m)}]}
---
kind: APIService
metadata: {name: v1.other.example, creationTimestamp: ago(900h)}
spec: {group: other.example, version: v1}
status: {conditions: [{type: Available, status: "False", reason: MissingEndpoints, message: none, lastTransitionTime: ago(9m)}]}
---
kind: Node
metadata: {name: dead, creationTimestamp: ago(900h)}
status: {conditions: [{type: Ready, status: Unknown, lastTransitionTime: ago(30m)}]}
---
kind: Service
metadata: {name: lost, namespace: shop, creationTimestamp: ago(900h)}
spec: {selector: {app: lost}, ports: [{port: 80}]}
---
kind: Pod
metadata: {name: lost, namespace: shop, labels: {app: lost}, creationTimestamp: ago(900h)}
spec: {nodeName: n1, containers: [{name: app, image: "r.example/web:v1"}]}
status: {phase: Running, conditions: [{type: PodScheduled, status: "True"}, {type: Ready, status: "False", lastTransitionTime: ago(30m)}], containerStatuses: [{name: app, restartCount: 9, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, reason: Error, finishedAt: ago(1m)}}}]}
`

func TestMeasured(t *testing.T) {
	n1, dead := event.Entity{Kind: "Node", Name: "n1"}, event.Entity{Kind: "Node", Name: "dead"}
	api := event.Entity{Kind: "Cluster", Name: "api-server"}
	job := func(name string) event.Entity { return event.Entity{Namespace: "shop", Kind: "ScrapeJob", Name: name} }
	service := func(name string) event.Entity { return event.Entity{Kind: "APIService", Name: name} }
	is := func(name string, e event.Entity, v float64, labels ...string) Signals {
		m := Measured{Name: name, Entity: e, Value: v, Query: "q", Labels: map[string]string{}}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			m.Labels[k] = v
		}
		return Signals{Measured: []Measured{m}}
	}
	both := func(a, b Signals) Signals {
		return Signals{Measured: append(a.Measured, b.Measured...), Departures: append(a.Departures, b.Departures...), Shares: append(a.Shares, b.Shares...)}
	}
	slow := Signals{Departures: []Departure{{odd(webDeployment, "level_shift", "latency_p99", 0.9, 0.4, event.Warning, 10*time.Minute), 5000}}}
	memory := func(detector string) Signals {
		return Signals{Departures: []Departure{{odd(webDeployment, detector, "memory_limit_ratio", 0.84, 1, event.Warning, time.Hour), -1}}}
	}
	for name, c := range map[string]struct {
		of   Signals
		want string // what is found beside the objects, "" for nothing
	}{
		"memory that grows to its limit will be trouble":          {memory("forecast"), "soon shop/deploy/web memory is at 84.0 % of its limit, full in 5 h (4 h - 6 h) 60m"},
		"memory that shifted is none by itself":                   {memory("level_shift"), ""},
		"memory that stays at its limit is untidy":                {Signals{Shares: []Share{{webDeployment, "memory_limit_ratio", "q", 0.97}}}, "hygiene shop/deploy/web memory stays at 97.0 % of its limit"},
		"memory that is well used is nothing":                     {Signals{Shares: []Share{{webDeployment, "memory_limit_ratio", "q", 0.93}}}, ""},
		"throttling alone is untidy":                              {is("cpu_throttled", webDeployment, 0.6), "hygiene shop/deploy/web a container is throttled in 60 % of its CPU periods"},
		"throttling of what has become slow is the cause":         {both(is("cpu_throttled", webDeployment, 0.6), slow), "soon shop/deploy/web 99th percentile of latency is 900 ms 10m: a container is throttled in 60 % of its CPU periods"},
		"throttling at the limit is told once":                    {both(is("cpu_throttled", webDeployment, 0.6), is("cpu_near_limit", webDeployment, 0.99)), "hygiene shop/deploy/web a container is throttled in 60 % of its CPU periods"},
		"CPU at its limit is untidy":                              {is("cpu_near_limit", webDeployment, 0.93), "hygiene shop/deploy/web a container uses 93 % of its CPU limit"},
		"the worst pod speaks for its workload":                   {both(is("cpu_near_limit", webDeployment, 0.83), is("cpu_near_limit", webDeployment, 0.91)), "hygiene shop/deploy/web a container uses 91 % of its CPU limit"},
		"more memory than requested is untidy":                    {is("memory_above_request", webDeployment, 3.1), "hygiene shop/deploy/web uses 3.1 times the memory that it requests"},
		"a request that lies idle is untidy":                      {is("cpu_request_idle", webDeployment, 0.031), "hygiene shop/deploy/web uses 0.031 of the CPU that it requests"},
		"a node whose memory is nearly used up will be trouble":   {is("node_memory", n1, 0.953), "soon node/n1 95.3 % of its memory is in use"},
		"a node whose CPU is used is untidy at most":              {is("node_cpu", n1, 0.97), "hygiene node/n1 97 % of its CPU is in use"},
		"of a node that is dead nothing more is told":             {both(is("node_memory", dead, 0.95), is("kubelet_down", dead, 0)), ""},
		"a kubelet that is slow to look will be trouble":          {is("pleg", n1, 14.2), "soon node/n1 its kubelet takes 14.2 s to look at its containers"},
		"a kubelet that is slow to start pods is":                 {is("pod_start", n1, 180), "soon node/n1 its kubelet takes 180 s to start pods"},
		"a certificate that ends within a week may be short":      {is("kubelet_client_certificate", n1, 500000), "hygiene node/n1 its kubelet's client certificate ends in 5d"},
		"one that ends within a day is not":                       {is("kubelet_client_certificate", n1, 40000), "soon node/n1 its kubelet's client certificate ends in 11h6m"},
		"one that has ended is broken":                            {is("kubelet_server_certificate", n1, -5), "broken node/n1 its kubelet's server certificate has ended"},
		"a renewal that fails will be":                            {is("kubelet_renewal", n1, 3), "soon node/n1 its kubelet fails to renew its client certificate"},
		"a kubelet that Prometheus does not reach is told":        {is("kubelet_down", n1, 0), "soon node/n1 its kubelet does not answer Prometheus"},
		"an API server that fails a fifth is broken":              {both(is("api_burns_fast", api, 0.2), is("api_burns", api, 0.1)), "broken cluster API server fails 20 % of its requests"},
		"one that fails a tenth for hours will be":                {is("api_burns", api, 0.1), "soon cluster API server fails 10 % of its requests"},
		"one that turns requests away":                            {is("api_terminates", api, 0.4), "soon cluster API server turns away 40 % of its requests: It has more to do than it can, or a client asks without end."},
		"a client whose requests it fails":                        {is("api_clients_failing", webDeployment, 0.1), "soon shop/deploy/web the API server fails 10 % of its requests"},
		"a client's certificate":                                  {is("api_client_certificates", api, 86400), "hygiene cluster a client's certificate ends in 24h"},
		"a deprecated API that is asked for":                      {is("deprecated_api", api, 1, "group=policy", "version=v1beta1", "resource=podsecuritypolicies", "removed_release=1.25"), "hygiene cluster podsecuritypolicies of policy/v1beta1 are asked for, and gone in v1.25"},
		"an API by another server that comes and goes":            {is("aggregated_down", service("v1beta1.metrics.k8s.io"), 0.4), "soon apiservice/v1beta1.metrics.k8s.io was available for 40 % of ten minutes"},
		"one that is away now is told by its condition":           {is("aggregated_down", service("v1.other.example"), 0.4), ""},
		"one that was removed is none":                            {is("aggregated_errors", service("v1.gone.example"), 40), ""},
		"targets that are down":                                   {is("targets_down", job("kube-scheduler"), 1), "soon shop/scrapejob/kube-scheduler 100 % of its targets cannot be read since ten minutes or more: if it is down: new pods may get no node"},
		"targets of pods in trouble are an effect":                {is("targets_down", job("lost"), 1), "soon shop/pod/lost Prometheus cannot read the job lost"},
		"targets that never were up":                              {is("targets_never_up", job("etcd"), 1), "hygiene shop/scrapejob/etcd 100 % of its targets could never be read: What Prometheus does not read, no alert and no detector sees."},
		"a Prometheus that refused its configuration":             {is("config_refused", webDeployment, 0), "soon shop/deploy/web refused its last configuration"},
		"rules that fail":                                         {is("rules_failing", webDeployment, 30, "rule_group=/etc/rules.yaml;slo"), "soon shop/deploy/web failed 30 times to evaluate the rules /etc/rules.yaml;slo"},
		"notifications most of which fail reach nobody":           {is("notifications_failing", webDeployment, 1, "integration=slack"), "broken shop/deploy/web 100 % of its notifications by slack fail"},
		"notifications of which a few fail are repeated somewhat": {is("notifications_failing", webDeployment, 0.04, "integration=slack"), "soon shop/deploy/web 4 % of its notifications by slack fail"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := read(t, strings.ReplaceAll(shopWeb, "AGE", "1h")+metricsAPI)
			cluster.Signals = &c.of
			x, err := examine(t.Context(), cluster, slices.Concat(signalChecks, measuredChecks), Options{Redact: redact.New(redact.Options{})})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, r := range x.Roots {
				lines = append(lines, string(r.Urgency)+" "+Name(r.Entity)+" "+r.Line(noon))
				if f := r.Findings[0]; len(f.Evidence) == 0 || f.Detail == "" && len(f.Checks) == 0 {
					t.Errorf("no evidence, or nothing to check next: %+v", f)
				}
				if x.Evidence[0].Source != "prometheus" || x.Evidence[0].Query != "q" {
					t.Errorf("the evidence is of %s %q, not of what was measured", x.Evidence[0].Source, x.Evidence[0].Query)
				}
			}
			if s := strings.Join(lines, "\n"); s != c.want {
				t.Errorf("got %q, want %q", s, c.want)
			}
		})
	}
}

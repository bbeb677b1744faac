package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// measuredChecks say what [Measures] found.
var measuredChecks = []Info{
	{
		Name: "memory_limit",
		Doc:  "Workloads of which a container's memory will reach its limit within a day by its trend, with the time left and its interval; one that stays at 95 % of it or more is hygiene, since caches fill what they are given. From Prometheus. Not: less than half of the limit; a trend seen for less than half an hour, one that has ended, or of pods that came within the last ten minutes.",
		Run:  memoryLimit,
	},
	{
		Name: "cpu_limit",
		Doc:  "Workloads of which a container is throttled in more than a quarter of its CPU periods, or uses over 80 % of its CPU limit, over 15 minutes: soon, and the cause, where requests are slower than usual or fail; hygiene else. From Prometheus. Not: containers that run in less than a tenth of the periods, where a quarter is little.",
		Run:  cpuLimit,
	},
	{
		Name: "requests_hygiene",
		Doc:  "Workloads that use far more CPU or memory than they request, which they lose when the node is full, or far less, which nobody else gets; over an hour. `oncall cost` says what to request instead. From Prometheus. Not: differences of less than half a core, or requests of less than a core or 2 GiB that lie idle.",
		Run:  requestsHygiene,
	},
	{
		Name: "node_saturation",
		Doc:  "Nodes of which over 90 % of the memory is in use all of 15 minutes; as hygiene, CPU that is over 90 % busy. From Prometheus. Not: Popeye's 80 %, which is what nodes are for; page cache, which is free when it is wanted; nodes that are not ready.",
		Run:  nodeSaturation,
	},
	{
		Name: "kubelets",
		Doc:  "Kubelets that take 10 s or more to look at their containers (PLEG), a minute to start pods, whose certificate ends within a day or is not renewed, or that Prometheus cannot reach for ten minutes though their node is ready; a certificate that ends within a week is hygiene, since some are issued for days. From Prometheus. Not: nodes that are not ready.",
		Run:  kubelets,
	},
	{
		Name: "api_requests",
		Doc:  "An API server that burns an error budget of 1 % (14.4 times as fast over an hour and five minutes, or 6 times over six hours and half an hour), that turns away a fifth of its requests, or whose APIs by other servers were not available again and again; clients of which it fails more than a hundredth of the requests. Client certificates that end within a week and deprecated APIs that are asked for are hygiene. From Prometheus. Not: watches; fewer than 20 failures of a client.",
		Run:  apiRequests,
	},
	{
		Name: "targets",
		Doc:  "Jobs of Prometheus of which more than a tenth of the targets, such as the controller manager, the scheduler or kube-proxy, could not be read for ten minutes and could within the day before. From Prometheus. Not: targets that could never be read, which are a matter of addresses and rights, and hygiene; those that are gone.",
		Run:  targets,
	},
	{
		Name: "monitoring",
		Doc:  "Prometheus or Alertmanager that refused its last configuration; rules that fail to be evaluated; notifications that Alertmanager fails to send: broken when more than half do, since nobody is told. From Prometheus. Not: fewer than three notifications or two evaluations in 15 minutes.",
		Run:  monitoring,
	},
}

// measured gives what a measure says of each thing: of several values the greatest.
func (c *Cluster) measured(name string) []Measured {
	if c.Signals == nil {
		return nil
	}
	at := map[string]int{}
	var out []Measured
	for _, m := range c.Signals.Measured {
		if m.Name != name || c.deadNodes[m.Entity.Name] && m.Entity.Kind == "Node" {
			continue
		}
		key := m.Entity.String()
		for _, l := range apart {
			key += "\x00" + m.Labels[l]
		}
		if i, ok := at[key]; !ok {
			at[key] = len(out)
			out = append(out, m)
		} else if m.Value > out[i].Value {
			out[i] = m
		}
	}
	return out
}

// apart are labels that tell things of one entity apart.
var apart = []string{"rule_group", "integration", "group", "version", "resource"}

// holds is a problem with the evidence of a measure.
func holds(m Measured, p Problem) Problem {
	p.Entity, p.Source, p.Query = m.Entity, evidence.Prometheus, m.Query
	i := slices.IndexFunc(Measures, func(k Measure) bool { return k.Name == m.Name })
	p.Seen = append(p.Seen, fmt.Sprintf("%s %.4g: %s", m.Name, m.Value, Measures[i].Holds))
	return p
}

func percent(v float64) string { return fmt.Sprintf("%.3g %%", 100*v) }

func memoryLimit(c *Cluster, found func(Problem)) {
	if c.Signals == nil {
		return
	}
	told := map[event.Entity]bool{}
	next := func(e event.Entity) []event.Check {
		return []event.Check{closely(e, "since when it grows, what changed, and which container it is")}
	}
	for _, d := range c.Signals.Departures {
		if d.Detector != "forecast" || d.Signal != "memory_limit_ratio" || told[d.Entity] || c.young(d.Entity) {
			continue
		}
		told[d.Entity] = true
		_, when, _ := strings.Cut(d.Summary, ", ")
		found(shown(d.Anomaly, Problem{Urgency: event.Soon, Title: fmt.Sprintf("memory is at %.1f %% of its limit, %s", 100*d.Observed, when), Next: next(d.Entity)}))
	}
	for _, s := range c.Signals.Shares {
		if s.Signal != "memory_limit_ratio" || s.Value < nearlyFull || told[s.Entity] {
			continue
		}
		told[s.Entity] = true
		found(Problem{
			Entity: s.Entity, Urgency: event.Hygiene, Title: fmt.Sprintf("memory stays at %.1f %% of its limit", 100*s.Value),
			Seen: []string{fmt.Sprintf("%s %.4f, without a trend", s.Signal, s.Value)}, Source: evidence.Prometheus, Query: s.Query, Next: next(s.Entity),
		})
	}
}

func cpuLimit(c *Cluster, found func(Problem)) {
	throttled := map[event.Entity]bool{}
	tell := func(m Measured, title string) {
		p := holds(m, Problem{Urgency: event.Hygiene, Title: title, Next: []event.Check{closely(m.Entity, "which container it is, and whether its load has grown")}})
		if u := c.suffers(m.Entity); u != "" {
			p.Urgency, p.Cause, p.Confidence = u, true, event.Medium
		}
		found(p)
	}
	for _, m := range c.measured("cpu_throttled") {
		throttled[m.Entity] = true
		tell(m, fmt.Sprintf("a container is throttled in %s of its CPU periods", percent(m.Value)))
	}
	for _, m := range c.measured("cpu_near_limit") {
		if !throttled[m.Entity] {
			tell(m, fmt.Sprintf("a container uses %s of its CPU limit", percent(m.Value)))
		}
	}
}

// suffers is how urgent it is that requests of a workload are slower than usual,
// or fail; "" when neither is so.
func (c *Cluster) suffers(e event.Entity) event.Urgency {
	var worst event.Urgency
	see := func(p Problem) {
		if p.Entity == e && worst != event.Broken {
			worst = p.Urgency
		}
	}
	latencyShift(c, see)
	errorShift(c, see)
	return worst
}

func requestsHygiene(c *Cluster, found func(Problem)) {
	for _, k := range []struct{ name, says string }{
		{"cpu_above_request", "uses %.2g times the CPU that it requests"},
		{"memory_above_request", "uses %.2g times the memory that it requests"},
		{"cpu_request_idle", "uses %.2g of the CPU that it requests"},
		{"memory_request_idle", "uses %.2g of the memory that it requests"},
	} {
		for _, m := range c.measured(k.name) {
			found(holds(m, Problem{
				Urgency: event.Hygiene, Title: fmt.Sprintf(k.says, m.Value),
				Next: []event.Check{{Why: "what it should request, by a longer time", Command: "oncall cost -n " + m.Entity.Namespace}},
			}))
		}
	}
}

func nodeSaturation(c *Cluster, found func(Problem)) {
	next := func(m Measured) []event.Check {
		return []event.Check{
			{Why: "which pods use most now", Command: "kubectl top pods -A --sort-by=memory"},
			describe(m.Entity, "what its pods request, and its conditions"),
		}
	}
	if c.noMetrics() {
		all := next
		next = func(m Measured) []event.Check { return all(m)[1:] }
	}
	for _, m := range c.measured("node_memory") {
		found(holds(m, Problem{State: true, Urgency: event.Soon, Title: percent(m.Value) + " of its memory is in use", Next: next(m)}))
	}
	for _, m := range c.measured("node_cpu") {
		found(holds(m, Problem{State: true, Urgency: event.Hygiene, Title: percent(m.Value) + " of its CPU is in use", Next: next(m)}))
	}
}

func kubelets(c *Cluster, found func(Problem)) {
	tell := func(m Measured, u event.Urgency, title, detail string) {
		found(holds(m, Problem{Urgency: u, Title: title, Detail: detail, Next: []event.Check{
			{Why: "what the kubelet says of itself", Command: "kubectl get --raw /api/v1/nodes/" + m.Entity.Name + "/proxy/healthz?verbose"},
			describe(m.Entity, "its conditions and events"),
		}}))
	}
	for _, m := range c.measured("pleg") {
		tell(m, event.Soon, fmt.Sprintf("its kubelet takes %.3g s to look at its containers", m.Value), "The container runtime is slow or stuck: pods start and stop late, and after three minutes the node is not ready.")
	}
	for _, m := range c.measured("pod_start") {
		tell(m, event.Soon, fmt.Sprintf("its kubelet takes %.3g s to start pods", m.Value), "")
	}
	for _, k := range []struct{ certificate, renewal, what string }{{"kubelet_client_certificate", "kubelet_renewal", "client"}, {"kubelet_server_certificate", "kubelet_server_renewal", "server"}} {
		failing := map[event.Entity]bool{}
		for _, m := range c.measured(k.renewal) {
			failing[m.Entity] = true
			tell(m, event.Soon, fmt.Sprintf("its kubelet fails to renew its %s certificate", k.what), "Once it has ended, the node is lost.")
		}
		for _, m := range c.measured(k.certificate) {
			left := time.Duration(m.Value * float64(time.Second))
			title := fmt.Sprintf("its kubelet's %s certificate ends in %s", k.what, span(left))
			switch {
			case left <= 0:
				tell(m, event.Broken, fmt.Sprintf("its kubelet's %s certificate has ended", k.what), "")
			case left < ending || failing[m.Entity]:
				tell(m, event.Soon, title, "")
			default:
				tell(m, event.Hygiene, title, "")
			}
		}
	}
	for _, m := range c.measured("kubelet_down") {
		tell(m, event.Soon, "its kubelet does not answer Prometheus", "The node is ready, so that it reaches the API server; what asks the kubelet does not reach it: kubectl logs and exec neither, it may be.")
	}
}

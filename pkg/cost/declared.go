package cost

import (
	"fmt"
	"math"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// A limit so many times its request makes a node promise what it does not have.
const (
	skewedCPU    = 10
	skewedMemory = 4
)

// declared tells of requests and limits that are missing or far apart, which needs
// no Prometheus.
func (x *examiner) declared(w *workload, seen []string) {
	if w.system() || len(w.pods)+len(w.waiting) == 0 {
		return
	}
	if n := x.noRequests(w, seen); n.title != "" && !x.told(w.entity, ruleNoRequests) {
		i := x.add(x.short, w.team, n)
		if i.Risk.Level == "" {
			i.Risk = Risk{"medium", "the scheduler takes it to need nothing"}
		}
	}
	var unlimited, skewed []string
	for _, k := range w.containers {
		if k.init {
			continue
		}
		if k.limit(corev1.ResourceMemory) == 0 {
			unlimited = append(unlimited, k.name)
		}
		for _, r := range []struct {
			name corev1.ResourceName
			most float64
		}{{corev1.ResourceCPU, skewedCPU}, {corev1.ResourceMemory, skewedMemory}} {
			if req, lim := k.request(r.name), k.limit(r.name); req > 0 && lim/req >= r.most && !k.fits(r.name) {
				skewed = append(skewed, fmt.Sprintf("container %s: %s limit %s is %.0f times its request", k.name, r.name, written(r.name, lim), lim/req))
			}
		}
	}
	untidy := func(rule, title, why string) {
		i := x.add(x.short, w.team, noted{rule: rule, entity: w.entity, urgency: event.Hygiene, seen: seen, title: title, next: []event.Check{{Why: "what it asks for", Command: kubectl(w.entity.Namespace, "get %s %s -o yaml", strings.ToLower(w.entity.Kind), w.entity.Name)}}})
		if i.Risk.Level == "" {
			i.Risk = Risk{"medium", why}
		}
	}
	if len(unlimited) > 0 {
		untidy(ruleNoLimits, "no memory limit: container "+strings.Join(unlimited, ", "), "a leak takes the node's memory, and its neighbours die with it")
	}
	if len(skewed) > 0 {
		untidy(ruleSkewed, strings.Join(skewed, "; "), "nodes may be filled by requests and run out by use")
	}
}

// fits says whether a container is known to do with what it requests, however high
// its limit is.
func (k *container) fits(r corev1.ResourceName) bool {
	if k.use == nil || k.shared || k.use.History < MinHistory {
		return false
	}
	if r == corev1.ResourceCPU {
		return k.use.MaxCPU <= k.request(r)
	}
	return k.use.MaxMemory <= k.request(r)
}

// told says whether a thing's line has a finding of a rule already.
func (x *examiner) told(e event.Entity, rule string) bool {
	if i := x.short[e]; i != nil {
		for _, f := range i.Findings {
			if f.Rule == rule {
				return true
			}
		}
	}
	return false
}

// noRequests names the containers that request nothing of a resource; without a
// title when all do.
func (x *examiner) noRequests(w *workload, seen []string) noted {
	var lack []string
	for _, k := range w.containers {
		var of []string
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			if k.request(r) == 0 {
				of = append(of, string(r))
			}
		}
		if len(of) > 0 && !k.init {
			lack = append(lack, fmt.Sprintf("container %s: no request of %s", k.name, strings.Join(of, " and ")))
		}
	}
	return noted{
		rule: ruleNoRequests, entity: w.entity, urgency: event.Hygiene, seen: seen, evidence: x.measured(w), title: strings.Join(lack, "; "),
		next: []event.Check{{Why: "what its pods use now", Command: kubectl(w.entity.Namespace, "top pods --containers")}},
	}
}

// measured is what Prometheus says of a workload, as evidence.
func (x *examiner) measured(w *workload) []event.Evidence {
	u := x.o.Usage
	if u == nil {
		return nil
	}
	var cpu, memory []string
	for _, k := range w.containers {
		if k.use == nil {
			continue
		}
		line := fmt.Sprintf("container %s: p95 %s, p99 %s of the busiest day, highest %s cores", k.name, cores(k.use.P95), cores(k.use.P99), cores(k.use.MaxCPU))
		if !math.IsNaN(k.use.Throttled) {
			line += fmt.Sprintf("; throttled in %.0f %% of periods on the worst day", 100*k.use.Throttled)
		}
		cpu = append(cpu, line)
		line = fmt.Sprintf("container %s: highest %s", k.name, size(k.use.MaxMemory))
		if !k.oom.last.IsZero() {
			line += fmt.Sprintf("; killed for lack of memory on %d days, last on %s", k.oom.days, date(k.oom.last))
		}
		memory = append(memory, line)
	}
	if len(cpu) == 0 {
		return nil
	}
	q := evidence.Query{Source: evidence.Prometheus, Start: u.Start, End: u.End, Step: Day, Entity: w.entity}
	q.Expr = u.Queries[measureP95]
	first := evidence.New(q, cpu, nil)
	q.Expr = u.Queries[measureMaxMemory]
	return []event.Evidence{first, evidence.New(q, memory, nil)}
}

// usages lists what the containers of a workload used, for the tables that people
// make of it.
func (x *examiner) usages(w *workload) {
	all := Usages{Entity: w.entity, Team: w.team, Pods: len(w.pods), Requested: w.held, Containers: []Measured{}}
	for _, k := range w.containers {
		m := Measured{
			Container: k.name, CPURequest: k.request("cpu"), CPULimit: k.limit("cpu"), MemoryRequest: k.request("memory"), MemoryLimit: k.limit("memory"),
			OOMKilledDays: k.oom.days, HistoryMissing: k.use == nil,
		}
		if u := k.use; u != nil {
			m.CPUP95, m.CPUP99, m.CPUMax, m.MemoryMax, m.Throttled, m.HistoryHours = known(u.P95), known(u.P99), known(u.MaxCPU), known(u.MaxMemory), known(u.Throttled), math.Round(u.History.Hours())
		}
		all.Containers = append(all.Containers, m)
	}
	x.out.Measured = append(x.out.Measured, all)
}

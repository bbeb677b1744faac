package cost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// The measures, each one query.
const (
	measureP95        = "cpu_p95"
	measureP99        = "cpu_p99"
	measureMaxCPU     = "cpu_max"
	measureMeanCPU    = "cpu_mean"
	measureMaxMemory  = "memory_max"
	measureMeanMemory = "memory_mean"
	measureHours      = "hours"
	measureThrottled  = "throttled"
	measureOOM        = "oom_kills"
	measureOOMEvents  = "oom_events"
	measureLimit      = "memory_limit"
)

// measure is one question, asked for every day of the window. $sel are the
// matchers of containers, $rate the window of rates, $now what takes the value of
// a gauge at one time, by turns empty or last_over_time.
type measure struct {
	name string
	expr string
	// steps says that it is a subquery over the steps of a day, which Prometheus
	// holds in memory at once; else it runs over the samples.
	steps int // a day; 0: over samples
}

// by gives the series of pods the key of their workload, and by aggregates
// them, on the server.
func by(aggregate, inner string) string {
	return aggregate + ` by (namespace, workload, container) (label_replace(` + inner + `, "workload", "$1", "pod", "` + podName + `"))`
}

// once takes what several Prometheus say of one container once. The id, which is
// the container's cgroup, keeps those apart that followed each other in one pod.
func once(inner string) string { return `max by (namespace, pod, container, id) (` + inner + `)` }

const (
	usageCPU    = `container_cpu_usage_seconds_total{$sel}`
	usageMemory = `container_memory_working_set_bytes{$sel}`
)

// measures are asked of every container. Those of Kubernetes' own state are
// known by honored labels alone: with exported_pod, pod is that of
// kube-state-metrics.
func measures(step time.Duration) []measure {
	perDay := int(Day / step)
	sub := fmt.Sprintf("[1d:%s]", seconds(step))
	state := `container!="",exported_pod=""$and`
	return []measure{
		{measureP95, by("max", `quantile_over_time(0.95, rate(`+usageCPU+`[$rate])`+sub+`)`), perDay},
		{measureP99, by("max", `quantile_over_time(0.99, rate(`+usageCPU+`[$rate])`+sub+`)`), perDay},
		{measureMaxCPU, by("max", `max_over_time(rate(`+usageCPU+`[$rate])`+sub+`)`), perDay},
		{measureMeanCPU, by("sum", once(`increase(`+usageCPU+`[1d])`)) + " / 86400", 0},
		{measureMaxMemory, by("max", `max_over_time(`+usageMemory+`[1d])`), 0},
		{measureMeanMemory, `sum_over_time((` + by("sum", once(`$now`+usageMemory+`$end`)) + `)[1d:1h]) / 24`, 24},
		{measureHours, `count_over_time((` + by("max", `$now`+usageMemory+`$end`) + `)[1d:1h])`, 24},
		{measureThrottled, by("max", `increase(container_cpu_cfs_throttled_periods_total{$sel}[1d]) / (increase(container_cpu_cfs_periods_total{$sel}[1d]) > 0)`), 0},
		// How a container ended last is told for as long as its pod lives: it counts
		// on the day on which the container was restarted.
		{measureOOM, by("max", `max by (namespace, pod, container) (max_over_time(kube_pod_container_status_last_terminated_reason{reason="OOMKilled",`+state+`}[1d])) and (max by (namespace, pod, container) (increase(kube_pod_container_status_restarts_total{`+state+`}[1d])) > 0)`), 0},
		{measureOOMEvents, by("max", `increase(container_oom_events_total{$sel}[1d]) > 0`), 0},
	}
}

// limits are asked where containers were killed.
var limits = measure{measureLimit, by("max", `max_over_time(container_spec_memory_limit_bytes{$sel}[1d]) > 0`), 0}

// A query may hold so many steps at once, or run over so many samples. Prometheus
// refuses 50 million samples (--query.max-samples), and ends a query after two
// minutes.
const (
	maxSteps   = 5_000_000
	maxSamples = 60_000_000
)

// queriesAtOnce bounds how many queries are under way. Prometheus runs 20
// (--query.max-concurrency), and others ask it, too.
const queriesAtOnce = 4

// Question says what of Prometheus is read.
type Question struct {
	Namespace string // "" for all
	Days      int
	Now       time.Time
}

// NoUsageError says why Prometheus, which answers, has no use of containers.
type NoUsageError struct{ Why, Fix string }

func (e *NoUsageError) Error() string { return e.Why + "; " + e.Fix }

// ReadUsage asks for the use of all containers: a handful of queries that
// Prometheus aggregates by workload, in parts that are small enough for it.
func ReadUsage(ctx context.Context, c *promql.Client, q Question) (*Usage, error) {
	u := &Usage{Start: q.Now.Add(-time.Duration(q.Days) * Day), End: q.Now, Days: q.Days, Queries: map[string]string{}, Missing: map[string]string{}}
	r := &reader{c: c, q: q, u: u, slots: make(chan struct{}, queriesAtOnce), got: map[string]daily{}}
	if err := r.probe(ctx); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	for _, m := range measures(r.step()) {
		wg.Go(func() { r.ask(ctx, m) })
	}
	wg.Wait()
	if len(r.got[measureOOM])+len(r.got[measureOOMEvents]) > 0 {
		r.ask(ctx, limits)
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	for _, needed := range []string{measureMaxCPU, measureMaxMemory, measureHours} {
		if why := u.Missing[needed]; why != "" {
			return nil, fmt.Errorf("%s of containers: %w", needed, r.failed[needed])
		}
	}
	u.fold(r.got)
	return u, nil
}

type reader struct {
	c     *promql.Client
	q     Question
	u     *Usage
	slots chan struct{}

	mu     sync.Mutex
	got    map[string]daily
	failed map[string]error
}

// selector are the matchers of what is a container. cAdvisor also tells of the
// cgroups above (without a container) and of the pod's sandbox (POD).
func (r *reader) selector() string { return `container!="",container!="POD"` + r.namespace() }

func (r *reader) namespace() string {
	if r.q.Namespace == "" {
		return ""
	}
	return fmt.Sprintf(",namespace=%q", r.q.Namespace)
}

func (r *reader) expr(e string) string {
	now, end := "", ""
	if r.u.Interval > 2*time.Minute { // a value is forgotten after five minutes
		now, end = "last_over_time(", "["+seconds(r.u.RateWindow)+"])"
	}
	return strings.NewReplacer("$sel", r.selector(), "$and", r.namespace(), "$rate", seconds(r.u.RateWindow), "$now", now, "$end", end).Replace(e)
}

// step is the time between two values of CPU use: no shorter than the span they
// are averaged over, so that none is left out.
func (r *reader) step() time.Duration { return r.u.RateWindow }

// probe finds out how many series there are, and how often they are read.
func (r *reader) probe(ctx context.Context) error {
	recent := `last_over_time(` + strings.ReplaceAll(usageMemory, "$sel", r.selector()) + `[1h])`
	r.u.asked.Add(2) // this, and how often it is read
	clusters, err := r.c.Instant(ctx, `count by (cluster) (`+recent+`)`, r.q.Now)
	if err != nil {
		return err
	}
	var names []string
	for _, s := range clusters {
		r.u.Containers += int(s.Value)
		names = append(names, string(s.Metric["cluster"]))
	}
	slices.Sort(names)
	switch {
	case len(names) > 1:
		return &NoUsageError{fmt.Sprintf("Prometheus has the containers of %d clusters (%s)", len(names), strings.Join(names[:min(3, len(names))], ", ")), fmt.Sprintf("say which: --matchers 'cluster=%q'", names[len(names)-1])}
	case len(names) == 0:
		return r.nothing(ctx)
	}
	each, err := r.c.Instant(ctx, `quantile(0.5, count_over_time(`+strings.ReplaceAll(usageMemory, "$sel", r.selector())+`[1h]))`, r.q.Now)
	if err != nil {
		return err
	}
	r.u.Interval = 30 * time.Second
	if v, _, ok, err := promql.Number("interval", each); err == nil && ok && v >= 1 {
		r.u.Interval = time.Duration(3600 / math.Round(v) * float64(time.Second))
	}
	// A rate takes two readings, and one of them may be missed.
	r.u.RateWindow = max(5*time.Minute, (4 * r.u.Interval).Round(time.Minute))
	return nil
}

// nothing says what there is instead of containers.
func (r *reader) nothing(ctx context.Context) error {
	cgroups, err := r.c.Instant(ctx, `count(last_over_time(container_memory_working_set_bytes[1h]))`, r.q.Now)
	if err != nil {
		return err
	}
	switch {
	case len(cgroups) == 0:
		return &NoUsageError{"Prometheus has no container_memory_working_set_bytes in the last hour", "let it scrape the kubelets' /metrics/cadvisor"}
	case r.q.Namespace != "":
		return &NoUsageError{"Prometheus has no container of namespace " + r.q.Namespace + " in the last hour", "does it scrape all nodes, with honor_labels? oncall cost -A says whether it has others"}
	}
	return &NoUsageError{"Prometheus has memory by cgroup alone: no series has a label container", "let it keep the labels container, pod and namespace of the kubelets' /metrics/cadvisor"}
}

// ask reads one measure for every day, in as few queries as Prometheus bears.
func (r *reader) ask(ctx context.Context, m measure) {
	days := maxSamples / max(1, r.u.Containers*int(Day/max(time.Second, r.u.Interval)))
	if m.steps > 0 {
		days = maxSteps / max(1, r.u.Containers*m.steps)
	}
	days = min(max(1, days), r.q.Days)
	expr := r.expr(m.expr)
	r.mu.Lock()
	r.u.Queries[m.name] = expr
	r.mu.Unlock()
	var wg sync.WaitGroup
	for from := 0; from < r.q.Days; from += days {
		wg.Go(func() { r.part(ctx, m.name, expr, from, min(from+days, r.q.Days)) })
	}
	wg.Wait()
}

// part reads the days from up to, but not with, to. What is too much for one
// query is asked in halves.
func (r *reader) part(ctx context.Context, name, expr string, from, to int) {
	at := func(day int) time.Time { return r.u.Start.Add(time.Duration(day+1) * Day) }
	r.slots <- struct{}{}
	r.u.asked.Add(1)
	m, err := r.c.Range(ctx, expr, at(from), at(to-1), Day)
	<-r.slots
	if err != nil && ctx.Err() == nil && to-from > 1 && tooMuch(err) {
		half := (from + to) / 2
		r.part(ctx, name, expr, from, half)
		r.part(ctx, name, expr, half, to)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.failed == nil {
			r.failed = map[string]error{}
		}
		r.failed[name], r.u.Missing[name] = err, err.Error()
		return
	}
	if r.got[name] == nil {
		r.got[name] = daily{}
	}
	for _, s := range m {
		k := Key{string(s.Metric["namespace"]), string(s.Metric["workload"]), string(s.Metric["container"])}
		for _, p := range s.Values {
			v := float64(p.Value)
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				continue
			}
			day := int(math.Round(float64(p.Timestamp.Sub(model.TimeFromUnixNano(at(0).UnixNano()))) / float64(Day)))
			r.got[name].set(k, r.q.Days, day, v)
		}
	}
}

// tooMuch says whether a query might be answered for fewer days.
func tooMuch(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok && (e.Status == http.StatusTooManyRequests || e.Kind == upstream.Forbidden) {
		return false // more questions would be no better
	}
	text := err.Error()
	for _, says := range []string{"too many samples", "timed out", "timeout", "maximum number", "exceeded", "limit"} {
		if strings.Contains(text, says) {
			return true
		}
	}
	return false
}

// seconds is a duration as PromQL has it.
func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }

// Asked is how many queries it took.
func (u *Usage) Asked() int64 { return u.asked.Load() }

// Measures are the names of all measures, sorted.
func (u *Usage) Measures() []string { return slices.Sorted(maps.Keys(u.Queries)) }

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// outside are the sources beside the cluster: those that flags or the
// configuration file name, or that are found in the cluster.
type outside struct {
	o       *options
	cluster clusterFlags
	flags   sourceFlags
	kinds   []string // that are read
	search  bool     // the cluster, for what is neither named nor configured
	notes   io.Writer

	prometheus   *promql.Client
	loki         *upstream.Client
	history      *loghistory.Reader // of loki
	alertmanager *upstream.Client
	bus          bool
	families     []prometheus.Family
	missing      []check.Unchecked
	noted        int // of missing, when the sources were found
	finder       *finder
	err          error // of a flag
}

// searchTime bounds the search for sources in the cluster: triage goes on without.
const searchTime = 8 * time.Second

// once finds the sources at the first look; each look notes for itself what an
// Alertmanager did not say.
func (x *outside) once(ctx context.Context) {
	if x.finder == nil && x.err == nil {
		x.find(ctx)
		x.noted = len(x.missing)
	}
	x.missing = x.missing[:x.noted]
}

// find opens what there is, and notes why the rest is not asked.
func (x *outside) find(ctx context.Context) {
	note := func(what, why string) { x.missing = append(x.missing, check.Unchecked{What: what, Why: why}) }
	store, cfg, err := x.o.store()
	if err != nil {
		note("metrics, logs in Loki", firstLine(err))
		return
	}
	if x.families, err = prometheus.LoadFamilies(store); err != nil {
		note("metrics", firstLine(err))
	}
	if x.bus = x.o.recorded(cfg.Bus.URL); !x.bus {
		note("past incidents", "not asked: nothing has been recorded in "+x.o.data+"; oncall up does (--data, --nats)")
	}
	section := cfg.Section(collector.Spec.Name).(collector.Config)
	searching, cancel := context.WithTimeoutCause(ctx, searchTime, fmt.Errorf("not found in %s", searchTime))
	defer cancel()
	x.finder = &finder{o: x.o, cluster: x.cluster, flags: x.flags, kinds: x.kinds, instead: true, beside: true, say: func(format string, args ...any) {
		fmt.Fprintf(x.notes, "oncall: "+format+"\n", args...)
	}}
	find := x.finder.named
	if x.search {
		find = x.finder.find
	}
	if err = find(searching, &section); err != nil {
		if usage := (*service.UsageError)(nil); errors.As(err, &usage) || len(x.flags.via) > 0 && x.finder.reached == 0 {
			x.err = err // what somebody asked for is not done without
			return
		}
		note("the search for Prometheus, Loki and Alertmanager", firstLine(err))
	}
	first := map[string]upstream.Config{}
	section.Each(func(kind string, src any) {
		var c upstream.Config
		switch src := src.(type) {
		case prometheus.Config:
			c = src.Config
		case loki.Config:
			c = src.Config
		case alertmanager.Config:
			if c = src.Config; c.URL == "" && len(src.URLs) > 0 {
				c.URL = src.URLs[0]
			}
		}
		if _, ok := first[kind]; !ok && c.URL != "" {
			first[kind] = c
		}
	})
	open := func(kind string) *upstream.Client {
		c, ok := first[kind]
		if !ok {
			return nil
		}
		up, err := x.o.sourceClient(kind, c)
		if err != nil {
			note(kind, firstLine(err))
			return nil
		}
		return up
	}
	if up := open("prometheus"); up != nil {
		x.prometheus = promql.New(up)
	} else {
		note("metrics", "not asked: no Prometheus is configured or found; name it with --prometheus URL")
	}
	if x.loki = open("loki"); x.loki == nil {
		note("logs of pods that are gone", "not asked: no Loki is configured or found; name it with --loki URL")
	}
	x.alertmanager = open("alertmanager")
}

func (x *outside) close() {
	if x.finder != nil {
		x.finder.stop()
	}
}

// judge reads the signals that health reads, of one namespace. A source that is
// not there is told already.
func (x *outside) judge(ctx context.Context, namespace string) triage.Judge {
	w, err := newSignals(x.o, namespace, *x)
	if err != nil {
		return func(context.Context, *check.Cluster, event.Entity) (*check.Signals, []check.Unchecked) {
			return nil, []check.Unchecked{{What: ofMetrics + ", " + ofLogs, Why: firstLine(err)}}
		}
	}
	w.finder = nil // its port forwards are not this one's to end
	r := w.readFrom(ctx)
	return func(ctx context.Context, c *check.Cluster, root event.Entity) (*check.Signals, []check.Unchecked) {
		w.only = root
		return w.signals(ctx, r, c)
	}
}

// into hands what was found to triage.
func (x *outside) into(s *triage.Sources) {
	s.NotAsked = x.missing
	if x.loki != nil {
		s.Loki = evidence.NewLoki(x.loki, s.Redact)
		if x.history == nil {
			x.history = loghistory.New(x.loki, s.Redact.Line)
		}
		s.History = x.history.Read
	}
	if x.prometheus != nil {
		s.Measure = x.measure
	}
	if x.prometheus != nil || x.loki != nil {
		s.Signals = x.judge
	}
	if x.bus {
		s.Incidents = x.o.incidentsOfBefore
	}
}

// firing is an alert as Alertmanager's API has it.
type firing struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
}

// alert asks the Alertmanager for the alert that the matchers mean, and fills in
// what it has. Without one the labels of the matchers are all that is known.
func (x *outside) alert(ctx context.Context, a *triage.Alert, ms []upstream.Matcher) error {
	if x.alertmanager == nil {
		x.missing = append(x.missing, check.Unchecked{What: "the alert", Why: "not asked: no Alertmanager (--alertmanager URL, or --find); its labels are those of --alert"})
		return nil
	}
	params := url.Values{"active": {"true"}, "silenced": {"true"}, "inhibited": {"true"}, "unprocessed": {"true"}}
	for _, m := range ms {
		params.Add("filter", m.String())
	}
	body, err := x.alertmanager.Get(ctx, "/api/v2/alerts", params, upstream.Query{Operation: "alerts"})
	if upstream.KindOf(err) == upstream.BadQuery {
		return fmt.Errorf("alertmanager: %w", err)
	}
	var all []firing
	if err == nil {
		err = json.Unmarshal(body, &all)
	}
	if err != nil {
		x.missing = append(x.missing, check.Unchecked{What: "the alert", Why: firstLine(err) + "; its labels are those of --alert"})
		return nil
	}
	if len(all) == 0 {
		x.missing = append(x.missing, check.Unchecked{What: "the alert", Why: "the Alertmanager has none that matches now; its labels are those of --alert"})
		return nil
	}
	slices.SortStableFunc(all, func(a, b firing) int { return a.StartsAt.Compare(b.StartsAt) })
	mask := redact.New(redact.Options{})
	one := all[0] // it has fired longest
	a.Firing, a.Others, a.Since = true, len(all)-1, one.StartsAt.UTC()
	a.Labels = mask.Labels(event.LabelsOf(one.Labels)).Map()
	for _, name := range []string{"summary", "description", "message"} {
		if a.Summary == "" {
			a.Summary = mask.Line(one.Annotations[name])
		}
	}
	return nil
}

// signals are what is measured of a workload, in the order in which it is shown.
var signals = []string{"request_rate", "error_ratio", "latency_p99", "cpu_usage", "cpu_throttling_ratio", "memory_usage", "memory_limit_ratio", "restarts"}

// measure reads the signals of a workload from the best family that has them.
func (x *outside) measure(ctx context.Context, of triage.Measured) ([]triage.Series, error) {
	var guards []string
	for _, f := range x.families {
		guards = append(guards, f.Guard)
	}
	present, err := x.prometheus.Has(ctx, guards, of.End)
	if err != nil {
		return nil, err
	}
	step := triage.Step(of.End.Sub(of.Start))
	var queries []measurement
	for _, s := range signals {
		queries = append(queries, measurements(x.families, present, s, of, step)...)
	}
	out := make([]triage.Series, len(queries))
	var wg sync.WaitGroup
	for i, q := range queries {
		wg.Go(func() {
			out[i] = triage.Series{Signal: q.signal, Unit: q.unit, Query: q.expr}
			m, err := x.prometheus.Range(ctx, q.expr, of.Start, of.End, step)
			if err != nil {
				out[i].Failed = firstLine(err)
				return
			}
			out[i].Values = points(m, of.Start, of.End, step)
		})
	}
	wg.Wait()
	// The first family that has a signal of the workload tells it.
	var kept []triage.Series
	for _, s := range out {
		has := s.Failed != "" || slices.ContainsFunc(s.Values, func(v float64) bool { return !math.IsNaN(v) })
		if has && !slices.ContainsFunc(kept, func(k triage.Series) bool { return k.Signal == s.Signal && k.Failed == "" }) {
			kept = append(kept, s)
		}
	}
	return kept, nil
}

// measurement is one query about one workload.
type measurement struct{ signal, unit, expr string }

// measurements are the queries of a signal for one workload, of every family
// whose metric is there, the better ones first.
func measurements(families []prometheus.Family, present map[string]bool, signal string, of triage.Measured, step time.Duration) []measurement {
	var out []measurement
	for _, f := range families {
		if !present[f.Guard] {
			continue
		}
		for _, q := range f.Queries {
			if q.Signal != signal || q.Entity != "workload" {
				continue
			}
			if expr, ok := narrowed(f, q, of, step); ok {
				out = append(out, measurement{signal, q.Unit, expr})
			}
		}
	}
	return out
}

// narrowed is a query of the catalogue for the pods of one workload alone. A
// family that knows neither pods nor workloads cannot be narrowed.
func narrowed(f prometheus.Family, q prometheus.Query, of triage.Measured, step time.Duration) (string, bool) {
	if len(q.Ratio) == 2 {
		var parts [2]string
		for i, signal := range q.Ratio {
			n := slices.IndexFunc(f.Queries, func(o prometheus.Query) bool { return o.Signal == signal })
			if n < 0 {
				return "", false
			}
			var ok bool
			if parts[i], ok = narrowed(f, f.Queries[n], of, step); !ok {
				return "", false
			}
		}
		return fmt.Sprintf("%s / (%s > 0)", parts[0], parts[1]), true
	}
	var matchers string
	switch by := grouping(q.Expr); {
	case slices.Contains(by, "destination_workload"):
		matchers = fmt.Sprintf("destination_workload_namespace=%q,destination_workload=%q", of.Entity.Namespace, of.Entity.Name)
	case slices.Contains(by, "namespace") && slices.Contains(by, "pod"):
		matchers = fmt.Sprintf("namespace=%q,pod=~%q", of.Entity.Namespace, of.Pods)
	default:
		return "", false
	}
	window := max(5*time.Minute, step.Round(time.Minute))
	expr := strings.TrimSpace(strings.ReplaceAll(q.Expr, "$window", fmt.Sprintf("%dm", window/time.Minute)))
	aggregate := q.Aggregate
	if aggregate == "" {
		aggregate = "max"
	}
	return fmt.Sprintf("%s(%s)", aggregate, upstream.InjectPromQL(expr, matchers)), true
}

// grouping are the labels that the first aggregation of a query keeps.
func grouping(expr string) []string {
	_, rest, _ := strings.Cut(expr, "by (")
	list, _, _ := strings.Cut(rest, ")")
	var out []string
	for l := range strings.SplitSeq(list, ",") {
		out = append(out, strings.TrimSpace(l))
	}
	return out
}

// points are the values of the only series of an answer, at even distances.
func points(m model.Matrix, start, end time.Time, step time.Duration) []float64 {
	out := make([]float64, int(end.Sub(start)/step)+1)
	for i := range out {
		out[i] = math.NaN()
	}
	for _, s := range m {
		for _, p := range s.Values {
			if i := int(math.Round(float64(p.Timestamp.Time().Sub(start)) / float64(step))); i >= 0 && i < len(out) {
				out[i] = float64(p.Value)
			}
		}
	}
	return out
}

package signals

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// shown are the signals of a workload, in the order in which they are shown.
var shown = []string{"request_rate", "error_ratio", "latency_p99", "cpu_usage", "cpu_throttling_ratio", "memory_usage", "memory_limit_ratio", "restarts"}

// Series reads the signals of a workload from Prometheus: each from the best
// family that has it, at even distances, NaN where there is no value. A query that
// fails is told in its series; the error is of the question which metrics there
// are.
func Series(ctx context.Context, client *promql.Client, families []prometheus.Family, of triage.Measured) ([]triage.Series, error) {
	var guards []string
	for _, f := range families {
		guards = append(guards, f.Guard)
	}
	present, err := client.Has(ctx, guards, of.End)
	if err != nil {
		return nil, err
	}
	step := triage.Step(of.End.Sub(of.Start))
	var queries []measurement
	for _, s := range shown {
		queries = append(queries, measurements(families, present, s, of, step)...)
	}
	out := make([]triage.Series, len(queries))
	var wg sync.WaitGroup
	for i, q := range queries {
		wg.Go(func() {
			out[i] = triage.Series{Signal: q.signal, Unit: q.unit, Query: q.expr}
			m, err := client.Range(ctx, q.expr, of.Start, of.End, step)
			if err != nil {
				out[i].Failed = check.NotRead(q.signal, err).Why
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

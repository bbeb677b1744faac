// Package gate asks Prometheus how a canary and its baseline fare, and
// pkg/canary what to make of it. It answers people (oncall canary-prom), Argo
// Rollouts and Flagger.
package gate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/promql"
)

// Gate measures and judges.
type Gate struct {
	Prometheus *promql.Client
	Policy     canary.Policy
	// Step is the time between two samples of a samples query.
	Step time.Duration
}

// DefaultStep is the usual time between two scrapes.
const DefaultStep = 15 * time.Second

// Canary is what is rolled out, and since when.
type Canary struct {
	Namespace, Name string
	Start           time.Time
}

// object is what Kubernetes allows as a name, so that nothing else gets into a
// query.
var object = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// Validate checks the names.
func (c Canary) Validate() error {
	for what, s := range map[string]string{"namespace": c.Namespace, "name": c.Name} {
		if s != "" && !object.MatchString(s) {
			return fmt.Errorf("%s: %q is not a name of Kubernetes: lower case, digits, dots and dashes", what, s)
		}
	}
	return nil
}

// ErrName is wrapped by the error of a query that speaks of a name that was not
// given.
var ErrName = errors.New("is not given")

// fill writes a query for a canary at a time.
func (c Canary) fill(expr string, now time.Time) (string, error) {
	for _, v := range []struct{ word, value string }{{"$namespace", c.Namespace}, {"$name", c.Name}} {
		if v.value == "" && regexp.MustCompile(regexp.QuoteMeta(v.word)+`\b`).MatchString(expr) {
			return "", fmt.Errorf("%s %w", v.word, ErrName)
		}
	}
	window := max(1, int64(now.Sub(c.Start).Seconds()))
	return strings.NewReplacer("$namespace", c.Namespace, "$name", c.Name, "$window", strconv.FormatInt(window, 10)+"s").Replace(expr), nil
}

// Judge measures both sides of a canary from its start to now and judges them.
// What has no series is held, with what is missing; an answer that cannot be
// meant is a [promql.Mismatch]; any other error means that Prometheus did not
// answer. names says how the user wrote a query; nil names the analysis.
func (g Gate) Judge(ctx context.Context, a canary.Analysis, c Canary, now time.Time, names func(side, field string) string) (canary.Result, error) {
	if names == nil {
		names = func(side, field string) string { return "analysis " + a.Name + ": " + side + "." + field }
	}
	in := canary.Input{Over: now.Sub(c.Start)}
	var err error
	for _, s := range []struct {
		name string
		q    canary.Queries
		into *canary.Side
	}{{"canary", a.Canary, &in.Canary}, {"baseline", a.Baseline, &in.Baseline}} {
		m := measure{g, c, now, func(field string) string { return names(s.name, field) }, &in}
		if *s.into, err = m.side(ctx, s.q); err != nil {
			return canary.Result{}, err
		}
	}
	if err := in.Validate(); err != nil {
		return canary.Result{}, &promql.Mismatch{Problem: err.Error(), Fix: "look at what the queries count"}
	}
	return g.Policy.Judge(in), nil
}

// measure is one side of one canary at one time.
type measure struct {
	Gate
	canary Canary
	now    time.Time
	name   func(field string) string
	in     *canary.Input
}

func (m measure) missing(field, why string) {
	m.in.Missing = append(m.in.Missing, m.name(field)+": "+why)
}

// wrap says which query an error is about.
func (m measure) wrap(field string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", m.name(field), err)
}

func (m measure) side(ctx context.Context, q canary.Queries) (canary.Side, error) {
	s := canary.Side{Counts: canary.Counts{OK: math.NaN(), Total: math.NaN()}}
	field, expr, none := "ok", q.OK, "no series"
	if q.Errors != "" {
		field, expr, none = "errors", q.Errors, "no series; if that means that nothing failed, write (…) or vector(0)"
	}
	part, partLabels, ok, err := m.number(ctx, field, expr, none)
	if err != nil {
		return s, err
	}
	total, totalLabels, have, err := m.number(ctx, "total", q.Total, "no series")
	if err != nil {
		return s, err
	}
	if have {
		s.Total = total
	}
	if ok && have {
		if err := promql.Alike(field, partLabels, "total", totalLabels); err != nil {
			return s, m.wrap(field, err)
		}
		// increase() extrapolates each of them for itself.
		if part > total*(1+1e-6)+1e-6 {
			return s, m.wrap(field, &promql.Mismatch{Problem: fmt.Sprintf("counts %g of %g requests", part, total), Fix: "use the same selector and [$window] in both"})
		}
		s.OK = min(part, total)
		if q.Errors != "" {
			s.OK = max(0, total-part)
		}
	}
	if q.Latency != "" {
		if s.Latency, err = m.histogram(ctx, q.Latency); err != nil {
			return s, err
		}
	}
	if q.Samples != "" {
		if s.Samples, err = m.samples(ctx, q.Samples); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (m measure) instant(ctx context.Context, field, expr string) (string, model.Vector, error) {
	expr, err := m.canary.fill(expr, m.now)
	if err != nil {
		return expr, nil, m.wrap(field, err)
	}
	v, err := m.Prometheus.Instant(ctx, expr, m.now)
	return expr, v, m.wrap(field, err)
}

func (m measure) number(ctx context.Context, field, expr, none string) (float64, model.Metric, bool, error) {
	expr, v, err := m.instant(ctx, field, expr)
	if err != nil {
		return 0, nil, false, err
	}
	x, labels, ok, err := promql.Number(expr, v)
	switch {
	case err != nil:
		return 0, nil, false, m.wrap(field, err)
	case !ok:
		m.missing(field, none)
	case math.IsNaN(x) || math.IsInf(x, 0):
		m.missing(field, strconv.FormatFloat(x, 'g', -1, 64))
		return 0, labels, false, nil
	}
	return x, labels, ok, nil
}

// histogram reads a classic histogram, a series for each le, or a native one.
func (m measure) histogram(ctx context.Context, expr string) (*canary.Distribution, error) {
	const field = "latency"
	expr, v, err := m.instant(ctx, field, expr)
	if err != nil {
		return nil, err
	}
	if len(v) == 0 {
		m.missing(field, "no series")
		return nil, nil
	}
	var buckets []canary.Bucket
	if v[0].Histogram != nil {
		s, err := promql.Single(expr, v)
		if err != nil {
			return nil, m.wrap(field, err)
		}
		for _, b := range s.Histogram.Buckets {
			buckets = append(buckets, canary.Bucket{Low: float64(b.Lower), High: float64(b.Upper), Count: float64(b.Count)})
		}
		if buckets == nil {
			m.missing(field, "no traffic")
			return nil, nil
		}
	} else if buckets, err = classic(expr, v); err != nil {
		return nil, m.wrap(field, err)
	}
	d, err := canary.NewDistribution(buckets)
	if err != nil {
		return nil, m.wrap(field, &promql.Mismatch{Problem: err.Error(), Fix: "write sum by (le) (increase(…_bucket[$window])), or sum(increase(…[$window])) of a native histogram"})
	}
	return d, nil
}

// classic makes buckets of the series of one classic histogram.
func classic(expr string, v model.Vector) ([]canary.Bucket, error) {
	sum := &promql.Mismatch{Fix: "write sum by (le) (…)"}
	var first model.Metric
	var out []canary.Bucket
	for _, s := range v {
		le, err := strconv.ParseFloat(string(s.Metric["le"]), 64)
		if err != nil {
			sum.Problem = fmt.Sprintf("%s has no label le, and is no native histogram", s.Metric)
			return nil, sum
		}
		rest := s.Metric.Clone()
		delete(rest, "le")
		if first == nil {
			first = rest
		}
		if !rest.Equal(first) {
			sum.Problem = fmt.Sprintf("gives several histograms, %s and %s", first, rest)
			return nil, sum
		}
		out = append(out, canary.Bucket{High: le, Count: float64(s.Value)})
	}
	slices.SortFunc(out, func(a, b canary.Bucket) int {
		if a.High < b.High {
			return -1
		}
		return 1
	})
	if last := out[len(out)-1]; !math.IsInf(last.High, 1) {
		sum.Problem, sum.Fix = "has no bucket le=\"+Inf\"", "keep all buckets of the histogram"
		return nil, sum
	}
	low, before := math.Inf(-1), 0.0
	for i, b := range out {
		// Buckets are not read at quite the same time: Prometheus mends it likewise.
		total := max(b.Count, before)
		out[i] = canary.Bucket{Low: low, High: b.High, Count: total - before}
		low, before = b.High, total
	}
	return out, nil
}

// samples reads every value since the canary began, in the order of time.
func (m measure) samples(ctx context.Context, expr string) ([]float64, error) {
	const field = "samples"
	expr, err := m.canary.fill(expr, m.now)
	if err != nil {
		return nil, m.wrap(field, err)
	}
	step := m.Step
	if step <= 0 {
		step = DefaultStep
	}
	matrix, err := m.Prometheus.Range(ctx, expr, m.canary.Start, m.now, step)
	if err != nil {
		return nil, m.wrap(field, err)
	}
	var all []model.SamplePair
	for _, s := range matrix {
		all = append(all, s.Values...)
	}
	slices.SortStableFunc(all, func(a, b model.SamplePair) int { return int(a.Timestamp - b.Timestamp) })
	out := make([]float64, len(all))
	for i, p := range all {
		out[i] = float64(p.Value)
	}
	if len(out) == 0 {
		m.missing(field, "no series")
	}
	return out, nil
}

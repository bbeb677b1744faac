package budget

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

var metric = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{.*\})?$`)

// Latency makes the queries for requests that took longer than a threshold,
// from a histogram that a selector names: classic, whose threshold has to be a
// bound of a bucket, or native.
func Latency(ctx context.Context, c *promql.Client, selector string, threshold, window time.Duration, at time.Time) (Queries, error) {
	q := Queries{Window: window, ErrorsName: "--histogram", TotalName: "--histogram"}
	m := metric.FindStringSubmatch(strings.TrimSpace(selector))
	if m == nil {
		return q, fmt.Errorf("--histogram: %w", &promql.Mismatch{Problem: selector + " is not a metric with its labels", Fix: `write http_request_duration_seconds{service="web"}`})
	}
	name, labels := strings.TrimSuffix(m[1], "_bucket"), m[2]
	in := "[" + slo.Span(window) + "]"
	bounds, err := c.Instant(ctx, "count by (le) ("+name+"_bucket"+labels+")", at)
	if err != nil {
		return q, fmt.Errorf("--histogram: %w", err)
	}
	limit := threshold.Seconds()
	var known []float64
	for _, b := range bounds {
		le := string(b.Metric["le"])
		x, err := strconv.ParseFloat(le, 64)
		if err != nil {
			continue
		}
		if math.Abs(x-limit) <= 1e-9*limit {
			q.Total = "sum(rate(" + name + "_count" + labels + in + "))"
			q.Errors = q.Total + " - sum(rate(" + name + "_bucket" + with(labels, "le="+strconv.Quote(le)) + in + "))"
			return q, nil
		}
		if !math.IsInf(x, 0) {
			known = append(known, x)
		}
	}
	if known != nil {
		slices.Sort(known)
		return q, fmt.Errorf("--threshold %s: %w", threshold, &promql.Mismatch{Problem: fmt.Sprintf("is no bound of %s's buckets", name), Fix: "write one of " + seconds(known)})
	}
	native, err := c.Instant(ctx, "histogram_count(sum("+name+labels+"))", at)
	if err != nil {
		return q, fmt.Errorf("--histogram: %w", err)
	}
	if len(native) == 0 {
		return q, fmt.Errorf("--histogram: %w", &promql.Mismatch{Problem: fmt.Sprintf("%s%s has neither buckets nor a native histogram", name, labels), Fix: "is the name right, without _bucket, and are its labels?"})
	}
	h := "sum(rate(" + name + labels + in + "))"
	q.Total = "histogram_count(" + h + ")"
	q.Errors = fmt.Sprintf("histogram_count(%s) * (1 - histogram_fraction(0, %g, %s))", h, limit, h)
	return q, nil
}

// with adds a matcher to those of a selector.
func with(labels, matcher string) string {
	inner := strings.TrimRight(strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(labels, "{"), "}")), ",")
	if inner == "" {
		return "{" + matcher + "}"
	}
	return "{" + inner + ", " + matcher + "}"
}

func seconds(known []float64) string {
	var out []string
	for _, x := range known {
		out = append(out, time.Duration(math.Round(x*1e9)).String())
	}
	return strings.Join(out, ", ")
}

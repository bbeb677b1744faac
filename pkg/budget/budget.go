// Package budget asks Prometheus for the requests of an objective, so that
// pkg/slo can say how fast its error budget burns.
package budget

import (
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// Queries are PromQL for the failed and for all requests a second, each over
// Window; or, when both are increase(), in it.
type Queries struct {
	Errors, Total string
	Window        time.Duration
	// Told says that errors are told wherever requests are, as those of a histogram,
	// so that a missing value is not none.
	Told bool
	// Names are how the user wrote the two, for errors.
	ErrorsName, TotalName string
}

// Read asks for the whole period of an objective and returns its state at a
// time, for each set of labels that the queries give, the gravest first. A
// [promql.Mismatch] is an answer that cannot be meant.
func Read(ctx context.Context, c *promql.Client, q Queries, o slo.Objective, windows []slo.Window, at time.Time) ([]slo.Status, error) {
	scale, err := q.scale()
	if err != nil {
		return nil, err
	}
	at = at.Truncate(time.Minute)
	total, err := series(ctx, c, q.Total, at, o.Period, q.Window)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.TotalName, err)
	}
	if len(total) == 0 {
		return nil, fmt.Errorf("%s: %w", q.TotalName, &promql.Mismatch{Absent: true, Problem: fmt.Sprintf("no series in the last %s", slo.Span(o.Period)), Fix: "is the name of the metric right, and its labels? oncall doctor --coverage says what is there"})
	}
	failed, err := series(ctx, c, q.Errors, at, o.Period, q.Window)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.ErrorsName, err)
	}
	if err := q.match(failed, total); err != nil {
		return nil, fmt.Errorf("%s: %w", q.ErrorsName, err)
	}
	var out []slo.Status
	for _, key := range slices.Sorted(maps.Keys(total)) {
		l, unknown, err := q.ledger(failed[key].values, total[key].values, scale)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.ErrorsName, err)
		}
		s := o.Status(l, windows, at.UnixMilli())
		if unknown != nil {
			if s.Verdict == slo.NoData && at.UnixMilli() == unknown[len(unknown)-1] {
				s.Reasons = nil // there is traffic
			}
			s.Reasons = append([]string{fmt.Sprintf("%s has no number at %d of %d times with requests, last at %s: these are left out, and not taken for well",
				q.ErrorsName, len(unknown), len(total[key].values), clockTime(unknown[len(unknown)-1]))}, s.Reasons...)
		}
		if labels := total[key].labels; len(labels) > 0 {
			s.Labels = map[string]string{}
			for k, v := range labels {
				s.Labels[string(k)] = string(v)
			}
		}
		out = append(out, s)
	}
	slo.Gravest(out)
	return out, nil
}

// counter is a metric that is taken as it is: a selector, and nothing around it
// that makes it a rate.
var counter = regexp.MustCompile(`[a-zA-Z0-9_:]+_(total|count|bucket)\b`)

// scale is what a value of the queries is multiplied with to be requests in the
// window.
func (q Queries) scale() (float64, error) {
	n := 0
	for _, e := range []struct{ name, expr string }{{q.ErrorsName, q.Errors}, {q.TotalName, q.Total}} {
		if strings.Contains(e.expr, "increase(") {
			n++
		} else if m := counter.FindString(e.expr); m != "" && !strings.Contains(m, ":") && !strings.Contains(e.expr, "rate(") {
			return 0, fmt.Errorf("%s: %w", e.name, &promql.Mismatch{Problem: m + " only ever grows: it is no rate", Fix: fmt.Sprintf("write sum(rate(%s[%s]))", m, slo.Span(q.Window))})
		}
	}
	switch n {
	case 0:
		return q.Window.Seconds(), nil
	case 2:
		return 1, nil
	}
	return 0, fmt.Errorf("%s: %w", q.ErrorsName, &promql.Mismatch{Problem: "one of the two is a rate() and the other an increase()", Fix: "write rate() in both"})
}

var ranged = regexp.MustCompile(`\[(\d+(?:\.\d+)?[smhd])\]`)

// Ranges says that a range in the queries is not the window at which they are read;
// "" when each is.
func (q Queries) Ranges() string {
	for _, e := range []struct{ name, expr string }{{q.ErrorsName, q.Errors}, {q.TotalName, q.Total}} {
		for _, m := range ranged.FindAllStringSubmatch(e.expr, -1) {
			if d, err := model.ParseDuration(m[1]); err == nil && time.Duration(d) != q.Window {
				return fmt.Sprintf("%s: is over [%s], and is read every %s; write [%s], or --window-minutes %d", e.name, m[1], slo.Span(q.Window), slo.Span(q.Window), max(1, min(60, int(time.Duration(d).Minutes()))))
			}
		}
	}
	return ""
}

// labelled are the values of one set of labels, by time in milliseconds.
type labelled struct {
	labels model.Metric
	values map[int64]float64
}

// maxPoints is how many steps one query asks for; Prometheus refuses 11,000.
const maxPoints = 10_000

func series(ctx context.Context, c *promql.Client, expr string, at time.Time, period, step time.Duration) (map[string]labelled, error) {
	out := map[string]labelled{}
	for from := at.Add(step - period); !from.After(at); from = from.Add(maxPoints * step) {
		to := from.Add((maxPoints - 1) * step)
		if to.After(at) {
			to = at
		}
		m, err := c.Range(ctx, expr, from, to, step)
		if err != nil {
			return nil, err
		}
		for _, s := range m {
			if len(s.Histograms) > 0 {
				return nil, &promql.Mismatch{Problem: "gives histograms, where numbers are needed", Fix: "write histogram_count(" + expr + ")"}
			}
			labels := s.Metric.Clone()
			delete(labels, model.MetricNameLabel)
			key := labels.String()
			l, ok := out[key]
			if !ok {
				l = labelled{labels, map[int64]float64{}}
				out[key] = l
			}
			for _, v := range s.Values {
				l.values[int64(v.Timestamp)] = float64(v.Value)
			}
		}
	}
	return out, nil
}

// match is an error when errors and requests do not speak of the same.
func (q Queries) match(failed, total map[string]labelled) error {
	if len(failed) == 0 {
		return &promql.Mismatch{Absent: true, Problem: "no series: that nothing failed cannot be told from a wrong name", Fix: fmt.Sprintf("write (%s) or 0 * (%s) if no series means no errors", q.Errors, q.Total)}
	}
	a, b := slices.Sorted(maps.Keys(failed)), slices.Sorted(maps.Keys(total))
	for _, k := range a {
		if _, ok := total[k]; ok {
			continue
		}
		if len(a) > 1 && len(b) == 1 {
			return &promql.Mismatch{Problem: fmt.Sprintf("gives %d series, such as %s, and %s gives one", len(a), k, q.TotalName), Fix: "write sum(" + q.Errors + ")"}
		}
		return &promql.Mismatch{Problem: fmt.Sprintf("labels differ: it has %s, %s has %s", k, q.TotalName, b[0]), Fix: "write sum(…) around both, or sum by the same labels"}
	}
	return nil
}

// ledger books what was counted at each step, spread evenly over the minutes of
// its window. Where there were requests and the errors have no value, none had
// failed yet; where they have one that is no number, it is not known how many had,
// and the step is left out and given.
func (q Queries) ledger(failed, total map[int64]float64, scale float64) (l *slo.Ledger, unknown []int64, err error) {
	l = &slo.Ledger{}
	for _, ms := range slices.Sorted(maps.Keys(total)) {
		all, bad := total[ms]*scale, failed[ms]*scale
		if _, told := failed[ms]; math.IsInf(all, 0) || all > 0 && (!finite(bad) || q.Told && !told) {
			unknown = append(unknown, ms)
			continue
		}
		if !finite(all) || !finite(bad) {
			continue // no requests: 0/0
		}
		at := clockTime(ms)
		switch {
		// Differences of two sums end a hair below nothing.
		case all < 0 || bad < -1e-6*all-1e-9:
			return nil, nil, &promql.Mismatch{Problem: fmt.Sprintf("at %s %g of %g requests failed, less than none", at, bad, all), Fix: "write rate(), which does not fall when a counter begins anew"}
		// Two rates are extrapolated each for itself.
		case bad > 1.05*all+1e-9:
			return nil, nil, &promql.Mismatch{Problem: fmt.Sprintf("at %s %.4g of %.4g requests failed, more than there were", at, bad, all), Fix: "use the same selector and window in both; the total counts failed requests, too"}
		}
		l.Serve(slo.Served{Time: time.UnixMilli(ms), Requests: all, Failed: bad}, q.Window)
	}
	return l, unknown, nil
}

func clockTime(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

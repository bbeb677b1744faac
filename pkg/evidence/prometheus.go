package evidence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// NewPrometheus answers PromQL.
func NewPrometheus(c *promql.Client, red Redactor) Retriever { return &metrics{c, red} }

type metrics struct {
	client *promql.Client
	redact Redactor
}

// Retrieve evaluates the expression at End, or over the range when there is a
// step. The excerpt has a line a series, largest first.
func (m *metrics) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	type row struct {
		labels                       event.Labels
		value, low, high, first, got float64
	}
	var rows []row
	if q.Step > 0 {
		matrix, err := m.client.Range(ctx, q.Expr, q.Start, q.End, max(q.Step, q.End.Sub(q.Start)/1000))
		if err != nil {
			return m.failed(ctx, q, err)
		}
		for _, s := range matrix {
			if len(s.Values) == 0 {
				continue
			}
			r := row{labels: m.labels(s.Metric), low: math.Inf(1), high: math.Inf(-1), first: float64(s.Values[0].Value)}
			for _, p := range s.Values {
				r.value = float64(p.Value)
				r.low, r.high = min(r.low, r.value), max(r.high, r.value)
			}
			rows = append(rows, r)
		}
	} else {
		vector, err := m.client.Instant(ctx, q.Expr, q.End)
		if err != nil {
			return m.failed(ctx, q, err)
		}
		for _, s := range vector {
			v := float64(s.Value)
			rows = append(rows, row{labels: m.labels(s.Metric), value: v, low: v, high: v, first: v})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.value != b.value && a.value > b.value {
			return -1
		} else if a.value != b.value && a.value < b.value {
			return 1
		}
		return slices.Compare([]byte(a.labels.String()), []byte(b.labels.String()))
	})
	var excerpt []string
	var series []any
	for _, r := range rows[:min(len(rows), q.limit())] {
		line := fmt.Sprintf("%s %s", r.labels, short(r.value))
		if q.Step > 0 {
			line += fmt.Sprintf(" (%s to %s, from %s)", short(r.low), short(r.high), short(r.first))
		}
		excerpt = append(excerpt, line)
		labels := map[string]any{}
		for _, l := range r.labels {
			labels[l.Name] = l.Value
		}
		series = append(series, map[string]any{"labels": labels, "value": finite(r.value), "min": finite(r.low), "max": finite(r.high), "first": finite(r.first)})
	}
	e := New(q, excerpt, map[string]any{"series": series, "count": float64(len(rows))})
	e.Truncated = e.Truncated || len(rows) > q.limit()
	return e, nil
}

func (m *metrics) labels(metric model.Metric) event.Labels {
	ls := make(map[string]string, len(metric))
	for k, v := range metric {
		ls[string(k)] = string(v)
	}
	return m.redact.Labels(event.LabelsOf(ls))
}

func (m *metrics) failed(ctx context.Context, q Query, err error) (event.Evidence, error) {
	return failedBy(ctx, q, err)
}

// failedBy sorts an error: the question's fault, or an answer that a report
// has to state.
func failedBy(ctx context.Context, q Query, err error) (event.Evidence, error) {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return event.Evidence{}, ctx.Err()
	}
	why := string(upstream.KindOf(err))
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		why += ": " + e.Err.Error()
	}
	return Failed(q, why), nil
}

// finite stands in for what JSON cannot hold.
func finite(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return v
}

func short(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

// Around is the window shown around an instant: an hour before, up to it.
func Around(at time.Time) (start, end time.Time) { return at.Add(-time.Hour), at }

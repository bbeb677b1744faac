package promql

import (
	"fmt"
	"strings"

	"github.com/prometheus/common/model"
)

// Mismatch is an answer that cannot be what the asker of a query meant.
type Mismatch struct {
	Problem string // "gives 3 series, {pod="a"}, …; one is needed"
	Fix     string // "write sum(…)"
	// Absent says that there is no such series, or nothing in it: the query may be
	// right, and there is nothing to judge.
	Absent bool
}

func (m *Mismatch) Error() string { return m.Problem + "; " + m.Fix }

// shownSeries bounds the series that an error names.
const shownSeries = 3

// Single is the one sample of an answer to an expression; nil when there is
// none, a [Mismatch] when there are several.
func Single(expr string, v model.Vector) (*model.Sample, error) {
	switch len(v) {
	case 0:
		return nil, nil
	case 1:
		return v[0], nil
	}
	return nil, several(expr, v)
}

// Number is the one number of an answer; false when there is none.
func Number(expr string, v model.Vector) (value float64, labels model.Metric, ok bool, err error) {
	s, err := Single(expr, v)
	if s == nil || err != nil {
		return 0, nil, false, err
	}
	if s.Histogram != nil {
		return 0, nil, false, &Mismatch{Problem: "gives a histogram, where a number is needed", Fix: "write histogram_count(" + expr + ")"}
	}
	return float64(s.Value), unnamed(s.Metric), true, nil
}

func several(expr string, v model.Vector) error {
	var names []string
	for _, s := range v[:min(len(v), shownSeries)] {
		names = append(names, s.Metric.String())
	}
	if len(v) > shownSeries {
		names = append(names, "…")
	}
	return &Mismatch{Problem: fmt.Sprintf("gives %d series, %s, where one is needed", len(v), strings.Join(names, ", ")), Fix: "write sum(" + expr + "), or a selector for one of them"}
}

// unnamed is a metric without its name, which rate and sum take away anyway.
func unnamed(m model.Metric) model.Metric {
	out := m.Clone()
	delete(out, model.MetricNameLabel)
	return out
}

// Alike is an error when two numbers that one divides by the other speak of
// different things.
func Alike(what string, a model.Metric, other string, b model.Metric) error {
	a, b = unnamed(a), unnamed(b)
	if a.Equal(b) {
		return nil
	}
	return &Mismatch{Problem: fmt.Sprintf("labels differ: %s has %s, %s has %s", what, a, other, b), Fix: "write sum(…) around both, or sum by the same labels"}
}

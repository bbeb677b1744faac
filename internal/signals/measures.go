package signals

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// measuresAtOnce is how many measures one query asks: the answers of all stand
// beside each other, and what fails fails for so many.
const measuresAtOnce = 6

// measureLabel tells the answers of one query apart.
const measureLabel = "oncall_measure"

// bounds is a query for some measures, with its answer.
type bounds struct {
	measures []check.Measure
	vector   model.Vector
	err      error
}

// measures are those that are to be asked for what is looked at.
func (s *Reader) measures() []check.Measure {
	if s.Namespace == "" {
		return check.Measures
	}
	return slices.DeleteFunc(slices.Clone(check.Measures), func(m check.Measure) bool { return m.Of != "workload" && m.Of != "job" })
}

// askMeasures asks for everything that is beyond a bound, of the measures whose
// metrics are there.
func (s *Reader) askMeasures(ctx context.Context, r *Reading, present map[string]bool, matchers string) {
	list := slices.DeleteFunc(slices.Clone(s.measures()), func(m check.Measure) bool { return !present[m.Guard] })
	for part := range slices.Chunk(list, measuresAtOnce) {
		r.measured = append(r.measured, bounds{measures: part})
	}
	var wg sync.WaitGroup
	for i := range r.measured {
		a := &r.measured[i]
		wg.Go(func() {
			var parts []string
			for _, m := range a.measures {
				parts = append(parts, fmt.Sprintf("label_replace(%s, %q, %q, \"\", \"\")", upstream.InjectPromQL(m.Expr, matchers), measureLabel, m.Name))
			}
			a.vector, a.err = s.Prometheus.Instant(ctx, strings.Join(parts, " or "), r.at)
		})
	}
	wg.Wait()
}

// beyond joins the answers with the things that they speak of.
func (s *Reader) beyond(r *Reading, c *check.Cluster, into *check.Signals) {
	exprs := map[string]check.Measure{}
	for _, a := range r.measured {
		for _, m := range a.measures {
			exprs[m.Name] = m
		}
	}
	for _, a := range r.measured {
		for _, sample := range a.vector {
			m := exprs[string(sample.Metric[measureLabel])]
			labels := map[string]string{}
			for name, v := range sample.Metric {
				if name != measureLabel {
					labels[string(name)] = string(v)
				}
			}
			e, ok := s.measuredOf(c, m, labels)
			if !ok {
				continue
			}
			into.Measured = append(into.Measured, check.Measured{Name: m.Name, Entity: e, Labels: labels, Value: float64(sample.Value), Query: of(m, e)})
		}
	}
	slices.SortStableFunc(into.Measured, func(a, b check.Measured) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Entity.String(), b.Entity.String()))
	})
}

// of is the expression of a measure for the namespace of a workload.
func of(m check.Measure, e event.Entity) string {
	if m.Of != "workload" {
		return m.Expr
	}
	return upstream.InjectPromQL(m.Expr, fmt.Sprintf("namespace=%q", e.Namespace))
}

// measuredOf is the thing that the labels of a measure speak of.
func (s *Reader) measuredOf(c *check.Cluster, m check.Measure, labels map[string]string) (event.Entity, bool) {
	get := func(l string) string { return labels[l] }
	switch m.Of {
	case "workload":
		return s.whose(c, get)
	case "node":
		return c.NodeAt(s.Entities.Subject(get).Node)
	case "apiservice":
		return event.Entity{Kind: "APIService", Name: labels["name"]}, labels["name"] != ""
	case "job":
		return event.Entity{Namespace: labels["namespace"], Kind: "ScrapeJob", Name: labels["job"]}, labels["job"] != ""
	}
	return event.Entity{Kind: "Cluster", Name: "api-server"}, true
}

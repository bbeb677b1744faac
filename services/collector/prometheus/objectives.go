package prometheus

import (
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// promise is the objective of policies/slo.yaml that a query belongs to, and the
// one thing that it is about, where its answer does not say that.
type promise struct{ objective, namespace, workload string }

// promised are the queries of objectives that have their own, as families without
// a guard: whoever writes such a query wants it asked.
func promised(store *policy.Store) ([]Family, error) {
	p, err := slo.Load(store)
	if err != nil {
		return nil, err
	}
	byName := map[string]*Family{}
	var order []*Family
	for _, q := range p.Queries() {
		f, ok := byName[q.Objective]
		if !ok {
			f = &Family{Family: "slo_" + q.Objective, Doc: "What " + q.Objective + " of policies/slo.yaml is measured by."}
			byName[q.Objective] = f
			order = append(order, f)
		}
		o, _ := p.Named(q.Objective)
		f.Queries = append(f.Queries, Query{
			Signal: q.Signal, Expr: q.Expr, Entity: anything, Aggregate: "sum", Unit: "{request}/s", Class: event.ClassAmbient, Detectors: []string{"burn_rate"},
			promise: promise{q.Objective, only(o.Match.Namespaces), only(o.Match.Workloads)},
		})
	}
	var out []Family
	for _, f := range order {
		out = append(out, *f)
	}
	return out, nil
}

// only is the one name that globs match; "" when they may match several.
func only(globs []string) string {
	if len(globs) != 1 || strings.ContainsAny(globs[0], `*?[\`) {
		return ""
	}
	return globs[0]
}

// loadQueries are the families that a source asks for: what is promised first, so
// that it is not what a step has no room for.
func loadQueries(store *policy.Store) ([]Family, error) {
	own, err := promised(store)
	if err != nil {
		return nil, err
	}
	golden, err := LoadFamilies(store)
	if err != nil {
		return nil, err
	}
	return append(own, golden...), nil
}

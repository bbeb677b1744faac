package prometheus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/budget"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/pkg/upstream"
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

// loadQueries are the families that a source asks for: what is promised and what
// somebody wrote a detector of first, so that these are not what a step has no room
// for.
func loadQueries(store *policy.Store) ([]Family, error) {
	own, err := promised(store)
	if err != nil {
		return nil, err
	}
	golden, err := LoadFamilies(store)
	if err != nil {
		return nil, err
	}
	declared, err := declared(store, golden)
	if err != nil {
		return nil, err
	}
	return slices.Concat(own, declared, golden), nil
}

// checkedAtOnce is how many latency objectives one probe looks at, each with at
// most two queries.
const checkedAtOnce = 5

// latencies are the objectives about latency, and what was found to be wrong with
// each.
type latencies struct {
	policy     slo.Policy
	objectives []slo.Objective
	wrong      map[string]string // by objective; "" when nothing is
	next       int               // objective to check
}

// checks is how many queries a probe sends about them at most.
func (l *latencies) checks() int { return 2 * min(len(l.objectives), checkedAtOnce) }

func loadLatencies(store *policy.Store) (latencies, error) {
	p, err := slo.Load(store)
	out := latencies{policy: p, wrong: map[string]string{}}
	for _, o := range p.Objectives {
		if o.Latency != nil {
			out.objectives = append(out.objectives, o)
		}
	}
	return out, err
}

// checkLatencies says what no histogram can answer: a threshold that is no bound of a bucket
// gives no series, and nothing else would tell that from a service that is well.
func (s *Source) checkLatencies(ctx context.Context, at time.Time) error {
	l := &s.latencies
	for range min(len(l.objectives), checkedAtOnce) {
		o := l.objectives[l.next%len(l.objectives)]
		l.next++
		field := func(f string) string { return l.policy.FieldOf(o.Name, f) }
		err := budget.CheckLatency(ctx, s.ask, *o.Latency, field, at)
		var mismatch *promql.Mismatch
		if err != nil && !errors.As(err, &mismatch) && upstream.KindOf(err) != upstream.BadQuery {
			return err
		}
		said, before := "", l.wrong[o.Name]
		if err != nil {
			said = err.Error()
		}
		if said != "" && said != before {
			s.env.Log.Error("objective is not measured", "source", s.cfg.Name, "objective", o.Name, "err", s.env.Redact.Line(said))
		}
		if said == "" && before != "" {
			s.env.Log.Info("objective is measured again", "source", s.cfg.Name, "objective", o.Name)
		}
		l.wrong[o.Name] = said
	}
	return nil
}

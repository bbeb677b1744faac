package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/budget"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// judgeableObjectives finds out whether the objectives with queries of their own can be
// judged: their series are there, and the threshold of a latency is the bound of a
// bucket. One of the sources has to have them.
func judgeableObjectives(ctx context.Context, store *policy.Store, sources []*promql.Client) []finding {
	p, err := slo.Load(store)
	if err != nil || len(sources) == 0 {
		return nil // policies, and sources that do not answer, are told already
	}
	var out []finding
	now := time.Now()
	judged := 0
	for _, o := range p.Objectives {
		if !o.Own() {
			continue
		}
		var first error
		for _, c := range sources {
			err := judgeable(ctx, c, p, o, now)
			if err == nil {
				first = nil
				break
			}
			if first == nil {
				first = err
			}
		}
		if first != nil {
			out = append(out, finding{What: "slo", Said: "objective " + o.Name + ": " + firstLine(first), Do: "until it is mended no burn is told of it: oncall slo-prom --slo " + o.Name})
			continue
		}
		judged++
	}
	if judged > 0 {
		out = append(out, finding{What: "slo", OK: true, Said: "series are there of " + counted(judged, "objective") + " with queries of their own"})
	}
	return out
}

// judgeable is why an objective cannot be judged by a source; nil when it can.
func judgeable(ctx context.Context, c *promql.Client, p slo.Policy, o slo.Objective, now time.Time) error {
	if o.Latency != nil {
		return budget.CheckLatency(ctx, c, *o.Latency, func(name string) string { return p.FieldOf(o.Name, name) }, now)
	}
	_, total := o.PromQL(5 * time.Minute)
	v, err := c.Instant(ctx, total, now)
	if err != nil {
		return fmt.Errorf("%s: %w", p.FieldOf(o.Name, "total"), err)
	}
	if len(v) == 0 {
		return fmt.Errorf("%s: %w", p.FieldOf(o.Name, "total"), errors.New("gives no series now; is the name of the metric right, and its labels?"))
	}
	return nil
}

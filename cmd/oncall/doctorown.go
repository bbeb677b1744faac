package main

import (
	"context"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/criterion"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
)

// declaredDetectors finds out whether the expressions of policies/detectors can be
// evaluated. One that gives nothing now may be well, and one whose guard is not there
// is not asked.
func declaredDetectors(ctx context.Context, store *policy.Store, sources []*promql.Client) []finding {
	all, err := criterion.Load(store)
	if err != nil || len(sources) == 0 {
		return nil // policies, and sources that do not answer, are told already
	}
	var out []finding
	now := time.Now()
	evaluated, series := 0, 0
	for _, c := range all {
		expr := strings.ReplaceAll(c.Expr, "$window", "2m")
		for _, s := range sources {
			if c.Guard != "" {
				if there, err := s.Has(ctx, []string{c.Guard}, now); err != nil || !there[c.Guard] {
					continue
				}
			}
			v, err := s.Instant(ctx, expr, now)
			if err != nil {
				out = append(out, finding{What: "detectors", Said: c.Name + " of policies/detectors: " + firstLine(err), Do: "mend its expr; until then it says nothing, and the others are not affected"})
				break
			}
			evaluated++
			series += len(v)
		}
	}
	if evaluated > 0 {
		out = append(out, finding{What: "detectors", OK: true, Said: counted(evaluated, "expression") + " of policies/detectors evaluated, " + counted(series, "value") + " now"})
	}
	return out
}

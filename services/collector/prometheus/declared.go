package prometheus

import (
	"fmt"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/criterion"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// declared are the expressions of policies/detectors, as a family each: the detector of
// its name alone is shown what it gives. One that is called as a golden signal is would
// be taken for that.
func declared(store *policy.Store, golden []Family) ([]Family, error) {
	all, err := criterion.Load(store)
	if err != nil {
		return nil, err
	}
	var out []Family
	for _, c := range all {
		for _, f := range golden {
			if slices.ContainsFunc(f.Queries, func(q Query) bool { return q.Signal == c.Name }) {
				return nil, fmt.Errorf("policies/%s: name: %s is a signal of policies/queries (%s); rename it", criterion.Dir, c.Name, f.Family)
			}
		}
		out = append(out, Family{Family: c.Name, Doc: c.Doc, Guard: c.Guard, Queries: []Query{{
			Signal: c.Name, Expr: c.Expr, Entity: whatever, Aggregate: "max", Unit: c.Unit, Class: c.Class, Detectors: []string{c.Name},
		}}})
	}
	return out, nil
}

// named is the kind of thing that the labels of a series name, the closest one.
func named(s entities.Subject) string {
	switch {
	case s.Pod != "" && s.Workload == "":
		return "pod"
	case s.Workload != "":
		return "workload"
	case s.PVC != "":
		return "pvc"
	case s.Node != "":
		return "node"
	case s.Namespace != "":
		return "namespace"
	}
	return "cluster"
}

package check

import (
	"fmt"
	"maps"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var reportHygiene = []Info{{
	Name: "policy_reports",
	Doc:  "Namespaces with objects that fail a policy, by the PolicyReports and ClusterPolicyReports (wgpolicyk8s.io) that Kyverno and others write; one line a namespace. Only with --hygiene. Not: warnings, what was skipped, system namespaces.",
	Run:  policyReports,
}}

// verdicts are the policies that a report says were failed, with how often.
func verdicts(o Object) Object {
	failed := map[string]any{}
	for _, r := range objects(o, "results") {
		if s := text(r, "result"); s == "fail" || s == "error" {
			n, _ := number(failed[text(r, "policy")])
			failed[text(r, "policy")] = n + 1
		}
	}
	return Object{"kind": o["kind"], "metadata": Object{"namespace": text(o, "metadata", "namespace"), "name": text(o, "metadata", "name")}, "failed": failed}
}

func policyReports(c *Cluster, found func(Problem)) {
	failed := map[string]map[string]int64{} // namespace → policy → results
	reports := map[string]int{}
	for _, o := range c.Reports {
		ns := text(o, "metadata", "namespace")
		policies, _ := o["failed"].(Object)
		if len(policies) == 0 || slices.Contains(systemNamespaces, ns) {
			continue
		}
		reports[ns]++
		for p, v := range policies {
			n, _ := number(v)
			if failed[ns] == nil {
				failed[ns] = map[string]int64{}
			}
			failed[ns][p] += n
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(failed)) {
		e, resource := event.Entity{Kind: "Namespace", Name: ns}, "policyreports"
		if ns == "" {
			e, resource = event.Entity{Kind: "Cluster"}, "clusterpolicyreports"
		}
		sum := int64(0)
		var seen []string
		for _, p := range slices.Sorted(maps.Keys(failed[ns])) {
			sum += failed[ns][p]
			seen = append(seen, fmt.Sprintf("policy %s: fail or error %d times", p, failed[ns][p]))
		}
		found(Problem{
			Entity: e, Root: e, Urgency: event.Hygiene, Title: fmt.Sprintf("%s of policies: %s", evidence.Count(int(sum), "failure"), list(slices.Sorted(maps.Keys(failed[ns])), 3)),
			Seen: append([]string{evidence.Count(reports[ns], "report") + " with failures"}, seen...),
			Next: []event.Check{{Why: "which objects fail", Command: kubectl(ns, "get %s.wgpolicyk8s.io -o yaml", resource)}},
		})
	}
}

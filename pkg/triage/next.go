package triage

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// maxChecks is how many commands are printed.
const maxChecks = 6

// next are the commands to look further with: those of what explains it first.
func (a *assembly) next() {
	r := a.r
	add := func(to *[]event.Check, c event.Check, most int) {
		if len(*to) < most && !strings.HasPrefix(c.Command, "oncall triage ") && !slices.ContainsFunc(*to, func(o event.Check) bool { return o.Command == c.Command }) {
			*to = append(*to, c)
		}
	}
	findings := slices.Clone(r.Findings)
	slices.SortStableFunc(findings, func(x, y event.Finding) int {
		rank := func(f event.Finding) int { return 10*boolRank(f.Cause) + rankOf(f.Confidence) }
		return rank(y) - rank(x)
	})
	if r.Urgency != "" {
		for _, first := range []bool{true, false} { // one of each, before more of one
			for _, f := range findings {
				if f.Urgency == event.Hygiene || len(f.Checks) == 0 {
					continue
				}
				list := f.Checks[:1]
				if !first {
					list = f.Checks[1:]
				}
				for _, c := range list {
					add(&r.Checks, c, maxChecks)
				}
			}
		}
		revised := slices.ContainsFunc(r.Changes, func(c Change) bool { return c.Kind == event.Rollout && !c.First })
		for _, f := range findings {
			for _, c := range f.Rollback {
				if !c.Undoes() || revised { // a first revision has none before it
					add(&r.Rollback, c, 2)
				}
			}
		}
	}
	if r.Verdict.Rule == "after_rollout" && len(r.Changes) > 0 {
		add(&r.Checks, event.Check{Why: "what each revision was", Command: a.kubectl("rollout history %s %s", strings.ToLower(a.g.root.Kind), a.g.root.Name)}, maxChecks)
		if slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, a.g.root.Kind) {
			add(&r.Rollback, event.Check{Why: "return to the revision before", Command: a.kubectl("rollout undo %s %s", strings.ToLower(a.g.root.Kind), a.g.root.Name)}, 2)
		}
	}
	if len(r.Logs.Patterns) > 0 && r.Logs.Patterns[0].Trouble {
		p := r.Logs.Patterns[0]
		pod, name, _ := strings.Cut(p.Where, " ")
		command := a.kubectl("logs %s -c %s --tail=100", pod, name)
		switch there := slices.ContainsFunc(a.g.pods, func(o *corev1.Pod) bool { return o.Name == pod }); {
		case name == "(Loki)" && there:
			command = a.kubectl("logs %s --all-containers --tail=100", pod)
		case name == "(Loki)":
			command = "" // only Loki has it still
		case p.Previous:
			command = a.kubectl("logs %s -c %s --previous --tail=100", pod, name)
		}
		if command != "" && !slices.ContainsFunc(r.Checks, func(c event.Check) bool { return strings.Contains(c.Command, " logs "+pod) }) {
			add(&r.Checks, event.Check{Why: "the lines around the commonest error", Command: command}, maxChecks)
		}
	}
	for _, n := range r.Nodes {
		if !n.OK && len(n.Evidence) > 0 {
			add(&r.Checks, event.Check{Why: "the node: " + n.State, Command: strings.Replace(a.kubectl("describe node %s", n.Name), " -n "+rule.Quote(a.g.root.Namespace), "", 1)}, maxChecks)
		}
	}
	if len(r.Checks) == 0 {
		add(&r.Checks, event.Check{Why: "its state and events", Command: a.kubectl("describe %s %s", strings.ToLower(a.g.root.Kind), a.g.root.Name)}, maxChecks)
	}
}

// kubectl is a command in the namespace and context of the thing.
func (a *assembly) kubectl(format string, args ...any) string {
	c := "kubectl "
	if a.s.Context != "" {
		c += "--context " + rule.Quote(a.s.Context) + " "
	}
	for i := range args {
		if s, ok := args[i].(string); ok {
			args[i] = rule.Quote(s)
		}
	}
	return c + "-n " + rule.Quote(a.g.root.Namespace) + " " + fmt.Sprintf(format, args...)
}

package triage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// status takes what health says of the thing.
func (a *assembly) status(x *check.Result, again func([]string) []string) {
	i := slices.IndexFunc(x.Roots, func(r check.Root) bool { return r.Entity == a.g.root })
	if i < 0 {
		return
	}
	root := x.Roots[i]
	for _, f := range root.Findings {
		if f.Urgency == event.Hygiene {
			continue // health --hygiene tells what is untidy
		}
		f.Evidence = again(f.Evidence)
		a.r.Findings = append(a.r.Findings, f)
	}
	if root.Urgency == event.Hygiene {
		return
	}
	a.r.Urgency, a.r.Began, a.r.Status = root.Urgency, root.Since, root.Line(a.g.c.Now)
}

// around takes what stands on other lines and is this workload's trouble, too:
// the Services, claims, budgets and autoscalers of it, and nodes that do not
// answer and have its pods. Where nothing is said of the workload itself, the
// worst of them says how it is.
func (a *assembly) around(roots []check.Root, again func([]string) []string) {
	g, r := a.g, a.r
	near := g.c.Around(g.root)
	for _, n := range g.deadNodes() {
		near = append(near, event.Entity{Kind: "Node", Name: n})
	}
	own := r.Urgency != ""
	for _, root := range roots { // worst first
		if root.Urgency == event.Hygiene || root.Entity == g.root || !slices.Contains(near, root.Entity) || len(root.Findings) == 0 {
			continue
		}
		one := Neighbour{Entity: root.Entity, Where: cmp.Or(root.Entity.Namespace, root.Entity.Name), Status: root.Line(g.c.Now), Evidence: again(root.Findings[0].Evidence)}
		r.Around = append(r.Around, one)
		for _, f := range root.Findings {
			if f.Urgency != event.Hygiene {
				f.Evidence = again(f.Evidence)
				r.Findings = append(r.Findings, f)
			}
		}
		if !own && r.Urgency == "" {
			r.Urgency, r.Began = root.Urgency, root.Since
			r.Status = a.well() + "; " + check.Name(root.Entity) + " " + one.Status
			text := check.Name(root.Entity) + " " + root.State
			if root.Why != "" {
				text += ": " + root.Why
			}
			a.other = &Verdict{Confidence: root.Findings[0].Confidence, Text: text, Rule: root.Findings[0].Rule, Evidence: one.Evidence}
		}
	}
}

// deadNodes are nodes that are not ready and have pods of it that are not.
func (g *gathered) deadNodes() (out []string) {
	for _, p := range g.pods {
		n := g.c.Node(p.Spec.NodeName)
		if n == nil || nodeReady(n) || slices.Contains(out, n.Name) || p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodRunning {
			continue
		}
		out = append(out, n.Name)
	}
	return out
}

// well is the line of a thing that nothing is wrong with.
func (a *assembly) well() string {
	r := a.r
	s := fmt.Sprintf("%d/%d ready", r.Ready, r.Wanted)
	if r.Wanted == 0 {
		s = "no pods are wanted"
	}
	if r.Restarts > 0 {
		s += ", " + evidence.Count(r.Restarts, "restart") + " in the life of its pods"
	}
	return s
}

// verdict chooses what explains the trouble best.
func (a *assembly) verdict(changes event.Evidence) {
	r := a.r
	v := &r.Verdict
	v.Evidence = []string{}
	if r.Urgency == "" && r.Ready < r.Wanted {
		v.Text = "fewer pods are ready than wanted, and none is seen in trouble: they may be starting, or may not be read"
		return
	}
	if r.Urgency == "" && len(r.Doubts) > 0 {
		// Whether it is as usual, nobody has said.
		v.Text = "its objects are as they should be, and what it does is not"
		v.Besides = slices.Clone(r.Doubts)
		return
	}
	if r.Urgency == "" {
		v.Text = "nothing is wrong with it now, as far as could be read"
		if p := r.Logs.Patterns; r.Logs.Errors > 0 && len(p) > 0 && p[0].Trouble {
			v.Text += fmt.Sprintf("; %s, the last %s ago, as they may every day", errorLines(r.Logs.Errors), age(a.g.c.Now.Sub(lastTrouble(p))))
			v.Evidence = p[0].Evidence
		}
		if al := r.Alert; al != nil && !al.Firing {
			v.Text += "; whether the alert fires is not known"
		}
		return
	}
	if a.other != nil {
		*v = *a.other
		for _, f := range r.Findings {
			if f.Cause && f.Urgency != event.Hygiene && len(v.Besides) < 3 && !a.said(f) {
				v.Besides = append(v.Besides, Statement{f.Title, f.Confidence, f.Evidence})
			}
		}
		return
	}
	var causes []event.Finding
	for _, f := range r.Findings {
		if f.Cause && f.Urgency != event.Hygiene && rankOf(f.Confidence) > 0 {
			causes = append(causes, f)
		}
	}
	slices.SortStableFunc(causes, func(a, b event.Finding) int {
		return cmp.Or(rankOf(b.Confidence)-rankOf(a.Confidence), b.Severity.Number()-a.Severity.Number())
	})
	// The rules' own finding about the change says it better.
	rollout, change := rolledOut(r.Changes, a.began(), a.g.c.Now)
	var after *Statement
	if change != nil {
		after = &Statement{Text: rollout, Confidence: event.Medium, Evidence: []string{a.cite(changes)}}
		if len(causes) == 0 || rankOf(causes[0].Confidence) < rankOf(event.Medium) {
			v.Confidence, v.Text, v.Rule, v.Evidence, after = event.Medium, after.Text, "after_rollout", after.Evidence, nil
		}
	}
	for _, f := range causes {
		if v.Text == "" {
			v.Confidence, v.Text, v.Detail, v.Rule, v.Evidence = f.Confidence, f.Title, f.Detail, f.Rule, f.Evidence
			continue
		}
		if len(v.Besides) < 3 && !a.said(f) {
			v.Besides = append(v.Besides, Statement{f.Title, f.Confidence, f.Evidence})
		}
	}
	if after != nil {
		v.Besides = append(v.Besides, *after)
	}
	if v.Text == "" {
		v.Text = "no cause stands out"
	}
}

// said says whether the verdict, or what stands beside it, tells a finding
// already.
func (a *assembly) said(f event.Finding) bool {
	v := &a.r.Verdict
	title := strings.ToLower(f.Title)
	for _, t := range append([]string{v.Text}, texts(v.Besides)...) {
		if t = strings.ToLower(t); strings.Contains(t, title) || strings.Contains(title, t) {
			return true
		}
	}
	return check.General(f.Rule, v.Rule)
}

func texts(list []Statement) (out []string) {
	for _, s := range list {
		out = append(out, s.Text)
	}
	return out
}

func errorLines(n int) string {
	if n == 1 {
		return "1 line of its logs looks like an error"
	}
	return fmt.Sprintf("%d lines of its logs look like errors", n)
}

// lastTrouble is when a line that looks like trouble was last written.
func lastTrouble(patterns []Pattern) (t time.Time) {
	for _, p := range patterns {
		if p.Trouble && p.Last.After(t) {
			t = p.Last
		}
	}
	return t
}

func rankOf(c event.Confidence) int {
	return map[event.Confidence]int{event.High: 3, event.Medium: 2, event.Low: 1}[c]
}

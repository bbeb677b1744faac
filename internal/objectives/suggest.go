package objectives

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// Options say what is suggested from.
type Options struct {
	Since     time.Duration // how far back is read
	Step      time.Duration // see [NewReader]
	Namespace string        // "" for all
	Now       time.Time
}

// Suggested is what was found, and the policy file that it makes.
type Suggested struct {
	Since         string           `json:"since"`          // 14d
	WindowMinutes int              `json:"window_minutes"` // of the rates, and between two readings
	Suggestions   []Kept           `json:"suggestions"`
	NotKept       []slo.Suggestion `json:"not_kept"` // workloads that kept less than the mildest usual objective
	Latency       []Latency        `json:"latency"`  // objectives of latency that were kept
	// Policy is a policies/slo.yaml: what is suggested, and after it what is in force.
	Policy string `json:"policy"`

	since time.Duration
}

// Kept is a suggestion with the name that the objective gets.
type Kept struct {
	Name string `json:"name"`
	slo.Suggestion
}

// Suggest reads the traffic of every family that is there, and suggests an objective
// for each workload of which none in force speaks by name. Its errors are those of
// the queries.
func Suggest(ctx context.Context, client *promql.Client, store *policy.Store, p slo.Policy, o Options) (*Suggested, error) {
	var namespaces []string
	if o.Namespace != "" {
		namespaces = []string{o.Namespace}
	}
	r, err := NewReader(client, store, o.Step, namespaces)
	if err != nil {
		return nil, err
	}
	since, now := o.Since, o.Now.Truncate(o.Step)
	all, err := r.Read(ctx, now.Add(o.Step-since), now)
	if err != nil {
		return nil, err
	}
	out := &Suggested{Since: span(o.Since), WindowMinutes: int(o.Step / time.Minute), Suggestions: []Kept{}, NotKept: []slo.Suggestion{}, since: since}
	taken := map[string]bool{}
	for _, o := range p.Objectives {
		taken[o.Name] = true
	}
	for _, t := range all {
		if o, ok := p.For(t.Namespace, t.Workload); ok && len(o.Match.Workloads) > 0 {
			continue
		}
		s, ok := slo.Suggest(t.Steps(), o.Step, p.Windows)
		if !ok {
			continue
		}
		s.Namespace, s.Workload, s.Family = t.Namespace, t.Workload, t.Family
		if s.Target == 0 {
			out.NotKept = append(out.NotKept, s)
			continue
		}
		out.Suggestions = append(out.Suggestions, Kept{free(taken, s), s})
	}
	if out.Latency, err = out.latencies(ctx, r, p, taken, since, now); err != nil {
		return nil, err
	}
	out.Policy, err = out.policy(p)
	return out, err
}

// latencies are suggested for the workloads whose requests are, or would be: those
// that serve enough, by the family that counts them.
func (x *Suggested) latencies(ctx context.Context, r *Reader, p slo.Policy, taken map[string]bool, since time.Duration, now time.Time) ([]Latency, error) {
	list := []Latency{}
	var served []slo.Suggestion
	for _, s := range x.Suggestions {
		served = append(served, s.Suggestion)
	}
	served = append(served, x.NotKept...)
	for _, fam := range r.families {
		if !slices.ContainsFunc(served, func(s slo.Suggestion) bool { return s.Family == fam.Family }) {
			continue
		}
		found, err := r.latencies(ctx, fam, since, now)
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			counted := slices.ContainsFunc(served, func(s slo.Suggestion) bool {
				return s.Family == k.Family && s.Namespace == k.Namespace && s.Workload == k.Workload
			})
			told := slices.ContainsFunc(p.Objectives, func(o slo.Objective) bool { return o.Latency != nil && o.Latency.Histogram == k.Histogram })
			if !counted || told {
				continue
			}
			k.Name = free(taken, slo.Suggestion{Namespace: k.Namespace, Workload: k.Workload + "-latency"})
			list = append(list, k)
		}
	}
	return list, nil
}

// free is a name for an objective that no other has, which it then has.
func free(taken map[string]bool, s slo.Suggestion) string {
	name := event.Token(strings.Trim(s.Namespace+"-"+s.Workload, "-"))
	for n := 2; taken[name]; n++ {
		name = event.Token(fmt.Sprintf("%s-%s-%d", s.Namespace, s.Workload, n))
	}
	taken[name] = true
	return name
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// suggestFlags are the flags of `oncall slo suggest`.
type suggestFlags struct {
	promFlags
	since         string
	namespace     string
	windowMinutes int
}

func newSLOSuggest(o *options) *cobra.Command {
	var f suggestFlags
	c := &cobra.Command{
		Use: "suggest", Short: "Write a policies/slo.yaml from the requests that Prometheus has counted.",
		Long: `Write a policies/slo.yaml from the requests that Prometheus has counted: for each
workload that serves any, the strictest usual objective that it has kept, its
traffic, and what would have burned at that objective; and where its requests are
timed by a histogram, the lowest bound within which 99 % of them stayed, as an
objective of latency.

The metrics are those of the families in policies/queries. Requests and failures
are read a day at a time, in steps of --window-minutes; nothing is written but to
standard output. Objectives that are in force go on after those that are
suggested, and a workload that is named in one gets no other. -o json has the
figures, and the file as text.

Exit code 0 when objectives were found, 4 when no workload has served requests, 3
when Prometheus does not answer.`,
		Example: "  oncall slo suggest --since 14d > policies/slo.yaml\n  oncall slo suggest --since 30d -n shop",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.promFlags.register(c)
	c.Flags().StringVar(&f.since, "since", "14d", "how far `back` to read: 14d, at most 30d")
	c.Flags().IntVar(&f.windowMinutes, "window-minutes", 5, "`minutes` over which the rates are taken; at least twice the time between two scrapes")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "one `namespace`; default: all")
	return c
}

func (f *suggestFlags) run(ctx context.Context, o *options, out, notes io.Writer) error {
	usage := func(err error, fix string) error {
		return hint(&service.UsageError{Err: err}, service.ExitUsage, "%s", fix)
	}
	back, err := model.ParseDuration(f.since)
	since := time.Duration(back)
	if err != nil || since < time.Hour || since > 30*24*time.Hour {
		return usage(fmt.Errorf("--since %s: is not between 1h and 30d", f.since), "--since 14d")
	}
	if o.format() == render.MD {
		return usage(fmt.Errorf("--output %s: is not table, json or yaml; the table is a policy file", o.output), "leave it out")
	}
	if f.windowMinutes < 1 || f.windowMinutes > 60 {
		return usage(fmt.Errorf("--window-minutes %d: is not between 1 and 60", f.windowMinutes), "--window-minutes 5")
	}
	store, _, err := o.store()
	if err != nil {
		return err
	}
	p, err := slo.Load(store)
	if err != nil {
		return err
	}
	client, stop, err := f.open(ctx, o, notes)
	defer stop()
	if err != nil {
		return err
	}
	x, err := f.found(ctx, client, store, p, since, time.Now())
	if err != nil {
		return queryError(err)
	}
	switch o.format() {
	case render.JSON, render.YAML:
		err = render.Value(out, o.format(), x)
	default:
		if len(x.Suggestions)+len(x.NotKept) > 0 {
			_, err = io.WriteString(out, x.Policy)
		}
	}
	if err == nil && len(x.Suggestions)+len(x.NotKept) == 0 {
		return hint(fmt.Errorf("no workload has served requests in %s, or each has an objective", f.since), service.ExitUndecided, "oncall doctor --coverage says which metrics are there")
	}
	return err
}

// found reads the traffic of every family that is there, and suggests an objective
// for each workload of which none speaks by name.
func (f *suggestFlags) found(ctx context.Context, client *promql.Client, store *policy.Store, p slo.Policy, since time.Duration, now time.Time) (*suggested, error) {
	step := time.Duration(f.windowMinutes) * time.Minute
	var namespaces []string
	if f.namespace != "" {
		namespaces = []string{f.namespace}
	}
	r, err := newTrafficReader(client, store, step, namespaces)
	if err != nil {
		return nil, err
	}
	now = now.Truncate(step)
	all, err := r.read(ctx, now.Add(step-since), now)
	if err != nil {
		return nil, err
	}
	out := &suggested{hours: since.Hours(), Since: f.since, WindowMinutes: f.windowMinutes, Suggestions: []keptObjective{}, NotKept: []slo.Suggestion{}}
	taken := map[string]bool{}
	for _, o := range p.Objectives {
		taken[o.Name] = true
	}
	for _, t := range all {
		if o, ok := p.For(t.namespace, t.workload); ok && len(o.Match.Workloads) > 0 {
			continue
		}
		s, ok := slo.Suggest(t.steps(), step, p.Windows)
		if !ok {
			continue
		}
		s.Namespace, s.Workload, s.Family = t.namespace, t.workload, t.family
		if s.Target == 0 {
			out.NotKept = append(out.NotKept, s)
			continue
		}
		out.Suggestions = append(out.Suggestions, keptObjective{free(taken, s), s})
	}
	if out.Latency, err = f.latencies(ctx, r, p, out, taken, since, now); err != nil {
		return nil, err
	}
	out.Policy, err = out.policy(p)
	return out, err
}

// latencies are suggested for the workloads whose requests are, or would be: those
// that serve enough, by the family that counts them.
func (f *suggestFlags) latencies(ctx context.Context, r *trafficReader, p slo.Policy, of *suggested, taken map[string]bool, since time.Duration, now time.Time) ([]keptLatency, error) {
	list := []keptLatency{}
	var served []slo.Suggestion
	for _, s := range of.Suggestions {
		served = append(served, s.Suggestion)
	}
	served = append(served, of.NotKept...)
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

// suggested is what was found, and the policy file that it makes.
type suggested struct {
	Since         string           `json:"since"`
	WindowMinutes int              `json:"window_minutes"` // of the rates, and between two readings
	Suggestions   []keptObjective  `json:"suggestions"`
	NotKept       []slo.Suggestion `json:"not_kept"` // workloads that kept less than the mildest usual objective
	Latency       []keptLatency    `json:"latency"`  // objectives of latency that were kept
	// Policy is a policies/slo.yaml: what is suggested, and after it what is in force.
	Policy string `json:"policy"`

	hours float64 // that were asked for
}

// keptObjective is a suggestion with the name that the objective gets.
type keptObjective struct {
	Name string `json:"name"`
	slo.Suggestion
}

// policy writes a policy file that can be read back.
func (x *suggested) policy(p slo.Policy) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Suggested by oncall slo suggest --since %s: what was kept, which need not be what\n# was promised. Remove what nobody wants to be woken for.\n", x.Since)
	for _, s := range x.NotKept {
		why := "less than any usual objective"
		if s.Requests < 10 {
			why = "too few to say"
		}
		fmt.Fprintf(&b, "# %s/%s kept %s %% of %s requests, %s: none is suggested.\n", s.Namespace, s.Workload, share(s.Kept), render.Count(s.Requests), why)
	}
	b.WriteString("objectives:\n")
	for _, s := range x.Suggestions {
		fmt.Fprintf(&b, "  # kept %s %% of %s requests (%.3g/s, %s, %s); at this target %s\n", share(s.Kept), render.Count(s.Requests), s.PerSecond, age(s.Hours), s.Family, burned(s.Suggestion))
		if s.Hours < 0.9*x.hours {
			fmt.Fprintf(&b, "  # Prometheus has %s of the %s that were asked for: look again when it has more\n", age(s.Hours), x.Since)
		}
		if s.Few {
			fmt.Fprintf(&b, "  # fewer than %d requests in five minutes, as a rule: burns show in the longer windows only\n", slo.DefaultMinRequests)
		}
		match := fmt.Sprintf("workloads: [%q]", s.Workload)
		if s.Namespace != "" {
			match = fmt.Sprintf("namespaces: [%q], %s", s.Namespace, match)
		}
		fmt.Fprintf(&b, "  - name: %s\n    target: %g\n    match: {%s}\n", s.Name, s.Target, match)
	}
	for _, k := range x.Latency {
		b.WriteString(k.lines(x.Since))
	}
	kept, err := p.Written()
	if err != nil {
		return "", err
	}
	b.WriteString(kept)
	if _, err := slo.Parse("the suggestion", []byte(b.String())); err != nil {
		return "", errors.Join(errors.New("the suggestion does not read back"), err)
	}
	return b.String(), nil
}

// share is a share in percent that is not rounded up to all.
func share(x float64) string {
	if x < 1 && x >= 0.99995 {
		return fmt.Sprintf("%.6g", math.Floor(x*1e6)/1e4)
	}
	return fmt.Sprintf("%.4g", 100*x)
}

func burned(s slo.Suggestion) string {
	many := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	return many(s.Pages, "page") + ", " + many(s.Tickets, "ticket")
}

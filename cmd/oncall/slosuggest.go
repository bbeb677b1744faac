package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// suggestFlags are the flags of `oncall slo suggest`.
type suggestFlags struct {
	promFlags
	since     string
	namespace string
}

func newSLOSuggest(o *options) *cobra.Command {
	var f suggestFlags
	c := &cobra.Command{
		Use: "suggest", Short: "Write a policies/slo.yaml from the requests that Prometheus has counted.",
		Long: `Write a policies/slo.yaml from the requests that Prometheus has counted: for each
workload that serves any, the strictest usual objective that it has kept, its
traffic, and what would have burned at that objective.

The metrics are those of the families in policies/queries. Requests and failures
are read a day at a time, in steps of five minutes; nothing is written but to
standard output. Objectives that are in force go on after those that are
suggested, and a workload that is named in one gets no other.

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
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "one `namespace`; default: all")
	return c
}

const (
	suggestStep = 5 * time.Minute
	// maxSuggestSeries bounds an answer: a day of each is 288 points.
	maxSuggestSeries = 5000
)

func (f *suggestFlags) run(ctx context.Context, o *options, out, notes io.Writer) error {
	usage := func(err error, fix string) error {
		return hint(&service.UsageError{Err: err}, service.ExitUsage, "%s", fix)
	}
	back, err := model.ParseDuration(f.since)
	since := time.Duration(back)
	if err != nil || since < time.Hour || since > 30*24*time.Hour {
		return usage(fmt.Errorf("--since %s: is not between 1h and 30d", f.since), "--since 14d")
	}
	if o.format() != render.Table {
		return usage(fmt.Errorf("--output %s: a policy file is written as it is read, in YAML", o.output), "leave it out")
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
	all, err := f.found(ctx, client, store, p, since, time.Now())
	if err != nil {
		return queryError(err)
	}
	if len(all) == 0 {
		return hint(fmt.Errorf("no workload has served requests in %s, or each has an objective", f.since), service.ExitUndecided, "oncall doctor --coverage says which metrics are there")
	}
	return writeSuggestions(out, all, p, f.since)
}

// traffic is what was asked of a workload, by one family of metrics.
type traffic struct {
	namespace, workload, family string
	served                      map[int64]*slo.Served
}

// found reads the traffic of every family that is there, and suggests an objective
// for each workload of which none speaks by name.
func (f *suggestFlags) found(ctx context.Context, client *promql.Client, store *policy.Store, p slo.Policy, since time.Duration, now time.Time) ([]slo.Suggestion, error) {
	families, err := prometheus.LoadFamilies(store)
	if err != nil {
		return nil, err
	}
	names, err := entities.Load(store)
	if err != nil {
		return nil, err
	}
	var guards []string
	for _, fam := range families {
		guards = append(guards, fam.Guard)
	}
	now = now.Truncate(suggestStep)
	present, err := client.Has(ctx, guards, now)
	if err != nil {
		return nil, err
	}
	all := map[string]*traffic{} // by family and workload
	for _, fam := range families {
		requests, failed := expression(fam, "request_rate"), expression(fam, "error_rate")
		if !present[fam.Guard] || requests == "" || failed == "" {
			continue
		}
		for from := now.Add(-since); from.Before(now); from = from.Add(24 * time.Hour) {
			to := from.Add(24*time.Hour - suggestStep)
			if to.After(now) {
				to = now
			}
			for _, q := range []struct {
				expr string
				add  func(*slo.Served, float64)
			}{{requests, func(s *slo.Served, x float64) { s.Requests += x }}, {failed, func(s *slo.Served, x float64) { s.Failed += x }}} {
				m, err := client.Range(ctx, q.expr, from, to, suggestStep)
				if err != nil {
					return nil, fmt.Errorf("family %s: %w", fam.Family, err)
				}
				if len(m) > maxSuggestSeries {
					return nil, fmt.Errorf("family %s: %w", fam.Family, &promql.Mismatch{Problem: fmt.Sprintf("%d series, more than the %d that are read", len(m), maxSuggestSeries), Fix: "use a source whose extra_matchers choose a namespace"})
				}
				f.book(all, names, fam.Family, m, q.add)
			}
		}
	}
	return suggestions(all, families, p), nil
}

func expression(fam prometheus.Family, signal string) string {
	for _, q := range fam.Queries {
		if q.Signal == signal {
			return strings.TrimSpace(strings.ReplaceAll(q.Expr, "$window", slo.Span(suggestStep)))
		}
	}
	return ""
}

// book adds an answer to the workloads that its series speak of.
func (f *suggestFlags) book(all map[string]*traffic, names *entities.Map, family string, m model.Matrix, add func(*slo.Served, float64)) {
	for _, s := range m {
		who := names.Subject(func(l string) string { return string(s.Metric[model.LabelName(l)]) })
		if who.Workload == "" && who.Pod != "" {
			who.Workload = event.WorkloadOfPod(who.Pod)
		}
		if who.Workload == "" || f.namespace != "" && who.Namespace != f.namespace {
			continue
		}
		key := family + "\x00" + who.Namespace + "\x00" + who.Workload
		t := all[key]
		if t == nil {
			t = &traffic{who.Namespace, who.Workload, family, map[int64]*slo.Served{}}
			all[key] = t
		}
		for _, v := range s.Values {
			x := float64(v.Value) * suggestStep.Seconds()
			if !(x >= 0 && x < 1e15) {
				continue
			}
			at := int64(v.Timestamp)
			if t.served[at] == nil {
				t.served[at] = &slo.Served{Time: v.Timestamp.Time().UTC()}
			}
			add(t.served[at], x)
		}
	}
}

// suggestions are those of the best family of each workload, sorted by name.
func suggestions(all map[string]*traffic, families []prometheus.Family, p slo.Policy) []slo.Suggestion {
	var out []slo.Suggestion
	for _, key := range slices.Sorted(maps.Keys(all)) {
		t := all[key]
		i := slices.IndexFunc(families, func(fam prometheus.Family) bool { return fam.Family == t.family })
		better := slices.ContainsFunc(families[i].Unless, func(other string) bool {
			return all[other+"\x00"+t.namespace+"\x00"+t.workload] != nil
		})
		if o, ok := p.For(t.namespace, t.workload); better || ok && len(o.Match.Workloads) > 0 {
			continue
		}
		var served []slo.Served
		for _, at := range slices.Sorted(maps.Keys(t.served)) {
			served = append(served, *t.served[at])
		}
		if s, ok := slo.Suggest(served, suggestStep, p.Windows); ok {
			s.Namespace, s.Workload, s.Family = t.namespace, t.workload, t.family
			if !slices.ContainsFunc(out, func(o slo.Suggestion) bool { return o.Namespace == s.Namespace && o.Workload == s.Workload }) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b slo.Suggestion) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Workload, b.Workload))
	})
	return out
}

// writeSuggestions writes a policy file that can be read back.
func writeSuggestions(w io.Writer, all []slo.Suggestion, p slo.Policy, since string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Suggested by oncall slo suggest --since %s: what was kept, which need not be what\n# was promised. Remove what nobody wants to be woken for.\nobjectives:\n", since)
	seen := map[string]bool{}
	for _, o := range p.Objectives {
		seen[o.Name] = true
	}
	for _, s := range all {
		name := event.Token(strings.Trim(s.Namespace+"-"+s.Workload, "-"))
		for n := 2; seen[name]; n++ {
			name = event.Token(fmt.Sprintf("%s-%s-%d", s.Namespace, s.Workload, n))
		}
		seen[name] = true
		fmt.Fprintf(&b, "  # kept %.4g %% of %.0f requests (%.3g/s, %s, %s); at this target %d pages, %d tickets\n", 100*s.Kept, s.Requests, s.PerSecond, age(s.Hours), s.Family, s.Pages, s.Tickets)
		if s.Few {
			fmt.Fprintf(&b, "  # fewer than %d requests in five minutes, as a rule: burns show in the longer windows only\n", slo.DefaultMinRequests)
		}
		match := fmt.Sprintf("workloads: [%q]", s.Workload)
		if s.Namespace != "" {
			match = fmt.Sprintf("namespaces: [%q], %s", s.Namespace, match)
		}
		fmt.Fprintf(&b, "  - name: %s\n    target: %g\n    match: {%s}\n", name, s.Target, match)
	}
	kept, err := p.Written()
	if err != nil {
		return err
	}
	b.WriteString(kept)
	if _, err := slo.Parse("the suggestion", []byte(b.String())); err != nil {
		return errors.Join(errors.New("the suggestion does not read back"), err)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

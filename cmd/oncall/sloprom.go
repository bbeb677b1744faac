package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/objectives"
	"github.com/oncall-copilot/oncall/pkg/budget"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// sloFlags are the flags of `oncall slo-prom`.
type sloFlags struct {
	promFlags
	err, tot      string
	windowMinutes int
	target        float64
	name          string
	period        time.Duration
	histogram     string
	threshold     time.Duration
	failOn        string
}

func newSLOProm(o *options) *cobra.Command {
	var f sloFlags
	c := &cobra.Command{
		Use: "slo-prom", Short: "Say from PromQL how fast an error budget burns, what is left of it, and whether to page.",
		Long: `Say from PromQL how fast an error budget burns, what is left of it, and whether to
page.

--err and --tot give failed and all requests a second, as rates over
--window-minutes; they are read for the whole period. The windows and their limits
are those of policies/slo.yaml, and so is the verdict: it pages when oncall up
would. --slo takes an objective from there: its queries, its latency, or the golden
signals of each workload that it matches. --histogram with --threshold is about
requests that took too long.

Exit code 0 when it could be measured, whatever it found; 1 with --fail-on; 4 when
there is no traffic, which is not the same as ok; 3 when Prometheus does not
answer, 2 when a query is wrong or its answer cannot be meant.`,
		Example: `  oncall slo-prom --slo-target 0.995 \
    --err 'sum(rate(http_requests_total{service="web",code=~"5.."}[5m]))' \
    --tot 'sum(rate(http_requests_total{service="web"}[5m]))'
  oncall slo-prom --slo payments --fail-on page -o json
  oncall slo-prom --slo-target 0.99 --histogram 'http_request_duration_seconds{service="web"}' --threshold 300ms`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, o) },
	}
	f.promFlags.register(c)
	fl := c.Flags()
	fl.StringVar(&f.err, "err", "", "`PromQL` of failed requests a second")
	fl.StringVar(&f.tot, "tot", "", "`PromQL` of all requests a second")
	fl.IntVar(&f.windowMinutes, "window-minutes", 5, "`minutes` over which the rates are taken")
	fl.Float64Var(&f.target, "slo-target", 0, "`share` of requests that are to be good: 0.995")
	fl.StringVar(&f.name, "slo", "", "`name` of an objective in policies/slo.yaml")
	fl.DurationVar(&f.period, "period", 30*24*time.Hour, "`time` for which the target holds")
	fl.StringVar(&f.histogram, "histogram", "", "latency histogram instead of --err and --tot: a `metric` with its labels")
	fl.DurationVar(&f.threshold, "threshold", 0, "`latency` above which a request of --histogram is not good")
	fl.StringVar(&f.failOn, "fail-on", "", "exit with 1 on this `verdict` or a graver one: ticket or page")
	return c
}

// objective is the one that the flags ask about.
func (f *sloFlags) objective(cmd *cobra.Command, p slo.Policy) (slo.Objective, error) {
	o := slo.Objective{Name: "slo"}
	if f.name != "" {
		var ok bool
		if o, ok = p.Named(f.name); !ok {
			var names []string
			for _, x := range p.Objectives {
				names = append(names, x.Name)
			}
			return o, fmt.Errorf("--slo %s: is not in policies/slo.yaml; it has %s", f.name, strings.Join(names, ", "))
		}
	}
	if f.name == "" || cmd.Flags().Changed("slo-target") {
		o.Target = f.target
	}
	if f.name == "" || cmd.Flags().Changed("period") {
		o.Period = f.period
	}
	if f.err != "" || f.tot != "" {
		o.Errors, o.Total, o.Latency = f.err, f.tot, nil
	}
	if f.histogram != "" {
		o.Latency = &slo.Latency{Histogram: f.histogram, Threshold: slo.Seconds(f.threshold.Seconds())}
	}
	if !(o.Target > 0 && o.Target < 1) {
		fix := "write 0.995"
		if o.Target > 1 && o.Target < 100 {
			fix = fmt.Sprintf("write %.6g", o.Target/100)
		}
		return o, fmt.Errorf("--slo-target %g: is not between 0 and 1; %s", o.Target, fix)
	}
	one := slo.Policy{Objectives: []slo.Objective{o}}
	if err := one.Validate(); err != nil {
		return o, f.worded(err, o)
	}
	// As in a policy file.
	if o.MinRequests == 0 {
		o.MinRequests = slo.DefaultMinRequests
	}
	return o, nil
}

// worded names the flag that an error of an objective is about.
func (f *sloFlags) worded(err error, o slo.Objective) error {
	fe, ok := errors.AsType[*policy.FieldError](err)
	if !ok {
		return err
	}
	_, field, _ := strings.Cut(fe.Path, ".")
	switch field {
	case "period":
		return fmt.Errorf("--period %s: %s; %s", o.Period, fe.Problem, fe.Fix)
	case "latency.histogram":
		return fmt.Errorf("--histogram %s: %s; %s", f.histogram, fe.Problem, fe.Fix)
	case "latency.threshold":
		return fmt.Errorf("--threshold %s: %s; write 300ms", f.threshold, fe.Problem)
	case "latency":
		return errors.New("--histogram makes its own queries; leave out --err, --tot, or the objective with queries")
	}
	return errors.New("one of --err and --tot only: write both")
}

func (f *sloFlags) run(cmd *cobra.Command, o *options) error {
	ctx, notes := cmd.Context(), cmd.ErrOrStderr()
	usage := func(err error, format string, args ...any) error {
		return hint(&service.UsageError{Err: err}, service.ExitUsage, format, args...)
	}
	store, _, err := o.store()
	if err != nil {
		return err
	}
	p, err := slo.Load(store)
	if err != nil {
		return err
	}
	switch {
	case f.windowMinutes < 1 || f.windowMinutes > 60:
		return usage(fmt.Errorf("--window-minutes %d: is not between 1 and 60", f.windowMinutes), "--window-minutes 5")
	case f.failOn != "" && f.failOn != string(slo.Page) && f.failOn != string(slo.Ticket):
		return usage(fmt.Errorf("--fail-on %s: is not ticket or page", f.failOn), "--fail-on page")
	case (f.histogram == "") != (f.threshold == 0) || f.threshold < 0:
		return usage(errors.New("--histogram and --threshold belong together"), "--histogram http_request_duration_seconds --threshold 300ms")
	}
	obj, err := f.objective(cmd, p)
	switch {
	case err != nil:
		return usage(err, "oncall slo-prom --help")
	case !obj.Own() && f.name == "":
		return usage(errors.New("no queries: write --err and --tot, or --histogram and --threshold, or --slo"), "oncall slo-prom --help")
	}
	client, stop, err := f.open(ctx, o, notes)
	defer stop()
	if err != nil {
		return err
	}
	r := &budgetReader{client: client, store: store, policy: p, objective: obj, window: time.Duration(f.windowMinutes) * time.Minute}
	all, err := f.read(ctx, r, time.Now())
	if err != nil {
		if m, ok := errors.AsType[*promql.Mismatch](err); ok && m.Absent {
			if err := f.absent(o, obj, err, r); err != nil {
				return err
			}
		}
		return queryError(err)
	}
	for _, s := range r.notes {
		fmt.Fprintln(notes, "oncall: "+s)
	}
	return f.report(o, all)
}

// budgetReader reads the state of an objective.
type budgetReader struct {
	client    *promql.Client
	store     *policy.Store
	policy    slo.Policy
	objective slo.Objective
	window    time.Duration
	notes     []string // for people, about how it was asked
}

// read is the state of each thing that the objective is about, the gravest first.
func (f *sloFlags) read(ctx context.Context, r *budgetReader, now time.Time) ([]slo.Status, error) {
	if !r.objective.Own() {
		return r.golden(ctx, now)
	}
	q := budget.Queries{Window: r.window, ErrorsName: "--err", TotalName: "--tot"}
	q.Errors, q.Total = r.objective.PromQL(r.window)
	field := func(name string) string { return "--" + name }
	if f.err == "" {
		q.ErrorsName, q.TotalName = "objective "+r.objective.Name+": errors", "objective "+r.objective.Name+": total"
	}
	if f.histogram == "" {
		field = func(name string) string { return r.policy.FieldOf(r.objective.Name, name) }
	}
	if l := r.objective.Latency; l != nil {
		if err := budget.CheckLatency(ctx, r.client, *l, field, now); err != nil {
			return nil, err
		}
		q.Told, q.ErrorsName, q.TotalName = true, field("histogram"), field("histogram")
	}
	if why := q.Ranges(); why != "" {
		r.notes = append(r.notes, why)
	}
	all, err := budget.Read(ctx, r.client, q, r.objective, r.policy.Windows, now)
	if err == nil && f.err != "" && len(all) > 1 {
		return nil, fmt.Errorf("--tot: %w", &promql.Mismatch{
			Problem: fmt.Sprintf("gives %d series, such as %s, where one is needed", len(all), event.LabelsOf(all[0].Labels)), Fix: "write sum(…) around both",
		})
	}
	return all, err
}

// golden is the state of each workload whose objective it is by the golden signals:
// of what the families of policies/queries count.
func (r *budgetReader) golden(ctx context.Context, now time.Time) ([]slo.Status, error) {
	t, err := objectives.NewReader(r.client, r.store, r.window, r.objective.Match.Namespaces)
	if err != nil {
		return nil, err
	}
	now = now.Truncate(time.Minute)
	all, err := t.Read(ctx, now.Add(r.window-r.objective.Period), now)
	if err != nil {
		return nil, err
	}
	var out []slo.Status
	for _, w := range all {
		if o, ok := r.policy.For(w.Namespace, w.Workload); !ok || o.Name != r.objective.Name {
			continue
		}
		var l slo.Ledger
		for _, x := range w.Steps() {
			l.Serve(x, r.window)
		}
		s := r.objective.Status(&l, r.policy.Windows, now.UnixMilli())
		s.Labels = map[string]string{"namespace": w.Namespace, "workload": w.Workload}
		out = append(out, s)
	}
	if out == nil {
		return nil, fmt.Errorf("objective %s: %w", r.objective.Name, &promql.Mismatch{
			Absent: true, Problem: fmt.Sprintf("no workload that it matches has served requests in the last %s", slo.Span(r.objective.Period)), Fix: "oncall doctor --coverage says which workloads have traffic, and from which metrics",
		})
	}
	slo.Gravest(out)
	return out, nil
}

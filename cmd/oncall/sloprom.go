package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/budget"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/render"
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
would. --slo takes an objective from there. --histogram with --threshold makes the
queries for requests that took too long.

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
		o.Errors, o.Total = f.err, f.tot
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
		if fe, ok := errors.AsType[*policy.FieldError](err); ok && strings.HasSuffix(fe.Path, "period") {
			return o, fmt.Errorf("--period %s: %s; %s", o.Period, fe.Problem, fe.Fix)
		}
		return o, errors.New("one of --err and --tot only: write both")
	}
	// As in a policy file.
	if o.MinRequests == 0 {
		o.MinRequests = slo.DefaultMinRequests
	}
	return o, nil
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
	obj, err := f.objective(cmd, p)
	switch {
	case err != nil:
		return usage(err, "oncall slo-prom --help")
	case f.windowMinutes < 1 || f.windowMinutes > 60:
		return usage(fmt.Errorf("--window-minutes %d: is not between 1 and 60", f.windowMinutes), "--window-minutes 5")
	case f.failOn != "" && f.failOn != string(slo.Page) && f.failOn != string(slo.Ticket):
		return usage(fmt.Errorf("--fail-on %s: is not ticket or page", f.failOn), "--fail-on page")
	case (f.histogram == "") != (f.threshold == 0) || f.threshold < 0:
		return usage(errors.New("--histogram and --threshold belong together"), "--histogram http_request_duration_seconds --threshold 300ms")
	case f.histogram != "" && obj.Errors != "":
		return usage(errors.New("--histogram makes its own queries; leave out --err, --tot, or the objective with queries"), "oncall slo-prom --help")
	case f.histogram == "" && obj.Errors == "":
		why := errors.New("no queries: write --err and --tot, or --histogram and --threshold")
		if f.name != "" {
			why = fmt.Errorf("objective %s has no queries of its own; write --err and --tot, or --histogram and --threshold", f.name)
		}
		return usage(why, "oncall slo-prom --help")
	}
	client, stop, err := f.open(ctx, o, notes)
	defer stop()
	if err != nil {
		return err
	}
	all, err := f.read(ctx, client, obj, p.Windows, time.Now())
	if err != nil {
		return queryError(err)
	}
	return f.report(o, all)
}

func (f *sloFlags) read(ctx context.Context, client *promql.Client, obj slo.Objective, windows []slo.Window, now time.Time) ([]slo.Status, error) {
	q := budget.Queries{Errors: obj.Errors, Total: obj.Total, Window: time.Duration(f.windowMinutes) * time.Minute, ErrorsName: "--err", TotalName: "--tot"}
	if f.err == "" && f.histogram == "" {
		q.ErrorsName, q.TotalName = "objective "+obj.Name+": errors", "objective "+obj.Name+": total"
	}
	if f.histogram != "" {
		var err error
		if q, err = budget.Latency(ctx, client, f.histogram, f.threshold, q.Window, now); err != nil {
			return nil, err
		}
	}
	all, err := budget.Read(ctx, client, q, obj, windows, now)
	if err == nil && f.err != "" && len(all) > 1 {
		return nil, fmt.Errorf("--tot: %w", &promql.Mismatch{
			Problem: fmt.Sprintf("gives %d series, such as %s, where one is needed", len(all), event.LabelsOf(all[0].Labels)), Fix: "write sum(…) around both",
		})
	}
	return all, err
}

// budgets is what is printed: the gravest series, and all when there are
// several.
type budgets struct {
	slo.Status
	Series []slo.Status `json:"series,omitempty"`
}

func (f *sloFlags) report(o *options, all []slo.Status) error {
	x := budgets{Status: all[0]}
	if len(all) > 1 {
		x.Series = all
	}
	var err error
	switch o.format() {
	case render.JSON, render.YAML:
		err = render.Value(o.out, o.format(), x)
	default:
		for i, s := range all {
			if i > 0 {
				fmt.Fprintln(o.out)
			}
			if err = printBudget(o, s); err != nil {
				break
			}
		}
	}
	switch {
	case err != nil:
		return err
	case x.Verdict == slo.NoData:
		return hint(errors.New("no traffic: it cannot be said how the budget burns"), service.ExitUndecided, "is the selector right? Without traffic nothing can fail")
	case f.failOn != "" && !slo.Verdict(f.failOn).Worse(x.Verdict):
		return hint(fmt.Errorf("the budget burns: %s", x.Verdict), service.ExitGate, "oncall agent-run --once says what else is wrong")
	}
	return nil
}

func printBudget(o *options, s slo.Status) error {
	var w io.Writer = o.out
	head := fmt.Sprintf("%s  %s %.6g %% of requests over %gd", strings.ToUpper(string(s.Verdict)), s.Objective, 100*s.Target, s.PeriodHours/24)
	if len(s.Labels) > 0 {
		head += "  " + event.LabelsOf(s.Labels).String()
	}
	if s.Since != nil {
		head += "  since " + s.Since.Format("15:04") + " UTC"
	}
	rows := make([][]string, 0, len(s.Rules))
	for _, r := range s.Rules {
		state := "-"
		switch {
		case r.Fires:
			state = string(r.Asks)
		case r.Now == nil:
			state = "no traffic"
		case !r.Enough:
			state = "too few requests"
		}
		rows = append(rows, []string{r.Long + " / " + r.Short, burn(r.Burn) + " / " + burn(r.Now), fmt.Sprintf("%gx", r.Limit), state})
	}
	columns := []string{"windows", "burn", "limit", "asks for"}
	left := "budget: nothing is known of it"
	if s.BudgetRemaining != nil {
		left = fmt.Sprintf("budget: %.1f %% left (%.0f of %.0f requests failed", 100*floor(*s.BudgetRemaining), s.Errors, s.Requests)
		if s.KnownHours < s.PeriodHours-1 {
			left += fmt.Sprintf("; Prometheus has %s of %gd", age(s.KnownHours), s.PeriodHours/24)
		}
		left += ")"
		if s.ExhaustedHours != nil {
			left += ", gone in " + age(*s.ExhaustedHours) + " at this rate"
		}
	}
	if o.format() == render.MD {
		fmt.Fprintf(w, "**%s**\n\n", render.Markdown(head))
		if err := markdownTable(w, columns, rows); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\n%s\n\n%s\n", left, render.Markdown(strings.Join(s.Reasons, "; ")))
		return err
	}
	color := map[slo.Verdict]string{slo.OK: "32;1", slo.NoData: "33;1", slo.Ticket: "33;1", slo.Page: "31;1"}
	fmt.Fprintln(w, o.terminal().Paint(color[s.Verdict], render.Plain(head)))
	if err := table(w, columns, rows); err != nil {
		return err
	}
	fmt.Fprintln(w, left)
	for _, r := range s.Reasons {
		fmt.Fprintln(w, render.Plain(r))
	}
	return nil
}

// floor keeps a little that is left from looking like more.
func floor(share float64) float64 { return math.Floor(share*1000) / 1000 }

func burn(x *float64) string {
	if x == nil {
		return "-"
	}
	if *x >= 100 {
		return fmt.Sprintf("%.0fx", *x)
	}
	return fmt.Sprintf("%.3gx", *x)
}

// age is a number of hours as people say it.
func age(hours float64) string {
	switch {
	case hours < 1:
		return fmt.Sprintf("%.0f min", 60*hours)
	case hours < 48:
		return fmt.Sprintf("%.1f h", hours)
	}
	return fmt.Sprintf("%.1f d", hours/24)
}

package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

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
		err = printBudgets(o, all)
	}
	switch {
	case err != nil:
		return err
	case x.Verdict == slo.NoData:
		return hint(errors.New("no data: it cannot be said how the budget burns"), service.ExitUndecided, "is the selector right? Without traffic nothing can fail")
	case f.failOn != "" && !slo.Verdict(f.failOn).Worse(x.Verdict):
		return hint(fmt.Errorf("the budget burns: %s", x.Verdict), service.ExitGate, "oncall agent-run --once says what else is wrong")
	}
	return nil
}

// absent tells a machine in its format that there is nothing to judge, and why;
// people read the error.
func (f *sloFlags) absent(o *options, obj slo.Objective, why error, r *budgetReader) error {
	if o.format() != render.JSON && o.format() != render.YAML {
		return nil
	}
	s := obj.Status(&slo.Ledger{}, r.policy.Windows, time.Now().UnixMilli())
	s.Verdict, s.Reasons = slo.NoData, []string{why.Error()}
	return render.Value(o.out, o.format(), budgets{Status: s})
}

// manyBudgets is from how many on those that are well have a line each.
const manyBudgets = 4

func printBudgets(o *options, all []slo.Status) error {
	for i, s := range all {
		if len(all) >= manyBudgets && s.Verdict == slo.OK && o.format() == render.Table {
			if i > 0 && all[i-1].Verdict != slo.OK {
				fmt.Fprintln(o.out)
			}
			fmt.Fprintf(o.out, "%s  %s\n", render.Plain(headline(s)), budgetLeft(s))
			continue
		}
		if i > 0 {
			fmt.Fprintln(o.out)
		}
		if err := printBudget(o, s); err != nil {
			return err
		}
	}
	return nil
}

func printBudget(o *options, s slo.Status) error {
	var w io.Writer = o.out
	head := headline(s)
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
	left := budgetLeft(s)
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

// headline says what is judged, how, and since when.
func headline(s slo.Status) string {
	of := "of requests"
	if s.Within != "" {
		of += " within " + s.Within
	}
	head := fmt.Sprintf("%s  %s %.6g %% %s over %gd", strings.ToUpper(string(s.Verdict)), s.Objective, 100*s.Target, of, s.PeriodHours/24)
	if len(s.Labels) > 0 {
		head += "  " + event.LabelsOf(s.Labels).String()
	}
	switch {
	case s.Since == nil:
	case s.At.Sub(*s.Since) >= 6*time.Hour:
		head += "  for more than 6 h"
	default:
		head += "  since " + s.Since.Format("15:04") + " UTC"
	}
	return head
}

// budgetLeft says what is left of a budget, of what, and until when.
func budgetLeft(s slo.Status) string {
	if s.BudgetRemaining == nil {
		return "budget: nothing is known of it"
	}
	failed := "failed"
	if s.Within != "" {
		failed = "took longer"
	}
	of := fmt.Sprintf("(%s of %s requests %s", render.Count(s.Errors), render.Count(s.Requests), failed)
	if s.KnownHours < s.PeriodHours-1 {
		of += fmt.Sprintf("; Prometheus has %s of %gd", slo.Age(s.KnownHours), s.PeriodHours/24)
	}
	of += ")"
	if *s.BudgetRemaining <= 0 {
		return fmt.Sprintf("budget: none left, %.3g times what is allowed is spent %s", 1-*s.BudgetRemaining, of)
	}
	left := fmt.Sprintf("budget: %.1f %% left %s", 100*floor(*s.BudgetRemaining), of)
	if s.ExhaustedHours != nil {
		left += ", gone in " + slo.Age(*s.ExhaustedHours) + " at this rate"
	}
	return left
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

package main

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// gateFlags are the flags of `oncall canary-gate`.
type gateFlags struct {
	co, ct, bo, bt         float64
	cp95, bp95, cp99, bp99 float64
	over                   time.Duration
}

func newCanaryGate(o *options) *cobra.Command {
	var f gateFlags
	c := &cobra.Command{
		Use: "canary-gate --co N --ct N --bo N --bt N", Short: "Decide from counts of requests whether a canary may go on.",
		Long: `Decide from counts of requests whether a canary may go on: continue, hold or
rollback-advised, with reasons.

The counts are those of all requests since the canary began. It may be asked as
often as one likes: the interval it decides by holds at every look. A bare
percentile does not say how sure it is, so that --cp95 and --cp99 are compared
with a threshold; oncall canary-prom compares histograms. What has to be shown is
in policies/canary.yaml, how it is decided in docs/canary.md.

Exit code 0 to continue, 1 when a rollback is advised, 4 to hold. NaN, as
Prometheus answers without traffic, is held.`,
		Example: `  oncall canary-gate --co 9950 --ct 10000 --bo 9950 --bt 10000
  oncall canary-gate --co 412 --ct 412 --bo 3690 --bt 3700 --over 133s --cp95 210 --bp95 200 -o json`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := f.input(cmd)
			if err != nil {
				return hint(&service.UsageError{Err: err}, service.ExitUsage, "oncall canary-gate --co 9950 --ct 10000 --bo 9950 --bt 10000")
			}
			p, err := o.canaryPolicy()
			if err != nil {
				return err
			}
			return o.verdict(p.Judge(in))
		},
	}
	fl := c.Flags()
	fl.Float64Var(&f.co, "co", 0, "`count` of the canary's requests that went well")
	fl.Float64Var(&f.ct, "ct", 0, "`count` of all the canary's requests")
	fl.Float64Var(&f.bo, "bo", 0, "`count` of the baseline's requests that went well")
	fl.Float64Var(&f.bt, "bt", 0, "`count` of all the baseline's requests")
	fl.Float64Var(&f.cp95, "cp95", 0, "p95 `latency` of the canary, in any unit")
	fl.Float64Var(&f.bp95, "bp95", 0, "p95 `latency` of the baseline, in the same unit")
	fl.Float64Var(&f.cp99, "cp99", 0, "p99 `latency` of the canary")
	fl.Float64Var(&f.bp99, "bp99", 0, "p99 `latency` of the baseline")
	fl.DurationVar(&f.over, "over", 0, "the `time` in which the requests were counted, for how many minutes are still needed")
	return c
}

// input is what the flags say, if it can be.
func (f *gateFlags) input(cmd *cobra.Command) (canary.Input, error) {
	var missing []string
	for _, name := range []string{"co", "ct", "bo", "bt"} {
		if !cmd.Flags().Changed(name) {
			missing = append(missing, "--"+name)
		}
	}
	if missing != nil {
		return canary.Input{}, fmt.Errorf("%s: missing; write NaN for what could not be measured", strings.Join(missing, ", "))
	}
	if f.over < 0 {
		return canary.Input{}, fmt.Errorf("--over %s: is negative", f.over)
	}
	for _, s := range []struct {
		name      string
		ok, total float64
	}{{"c", f.co, f.ct}, {"b", f.bo, f.bt}} {
		// Sums of increase() have fractions, but both of them.
		if (s.total == 1 || s.total == 100) && s.ok != math.Trunc(s.ok) {
			share := s.ok
			if share > 1 {
				share /= 100
			}
			return canary.Input{}, fmt.Errorf("--%so %g --%st %g: is a rate or a percentage; write counts of requests, such as --%so %.0f --%st 10000", s.name, s.ok, s.name, s.total, s.name, share*10000, s.name)
		}
	}
	optional := func(name string, x *float64) *float64 {
		if !cmd.Flags().Changed(name) {
			return nil
		}
		return x
	}
	in := canary.Input{
		Canary:   canary.Side{Counts: canary.Counts{OK: f.co, Total: f.ct}, P95: optional("cp95", &f.cp95), P99: optional("cp99", &f.cp99)},
		Baseline: canary.Side{Counts: canary.Counts{OK: f.bo, Total: f.bt}, P95: optional("bp95", &f.bp95), P99: optional("bp99", &f.bp99)},
		Over:     f.over,
	}
	return in, in.Validate()
}

func (o *options) canaryPolicy() (canary.Policy, error) {
	s, _, err := o.store()
	if err != nil {
		return canary.Policy{}, err
	}
	return canary.Load(s)
}

// errVerdict is the error of a gate that does not let a canary go on.
var errVerdict = errors.New("the canary does not go on")

// verdict prints a result, and makes its exit code.
func (o *options) verdict(r canary.Result) error {
	if err := o.printVerdict(r); err != nil {
		return err
	}
	switch r.Verdict {
	case canary.Continue:
		return nil
	case canary.Rollback:
		return hint(fmt.Errorf("%w: %s", errVerdict, r.Verdict), service.ExitGate, "rolling back is for a human, or for what asked: kubectl argo rollouts abort NAME")
	}
	return hint(fmt.Errorf("%w: %s", errVerdict, r.Verdict), service.ExitUndecided, "ask again when more was measured; each line above says what is missing")
}

func (o *options) printVerdict(r canary.Result) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), r)
	}
	if o.format() == render.MD {
		var rows [][]string
		for _, c := range r.Checks {
			rows = append(rows, []string{string(c.Verdict), c.Name, c.Reason})
		}
		fmt.Fprintf(o.out, "**%s**\n\n", render.Markdown(r.Headline()))
		return markdownTable(o.out, []string{"verdict", "check", "reason"}, rows)
	}
	t := o.terminal()
	color := map[canary.Verdict]string{canary.Continue: "32;1", canary.Hold: "33;1", canary.Rollback: "31;1"}
	fmt.Fprintln(o.out, t.Paint(color[r.Verdict], r.Headline()))
	for _, c := range r.Checks {
		fmt.Fprintf(o.out, "  %s  %-7s  %s\n", t.Paint(color[c.Verdict], fmt.Sprintf("%-16s", c.Verdict)), c.Name, render.Plain(c.Reason))
	}
	at := "at one look"
	if r.Looks == canary.AnyLooks {
		at = "however often it is asked"
	}
	_, err := fmt.Fprintf(o.out, "Intervals hold with %.3g %% %s.\n", 100*r.Confidence, at)
	return err
}

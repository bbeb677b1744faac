package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/gate"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// canaryPromFlags are the flags of `oncall canary-prom`.
type canaryPromFlags struct {
	promFlags
	adhoc             canary.Analysis
	analysis          string
	namespace, name   string
	start             string
	since, step       time.Duration
	watch             bool
	every, timeToLive time.Duration
}

func newCanaryProm(o *options) *cobra.Command {
	var f canaryPromFlags
	c := &cobra.Command{
		Use: "canary-prom", Short: "Measure a canary and its baseline with PromQL, and decide whether it may go on.",
		Long: `Measure a canary and its baseline with PromQL, and decide whether it may go on:
continue, hold or rollback-advised, with reasons.

Each query gives one number, counted since the canary began: $window stands for
that time, as in sum(increase(http_requests_total{track="canary"}[$window])). Give
that beginning with --start and keep to it: what was seen counts once, so that
you may look as often as you like. Latencies are compared as histograms (classic
or native), or as samples where there is none. Queries that belong together have a
name in policies/canary.yaml, for --analysis.

Exit code 0 to continue, 1 when a rollback is advised, 4 to hold; 3 when
Prometheus does not answer, 2 when a query is wrong or its answer cannot be meant.`,
		Example: `  oncall canary-prom --analysis http --namespace shop --name web --start 2026-03-01T02:51:00Z
  oncall canary-prom --since 10m --watch \
    --canary-errors   'sum(increase(http_requests_total{track="canary",code=~"5.."}[$window])) or vector(0)' \
    --canary-total    'sum(increase(http_requests_total{track="canary"}[$window]))' \
    --baseline-errors 'sum(increase(http_requests_total{track="stable",code=~"5.."}[$window])) or vector(0)' \
    --baseline-total  'sum(increase(http_requests_total{track="stable"}[$window]))'`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f.promFlags.register(c)
	fl := c.Flags()
	for _, s := range []struct {
		side string
		q    *canary.Queries
	}{{"canary", &f.adhoc.Canary}, {"baseline", &f.adhoc.Baseline}} {
		fl.StringVar(&s.q.OK, s.side+"-ok", "", "`PromQL` that counts the "+s.side+"'s requests that went well")
		fl.StringVar(&s.q.Errors, s.side+"-errors", "", "`PromQL` that counts those that failed, instead of -ok")
		fl.StringVar(&s.q.Total, s.side+"-total", "", "`PromQL` that counts all the "+s.side+"'s requests")
		fl.StringVar(&s.q.Latency, s.side+"-latency", "", "`PromQL` of the "+s.side+"'s latency histogram: classic by le, or native")
		fl.StringVar(&s.q.Samples, s.side+"-samples", "", "`PromQL` whose value at every step is a sample, where there is no histogram")
	}
	fl.StringVar(&f.analysis, "analysis", "", "`name` of queries in policies/canary.yaml")
	fl.StringVarP(&f.namespace, "namespace", "n", "", "`namespace` that $namespace stands for")
	fl.StringVar(&f.name, "name", "", "`name` that $name stands for")
	fl.StringVar(&f.start, "start", "", "`time` when the canary began: 2026-03-01T02:51:00Z")
	fl.DurationVar(&f.since, "since", 10*time.Minute, "how long `ago` the canary began, instead of --start")
	fl.DurationVar(&f.step, "step", gate.DefaultStep, "time between two samples")
	fl.BoolVarP(&f.watch, "watch", "w", false, "ask again until it is decided")
	fl.DurationVar(&f.every, "every", 30*time.Second, "time between two looks of --watch")
	fl.DurationVar(&f.timeToLive, "for", time.Hour, "how long to --watch at most; then it is held")
	return c
}

// chosen is the analysis that the flags name or write, and how its queries are
// called in errors.
func (f *canaryPromFlags) chosen(p canary.Policy) (canary.Analysis, func(side, field string) string, error) {
	names := func(side, field string) string { return "--" + side + "-" + field }
	if f.analysis == "" {
		if f.adhoc.Canary == (canary.Queries{}) && f.adhoc.Baseline == (canary.Queries{}) {
			return f.adhoc, nil, errors.New("no queries: write --analysis NAME, or --canary-errors, --canary-total and the same of the baseline")
		}
		return f.adhoc, names, f.adhoc.Check(names)
	}
	if f.adhoc.Canary != (canary.Queries{}) || f.adhoc.Baseline != (canary.Queries{}) {
		return f.adhoc, nil, fmt.Errorf("--analysis %s has its queries; leave out the others", f.analysis)
	}
	a, ok := p.Named(f.analysis)
	if !ok {
		return a, nil, unknownAnalysis(p, "--analysis "+f.analysis)
	}
	return a, nil, nil
}

func unknownAnalysis(p canary.Policy, what string) error {
	known := "none"
	var names []string
	for _, a := range p.Analyses {
		names = append(names, a.Name)
	}
	if names != nil {
		known = strings.Join(names, ", ")
	}
	return fmt.Errorf("%s: is not in policies/canary.yaml; it has %s", what, known)
}

func (f *canaryPromFlags) run(ctx context.Context, o *options, notes io.Writer) error {
	p, err := o.canaryPolicy()
	if err != nil {
		return err
	}
	usage := func(err error, format string, args ...any) error {
		return hint(&service.UsageError{Err: err}, service.ExitUsage, format, args...)
	}
	a, names, err := f.chosen(p)
	if err != nil {
		return usage(err, "oncall canary-prom --help shows both")
	}
	now := time.Now()
	c := gate.Canary{Namespace: f.namespace, Name: f.name, Start: now.Add(-f.since)}
	if f.start != "" {
		if c.Start, err = time.Parse(time.RFC3339, f.start); err != nil {
			return usage(fmt.Errorf("--start %s: is not a time", f.start), "--start %s", now.Add(-f.since).UTC().Format(time.RFC3339))
		}
	}
	switch {
	case !c.Start.Before(now):
		return usage(fmt.Errorf("the canary begins at %s, which is not in the past", c.Start.UTC().Format(time.RFC3339)), "--since 10m")
	case f.step < time.Second:
		return usage(fmt.Errorf("--step %s: is not at least 1s", f.step), "--step 15s")
	case f.watch && (f.every < time.Second || f.timeToLive <= 0):
		return usage(fmt.Errorf("--every %s --for %s: are not at least 1s and above 0", f.every, f.timeToLive), "--every 30s --for 1h")
	case f.watch && p.Looks == canary.OneLook:
		return usage(errors.New("policies/canary.yaml: looks: once is right for one look only, and --watch looks often"), "write looks: any, or leave out --watch")
	}
	if err := c.Validate(); err != nil {
		return usage(fmt.Errorf("--%w", err), "--namespace shop --name web")
	}
	client, stop, err := f.open(ctx, o, notes)
	defer stop()
	if err != nil {
		return err
	}
	g := gate.Gate{Prometheus: client, Policy: p, Step: f.step}
	r, err := g.Judge(ctx, a, c, now, names)
	if f.watch && queryIsFine(err) && (err != nil || r.Verdict == canary.Hold) {
		r, err = f.await(ctx, o, notes, g, a, c, names, r, err)
	}
	if err != nil {
		return queryError(err)
	}
	return o.verdict(r)
}

// queryIsFine says whether asking again may help.
func queryIsFine(err error) bool {
	var mismatch *promql.Mismatch
	return err == nil || !errors.As(err, &mismatch) && !errors.Is(err, gate.ErrName) && upstream.KindOf(err) != upstream.BadQuery
}

// await asks again until there is a verdict, or no more time.
func (f *canaryPromFlags) await(ctx context.Context, o *options, notes io.Writer, g gate.Gate, a canary.Analysis, c gate.Canary, names func(side, field string) string, r canary.Result, err error) (canary.Result, error) {
	end := time.After(f.timeToLive)
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		if err != nil {
			fmt.Fprintf(notes, "oncall: %s  %s\n", time.Now().Format(time.TimeOnly), firstLine(err))
		} else {
			fmt.Fprintf(notes, "oncall: %s  %s\n", time.Now().Format(time.TimeOnly), render.Plain(r.Headline()))
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-end:
			return r, err
		case now := <-tick.C:
			r, err = g.Judge(ctx, a, c, now, names)
			if !queryIsFine(err) || err == nil && r.Verdict != canary.Hold {
				return r, err
			}
		}
	}
}

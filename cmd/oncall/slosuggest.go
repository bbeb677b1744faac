package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/objectives"
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
	x, err := objectives.Suggest(ctx, client, store, p, objectives.Options{Since: since, Step: time.Duration(f.windowMinutes) * time.Minute, Namespace: f.namespace, Now: time.Now()})
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

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
)

func newIncidents(o *options) *cobra.Command {
	c := &cobra.Command{Use: "incidents", Short: "Incidents, past and present."}
	var all bool
	ls := &cobra.Command{
		Use: "ls", Short: "List incidents, the latest first.", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			list, err := incidents(cmd.Context(), h)
			if err != nil {
				return err
			}
			if !all {
				list = slices.DeleteFunc(list, func(i event.Incident) bool { return i.State == event.Resolved && i.Priority == event.P4 })
			}
			if o.format() != render.Table {
				return render.Value(o.out, o.format(), list)
			}
			var rows [][]string
			for _, i := range list {
				rows = append(rows, []string{event.ShortID(i.ID), string(i.Priority), string(i.State), i.Onset.UTC().Format("01-02 15:04"), i.Owner.Team, i.Title})
			}
			table(o.out, []string{"id", "pri", "state", "since", "owner", "title"}, rows)
			return nil
		},
	}
	ls.Flags().BoolVar(&all, "all", false, "resolved digest lines too")
	show := &cobra.Command{
		Use: "show ID", Short: "Show the latest report of an incident.", Args: exactArgs(1, "the id of an incident, or its first characters"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			inc, err := find(cmd.Context(), h, args[0])
			if err != nil {
				return err
			}
			var last *event.Report
			err = h.Bus.Read(cmd.Context(), event.Reports, bus.ReadOptions{Filters: []string{event.ReportsOf(inc.ID)}}, func(m bus.Message) error {
				if r, ok := m.Data.(event.Report); ok {
					last = &r
				}
				return nil
			})
			if err != nil {
				return err
			}
			if last == nil {
				return fmt.Errorf("incident %s has no report yet", event.ShortID(inc.ID))
			}
			return render.Report(o.out, o.format(), *last, o.terminal())
		},
	}
	watch := &cobra.Command{
		Use: "watch", Short: "Print incidents as they change.", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.watch(cmd.Context(), event.Incidents, event.Incidents.Subjects, func(m bus.Message) {
				i, ok := m.Data.(event.Incident)
				if !ok {
					return
				}
				if o.format() != render.Table {
					_ = json.NewEncoder(o.out).Encode(i)
					return
				}
				fmt.Fprintf(o.out, "%s  %-9s %s  %s  %s (%s)\n", i.Updated.UTC().Format("15:04:05"), i.State, i.Priority, event.ShortID(i.ID), render.Plain(i.Title), i.Reason)
			})
		},
	}
	c.AddCommand(ls, show, watch)
	return c
}

func newAnomalies(o *options) *cobra.Command {
	c := &cobra.Command{Use: "anomalies", Short: "What the detectors find."}
	c.AddCommand(&cobra.Command{
		Use: "watch", Short: "Print anomalies as they come.", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.watch(cmd.Context(), event.Anomalies, []string{"anomalies.>"}, func(m bus.Message) {
				a, ok := m.Data.(event.Anomaly)
				if !ok {
					return
				}
				if o.format() != render.Table {
					_ = json.NewEncoder(o.out).Encode(a)
					return
				}
				state := string(a.Severity)
				if a.Ended != nil {
					state = "over"
				}
				fmt.Fprintf(o.out, "%s  %-8s %-16s %s  %s (p %.2g)\n", a.WindowEnd.UTC().Format("15:04:05"), state, a.Detector, render.Plain(a.Entity.String()), render.Plain(a.Summary), a.TailProb)
			})
		},
	})
	return c
}

// watch follows a stream from now on.
func (o *options) watch(ctx context.Context, s *event.Stream, filters []string, f func(bus.Message)) error {
	h, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	return h.Bus.Read(ctx, s, bus.ReadOptions{Filters: filters, Follow: true, New: true}, func(m bus.Message) error {
		f(m)
		return nil
	})
}

// incidents lists the present state of every incident that is known.
func incidents(ctx context.Context, h *pipeline.Host) ([]event.Incident, error) {
	latest := map[string]event.Incident{}
	err := h.Bus.Read(ctx, event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
		if i, ok := m.Data.(event.Incident); ok && i.Revision >= latest[i.ID].Revision {
			latest[i.ID] = i
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]event.Incident, 0, len(latest))
	for _, i := range latest {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b event.Incident) int {
		if c := b.Onset.Compare(a.Onset); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

// find resolves an incident by its id or the beginning of it.
func find(ctx context.Context, h *pipeline.Host, id string) (event.Incident, error) {
	all, err := incidents(ctx, h)
	if err != nil {
		return event.Incident{}, err
	}
	var hits []event.Incident
	for _, i := range all {
		if strings.HasPrefix(i.ID, strings.ToLower(id)) {
			hits = append(hits, i)
		}
	}
	switch {
	case len(hits) == 0:
		return event.Incident{}, hint(&service.UsageError{Err: fmt.Errorf("there is no incident %q", id)}, service.ExitUsage, "oncall incidents ls --all")
	case len(hits) > 1:
		return event.Incident{}, &service.UsageError{Err: fmt.Errorf("%d incidents begin with %q; write more of the id", len(hits), id)}
	}
	return hits[0], nil
}

func newWhy(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "why ID", Short: "Say why an incident was sent, held or silenced, by which rule.", Args: exactArgs(1, "the id of an incident, or its first characters"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			inc, err := find(cmd.Context(), h, args[0])
			if err != nil {
				return err
			}
			var ds []event.Decision
			err = h.Bus.Read(cmd.Context(), event.Decisions, bus.ReadOptions{Filters: []string{event.DecisionsOf(inc.ID)}}, func(m bus.Message) error {
				if d, ok := m.Data.(event.Decision); ok {
					ds = append(ds, d)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if o.format() != render.Table {
				return render.Value(o.out, o.format(), map[string]any{"incident": inc, "decisions": ds})
			}
			fmt.Fprintf(o.out, "%s %s %s\n", event.ShortID(inc.ID), inc.Priority, render.Plain(inc.Title))
			fmt.Fprintf(o.out, "score %.1f\n", inc.Score)
			for _, c := range inc.Contributions {
				fmt.Fprintf(o.out, "  %+6.1f  %s: %s\n", c.Weight, c.Scorer, render.Plain(c.Why))
			}
			for _, s := range inc.Suspects {
				fmt.Fprintf(o.out, "suspect %.1f (%s) %s\n", s.Score, s.Confidence, render.Plain(s.Why))
				for _, c := range s.Contributions {
					fmt.Fprintf(o.out, "  %+6.1f  %s: %s\n", c.Weight, c.Scorer, render.Plain(c.Why))
				}
			}
			fmt.Fprintf(o.out, "owner %s: %s\n", orDash(inc.Owner.Team), render.Plain(inc.Owner.Rule))
			var rows [][]string
			for _, d := range ds {
				rows = append(rows, []string{d.Time.UTC().Format(time.DateTime), fmt.Sprint(d.Revision), d.Route, d.Channel, string(d.Priority), string(d.Outcome), d.Rule})
			}
			table(o.out, []string{"time", "rev", "route", "channel", "pri", "outcome", "rule"}, rows)
			return nil
		},
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

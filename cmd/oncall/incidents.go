package main

import (
	"context"
	"encoding/json"
	"errors"
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
			var rows [][]string
			for _, i := range list {
				rows = append(rows, []string{event.ShortID(i.ID), string(i.Priority), string(i.State), i.Onset.UTC().Format("01-02 15:04"), orDash(i.Owner.Team), i.Title})
			}
			if len(rows) == 0 && o.format() == render.Table {
				fmt.Fprintln(cmd.ErrOrStderr(), "oncall: no incidents; with --all resolved digest lines too")
			}
			return o.list(list, []string{"id", "pri", "state", "since", "owner", "title"}, rows)
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
			last, err := latestReport(cmd.Context(), h.Bus, inc.ID)
			if err != nil {
				return err
			}
			if last == nil {
				return hint(&service.UsageError{Err: fmt.Errorf("incident %s has no report yet", event.ShortID(inc.ID))}, service.ExitUsage, "oncall why %s", event.ShortID(inc.ID))
			}
			return render.Report(o.out, o.format(), *last, o.terminal())
		},
	}
	c.AddCommand(ls, show, watchCommand(o, "Print incidents as they change.", event.Incidents, event.Incidents.Subjects, func(m bus.Message) (any, string) {
		i, ok := m.Data.(event.Incident)
		if !ok {
			return nil, ""
		}
		return i, fmt.Sprintf("%s  %-9s %s  %s  %s (%s)", i.Updated.UTC().Format("15:04:05"), i.State, i.Priority, event.ShortID(i.ID), render.Plain(i.Title), i.Reason)
	}))
	return c
}

func newAnomalies(o *options) *cobra.Command {
	c := &cobra.Command{Use: "anomalies", Short: "What the detectors find."}
	c.AddCommand(watchCommand(o, "Print anomalies as they come.", event.Anomalies, []string{"anomalies.>"}, func(m bus.Message) (any, string) {
		a, ok := m.Data.(event.Anomaly)
		if !ok {
			return nil, ""
		}
		state := string(a.Severity)
		if a.Ended != nil {
			state = "over"
		}
		return a, fmt.Sprintf("%s  %-8s %-16s %s  %s (p %.2g)", a.WindowEnd.UTC().Format("15:04:05"), state, a.Detector, render.Plain(a.Entity.String()), render.Plain(a.Summary), a.TailProb)
	}))
	return c
}

// errEnough ends a watch that was asked for a number of lines.
var errEnough = errors.New("enough")

// watchCommand follows a stream from now on. show gives a message's value and
// its line; a nil value passes it over.
func watchCommand(o *options, short string, s *event.Stream, filters []string, show func(bus.Message) (value any, line string)) *cobra.Command {
	var count int
	c := &cobra.Command{
		Use: "watch", Short: short, Args: exactArgs(0, "no arguments"),
		Long: short + `

With -o json one object a line, with -o yaml one document each, for other
programs to read.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			n := 0
			err = h.Bus.Read(cmd.Context(), s, bus.ReadOptions{Filters: filters, Follow: true, New: true}, func(m bus.Message) error {
				value, line := show(m)
				if value == nil {
					return nil
				}
				if err := o.each(value, line); err != nil {
					return err
				}
				if n++; n == count {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		},
	}
	c.Flags().IntVar(&count, "count", 0, "stop after so `many`; 0 goes on")
	return c
}

// each writes one element of a listing that has no end.
func (o *options) each(value any, line string) error {
	switch o.format() {
	case render.JSON:
		return json.NewEncoder(o.out).Encode(value)
	case render.YAML:
		if _, err := fmt.Fprintln(o.out, "---"); err != nil {
			return err
		}
		return render.Value(o.out, render.YAML, value)
	case render.MD:
		line = "- " + render.Markdown(line)
	}
	_, err := fmt.Fprintln(o.out, line)
	return err
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

// latestReport is the report of an incident with the highest revision, or nil.
// It need not be the last in the stream: revisions are drafted side by side,
// and a model's answer to an earlier one may come late.
func latestReport(ctx context.Context, b *bus.Bus, incident string) (*event.Report, error) {
	var last *event.Report
	err := b.Read(ctx, event.Reports, bus.ReadOptions{Filters: []string{event.ReportsOf(incident)}}, func(m bus.Message) error {
		if r, ok := m.Data.(event.Report); ok && (last == nil || r.Revision >= last.Revision) {
			last = &r
		}
		return nil
	})
	return last, err
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
			if o.format() == render.JSON || o.format() == render.YAML {
				return render.Value(o.out, o.format(), explained{inc, append([]event.Decision{}, ds...)})
			}
			if o.format() == render.MD {
				fmt.Fprintf(o.out, "## %s %s %s\n\n", event.ShortID(inc.ID), inc.Priority, render.Markdown(inc.Title))
				return o.list(nil, decisionHead, decisionRows(ds))
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
			if len(ds) == 0 {
				fmt.Fprintln(o.out, "no decision yet: it has no report, or the notifier has not come to it")
				return nil
			}
			return o.list(nil, decisionHead, decisionRows(ds))
		},
	}
}

// explained is what `oncall why` writes.
type explained struct {
	Incident  event.Incident   `json:"incident"`
	Decisions []event.Decision `json:"decisions"` // oldest first
}

var decisionHead = []string{"time", "rev", "route", "channel", "pri", "outcome", "rule"}

func decisionRows(ds []event.Decision) [][]string {
	var rows [][]string
	for _, d := range ds {
		rows = append(rows, []string{d.Time.UTC().Format(time.DateTime), fmt.Sprint(d.Revision), d.Route, d.Channel, string(d.Priority), string(d.Outcome), d.Rule})
	}
	return rows
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

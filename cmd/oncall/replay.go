package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func newReplay(o *options) *cobra.Command {
	var digest, quiet bool
	c := &cobra.Command{
		Use: "replay BUNDLE", Short: "Replay a recorded incident through the real pipeline, as fast as it goes.",
		Long: `Replay a recorded incident through the real pipeline, on an embedded bus of its
own. Nothing reads a clock, so that the same bundle gives the same incidents and
reports, byte for byte, on every run: --digest prints a hash of them.`,
		Args: exactArgs(1, "a bundle: a folder or a .tar.zst"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := bundle.Open(args[0])
			if err != nil {
				return &service.UsageError{Err: err}
			}
			return replay(cmd.Context(), o, b, cmd.ErrOrStderr(), digest, quiet)
		},
	}
	c.Flags().BoolVar(&digest, "digest", false, "print a hash of all that was found, and nothing else")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "no lines while the incident develops")
	return c
}

// replay runs a bundle and prints how the incident develops, then the report
// at its worst and its end.
func replay(ctx context.Context, o *options, b *bundle.Bundle, notes io.Writer, digest, quiet bool) error {
	cfg, err := o.load()
	if err != nil {
		return err
	}
	cfg.Bus.URL, cfg.Obs.Listen, cfg.Obs.LogLevel = "", "", "error"
	if b.Manifest.Cluster != "" {
		cfg.Cluster = b.Manifest.Cluster
	}
	n := notifier.DefaultConfig() // a replay tells nobody
	cfg.SetSection(notifier.Spec.Name, n)
	h, err := pipeline.Open(ctx, cfg, pipeline.Options{Log: obs.NewLogger(notes, cfg.Obs)})
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	followCtx, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		if digest || quiet || o.format() != render.Table {
			return
		}
		_ = h.Bus.Read(followCtx, event.Incidents, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
			if i, ok := m.Data.(event.Incident); ok {
				fmt.Fprintf(o.out, "%s  %-9s %s  %s (%s)\n", i.Updated.UTC().Format("15:04:05"), i.State, i.Priority, render.Plain(i.Title), i.Reason)
			}
			return nil
		})
	}()
	r := &pipeline.Replay{Host: h, Bundle: b}
	err = r.Run(ctx)
	stop()
	<-followed
	if err != nil {
		return err
	}
	if digest {
		d, err := pipeline.Digest(ctx, h.Bus)
		if err != nil {
			return err
		}
		fmt.Fprintln(o.out, d)
		return nil
	}
	return printReports(ctx, o, h.Bus)
}

// printReports prints, for each incident that is worth it, the report at its
// worst, and how it ended.
func printReports(ctx context.Context, o *options, b *bus.Bus) error {
	worst, last := map[string]event.Report{}, map[string]event.Report{}
	var order []string
	err := b.Read(ctx, event.Reports, bus.ReadOptions{}, func(m bus.Message) error {
		r, ok := m.Data.(event.Report)
		if !ok {
			return nil
		}
		old, seen := worst[r.Incident]
		if !seen {
			order = append(order, r.Incident)
		}
		if r.State == event.Open && (!seen || !old.Priority.Worse(r.Priority)) {
			worst[r.Incident] = r
		}
		if r.IncidentRevision >= last[r.Incident].IncidentRevision {
			last[r.Incident] = r
		}
		return nil
	})
	if err != nil {
		return err
	}
	if o.format() == render.JSON || o.format() == render.YAML {
		out := []event.Report{}
		for _, id := range order {
			out = append(out, worst[id])
		}
		return render.Value(o.out, o.format(), out)
	}
	shown := 0
	for _, id := range order {
		r, ok := worst[id]
		if !ok || r.Priority == event.P4 {
			continue
		}
		shown++
		fmt.Fprintln(o.out)
		if err := render.Report(o.out, o.format(), r, o.terminal()); err != nil {
			return err
		}
		if l := last[id]; l.State == event.Resolved {
			fmt.Fprintf(o.out, "\n%s\n", render.Plain(l.TLDR))
		}
	}
	if shown == 0 {
		fmt.Fprintln(o.out, "no incident worth a report")
	}
	return nil
}

func newRecord(o *options) *cobra.Command {
	var name, summary string
	c := &cobra.Command{
		Use: "record DIR", Short: "Write what the bus of a running pipeline holds into a bundle, for replays and postmortems.",
		Example: "  oncall record --nats nats://127.0.0.1:4222 incident-9kd\n  oncall record incident-9kd.tar.zst",
		Args:    exactArgs(1, "the folder or .tar.zst to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			dir := args[0]
			packed := strings.HasSuffix(dir, ".tar.zst")
			if packed {
				if dir, err = os.MkdirTemp("", "oncall-bundle-"); err != nil {
					return err
				}
				defer func() { _ = os.RemoveAll(dir) }()
			} else if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
				return &service.UsageError{Err: fmt.Errorf("%s is not empty", dir)}
			}
			if name == "" {
				name = strings.TrimSuffix(filepath.Base(args[0]), ".tar.zst")
			}
			m, err := pipeline.Record(cmd.Context(), h.Bus, dir, bundle.Manifest{Name: name, Summary: summary, Cluster: h.Config.Cluster, MadeBy: "oncall " + service.Version()})
			if err != nil {
				return err
			}
			if packed {
				f, err := os.Create(args[0])
				if err != nil {
					return err
				}
				defer func() { _ = f.Close() }()
				if err := bundle.Pack(f, dir); err != nil {
					return err
				}
			}
			return json.NewEncoder(o.out).Encode(m)
		},
	}
	c.Flags().StringVar(&name, "name", "", "`name` of the bundle; default: from the path")
	c.Flags().StringVar(&summary, "summary", "", "one `line` about it")
	return c
}

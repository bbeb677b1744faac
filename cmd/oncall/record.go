package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// recordFlags are the flags of `oncall record`.
type recordFlags struct {
	up            upFlags
	since, length time.Duration
	incident      string
	name, summary string
}

func newRecord(o *options) *cobra.Command {
	f := &recordFlags{}
	c := &cobra.Command{
		Use: "record BUNDLE", Short: "Write an incident to disk, for replays and postmortems.",
		Long: `Write an incident to disk, for replays and postmortems: what a running pipeline
holds, or, with --for or --since, what live sources say now or have said.

A bundle is a folder, or a .tar.zst when the name ends so: metrics.om
(OpenMetrics), logs.jsonl (as logcli writes it), events.jsonl and objects.jsonl
(Kubernetes JSON), and streams/ and evidence/ for an exact replay. Everything in
it has been redacted before it was written.`,
		Example: `  oncall record --nats nats://127.0.0.1:4222 --incident 9kd incident-9kd.tar.zst
  oncall record --prometheus http://localhost:9090 --loki http://localhost:3100 --for 10m now
  oncall record --prometheus http://localhost:9090 --since 1h last-hour.tar.zst`,
		Args: exactArgs(1, "the folder or .tar.zst to write"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), o, args[0], cmd.ErrOrStderr())
		},
	}
	f.up.sourceFlags.register(c, sourceKinds...)
	f.up.clusterFlags.register(c)
	c.Flags().StringVar(&f.up.cluster, "cluster", "", "`name` of the cluster; default: the context's")
	c.Flags().DurationVar(&f.up.step, "step", 0, "time between two readings of Prometheus; default 30s")
	c.Flags().DurationVar(&f.length, "for", 0, "record live sources for this `long` from now")
	c.Flags().DurationVar(&f.since, "since", 0, "read this `much` history of Prometheus and Loki first")
	c.Flags().StringVar(&f.incident, "incident", "", "only the window of one incident, by its `id` or first characters")
	c.Flags().StringVar(&f.name, "name", "", "`name` of the bundle; default: from the path")
	c.Flags().StringVar(&f.summary, "summary", "", "one `line` about it")
	return c
}

func (f *recordFlags) run(ctx context.Context, o *options, target string, notes io.Writer) (err error) {
	live := f.length != 0 || f.since != 0
	switch {
	case f.length < 0 || f.since < 0 || f.since > 24*time.Hour:
		return &service.UsageError{Err: errors.New("--for and --since are not negative, and --since is at most 24h")}
	case !live && (f.up.prometheus != "" || f.up.loki != "" || f.up.kubeconfig != "" || f.up.context != "" || len(f.up.via) > 0):
		return hint(&service.UsageError{Err: errors.New("live sources are recorded for a time")}, service.ExitUsage, "add --for 10m, or --since 1h for what they hold already")
	case live && f.incident != "":
		return hint(&service.UsageError{Err: errors.New("--incident is of a pipeline that runs")}, service.ExitUsage, "leave out --for and --since, and name its bus with --nats")
	}
	if f.name == "" {
		f.name = strings.TrimSuffix(filepath.Base(target), ".tar.zst")
	}
	m := bundle.Manifest{Name: f.name, Summary: f.summary, MadeBy: "oncall " + service.Version()}
	err = writeBundle(target, func(dir string) error {
		if live {
			m, err = f.live(ctx, o, dir, m, notes)
		} else {
			m, err = f.fromBus(ctx, o, dir, m)
		}
		return err
	})
	if err != nil {
		return err
	}
	if o.format() != render.Table {
		return render.Value(o.out, o.format(), m)
	}
	total := 0
	for _, n := range m.Messages {
		total += n
	}
	fmt.Fprintf(o.out, "%s: %s, %s to %s, %d messages\n", target, m.Name, m.Start.Format(time.DateTime), m.End.Format(time.TimeOnly), total)
	fmt.Fprintln(o.out, fidelity(m))
	from := ""
	if m.ExactFrom == string(pipeline.FromAnomalies) {
		from = " --from " + m.ExactFrom
	}
	fmt.Fprintf(o.out, "replay it: oncall replay%s %s\n", from, target)
	return nil
}

// fidelity says what a replay of the recording can equal.
func fidelity(m bundle.Manifest) string {
	switch m.State {
	case bundle.Complete:
		return "complete: it begins where the run began; a replay equals the run"
	case bundle.Warm:
		return fmt.Sprintf("warm: it begins with the checkpoints of %s; a replay from the %s equals the run", m.Since.Format(time.TimeOnly), m.ExactFrom)
	}
	return "cold: it begins in the middle of a run, and no checkpoint of before is kept; replays equal each other, not the run"
}

// writeBundle has f write the folder of a bundle, and packs it when the name
// ends in .tar.zst.
func writeBundle(target string, f func(dir string) error) (err error) {
	if !strings.HasSuffix(target, ".tar.zst") {
		if entries, err := os.ReadDir(target); err == nil && len(entries) > 0 {
			return &service.UsageError{Err: fmt.Errorf("%s is not empty", target)}
		}
		return f(target)
	}
	dir, err := os.MkdirTemp("", "oncall-bundle-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := f(dir); err != nil {
		return err
	}
	out, err := os.Create(target)
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return errors.Join(bundle.Pack(out, dir), out.Close())
}

func (f *recordFlags) fromBus(ctx context.Context, o *options, dir string, m bundle.Manifest) (bundle.Manifest, error) {
	h, err := o.open(ctx)
	if err != nil {
		return m, err
	}
	defer func() { _ = h.Close() }()
	m.Cluster = h.Config.Cluster
	r := pipeline.Recording{Manifest: m}
	if f.incident != "" {
		inc, err := find(ctx, h, f.incident)
		if err != nil {
			return m, err
		}
		r.Incident = inc.ID
	}
	return pipeline.Record(ctx, h.Bus, dir, r)
}

// live runs the pipeline on live sources and a bus of its own.
func (f *recordFlags) live(ctx context.Context, o *options, dir string, m bundle.Manifest, notes io.Writer) (bundle.Manifest, error) {
	cfg, err := o.load()
	if err != nil {
		return m, err
	}
	cfg.Bus.URL, cfg.Obs.Listen = "", ""
	cfg.SetSection(notifier.Spec.Name, notifier.DefaultConfig()) // a recording tells nobody
	say := func(format string, args ...any) { fmt.Fprintf(notes, "oncall: "+format+"\n", args...) }
	stop, err := f.up.sources(ctx, o, cfg, say)
	defer stop()
	if err != nil {
		return m, err
	}
	h, err := pipeline.Open(ctx, cfg, pipeline.Options{Log: obs.NewLogger(notes, cfg.Obs), Audit: o.audits.beside})
	if err != nil {
		return m, err
	}
	defer func() { _ = h.Close() }()
	say("recording until %s; nothing is written but redacted telemetry", time.Now().Add(f.length).Format(time.TimeOnly))
	followCtx, end := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		_ = h.Bus.Read(followCtx, event.Incidents, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
			if i, ok := m.Data.(event.Incident); ok {
				say("%s", develops(i))
			}
			return nil
		})
	}()
	defer func() { end(); <-followed }()
	m.Cluster = cfg.Cluster
	return (&pipeline.Live{Host: h, Dir: dir, Since: f.since, For: f.length, Manifest: m}).Run(ctx)
}

// develops is one line about a revision of an incident.
func develops(i event.Incident) string {
	return fmt.Sprintf("%s  %-9s %s  %s (%s)", i.Updated.UTC().Format(time.TimeOnly), i.State, i.Priority, render.Plain(i.Title), i.Reason)
}

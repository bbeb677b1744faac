package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// replayFlags are the flags of `oncall replay`.
type replayFlags struct {
	from          []string
	to            string
	speed         float64
	workers       int
	digest, quiet bool
	record, plot  string
}

func newReplay(o *options) *cobra.Command {
	f := &replayFlags{}
	c := &cobra.Command{
		Use: "replay BUNDLE", Short: "Replay a recorded incident through the real pipeline, as fast as it goes.",
		Long: `Replay a recorded incident through the real pipeline, on an embedded bus of its
own. Nothing reads a clock, so that the same bundle gives the same incidents and
reports, byte for byte, on every run: --digest prints a hash of them.

--from says where to begin: sources reads metrics.om, logs.jsonl, events.jsonl
and objects.jsonl through the collector's own code; telemetry feeds the recorded
streams to the detectors; anomalies feeds what the detectors had found to the
correlator. When the bundle holds what the recorded run had found, the replay is
compared with it; a difference is exit code 1.

With a time, --from shows what was found from then on, and --to stops there. What
lies before --from is folded all the same, as fast as it goes, so that what is
shown is what the whole replay shows of that time. A time is 2026-11-25T02:10:00Z,
02:10 (UTC), or +10m from the recording's beginning. --from can be given twice.`,
		Example: "  oncall replay examples/incidents/oom-after-rollout.tar.zst\n  oncall replay --from anomalies --digest incident-9kd\n  oncall replay --from +12m --to +20m --speed 10 incident-9kd\n  oncall replay --plot timeline.svg incident-9kd",
		Args:    exactArgs(1, "a bundle: a folder or a .tar.zst"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.workers < 1 || f.workers > event.Partitions {
				return &service.UsageError{Err: fmt.Errorf("--workers %d: is not between 1 and %d", f.workers, event.Partitions)}
			}
			if f.speed < 0 {
				return &service.UsageError{Err: fmt.Errorf("--speed %g: is negative; 1 is the speed it had, 0 as fast as it goes", f.speed)}
			}
			if f.plot != "" {
				if err := plottable(f.plot); err != nil {
					return err
				}
			}
			b, err := bundle.Open(args[0])
			if err != nil {
				return &service.UsageError{Err: err}
			}
			return replay(cmd.Context(), o, b, f, cmd.ErrOrStderr())
		},
	}
	c.Flags().StringArrayVar(&f.from, "from", nil, "sources, telemetry or anomalies, or the event `time` from which on is shown; default: telemetry if it is recorded, else sources, and all of it")
	c.Flags().StringVar(&f.to, "to", "", "event `time` at which to stop; default: the recording's end")
	c.Flags().Float64Var(&f.speed, "speed", 0, "multiple of the speed it had; 0: as fast as it goes")
	c.Flags().IntVar(&f.workers, "workers", 1, "detectors that share the work; the result is the same")
	c.Flags().BoolVar(&f.digest, "digest", false, "print a hash of all that was found, and nothing else")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "no lines while the incident develops")
	c.Flags().StringVar(&f.record, "record", "", "write what this replay found into a `bundle` of its own: a folder or a .tar.zst")
	c.Flags().StringVar(&f.plot, "plot", "", "draw the gravest incident to `file`.svg or .png: what was found when, what had changed")
	completeParts(c)
	return c
}

// openReplay opens a host for a replay of a bundle: a bus of its own, and
// nobody to tell.
func openReplay(ctx context.Context, o *options, b *bundle.Bundle, notes io.Writer) (*pipeline.Host, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, err
	}
	cfg.Bus.URL, cfg.Obs.Listen, cfg.Obs.LogLevel = "", "", "error"
	if b.Manifest.Cluster != "" {
		cfg.Cluster = b.Manifest.Cluster
	}
	cfg.SetSection(notifier.Spec.Name, notifier.DefaultConfig())
	return pipeline.Open(ctx, cfg, pipeline.Options{Log: obs.NewLogger(notes, cfg.Obs)})
}

// replay runs a bundle and prints how the incident develops, then the report
// at its worst and its end.
func replay(ctx context.Context, o *options, b *bundle.Bundle, f *replayFlags, notes io.Writer) (err error) {
	from, span, err := f.part(b.Manifest)
	if err != nil {
		return err
	}
	h, err := openReplay(ctx, o, b, notes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	r := &pipeline.Replay{Host: h, Bundle: b, From: from, Span: span, Workers: f.workers, Speed: f.speed}
	stop := func() {}
	if !f.digest && !f.quiet && o.format() == render.Table {
		stop = follow(ctx, h.Bus, func(m bus.Message) {
			if i, ok := m.Data.(event.Incident); ok && span.Holds(m.Time) {
				fmt.Fprintln(o.out, develops(i))
			}
		}, event.Incidents)
	}
	if f.speed > 0 {
		paced := span.Within(b.Manifest.Start, b.Manifest.End)
		fmt.Fprintf(notes, "oncall: replaying %s of %s at %g times its speed; Ctrl-C ends it\n", paced.To.Sub(paced.From).Round(time.Second), b.Manifest.Name, f.speed)
	}
	err = r.Run(ctx)
	stop()
	if errors.Is(err, bundle.ErrMalformed) {
		return &service.UsageError{Err: err}
	}
	if err != nil {
		return err
	}
	if f.record != "" {
		if err := writeBundle(f.record, func(dir string) error { return r.Record(ctx, dir) }); err != nil {
			return err
		}
	}
	if f.plot != "" {
		if err := plotReplay(ctx, h.Bus, f.plot, span.Holds); err != nil {
			return err
		}
	}
	c, err := r.Compare(ctx)
	if err != nil {
		return err
	}
	if f.digest {
		d, err := r.Digest(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintln(o.out, d)
	} else if err := printReports(ctx, o, h.Bus, span); err != nil {
		return err
	}
	if c.Difference != "" {
		return hint(errors.New(c.String()), service.ExitGate, "the recording was made by %s, this is oncall %s", b.Manifest.MadeBy, service.Version())
	}
	fmt.Fprintf(notes, "oncall: %s: %s\n", c.Fidelity.State, c)
	return nil
}

// follow calls f with the messages of streams from their beginning until the
// returned function is called, which waits for f.
func follow(ctx context.Context, b *bus.Bus, f func(bus.Message), streams ...*event.Stream) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	for _, s := range streams {
		go func() {
			defer func() { done <- struct{}{} }()
			// An end before its time shows less and changes nothing.
			_ = b.Read(ctx, s, bus.ReadOptions{Follow: true}, func(m bus.Message) error { f(m); return nil })
		}()
	}
	return func() {
		cancel()
		for range streams {
			<-done
		}
	}
}

// outcome is what became of one incident in a replay.
type outcome struct {
	worst event.Report // while it was open: the first of the highest score
	last  event.Report
}

// outcomes are the incidents on a bus in the order they were reported first, as
// far as they were reported in a span.
func outcomes(ctx context.Context, b *bus.Bus, span pipeline.Span) ([]outcome, error) {
	var out []outcome
	at := map[string]int{}
	err := b.Read(ctx, event.Reports, bus.ReadOptions{}, func(m bus.Message) error {
		r, ok := m.Data.(event.Report)
		if !ok || !span.Holds(m.Time) {
			return nil
		}
		i, seen := at[r.Incident]
		if !seen {
			i = len(out)
			at[r.Incident] = i
			out = append(out, outcome{})
		}
		w := &out[i].worst
		if r.State == event.Open && (w.Incident == "" || graver(r, *w)) {
			*w = r
		}
		if r.Revision >= out[i].last.Revision {
			out[i].last = r
		}
		return nil
	})
	return out, err
}

// graver says whether a is more urgent than b, or scores higher, or says more of
// the same moment, as a model's revision does. Of equals the first one counts:
// the last may be of a time when all was over.
func graver(a, b event.Report) bool {
	if a.Priority != b.Priority {
		return a.Priority.Worse(b.Priority)
	}
	if a.Score != b.Score {
		return a.Score > b.Score
	}
	return a.IncidentRevision == b.IncidentRevision && a.Revision > b.Revision
}

// printReports prints, for each incident that is worth it, the report at its
// worst, and how it ended.
func printReports(ctx context.Context, o *options, b *bus.Bus, span pipeline.Span) error {
	all, err := outcomes(ctx, b, span)
	if err != nil {
		return err
	}
	if o.format() == render.JSON || o.format() == render.YAML {
		out := []event.Report{}
		for _, i := range all {
			out = append(out, i.worst)
		}
		return render.Value(o.out, o.format(), out)
	}
	shown := 0
	for _, i := range all {
		if i.worst.Incident == "" || i.worst.Priority == event.P4 {
			continue
		}
		shown++
		fmt.Fprintln(o.out)
		if err := render.Report(o.out, o.format(), i.worst, o.terminal()); err != nil {
			return err
		}
		if i.last.State == event.Resolved {
			fmt.Fprintf(o.out, "\n%s\n", render.Plain(i.last.TLDR))
		}
	}
	if shown == 0 {
		fmt.Fprintln(o.out, "no incident worth a report")
	}
	return nil
}

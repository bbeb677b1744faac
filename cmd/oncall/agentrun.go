package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func newAgentRun(o *options) *cobra.Command {
	var f upFlags
	var since, timeout time.Duration
	var once bool
	c := &cobra.Command{
		Use: "agent-run --once", Short: "Read the recent past once, through the whole pipeline, and report what is wrong now.",
		Long: `Read the recent past once, through the whole pipeline, and report what is wrong now.

It reads the look-back window from the same sources as oncall up, on a temporary
bus of its own, tells nobody but you, leaves nothing behind, and ends. Exit code
0 when it could look, whatever it found; 3 when a source could not be read.`,
		Example: "  oncall agent-run --once\n  oncall agent-run --once --since 2h --prometheus http://localhost:9090 -o json",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !once:
				return hint(&service.UsageError{Err: errors.New("agent-run goes over the past once; what watches on is oncall up")}, service.ExitUsage, "oncall agent-run --once")
			case since < 5*time.Minute || since > 24*time.Hour:
				return hint(&service.UsageError{Err: fmt.Errorf("--since %s: is not between 5m and 24h", since)}, service.ExitUsage, "--since 30m")
			}
			return agentRun(cmd.Context(), o, &f, since, timeout, cmd.ErrOrStderr())
		},
	}
	f.register(c)
	c.Flags().BoolVar(&once, "once", false, "go over the look-back window once")
	c.Flags().DurationVar(&since, "since", 30*time.Minute, "how far `back` to read")
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to take at most; what was found by then is printed")
	return c
}

// settled is how long ago telemetry is taken to have arrived: a step, its delay
// and a moment.
const settled = 45 * time.Second

// pass is one reading of the recent past on a bus of its own.
type pass struct {
	o     *options
	host  *pipeline.Host
	since time.Time
	until time.Time
	close func()
}

// newPass finds the sources, asks each whether it answers, and opens the bus.
func newPass(ctx context.Context, o *options, f *upFlags, since time.Duration, notes io.Writer) (*pass, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, err
	}
	// A bus of its own: a pass disturbs no pipeline that runs.
	cfg.Bus.URL, cfg.Obs.Listen, cfg.Obs.LogLevel = "", "", "error"
	if f.verbose {
		cfg.Obs.LogLevel = "info"
	}
	say := func(format string, args ...any) { fmt.Fprintf(notes, "oncall: "+format+"\n", args...) }
	stop, err := f.sources(ctx, o, cfg, say)
	if err != nil {
		stop()
		return nil, err
	}
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	var dead []error
	c.Each(func(kind string, src any) {
		if err := reach(ctx, o, kind, src); err != nil {
			dead = append(dead, fmt.Errorf("%s: %w", sourceName(kind, src), err))
		}
	})
	if err := errors.Join(dead...); err != nil {
		stop()
		return nil, hint(err, service.ExitUnreachable, "oncall doctor says what to do about it")
	}
	cfg.SetSection(notifier.Spec.Name, notifier.DefaultConfig()) // a pass tells nobody
	h, err := pipeline.Open(ctx, cfg, pipeline.Options{Log: obs.NewLogger(notes, cfg.Obs), Audit: o.audits.beside})
	if err != nil {
		stop()
		return nil, err
	}
	now := time.Now()
	return &pass{o: o, host: h, since: now.Add(-since), until: now.Add(-settled), close: func() { _ = h.Close(); stop() }}, nil
}

// run reads everything, and shows on a terminal how far it is.
func (p *pass) run(ctx context.Context, timeout time.Duration, notes io.Writer) error {
	done := p.progress(ctx, notes)
	l := pipeline.Live{Host: p.host, Since: time.Since(p.since), For: -settled, Late: timeout}
	reading, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := l.Read(reading)
	done()
	if reading.Err() != nil && ctx.Err() == nil {
		return hint(fmt.Errorf("not everything was read in %s", timeout), service.ExitUnreachable, "a longer --timeout, or a shorter --since")
	}
	return err
}

// progress draws how far the slowest source has been read, if notes is a
// terminal. The function it returns ends that.
func (p *pass) progress(ctx context.Context, notes io.Writer) func() {
	f, ok := notes.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	bars := mpb.NewWithContext(ctx, mpb.WithOutput(f), mpb.WithWidth(40))
	total := int64(p.until.Sub(p.since).Seconds())
	var ended []chan struct{}
	for _, s := range []struct {
		name   string
		stream *event.Stream
		filter string
	}{
		{"metrics", event.Metrics, "telemetry.metrics.00.tick"}, {"logs", event.Logs, "telemetry.logs.00.tick"}, {"events", event.KubeEvents, "telemetry.events.00.tick"},
	} {
		end := make(chan struct{})
		ended = append(ended, end)
		go func() {
			defer close(end)
			var bar *mpb.Bar // made with the first tick: a stream without a source has none
			_ = p.host.Bus.Read(ctx, s.stream, bus.ReadOptions{Filters: []string{s.filter}, Follow: true}, func(m bus.Message) error {
				t, ok := m.Data.(event.Tick)
				if !ok {
					return nil
				}
				if bar == nil {
					bar = bars.AddBar(total, mpb.PrependDecorators(decor.Name(s.name, decor.WCSyncSpaceR)), mpb.AppendDecorators(decor.Percentage()), mpb.BarRemoveOnComplete())
				}
				bar.SetCurrent(int64(t.Watermark.Sub(p.since).Seconds()))
				return nil
			})
		}()
	}
	return func() {
		cancel()
		for _, end := range ended {
			<-end
		}
		bars.Wait()
	}
}

// passed is what a pass has read and found.
type passed struct {
	Since   time.Time         `json:"since"`
	Until   time.Time         `json:"until"`
	Series  int               `json:"series"`
	Lines   int               `json:"log_lines"`
	Events  int               `json:"events"`
	Blind   []event.Blindness `json:"blind,omitempty"`
	Reports []event.Report    `json:"reports"`          // of what is wrong now, worst first
	Digest  []event.Incident  `json:"digest,omitempty"` // odd now, and no symptom
	Over    []event.Incident  `json:"over,omitempty"`   // came and went meanwhile
}

func agentRun(ctx context.Context, o *options, f *upFlags, since, timeout time.Duration, notes io.Writer) error {
	p, err := newPass(ctx, o, f, since, notes)
	if err != nil {
		return err
	}
	defer p.close()
	fmt.Fprintf(notes, "oncall: reading the last %s\n", span(since))
	late := p.run(ctx, timeout, notes)
	if err := ctx.Err(); err != nil {
		return err
	}
	got, err := p.outcome(ctx)
	if err != nil {
		return errors.Join(err, late)
	}
	if late == nil && got.Series+got.Lines+got.Events == 0 {
		// Having seen nothing is not the same as nothing being wrong.
		return hint(fmt.Errorf("nothing was read in the last %s: the sources answer, and hold no signal that is known here", span(since)), service.ExitUnreachable, "oncall doctor --coverage shows who is seen by what; policies/queries says which metrics are looked for")
	}
	if err := got.print(o, since); err != nil {
		return err
	}
	if late == nil && len(got.Blind) > 0 {
		b := got.Blind[0]
		return hint(fmt.Errorf("blind: %s since %s: %s", b.Source, b.Since.UTC().Format("15:04"), b.Reason), service.ExitUnreachable, "oncall doctor")
	}
	return late
}

// outcome reads from the bus what was read and found.
func (p *pass) outcome(ctx context.Context) (*passed, error) {
	out := &passed{Since: p.since.UTC().Truncate(time.Second), Until: p.until.UTC().Truncate(time.Second), Reports: []event.Report{}}
	series := map[uint64]bool{}
	blind := map[string][]event.Blindness{}
	for _, s := range []*event.Stream{event.Metrics, event.Logs, event.KubeEvents} {
		err := p.host.Bus.Read(ctx, s, bus.ReadOptions{}, func(m bus.Message) error {
			switch v := m.Data.(type) {
			case event.MetricBatch:
				for _, s := range v.Series {
					series[s.ID] = true
				}
			case event.LogBatch:
				for _, s := range v.Streams {
					out.Lines += len(s.Lines)
				}
			case event.KubeEvent:
				out.Events++
			case event.Tick:
				blind[s.Name] = v.Blind // the last one counts
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	out.Series = len(series)
	for _, name := range sortedNames(blind) {
		out.Blind = append(out.Blind, blind[name]...)
	}
	reports := map[string]event.Report{}
	err := p.host.Bus.Read(ctx, event.Reports, bus.ReadOptions{}, func(m bus.Message) error {
		if r, ok := m.Data.(event.Report); ok && r.Revision >= reports[r.Incident].Revision {
			reports[r.Incident] = r
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, err := incidents(ctx, p.host)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		r, drafted := reports[i.ID]
		switch {
		case i.State != event.Open:
			out.Over = append(out.Over, i)
		case i.Priority == event.P4 || !drafted:
			out.Digest = append(out.Digest, i)
		default:
			out.Reports = append(out.Reports, r)
		}
	}
	slices.SortStableFunc(out.Reports, func(a, b event.Report) int { return strings.Compare(string(a.Priority), string(b.Priority)) })
	return out, nil
}

func (p *passed) print(o *options, since time.Duration) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), p)
	}
	show := render.Plain
	if o.format() == render.MD {
		show = render.Markdown
	}
	read := fmt.Sprintf("%d series, %d log lines, %d events read", p.Series, p.Lines, p.Events)
	for _, r := range p.Reports {
		if err := render.Report(o.out, o.format(), r, o.terminal()); err != nil {
			return err
		}
		fmt.Fprintln(o.out)
	}
	if len(p.Reports) == 0 && len(p.Digest) == 0 {
		fmt.Fprintf(o.out, "nothing abnormal in the last %s: %s\n", span(since), read)
	} else {
		lines := func(title string, list []event.Incident) {
			if len(list) == 0 {
				return
			}
			fmt.Fprintf(o.out, "%s\n", title)
			for _, i := range list[:min(len(list), 10)] {
				fmt.Fprintf(o.out, "- %s since %s: %s\n", show(i.Entity.String()), i.Onset.UTC().Format("15:04"), show(i.Title))
			}
			if n := len(list) - 10; n > 0 {
				fmt.Fprintf(o.out, "- and %d more: -o json\n", n)
			}
		}
		lines("Odd, and nobody feels it:", p.Digest)
		fmt.Fprintf(o.out, "%d to look at now in the last %s; %s\n", len(p.Reports), span(since), read)
	}
	if n := len(p.Over); n > 0 {
		fmt.Fprintf(o.out, "%d came and went meanwhile\n", n)
	}
	return nil
}

// span is a duration as people write it.
func span(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

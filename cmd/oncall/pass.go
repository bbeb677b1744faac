package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/notifier"
)

// settled is how long ago telemetry is taken to have arrived: a step, its delay
// and a moment.
const settled = 45 * time.Second

// window is what a pass reads.
type window struct {
	since     time.Duration // back from now
	history   time.Duration // before that, to learn what is normal
	namespace string        // the only one; "" for all
	// coarse reads in steps of a minute, which costs a seventh of the time.
	coarse bool
}

// learntLogs is how much of the history is read of logs, which are many: as much
// as the detectors of log lines need to be warm, twice.
const learntLogs = time.Hour

// pass is one reading of the recent past on a bus of its own.
type pass struct {
	o      *options
	host   *pipeline.Host
	window window
	since  time.Time
	until  time.Time
	dead   []check.Unchecked // sources that do not answer
	absent []check.Unchecked // sources that there are none of
	// objects is a cluster whose objects may be read and whose events may not, so
	// that the past of it cannot be.
	objects *kubernetes.Config
	close   func()
}

// newPass finds the sources, asks each whether it answers, and opens the bus.
// It goes on with those that do.
func newPass(ctx context.Context, o *options, f *upFlags, w window, notes io.Writer) (*pass, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, err
	}
	// A bus of its own: a pass disturbs no pipeline that runs.
	cfg.Bus.URL, cfg.Obs.Listen, cfg.Obs.LogLevel = "", "", "error"
	if f.verbose {
		cfg.Obs.LogLevel = "info"
	}
	p := &pass{o: o, window: w}
	stop, err := p.sources(ctx, f, cfg, notes)
	if err != nil {
		stop()
		return nil, err
	}
	cfg.SetSection(notifier.Spec.Name, notifier.DefaultConfig()) // a pass tells nobody
	p.host, err = pipeline.Open(ctx, cfg, pipeline.Options{Log: obs.NewLogger(notes, cfg.Obs), Audit: o.audits.beside})
	if err != nil {
		stop()
		return nil, err
	}
	now := time.Now()
	p.since, p.until, p.close = now.Add(-w.since), now.Add(-settled), func() { _ = p.host.Close(); stop() }
	return p, nil
}

// sources chooses the sources of a pass, and leaves out those that do not answer.
func (p *pass) sources(ctx context.Context, f *upFlags, cfg *service.Config, notes io.Writer) (stop func(), err error) {
	say := func(format string, args ...any) { fmt.Fprintf(notes, "oncall: "+format+"\n", args...) }
	stop, err = f.sources(ctx, p.o, cfg, say)
	if err != nil {
		return stop, err
	}
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	var errs []error
	have := map[string]bool{}
	c.Keep(func(kind string, src any) bool {
		err := reach(ctx, p.o, kind, src)
		if err != nil {
			name := sourceName(kind, src)
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			p.dead = append(p.dead, check.NotRead(name, err))
		}
		have[kind] = true
		if k, ok := src.(kubernetes.Config); ok && err == nil {
			if denied := p.eventsDenied(ctx, k); denied != nil {
				p.objects = &k
				p.absent = append(p.absent, check.Unchecked{What: "events and rollouts of the cluster", Why: kube.Reason(denied)})
				return false
			}
		}
		return err == nil
	})
	if c.Sources() == 0 && len(errs) > 0 {
		return stop, hint(errors.Join(errs...), service.ExitUnreachable, "oncall doctor says what to do about it")
	}
	for _, k := range []struct{ kind, what, name string }{{"kubernetes", "the cluster's objects and events", "--kubeconfig FILE"}, {"prometheus", "metrics", "--prometheus URL"}, {"loki", "logs", "--loki URL"}} {
		if !have[k.kind] {
			p.absent = append(p.absent, check.Unchecked{What: k.what, Why: "none is named, configured or found: " + k.name})
		}
	}
	c.Edit(func(_ string, cfg any) any { return p.window.narrow(cfg, f.step > 0) })
	cfg.SetSection(collector.Spec.Name, c)
	return stop, nil
}

// eventsDenied is why the events of a cluster may not be read; nil when they may.
// Without that right the past of the cluster is never told, and its objects are.
func (p *pass) eventsDenied(ctx context.Context, k kubernetes.Config) error {
	client, err := p.o.clusterClient(k.Cluster)
	if err != nil {
		return nil //nolint:nilerr // it was made a moment ago
	}
	path := "/api/v1/events"
	if p.window.namespace != "" {
		path = "/api/v1/namespaces/" + p.window.namespace + "/events"
	} else if len(k.Namespaces) > 0 {
		path = "/api/v1/namespaces/" + k.Namespaces[0] + "/events"
	}
	var page struct{}
	if err := client.Get(ctx, path, url.Values{"limit": {"1"}}, &page); kube.Forbidden(err) {
		return err
	}
	return nil
}

// narrow is the configuration of a source for the window alone.
func (w window) narrow(cfg any, stepped bool) any {
	matcher := func(before string) string {
		if w.namespace == "" {
			return before
		}
		return strings.TrimPrefix(fmt.Sprintf("%s, namespace=%q", before, w.namespace), ", ")
	}
	switch s := cfg.(type) {
	case prometheus.Config:
		s.ExtraMatchers = matcher(s.ExtraMatchers)
		if w.coarse {
			// A person waits: a few dozen requests a second, and then no more.
			s.MaxQPS, s.Reprobe = max(s.MaxQPS, 50), 30*time.Minute
			if !stepped {
				s.Step = max(s.Step, time.Minute)
			}
		}
		return s
	case loki.Config:
		s.ExtraMatchers = matcher(s.ExtraMatchers)
		if w.coarse {
			s.MaxQPS, s.Window, s.Tail.Off = max(s.MaxQPS, 50), max(s.Window, time.Minute), true
		}
		return s
	case kubernetes.Config:
		if w.namespace != "" {
			s.Namespaces, s.ExcludeNamespaces = []string{w.namespace}, nil
		}
		if w.history > 0 {
			s.History = min(w.since+w.history, 24*time.Hour)
		}
		return s
	}
	return cfg
}

// run reads everything, and shows on a terminal how far it is.
func (p *pass) run(ctx context.Context, timeout time.Duration, notes io.Writer) error {
	c := p.host.Config.Section(collector.Spec.Name).(collector.Config)
	if c.Sources() == 0 {
		return nil // there are only objects, which have no past
	}
	done := p.progress(ctx, notes)
	since := time.Since(p.since)
	l := pipeline.Live{Host: p.host, Since: since, History: p.window.history, Logs: since + min(p.window.history, learntLogs), For: -settled, Late: timeout}
	reading, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := l.Read(reading)
	done()
	if reading.Err() != nil && ctx.Err() == nil {
		return hint(fmt.Errorf("not everything was read in %s", timeout), service.ExitUnreachable, "a longer --timeout, or less to read: --namespace, a shorter --since or --history")
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
	from := p.since.Add(-p.window.history)
	total := int64(p.until.Sub(from).Seconds())
	var ended []chan struct{}
	for _, s := range streamFilters {
		end := make(chan struct{})
		ended = append(ended, end)
		go func() {
			defer close(end)
			var bar *mpb.Bar // made with the first tick: a stream without a source has none
			_ = p.host.Bus.Read(ctx, s.stream, bus.ReadOptions{Filters: []string{s.tick}, Follow: true}, func(m bus.Message) error {
				t, ok := m.Data.(event.Tick)
				if !ok {
					return nil
				}
				if bar == nil {
					bar = bars.AddBar(total, mpb.PrependDecorators(decor.Name(s.name, decor.WCSyncSpaceR)), mpb.AppendDecorators(decor.Percentage()), mpb.BarRemoveOnComplete())
				}
				bar.SetCurrent(int64(t.Watermark.Sub(from).Seconds()))
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

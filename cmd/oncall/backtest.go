package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/oncall-copilot/oncall/internal/backtest"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectors"
)

// backtestFlags are the flags of `oncall backtest`.
type backtestFlags struct {
	clusterFlags
	sourceFlags
	source, cluster, namespace string
	since, learn               string
	step                       time.Duration
	html, resume               string
}

func newBacktest(o *options) *cobra.Command {
	f := &backtestFlags{}
	c := &cobra.Command{
		Use: "backtest", Short: "Show on your own history what would have paged, beside what did.",
		Long: `Show on your own history what would have paged, beside what did.

It reads Prometheus, and Loki where there is one, with the same queries as oncall
up, puts what they hold through the same detectors, correlator, policies and page
budget, and lays the pages that would have come of it beside your own: the firings
of ALERTS whose severity pages (detector.alert.page, by default page and critical).
Each of yours that ours would not have paged for has its reason. Past rollouts come
from kube-state-metrics, past Kubernetes events from an exporter's lines in Loki.
History that is missing is named.

It asks at most max_query_qps questions a second, in ranges, and keeps after every
six hours of history how far it is: with --resume DIR the same command goes on from
there. It writes to nothing else, and tells nobody but you.

Exit code 0 when the history was judged, whatever it found; 2 for flags that mean
nothing, or a state of another backtest; 3 when a source could not be read.`,
		Example: "  oncall backtest --since 14d\n  oncall backtest --since 30d --html backtest.html --resume backtest.state\n  oncall backtest --since 7d --prometheus http://localhost:9090 --loki none -o json",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), o, cmd.ErrOrStderr()) },
	}
	f.sourceFlags.register(c, "prometheus", "loki")
	f.clusterFlags.register(c)
	c.Flags().StringVar(&f.source, "source", "", "`name` of the Prometheus, where several are configured")
	c.Flags().StringVar(&f.cluster, "cluster", "", "`name` of the cluster in the result; default: the configured one")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "one `namespace`, and nothing else is asked about; default: all")
	c.Flags().StringVar(&f.since, "since", "14d", "how far `back` both sides are judged: 14d, at most 90d")
	c.Flags().StringVar(&f.learn, "learn", "1d", "how `long` before that is learnt from only")
	c.Flags().DurationVar(&f.step, "step", 0, "time between two readings; default: that of the configuration, 30s")
	c.Flags().StringVar(&f.html, "html", "", "also write a page with graphs to `file`")
	c.Flags().StringVar(&f.resume, "resume", "", "`directory` to keep in how far it is, and to go on from")
	return c
}

// check finds what is wrong with the flags.
func (f *backtestFlags) check() (since, learn time.Duration, err error) {
	wrong := func(fix, format string, args ...any) error {
		return hint(&service.UsageError{Err: fmt.Errorf(format, args...)}, service.ExitUsage, "%s", fix)
	}
	back, err := model.ParseDuration(f.since)
	if since = time.Duration(back); err != nil || since < 6*time.Hour || since > 90*24*time.Hour {
		return 0, 0, wrong("--since 14d", "--since %s: is not between 6h and 90d", f.since)
	}
	back, err = model.ParseDuration(f.learn)
	if learn = time.Duration(back); err != nil || learn > 14*24*time.Hour {
		return 0, 0, wrong("--learn 1d", "--learn %s: is not between 0s and 14d", f.learn)
	}
	switch {
	case f.step != 0 && (f.step < 10*time.Second || f.step > 5*time.Minute || time.Hour%f.step != 0):
		return 0, 0, wrong("--step 30s", "--step %s: is not between 10s and 5m, or no part of an hour", f.step)
	case f.namespace != "" && len(validation.IsDNS1123Label(f.namespace)) > 0:
		return 0, 0, wrong("-n shop", "--namespace %q: is not a name that Kubernetes allows", f.namespace)
	case f.prometheus == nowhere:
		return 0, 0, wrong("--prometheus URL", "--prometheus none: a backtest is of the metrics that Prometheus holds")
	}
	return since, learn, nil
}

func (f *backtestFlags) run(ctx context.Context, o *options, notes io.Writer) error {
	since, learn, err := f.check()
	if err != nil {
		return err
	}
	store, cfg, err := o.store()
	if err != nil {
		return err
	}
	x, err := f.settings(cfg)
	if err != nil {
		return err
	}
	page, err := f.page()
	if err != nil {
		return err
	}
	defer func() { _ = page.Close() }()
	stop, err := f.sources(ctx, o, cfg, &x, notes)
	defer stop()
	if err != nil {
		return err
	}
	x.Policies, x.Audit, x.Now, x.Since, x.Learn = store, o.recorder(), time.Now(), since, learn
	if x.Dir, err = f.dir(); err != nil {
		return err
	}
	fmt.Fprintf(notes, "oncall: reading the last %s, and %s before it for what is normal\n", backtest.Span(since), backtest.Span(learn))
	bar := newPastBar(ctx, notes)
	x.Progress = bar.show
	b, err := backtest.Run(ctx, x)
	bar.end(err == nil)
	if err != nil {
		return f.stopped(ctx, err, bar, x.Dir, notes)
	}
	b.Result.Seconds = time.Since(x.Now).Seconds()
	if page != nil {
		if err := b.HTML(ctx, page); err != nil {
			return fmt.Errorf("--html %s: %w", f.html, err)
		}
	}
	return printBacktest(o, &b.Result, f.html)
}

// settings are those of the configuration file.
func (f *backtestFlags) settings(cfg *service.Config) (backtest.Options, error) {
	x := backtest.Options{
		Cluster: cfg.Cluster, Namespace: f.namespace, Patience: 2 * time.Minute,
		Detector: cfg.Section(detector.Spec.Name).(detector.Config), Correlator: cfg.Section(correlator.Spec.Name).(correlator.Config),
		RedactionKey: cfg.Section(collector.Spec.Name).(collector.Config).RedactionKey,
	}
	if f.cluster != "" {
		x.Cluster = f.cluster
	}
	info, _ := detector.Builtin.Lookup("alert")
	alerts, err := x.Detector.Section(info)
	if err != nil {
		return x, err
	}
	x.Alerts = alerts.(detectors.AlertConfig)
	return x, nil
}

// page opens the file of --html before anything is read: hours later is too late
// to find that it cannot be written.
func (f *backtestFlags) page() (*os.File, error) {
	if f.html == "" {
		return nil, nil
	}
	file, err := os.Create(f.html)
	if err != nil {
		return nil, &service.UsageError{Err: fmt.Errorf("--html %w", err)}
	}
	return file, nil
}

// dir is where it is kept how far the run is.
func (f *backtestFlags) dir() (string, error) {
	if f.resume == "" {
		return os.MkdirTemp("", "oncall-backtest-")
	}
	if err := os.MkdirAll(f.resume, 0o700); err != nil {
		return "", &service.UsageError{Err: fmt.Errorf("--resume %w", err)}
	}
	return f.resume, nil
}

// sources finds one Prometheus, and one Loki if there is one.
func (f *backtestFlags) sources(ctx context.Context, o *options, cfg *service.Config, x *backtest.Options, notes io.Writer) (stop func(), err error) {
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	c.Keep(func(kind string, src any) bool {
		p, ok := src.(prometheus.Config)
		return f.source == "" || !ok || p.Name == f.source
	})
	say := func(format string, args ...any) { fmt.Fprintf(notes, "oncall: "+format+"\n", args...) }
	find := &finder{o: o, cluster: f.clusterFlags, flags: f.sourceFlags, kinds: []string{"prometheus", "loki"}, instead: true, say: say, missed: say}
	if err := find.find(ctx, &c); err != nil {
		if hinted := (*hintError)(nil); errors.As(err, &hinted) {
			return find.stop, err
		}
		if usage := (*service.UsageError)(nil); errors.As(err, &usage) {
			return find.stop, err
		}
		return find.stop, hint(err, service.ExitUnreachable, "name it: --prometheus URL, and --loki URL or none")
	}
	narrow := window{namespace: f.namespace}
	var named []string
	c.Each(func(_ string, src any) {
		switch s := narrow.narrow(src, false).(type) {
		case prometheus.Config:
			named = append(named, s.Name)
			x.Prometheus = s
		case loki.Config:
			x.Loki = &s
		}
	})
	switch {
	case len(named) == 0:
		return find.stop, hint(errors.New("no Prometheus is configured, named or found"), service.ExitUnreachable, "name it: --prometheus URL, or --via-kube svc/NAMESPACE/NAME:PORT")
	case len(named) > 1:
		return find.stop, hint(&service.UsageError{Err: fmt.Errorf("several Prometheus are configured: %s", strings.Join(named, ", "))}, service.ExitUsage, "--source %s", named[0])
	}
	if f.step > 0 {
		x.Prometheus.Step = f.step
	}
	if kc, err := f.config(); err == nil && find.client != nil && f.cluster == "" && x.Cluster == "cluster" {
		// Without a name the default stays.
		if name, _ := kube.ContextName(kc); name != "" {
			x.Cluster = name
		}
	}
	return find.stop, f.reach(ctx, o, x)
}

// reach asks each source whether it answers, before it is waited for patiently.
func (f *backtestFlags) reach(ctx context.Context, o *options, x *backtest.Options) error {
	if err := reach(ctx, o, "prometheus", x.Prometheus); err != nil {
		return hint(err, service.ExitUnreachable, "%s", advice(err))
	}
	if x.Loki == nil {
		return nil
	}
	if err := reach(ctx, o, "loki", *x.Loki); err != nil {
		return hint(err, service.ExitUnreachable, "%s --loki none does without", advice(err))
	}
	return nil
}

// stopped is the error of a run that did not come to its end, with what to do to
// go on.
func (f *backtestFlags) stopped(ctx context.Context, err error, bar *pastBar, dir string, notes io.Writer) error {
	var other *backtest.OtherError
	var nothing *backtest.NothingError
	kept := ""
	if _, e := os.Stat(filepath.Join(dir, backtest.StateFile)); e == nil {
		kept = fmt.Sprintf("it stopped at %d %%; the same command with --resume %s goes on from there", bar.percent(), dir)
	} else if f.resume == "" {
		_ = os.RemoveAll(dir)
	}
	switch {
	case errors.As(err, &other):
		return hint(&service.UsageError{Err: fmt.Errorf("--resume %w", err)}, service.ExitUsage, "another directory, or remove what is in it")
	case errors.As(err, &nothing):
		return hint(err, service.ExitUnreachable, "oncall doctor --coverage says which metrics are looked for, and --prometheus URL names another")
	case ctx.Err() != nil:
		if kept != "" {
			fmt.Fprintf(notes, "oncall: %s\n", kept)
		}
		return err
	}
	if kept == "" {
		kept = advice(err)
	}
	if upstream.KindOf(err) == upstream.Busy {
		kept += "; lower max_query_qps"
	}
	return hint(err, service.ExitUnreachable, "%s", kept)
}

// pastBar shows how far a backtest is: a bar on a terminal, else nothing.
type pastBar struct {
	ctx  context.Context //nolint:containedctx // it lives as long as the command
	bars *mpb.Progress
	bar  *mpb.Bar
	last backtest.Progress
	at   atomic.Int64 // the same time in seconds, for who draws
}

func newPastBar(ctx context.Context, notes io.Writer) *pastBar {
	p := &pastBar{ctx: ctx}
	if f, ok := notes.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bars = mpb.NewWithContext(ctx, mpb.WithOutput(f), mpb.WithWidth(40))
	}
	return p
}

func (p *pastBar) show(at backtest.Progress) {
	first := p.last.Until.IsZero()
	p.last = at
	p.at.Store(at.At.Unix())
	if p.bars == nil {
		return
	}
	if first {
		p.bar = p.bars.AddBar(int64(at.Until.Sub(at.From).Seconds()),
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return time.Unix(p.at.Load(), 0).UTC().Format("2006-01-02 15:04 MST ") })),
			mpb.AppendDecorators(decor.Percentage(), decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), "")), mpb.BarRemoveOnComplete())
		p.bar.SetRefill(int64(at.At.Sub(at.From).Seconds()))
	}
	p.bar.SetCurrent(int64(at.At.Sub(at.From).Seconds()))
}

func (p *pastBar) percent() int {
	all := p.last.Until.Sub(p.last.From)
	if all <= 0 {
		return 0
	}
	return int(100 * p.last.At.Sub(p.last.From) / all)
}

func (p *pastBar) end(done bool) {
	if p.bars == nil {
		return
	}
	if p.bar != nil && !done {
		p.bar.Abort(true)
	}
	p.bars.Shutdown()
}

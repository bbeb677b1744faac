package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// upFlags are the flags of `oncall up`.
type upFlags struct {
	clusterFlags
	sourceFlags
	// beside has Loki and Alertmanager searched for though a URL names Prometheus.
	beside                         bool
	listen, metrics, mode, cluster string
	debug                          string
	step                           time.Duration
	verbose                        bool
}

func newUp(o *options) *cobra.Command {
	f := &upFlags{}
	c := &cobra.Command{
		Use: "up", Short: "Watch a cluster: every service in this process, on an embedded bus.",
		Long: `Watch a cluster: every service in this process, on an embedded bus.

Without flags it takes the current kubeconfig context, finds Prometheus, Loki
and Alertmanager by their labels, forwards local ports to them, and says what
it chose. In a pod it uses
the pod's service account and the Service's own name instead. It reads and
never writes to the cluster. Reports are printed here; with --mode=page they go
to the channels of the configuration file.`,
		Example: "  oncall up\n  oncall up --prometheus http://localhost:9090 --kubeconfig ~/.kube/config",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), o, f, cmd.ErrOrStderr()) },
	}
	f.register(c)
	c.Flags().StringVar(&f.listen, "listen", "", "loopback `address` on which other programs reach the bus, such as 127.0.0.1:4222")
	c.Flags().StringVar(&f.metrics, "metrics", "", "`address` of /healthz, /readyz and /metrics; default: obs.listen of the configuration file, and without one not served")
	c.Flags().StringVar(&f.debug, "debug-listen", "", "loopback `address` of Go's profiles, such as 127.0.0.1:6060: go tool pprof http://127.0.0.1:6060/debug/pprof/heap")
	c.Flags().StringVar(&f.mode, "mode", "", "shadow, enrich or page; default: as configured, and on a terminal everything is printed")
	c.Flags().DurationVar(&f.step, "step", 0, "time between two readings of Prometheus; default 30s")
	return c
}

// register adds the flags that say where to look.
func (f *upFlags) register(c *cobra.Command) {
	f.sourceFlags.register(c, sourceKinds...)
	f.clusterFlags.register(c)
	c.Flags().StringVar(&f.cluster, "cluster", "", "`name` of the cluster in reports; default: the context's")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log what the services do")
}

func up(ctx context.Context, o *options, f *upFlags, notes io.Writer) error {
	cfg, err := o.loadService()
	if err != nil {
		return err
	}
	if f.metrics != "" {
		cfg.Obs.Listen = f.metrics
	}
	if f.verbose {
		cfg.Obs.LogLevel = "info"
	}
	frugal()
	say := func(format string, args ...any) { fmt.Fprintf(notes, "oncall: "+format+"\n", args...) }
	if err := f.check(); err != nil {
		return err
	}
	stop, err := f.sources(ctx, o, cfg, say)
	defer stop()
	if err != nil {
		return err
	}
	n := cfg.Section(notifier.Spec.Name).(notifier.Config)
	if len(n.Channels) == 0 {
		n.Channels = map[string]notifier.ChannelConfig{"terminal": {Type: "terminal"}}
		n.Mode = notifier.ModePage
		n.Routes = []notifier.Route{{Name: "terminal", Channels: []string{"terminal"}, Least: event.P3}}
	}
	if f.mode != "" {
		n.Mode = notifier.Mode(f.mode)
	}
	if err := n.Validate(); err != nil {
		return &service.UsageError{Err: err}
	}
	cfg.SetSection(notifier.Spec.Name, n)
	h, err := pipeline.Open(ctx, cfg, pipeline.Options{Data: o.data, Listen: f.listen, Log: obs.NewLogger(notes, cfg.Obs), Audit: o.audits.beside, Follow: true})
	if err != nil {
		if errors.Is(err, embedded.ErrInUse) {
			return hint(err, service.ExitUsage, "one oncall up at a time has a data directory")
		}
		return err
	}
	defer func() { _ = h.Close() }()
	if a := h.Address(); a != "" {
		say("bus listens on %s: nats sub -s %s 'anomalies.>'", a, a)
	}
	say("watching; mode %s; data in %s; stop with Ctrl-C", n.Mode, o.data)
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { welcome(ctx, h, say) })
	wg.Go(func() { o.audits.follow(ctx, h.Bus.Publish) })
	if f.debug != "" {
		wg.Go(func() {
			if err := obs.ServeDebug(ctx, f.debug, func(a net.Addr) { say("profiles on http://%s/debug/pprof/", a) }); err != nil {
				cancel(&service.UsageError{Err: err})
			}
		})
	}
	return h.Run(ctx, pipeline.Services...)
}

// frugal makes the collector of garbage begin when the heap has grown by 40 per
// cent and not by its own size: most of what lives are blocks that the bus keeps
// of its streams. GOGC overrules it.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(40)
	}
}

// check finds what is wrong with the flags before anything is asked of anybody.
func (f *upFlags) check() error {
	n := notifier.DefaultConfig()
	if f.mode != "" {
		n.Mode = notifier.Mode(f.mode)
	}
	err := n.Validate()
	if err == nil && f.debug != "" {
		err = obs.CheckDebug(f.debug)
	}
	if err != nil {
		return hint(&service.UsageError{Err: fmt.Errorf("--%w", err)}, service.ExitUsage, "oncall up --help")
	}
	return nil
}

// sources adds the sources that the flags and the cluster name to those of the
// configuration file, and says what was chosen. stop ends port forwards.
func (f *upFlags) sources(ctx context.Context, o *options, cfg *service.Config, say func(string, ...any)) (stop func(), err error) {
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	defer func() { cfg.SetSection(collector.Spec.Name, c) }()
	x := &finder{o: o, cluster: f.clusterFlags, flags: f.sourceFlags, kinds: sourceKinds, beside: f.beside, say: say, missed: say, prometheus: func(p *prometheus.Config) { p.Step = f.step }}
	given := c.Sources() > 0
	if err := x.named(ctx, &c); err != nil {
		return x.stop, err
	}
	if given && f.kubeconfig == "" && f.context == "" && len(f.via) == 0 {
		return x.stop, nil
	}
	if err := x.connect(); err != nil {
		if usage := (*service.UsageError)(nil); errors.As(err, &usage) {
			return x.stop, err
		}
		if f.named("prometheus") && f.kubeconfig == "" && f.context == "" {
			say("kubernetes: none (%v); metrics only", firstLine(err))
			return x.stop, nil
		}
		return x.stop, hint(err, service.ExitUnreachable, "oncall up --kubeconfig FILE, or --prometheus URL for metrics alone")
	}
	kc, err := f.config()
	if err != nil {
		return x.stop, err
	}
	name := f.cluster
	if name == "" {
		// Without a name the default stays; the cluster is reachable all the same.
		name, _ = kube.ContextName(kc)
	}
	if name != "" && cfg.Cluster == "cluster" {
		cfg.Cluster = name
		r := cfg.Section(reasoner.Spec.Name).(reasoner.Config)
		if r.KubeContext == "" && f.context != "" {
			r.KubeContext = f.context
		}
		cfg.SetSection(reasoner.Spec.Name, r)
	}
	if configured(&c, "kubernetes") == 0 {
		k := kubernetes.Config{Cluster: kc}
		if err := addSource(&c, "kubernetes", &k); err != nil {
			return x.stop, err
		}
		say("kubernetes: %s", cfg.Cluster)
	}
	return x.stop, x.discover(ctx, &c)
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

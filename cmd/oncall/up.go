package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// upFlags are the flags of `oncall up`.
type upFlags struct {
	prometheus, loki, alertmanager string
	kubeconfig, context            string
	listen, metrics, mode, cluster string
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
	c.Flags().StringVar(&f.mode, "mode", "", "shadow, enrich or page; default: as configured, and on a terminal everything is printed")
	c.Flags().DurationVar(&f.step, "step", 0, "time between two readings of Prometheus; default 30s")
	return c
}

// register adds the flags that say where to look.
func (f *upFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.prometheus, "prometheus", "", "`URL` of Prometheus, Thanos or Mimir")
	c.Flags().StringVar(&f.loki, "loki", "", "`URL` of Loki")
	c.Flags().StringVar(&f.alertmanager, "alertmanager", "", "`URL` of Alertmanager, whose alerts are read")
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default: as kubectl")
	c.Flags().StringVar(&f.context, "context", "", "kubeconfig `context`; default: the current one")
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
	say := func(format string, args ...any) { fmt.Fprintf(notes, "oncall: "+format+"\n", args...) }
	if err := f.check(); err != nil {
		return err
	}
	stop, err := f.sources(ctx, cfg, say)
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
	h, err := pipeline.Open(ctx, cfg, pipeline.Options{Data: o.data, Listen: f.listen, Log: obs.NewLogger(notes, cfg.Obs)})
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
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { welcome(ctx, h, say) })
	return h.Run(ctx, pipeline.Services...)
}

// check finds what is wrong with the flags before anything is asked of anybody.
func (f *upFlags) check() error {
	n := notifier.DefaultConfig()
	if f.mode != "" {
		n.Mode = notifier.Mode(f.mode)
	}
	if err := n.Validate(); err != nil {
		return hint(&service.UsageError{Err: fmt.Errorf("--%w", err)}, service.ExitUsage, "oncall up --help")
	}
	return nil
}

// sources adds the sources that the flags and the cluster name to those of the
// configuration file, and says what was chosen. stop ends port forwards.
func (f *upFlags) sources(ctx context.Context, cfg *service.Config, say func(string, ...any)) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	defer func() { cfg.SetSection(collector.Spec.Name, c) }()
	configured := c.Sources() > 0
	if f.prometheus != "" {
		p := prometheus.Config{Step: f.step}
		p.URL = f.prometheus
		if err := addSource(&c, "prometheus", &p); err != nil {
			return stop, err
		}
		say("prometheus: %s", f.prometheus)
	}
	if f.loki != "" {
		l := loki.Config{}
		l.URL = f.loki
		if err := addSource(&c, "loki", &l); err != nil {
			return stop, err
		}
		say("loki: %s", f.loki)
	}
	if f.alertmanager != "" {
		a := alertmanager.Config{}
		a.URL = f.alertmanager
		if err := addSource(&c, "alertmanager", &a); err != nil {
			return stop, err
		}
		say("alertmanager: %s", f.alertmanager)
	}
	kc := kube.DefaultConfig()
	kc.Kubeconfig, kc.Context = f.kubeconfig, f.context
	if configured && f.kubeconfig == "" && f.context == "" {
		return stop, nil
	}
	client, err := kube.New(kc, kube.Settings{Service: "cli"})
	if err != nil {
		if f.prometheus != "" && f.kubeconfig == "" && f.context == "" {
			say("kubernetes: none (%v); metrics only", firstLine(err))
			return stop, nil
		}
		return stop, hint(err, service.ExitUnreachable, "oncall up --kubeconfig FILE, or --prometheus URL for metrics alone")
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
	k := kubernetes.Config{Cluster: kc}
	if err := addSource(&c, "kubernetes", &k); err != nil {
		return stop, err
	}
	say("kubernetes: %s", cfg.Cluster)
	return stop, f.discover(ctx, &c, client, kc, &stops, say)
}

// discover finds the sources that no flag names, by the labels of their
// Services. Inside the cluster their names are enough; from outside it forwards
// a local port to each.
func (f *upFlags) discover(ctx context.Context, c *collector.Config, client *kube.Client, kc kube.Config, stops *[]func(), say func(string, ...any)) error {
	wanted := map[string]bool{"prometheus": f.prometheus == "", "loki": f.loki == "" && f.prometheus == "", "alertmanager": f.alertmanager == "" && f.prometheus == ""}
	if !wanted["prometheus"] && !wanted["loki"] && !wanted["alertmanager"] {
		return nil
	}
	found, err := kube.Discover(ctx, client)
	if err != nil {
		return hint(fmt.Errorf("look for Prometheus: %w", err), service.ExitUnreachable, "name it: oncall up --prometheus URL")
	}
	inside := kube.InCluster(kc)
	for _, s := range found {
		if !wanted[s.Source] {
			continue
		}
		wanted[s.Source] = false
		reach, how := s.Host(), "by its name"
		if !inside {
			fw, err := kube.NewForwarder(kc, kube.Settings{Service: "cli"})
			if err != nil {
				return err
			}
			local, end, err := fw.PortForward(ctx, s.Namespace, s.Service, s.Port)
			if err != nil {
				return hint(err, service.ExitUnreachable, "name it: oncall up --%s URL", s.Source)
			}
			*stops = append(*stops, end)
			reach, how = local, "forwarded to "+local
		}
		address := s.Scheme + "://" + reach + s.Path
		switch s.Source {
		case "prometheus":
			p := prometheus.Config{Step: f.step}
			p.URL = address
			err = addSource(c, s.Source, &p)
		case "loki":
			l := loki.Config{}
			l.URL = address
			err = addSource(c, s.Source, &l)
		case "alertmanager":
			a := alertmanager.Config{}
			a.URL = address
			err = addSource(c, s.Source, &a)
		}
		if err != nil {
			return err
		}
		say("%s: %s/%s (%s), %s", s.Source, s.Namespace, s.Service, s.Why, how)
	}
	for _, source := range []string{"prometheus", "loki", "alertmanager"} {
		if wanted[source] {
			say("%s: none found by its labels; name it with --%s URL", source, source)
		}
	}
	return nil
}

// filled is implemented by every source's configuration.
type filled interface {
	Fill()
	Validate(path string) error
}

// addSource fills, checks and adds one source.
func addSource[C any, P interface {
	*C
	filled
}](c *collector.Config, kind string, p P) error {
	p.Fill()
	if err := p.Validate("--" + kind + " "); err != nil {
		return &service.UsageError{Err: err}
	}
	return c.Add(kind, *p)
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

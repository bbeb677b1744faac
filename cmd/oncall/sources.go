package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// clusterFlags say which cluster is asked, and as whom.
type clusterFlags struct{ kubeconfig, context string }

func (f *clusterFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default: as kubectl")
	c.Flags().StringVar(&f.context, "context", "", "kubeconfig `context`; default: the current one")
}

// config is the cluster of the flags, for a person who waits.
func (f *clusterFlags) config() (kube.Config, error) {
	cfg := kube.DefaultConfig()
	cfg.Kubeconfig, cfg.Context = f.kubeconfig, f.context
	if err := cfg.Validate(); err != nil {
		return cfg, &service.UsageError{Err: fmt.Errorf("--%w", err)}
	}
	return cfg, nil
}

// sourceFlags say where the sources of a command are. A source is named by its
// URL, reached through the cluster with --via-kube, taken from the configuration
// file, or found by its labels, in this order.
//
// A command that reads Prometheus alone embeds [promFlags] and calls its open. One
// that reads several embeds sourceFlags and clusterFlags, registers both, and
// lets a [finder] put what it finds into the collector's section of the
// configuration:
//
//	x := &finder{o: o, cluster: f.clusterFlags, flags: f.sourceFlags, kinds: sourceKinds, say: say}
//	defer x.stop()
//	err := x.find(ctx, &section)
type sourceFlags struct {
	prometheus, loki, alertmanager string
	via                            []string
}

// sourceKinds are the kinds of sources that a command can name or find.
var sourceKinds = []string{"prometheus", "loki", "alertmanager"}

// sourceNames are the kinds as they are called.
var sourceNames = map[string]string{"prometheus": "Prometheus, Thanos or Mimir", "loki": "Loki", "alertmanager": "Alertmanager"}

// nowhere is the value of a source's flag that leaves the source out.
const nowhere = "none"

// register adds the flags of the kinds that a command reads.
func (f *sourceFlags) register(c *cobra.Command, kinds ...string) {
	for _, kind := range kinds {
		c.Flags().StringVar(f.address(kind), kind, "", "`URL` of "+sourceNames[kind]+", or none; default: the configured one, else the one in the cluster")
	}
	form := kube.TargetForm
	if len(kinds) > 1 {
		form = "[SOURCE=]" + form
	}
	c.Flags().StringArrayVar(&f.via, "via-kube", nil, "`service` to reach a source by, with a port forward of its own: "+form)
}

// address is the flag that names the source of a kind.
func (f *sourceFlags) address(kind string) *string {
	switch kind {
	case "prometheus":
		return &f.prometheus
	case "loki":
		return &f.loki
	}
	return &f.alertmanager
}

// named says whether a flag names the address of a source.
func (f *sourceFlags) named(kind string) bool {
	a := *f.address(kind)
	return a != "" && a != nowhere
}

// through is one --via-kube.
type through struct {
	text   string
	kind   string // of source; "" to go by the Service's labels
	target kube.Target
}

// check finds what is wrong with the flags before anything is asked of anybody.
func (f *sourceFlags) check(kinds []string) ([]through, error) {
	for _, kind := range kinds {
		if !f.named(kind) {
			continue
		}
		c := flagged(kind, *f.address(kind))
		if err := c.Validate("--" + kind + " "); err != nil {
			return nil, &service.UsageError{Err: err}
		}
	}
	var all []through
	for _, text := range f.via {
		wrong := func(format string, args ...any) error {
			err := fmt.Errorf("--via-kube %s: %s", text, fmt.Sprintf(format, args...))
			return hint(&service.UsageError{Err: err}, service.ExitUsage, "--via-kube svc/monitoring/prometheus-operated:9090")
		}
		t := through{text: text}
		where := text
		if kind, rest, ok := strings.Cut(text, "="); ok {
			if !slices.Contains(kinds, kind) {
				return nil, wrong("%q is not %s", kind, strings.Join(kinds, ", "))
			}
			t.kind, where = kind, rest
		} else if len(kinds) == 1 {
			t.kind = kinds[0]
		}
		var err error
		if t.target, err = kube.ParseTarget(where); err != nil {
			return nil, wrong("%s", err)
		}
		if t.kind != "" {
			if *f.address(t.kind) != "" {
				return nil, wrong("--%s says something else", t.kind)
			}
			if slices.ContainsFunc(all, func(o through) bool { return o.kind == t.kind }) {
				return nil, wrong("there is one for %s already", t.kind)
			}
		}
		all = append(all, t)
	}
	return all, nil
}

// flagged is the configuration of a source that a flag names.
func flagged(kind, address string) upstream.Config {
	c := upstream.Config{URL: address}
	c.Fill(kind)
	return c
}

// finder puts the sources that flags and the cluster name into a collector's
// section. Its stop ends the port forwards.
type finder struct {
	o       *options
	cluster clusterFlags
	flags   sourceFlags
	kinds   []string // that the command reads
	// instead has a URL of a flag stand for what is configured, and not beside it.
	instead bool
	// beside has the cluster searched for the rest when a URL names Prometheus.
	// Without it such a command asks nothing of the cluster that it need not.
	beside bool
	// prometheus changes the configuration of a Prometheus that is added.
	prometheus func(*prometheus.Config)
	say        func(format string, args ...any) // about a source that was chosen
	missed     func(format string, args ...any) // about one that was not found; nil to say nothing

	client  *kube.Client
	stops   []func()
	reached int // by a --via-kube
}

func (x *finder) stop() {
	for _, s := range x.stops {
		s()
	}
	x.stops = nil
}

// find does all there is to do: it takes what flags name, and searches the
// cluster for what is neither named nor configured.
func (x *finder) find(ctx context.Context, c *collector.Config) error {
	if err := x.named(ctx, c); err != nil {
		return err
	}
	if len(x.wanted(c)) == 0 {
		return nil
	}
	if err := x.connect(); err != nil {
		return err
	}
	return x.discover(ctx, c)
}

// named takes the sources that flags name.
func (x *finder) named(ctx context.Context, c *collector.Config) error {
	via, err := x.flags.check(x.kinds)
	if err != nil {
		return err
	}
	for _, kind := range x.kinds {
		address := *x.flags.address(kind)
		if address == "" {
			continue
		}
		if x.instead || address == nowhere {
			c.Keep(func(k string, _ any) bool { return k != kind })
		}
		if address == nowhere {
			continue
		}
		if err := x.add(c, kind, func(u *upstream.Config) { u.URL = address }); err != nil {
			return err
		}
		x.say("%s: %s", kind, address)
	}
	if len(via) == 0 {
		return nil
	}
	if err := x.connect(); err != nil {
		return err
	}
	taken := map[string]string{}
	for _, t := range via {
		if err := x.through(ctx, c, t, taken); err != nil {
			return err
		}
	}
	return nil
}

// connect makes the client of the cluster.
func (x *finder) connect() error {
	if x.client != nil {
		return nil
	}
	cfg, err := x.cluster.config()
	if err != nil {
		return err
	}
	x.client, err = x.o.clusterClient(cfg)
	return err
}

// through reaches a source by a --via-kube. What is configured for the source
// stays: tenant, credentials, certificates.
func (x *finder) through(ctx context.Context, c *collector.Config, t through, taken map[string]string) error {
	fw, err := x.forward(ctx, t.target)
	if err != nil {
		err = fmt.Errorf("--via-kube %s: %w", t.text, err)
		if kube.NotFound(err) {
			return hint(&service.UsageError{Err: err}, service.ExitUsage, "kubectl -n %s get services", rule.Quote(t.target.Namespace))
		}
		return hint(err, service.ExitUnreachable, "kubectl -n %s get endpoints %s; it takes the right to create pods/portforward", rule.Quote(t.target.Namespace), rule.Quote(t.target.Service))
	}
	kind := t.kind
	if kind == "" {
		kind = fw.Source
	}
	wrong := func(problem, fix string) error {
		return hint(&service.UsageError{Err: fmt.Errorf("--via-kube %s: %s", t.text, problem)}, service.ExitUsage, "%s", fix)
	}
	switch {
	case kind == "":
		return wrong("its labels do not say what it is", "--via-kube prometheus="+t.text)
	case !slices.Contains(x.kinds, kind):
		return wrong("it is a "+kind+", which this command does not read", "one of "+strings.Join(x.kinds, ", "))
	case taken[kind] != "":
		return wrong("there is "+taken[kind]+" for "+kind+" already", "name each source once")
	case *x.flags.address(kind) != "":
		return wrong("--"+kind+" says something else", "leave out one of them")
	}
	taken[kind] = t.text
	x.reached++
	x.say("%s: %s/%s (--via-kube), forwarded to %s", kind, fw.Namespace, fw.Service, fw.Local)
	return x.lead(c, kind, fw)
}

// lead has a source asked through a forwarding.
func (x *finder) lead(c *collector.Config, kind string, fw *kube.Forwarding) error {
	x.o.audits.forwarded(fw)
	at := func(u *upstream.Config) {
		if u.ExternalURL == u.URL {
			u.ExternalURL = ""
		}
		u.URL = fw.URL()
		if fw.Scheme == "https" && u.HTTP.TLSConfig.ServerName == "" {
			u.HTTP.TLSConfig.ServerName = fw.ServerName()
		}
	}
	switch n := configured(c, kind); {
	case n > 1:
		return hint(&service.UsageError{Err: fmt.Errorf("--via-kube: %d sources of kind %s are configured, and one is reached", n, kind)}, service.ExitUsage, "a configuration file with one of them: --config FILE")
	case n == 0:
		return x.add(c, kind, at)
	}
	c.Edit(func(k string, cfg any) any {
		if k != kind {
			return cfg
		}
		switch cfg := cfg.(type) {
		case prometheus.Config:
			at(&cfg.Config)
			return cfg
		case loki.Config:
			at(&cfg.Config)
			return cfg
		case alertmanager.Config:
			cfg.URLs = nil
			at(&cfg.Config)
			return cfg
		}
		return cfg
	})
	return nil
}

// forward opens a port forward, with the rights of whoever typed the command.
func (x *finder) forward(ctx context.Context, t kube.Target) (*kube.Forwarding, error) {
	cfg, err := x.cluster.config()
	if err != nil {
		return nil, err
	}
	f, err := kube.NewForwarder(cfg, x.o.kubeSettings())
	if err != nil {
		return nil, err
	}
	fw, err := f.Forward(ctx, t)
	if err != nil {
		return nil, err
	}
	x.stops = append(x.stops, fw.Stop)
	return fw, nil
}

// configured is how many sources of a kind there are.
func configured(c *collector.Config, kind string) int {
	n := 0
	c.Each(func(k string, _ any) {
		if k == kind {
			n++
		}
	})
	return n
}

// wanted are the kinds that the cluster is searched for.
func (x *finder) wanted(c *collector.Config) []string {
	var out []string
	for _, kind := range x.kinds {
		if *x.flags.address(kind) != "" || configured(c, kind) > 0 || !x.beside && x.flags.named("prometheus") {
			continue
		}
		out = append(out, kind)
	}
	return out
}

// discover finds sources by the labels of their Services. Inside the cluster
// their names are enough; from outside a local port is forwarded to each. It
// takes those that it can reach, and returns the error of one that it cannot.
func (x *finder) discover(ctx context.Context, c *collector.Config) error {
	wanted := x.wanted(c)
	if len(wanted) == 0 {
		return nil
	}
	found, err := kube.Discover(ctx, x.client)
	if err != nil {
		return hint(fmt.Errorf("look for %s: %w", sourceNames[wanted[0]], err), service.ExitUnreachable, "name it: --%s URL, or --%s none to do without", wanted[0], wanted[0])
	}
	type choice struct {
		kind string
		kube.Found
		fw  *kube.Forwarding
		err error
	}
	var chosen []choice
	for _, kind := range wanted {
		i := slices.IndexFunc(found, func(s kube.Found) bool { return s.Source == kind })
		if i < 0 {
			if x.missed != nil {
				x.missed("%s: none found by its labels; name it with --%s URL", kind, kind)
			}
			continue
		}
		chosen = append(chosen, choice{kind: kind, Found: found[i]})
	}
	cfg, err := x.cluster.config()
	if err != nil {
		return err
	}
	inside := kube.InCluster(cfg)
	if !inside {
		f, err := kube.NewForwarder(cfg, x.o.kubeSettings())
		if err != nil {
			return err
		}
		var wg sync.WaitGroup
		for i := range chosen {
			wg.Go(func() { chosen[i].fw, chosen[i].err = f.Forward(ctx, chosen[i].Target()) })
		}
		wg.Wait()
	}
	var errs []error
	for _, s := range chosen {
		if s.err != nil {
			errs = append(errs, hint(s.err, service.ExitUnreachable, "name it: --%s URL, or --%s none to do without", s.kind, s.kind))
			continue
		}
		how := "by its name"
		if s.fw == nil {
			address := s.Scheme + "://" + s.Host() + s.Path
			err = x.add(c, s.kind, func(u *upstream.Config) { u.URL = address })
		} else {
			x.stops = append(x.stops, s.fw.Stop)
			how = "forwarded to " + s.fw.Local
			err = x.lead(c, s.kind, s.fw)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		x.say("%s: %s/%s (%s), %s", s.kind, s.Namespace, s.Service, s.Why, how)
	}
	return errors.Join(errs...)
}

// add adds a source of a kind.
func (x *finder) add(c *collector.Config, kind string, at func(*upstream.Config)) error {
	switch kind {
	case "prometheus":
		p := prometheus.Config{}
		if x.prometheus != nil {
			x.prometheus(&p)
		}
		at(&p.Config)
		return addSource(c, kind, &p)
	case "loki":
		l := loki.Config{}
		at(&l.Config)
		return addSource(c, kind, &l)
	}
	a := alertmanager.Config{}
	at(&a.Config)
	return addSource(c, kind, &a)
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

package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

// generation are services that were made of the policies as they were at one time.
type generation struct {
	all     []named
	metrics *scope
}

type named struct {
	name string
	run  Runner
}

// make makes services. None runs yet, and nothing of them is seen.
func (p *Process) make(specs []Spec) (*generation, error) {
	g := &generation{metrics: newScope(p.Metrics)}
	for _, s := range specs {
		env := p.Env(s.Name)
		env.Metrics = g.metrics
		r, err := s.New(p.Config.Section(s.Name), env)
		if err != nil {
			return nil, err
		}
		g.all = append(g.all, named{s.Name, r})
	}
	return g, nil
}

// errNext ends a generation for the one that follows it.
var errNext = errors.New("policies have changed")

// run runs a generation until ctx is done, one of its services fails, or one comes on
// next that is to follow it.
func (p *Process) run(ctx context.Context, g *generation, next <-chan *generation) (*generation, error) {
	if err := g.metrics.begin(); err != nil {
		return nil, err
	}
	defer g.metrics.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, n := range g.all {
		wg.Go(func() {
			p.Health.Ready(n.name)
			err := n.run.Run(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				p.Health.NotReady(n.name, err.Error())
				cancel(fmt.Errorf("%s: %w", n.name, err))
			}
		})
	}
	stopped := make(chan struct{})
	go func() { wg.Wait(); close(stopped) }()
	var following *generation
	select {
	case <-stopped:
	case <-ctx.Done():
	case following = <-next:
		cancel(errNext)
	}
	select {
	case <-stopped:
	case <-time.After(drainTime):
		p.Log.Error("services did not stop in time", "limit", drainTime.String())
		if following != nil {
			return nil, fmt.Errorf("services did not stop within %s, to start with other policies", drainTime)
		}
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errNext) {
		return nil, err
	}
	return following, nil
}

// reloadEvery is how often the policy files are looked at; a mounted ConfigMap
// takes a minute to arrive anyway.
const reloadEvery = 15 * time.Second

// follower keeps the policy files as they are on disk.
type follower struct {
	p     *Process
	specs []Spec
	next  chan<- *generation // takes services made of other policies; nil when none are to be made

	refused string // hash of the policies that were refused last
	told    string
	loaded  prometheus.Gauge
	starts  prometheus.Counter
}

func (p *Process) follower(specs []Spec, next chan<- *generation) *follower {
	f := &follower{
		p: p, specs: specs, next: next,
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oncall_policies_loaded", Help: "1 while the policies that services read at their start are in force as they are on disk, 0 while those on disk are wrong or wait for a restart.",
		}),
		starts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oncall_policies_restarts_total", Help: "Times that the services of the process were started again for the sake of policies that had changed.",
		}),
	}
	f.loaded.Set(1)
	return f
}

// run looks at the files until ctx is done. Services take over at once what they can;
// for the rest they are made again, when the files are right.
func (f *follower) run(ctx context.Context) {
	t := time.NewTicker(f.p.reloadEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		changed, err := f.p.Policies.Reload()
		if err != nil {
			f.p.Log.Warn("policies cannot be read again; those before stay in force", "err", err)
			continue
		}
		if changed {
			f.p.Log.Info("policy files changed", "policies", f.p.Policies.Hash())
		}
		f.follow(ctx, changed)
	}
}

// follow sees to the files that are read at the start.
func (f *follower) follow(ctx context.Context, changed bool) {
	names := atStart(f.p.Policies.Changed())
	hash := f.p.Policies.Hash()
	switch {
	case len(names) == 0:
		f.loaded.Set(1)
		f.refused, f.told = "", ""
		return
	case f.next == nil:
		f.loaded.Set(0)
		if changed {
			f.p.Log.Warn("policies changed that are read at the start, those before stay in force until a restart", "files", names)
		}
		return
	case hash == f.refused:
		return
	}
	g, err := f.p.make(f.specs)
	if err != nil {
		f.loaded.Set(0)
		if errors.As(err, new(*policy.Error)) {
			f.refused = hash // nothing but other files will help
		}
		if why := hash + err.Error(); why != f.told {
			f.told = why
			f.p.Log.Warn("policies are wrong, those before stay in force", "files", names, "err", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return
	}
	f.p.Policies.Adopt(hash)
	f.p.Log.Info("policies changed that are read at the start, the services start again", "files", names, "policies", hash)
	select {
	case f.next <- g:
		f.starts.Inc()
		f.loaded.Set(1)
	case <-ctx.Done():
	}
}

// atStart are the policies, of some, that sources and detectors read when they are
// made. Of slo.yaml the page budget alone is taken over at once.
func atStart(names []string) (out []string) {
	for _, name := range names {
		switch folder, _, _ := strings.Cut(name, "/"); folder {
		case "slo.yaml", "slo", "entities.yaml", "pushed.yaml", "redaction.yaml", "queries", "detectors":
			out = append(out, name)
		}
	}
	return out
}

// scope keeps the metrics of one generation, and shows them while it runs.
type scope struct {
	to  prometheus.Registerer
	own *prometheus.Registry // finds what is registered twice

	mu    sync.Mutex
	shows bool
	all   []prometheus.Collector
	shown []prometheus.Collector
}

var _ prometheus.Registerer = (*scope)(nil)

func newScope(to prometheus.Registerer) *scope {
	return &scope{to: to, own: prometheus.NewRegistry()}
}

// Register is prometheus.Registerer's.
func (s *scope) Register(c prometheus.Collector) error {
	if err := s.own.Register(c); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, c)
	if s.shows {
		return s.show(c)
	}
	return nil
}

// MustRegister is prometheus.Registerer's.
func (s *scope) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := s.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister is prometheus.Registerer's.
func (s *scope) Unregister(c prometheus.Collector) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shows {
		s.to.Unregister(c)
	}
	return s.own.Unregister(c)
}

// show registers a collector with the process; what that has already is its own.
func (s *scope) show(c prometheus.Collector) error {
	switch err := s.to.Register(c); {
	case err == nil:
		s.shown = append(s.shown, c)
	case !errors.As(err, new(prometheus.AlreadyRegisteredError)):
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

func (s *scope) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shows = true
	for _, c := range s.all {
		if err := s.show(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *scope) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.shown {
		s.to.Unregister(c)
	}
	s.shown, s.shows = nil, false
}

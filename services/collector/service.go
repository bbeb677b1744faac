package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Config is the `collector:` section of the configuration file: a list (or a
// single mapping) for each kind of source, by its registered name, and what
// they share.
type Config struct {
	// Patience is how long a source that cannot be read holds its stream back
	// before the stream goes on without it. Default: 1m.
	Patience time.Duration `yaml:"patience"`
	// RedactionKey is a file with the install key of pseudonyms. Default: a key
	// made at the first start and kept on the bus.
	RedactionKey string `yaml:"redaction_key"`

	// Until ends the reading: what a source closes after it is not stored, and
	// the source waits. Held is called when all have come to it, and their last
	// ticks are stored. Both are for recordings, and not for the configuration
	// file.
	Until time.Time `yaml:"-"`
	Held  func()    `yaml:"-"`

	configured []configured
}

// configured is one source with its decoded configuration.
type configured struct {
	info Info
	cfg  any
}

// DefaultConfig is the configuration of a user who writes nothing: no source.
func DefaultConfig() Config { return Config{Patience: time.Minute} }

// Add adds a source of a kind, for commands whose flags decide. cfg is a value
// of the kind's configuration.
func (c *Config) Add(kind string, cfg any) error {
	info, ok := Builtin.Lookup(kind)
	if !ok {
		return fmt.Errorf("collector: %q is not a kind of source; it is one of %s", kind, Builtin.Names())
	}
	c.configured = append(c.configured, configured{info, cfg})
	return nil
}

// Each calls f with every configured source: its kind and its configuration.
func (c *Config) Each(f func(kind string, cfg any)) {
	for _, s := range c.configured {
		f(s.info.Name, s.cfg)
	}
}

// Edit puts what f returns in place of each source's configuration, for
// commands that read otherwise than a service does.
func (c *Config) Edit(f func(kind string, cfg any) any) {
	for i, s := range c.configured {
		c.configured[i].cfg = f(s.info.Name, s.cfg)
	}
}

// Keep takes away the sources that f says no to, for commands that do without.
func (c *Config) Keep(f func(kind string, cfg any) bool) {
	c.configured = slices.DeleteFunc(slices.Clone(c.configured), func(s configured) bool { return !f(s.info.Name, s.cfg) })
}

// Sources is how many sources are configured.
func (c *Config) Sources() int { return len(c.configured) }

// Info describes a kind of source.
type Info struct {
	Name string // its key in the collector's section: prometheus, loki …
	Doc  string
	// Decode reads one source's mapping; path stands before field names in errors.
	Decode func(file string, n *yaml.Node, path string) (any, error)
	Build  func(cfg any, env Env) (Built, error)
}

// Built is what a source consists of.
type Built struct {
	Sources []Running
	// Serve are functions that run beside the sources, on every replica:
	// receivers.
	Serve []func(context.Context) error
	// Retriever answers look-ups of the source it is named for; nil for none.
	Retriever evidence.Retriever
	// Kind and Instance name the retriever: evidence.Prometheus and "main".
	Kind, Instance string
}

// Checked is implemented by the pointer to a source's configuration.
type Checked[C any] interface {
	*C
	Fill()
	Validate(path string) error
}

// Define builds an Info. build gets a configuration that is filled and valid.
func Define[C any, P Checked[C]](name, doc string, build func(C, Env) (Built, error)) Info {
	return Info{
		Name: name, Doc: doc,
		Decode: func(file string, n *yaml.Node, path string) (any, error) {
			var c C
			if err := policy.DecodeNode(file, n, &c); err != nil {
				return nil, err
			}
			P(&c).Fill()
			if err := policy.Locate(file, n, P(&c).Validate("")); err != nil {
				return nil, err
			}
			return c, nil
		},
		Build: func(cfg any, env Env) (Built, error) {
			c := cfg.(C)
			P(&c).Fill()
			if err := P(&c).Validate(name + "."); err != nil {
				return Built{}, policy.Locate("collector", &yaml.Node{}, err)
			}
			return build(c, env)
		},
	}
}

// Builtin holds the kinds of sources compiled into this binary.
var Builtin service.Registry[Info]

// PartName is the name of the kind.
func (i Info) PartName() string { return i.Name }

// Complete says what the registration lacks.
func (i Info) Complete() error {
	if i.Name == "" || i.Doc == "" || i.Build == nil || i.Decode == nil {
		return fmt.Errorf("collector: incomplete source %q", i.Name)
	}
	return nil
}

// UnmarshalYAML reads the section. Errors of the sources' own fields are found
// by [Spec], which knows the file.
func (c *Config) decode(file string, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return &policy.Error{File: file, Problems: []policy.Problem{{Line: n.Line, Text: "collector: is not a mapping"}}}
	}
	var errs []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch key.Value {
		case "patience":
			errs = append(errs, policy.DecodeNode(file, value, &c.Patience))
			continue
		case "redaction_key":
			errs = append(errs, policy.DecodeNode(file, value, &c.RedactionKey))
			continue
		}
		info, ok := Builtin.Lookup(key.Value)
		if !ok {
			errs = append(errs, &policy.Error{File: file, Problems: []policy.Problem{{
				Line: key.Line, Text: fmt.Sprintf("collector.%s: unknown; it is one of patience, redaction_key, %s", key.Value, Builtin.Names()),
			}}})
			continue
		}
		entries := []*yaml.Node{value}
		if value.Kind == yaml.SequenceNode {
			entries = value.Content
		}
		for j, e := range entries {
			cfg, err := info.Decode(file, e, fmt.Sprintf("%s[%d].", key.Value, j))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			c.configured = append(c.configured, configured{info, cfg})
		}
	}
	return errors.Join(errs...)
}

// Spec is the service.
var Spec = service.Spec{
	Name:    "collector",
	Default: func() any { return DefaultConfig() },
	Check: func(file string, section *yaml.Node) (any, error) {
		c := DefaultConfig()
		if section == nil {
			return c, nil
		}
		return c, c.decode(file, section)
	},
	New: func(cfg any, env service.Env) (service.Runner, error) {
		env.Log = env.Log.With("service", "collector")
		return New(cfg.(Config), env)
	},
}

// New makes the service with every configured source.
func New(cfg Config, env service.Env) (service.Runner, error) {
	clocks := clock.NewServers(env.Clock())
	red, err := redactor(cfg, env, clocks.Now)
	if err != nil {
		return nil, err
	}
	audits := newAuditor(env, red)
	set := Settings{Env: env, Patience: cfg.Patience, Until: cfg.Until, Held: cfg.Held, Clocks: clocks, Serve: []func(context.Context) error{audits.run}}
	mux := evidence.NewMux()
	workloads := &Workloads{}
	for _, c := range cfg.configured {
		b, err := c.info.Build(c.cfg, Env{
			Log: env.Log, Metrics: env.Metrics, Health: env.Health, Policies: env.Policies, Publish: env.Bus.Publish, Follow: env.Bus.Read, Now: env.Clock(), Clocks: clocks,
			Redact: red, Audit: audits.record, Cluster: env.Cluster, Workloads: workloads,
		})
		if err != nil {
			return nil, err
		}
		for _, r := range b.Sources {
			if slices.ContainsFunc(set.Sources, func(o Running) bool { return o.Source.Name() == r.Source.Name() }) {
				return nil, &policy.Error{File: "collector", Problems: []policy.Problem{{Text: fmt.Sprintf("two sources are called %s; give one another name:", r.Source.Name())}}}
			}
			set.Sources = append(set.Sources, r)
		}
		set.Serve = append(set.Serve, b.Serve...)
		if b.Retriever != nil {
			mux.Add(b.Kind, b.Instance, b.Retriever)
		}
	}
	lookups := &lookups{mux: mux, env: env, audit: audits.record}
	set.Serve = append(set.Serve, lookups.serve)
	return NewCollector(set), nil
}

func redactor(cfg Config, env service.Env, now func() time.Time) (*redact.Redactor, error) {
	return redact.Load(context.Background(), redact.Settings{Policies: env.Policies, KeyFile: cfg.RedactionKey, Bus: env.Bus, Now: now})
}

// auditor publishes what was asked of the sources, off the path of the
// question. What it cannot keep up with it counts.
type auditor struct {
	env     service.Env
	redact  Redactor
	queue   chan event.Audit
	once    sync.Once
	dropped prometheus.Counter
}

func newAuditor(env service.Env, red Redactor) *auditor {
	a := &auditor{
		env: env, redact: red, queue: make(chan event.Audit, 1024), // a burst of one step's queries, many times over
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_audits_dropped_total", Help: "Audit records that were not stored, because the bus was slower than the sources."}),
	}
	env.Metrics.MustRegister(a.dropped)
	return a
}

func (a *auditor) record(e event.Audit) {
	if a.env.Audit != nil {
		a.env.Audit(e)
	}
	select {
	case a.queue <- e:
	default:
		a.dropped.Inc()
		a.once.Do(func() { a.env.Log.Warn("audit records dropped, the bus is slower than the sources") })
	}
}

// out is a record as it is published: a question may name what is secret, and
// an error may quote what a server said.
func (a *auditor) out(e event.Audit) event.Outgoing {
	e.Query, e.Error = a.redact.Line(e.Query), a.redact.Line(e.Error)
	return event.Audited.Out(e)
}

func (a *auditor) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-a.queue:
			batch := []event.Outgoing{a.out(e)}
			for len(a.queue) > 0 && len(batch) < 64 {
				batch = append(batch, a.out(<-a.queue))
			}
			if err := a.env.Bus.Publish(ctx, batch...); err != nil && ctx.Err() == nil {
				a.env.Log.Error("audit not stored", "err", err)
			}
		}
	}
}

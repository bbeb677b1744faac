// Package service runs services: one a process in a cluster, all of them in
// one process on a laptop, from the same [Spec].
package service

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Env is all that a service may take from its process.
type Env struct {
	Bus      *bus.Bus
	Log      *slog.Logger          // carries the service's name
	Metrics  prometheus.Registerer // of this instance; never the global one
	Tracer   trace.Tracer
	Health   *obs.Health
	Policies *policy.Store // the policies in force, reloaded live
	Cluster  string        // the cluster's name as people know it
	// Audit is told of every call to a source too, before it is redacted; nil for
	// the AUDIT stream alone.
	Audit func(event.Audit)
	// Now is this machine's clock, which can be set at any moment; nil is
	// [time.Now]. It is for what is said of ourselves. What a server has stamped is
	// compared with that server's clock ([clock.Server]), and detector and
	// correlator know the time of events alone. How long something takes is the
	// difference of two readings of [time.Now], which no setting of a clock
	// changes: that needs no seam.
	Now func() time.Time
}

// Clock is Now, or [time.Now] where that is nil.
func (e Env) Clock() func() time.Time {
	if e.Now == nil {
		return time.Now
	}
	return e.Now
}

// Runner runs until ctx is done. It returns nil after a clean stop, within the
// time the process has for draining.
type Runner interface {
	Run(ctx context.Context) error
}

// Spec says how to make a service from its section of the configuration.
type Spec struct {
	Name string
	// Default is the configuration of a user who writes nothing.
	Default func() any
	// Check decodes and validates a section without starting anything.
	Check func(file string, section *yaml.Node) (any, error)
	New   func(cfg any, env Env) (Runner, error)
}

// Define builds a Spec. def is the configuration of a user who writes nothing;
// C may be a policy.Validator.
func Define[C any](name string, def func() C, build func(C, Env) (Runner, error)) Spec {
	return Spec{
		Name:    name,
		Default: func() any { return def() },
		Check: func(file string, section *yaml.Node) (any, error) {
			cfg := def()
			if section == nil {
				return cfg, nil
			}
			if err := policy.DecodeNode(file, section, &cfg); err != nil {
				return nil, err
			}
			return cfg, nil
		},
		New: func(cfg any, env Env) (Runner, error) {
			env.Log = env.Log.With("service", name)
			return build(cfg.(C), env)
		},
	}
}

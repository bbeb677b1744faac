// Package correlator groups anomalies into incidents, scores them, and ranks
// what may have caused them.
//
// It is one fold over the ANOMALIES stream, in event time: it reads no clock,
// does no I/O, and gives the same incidents for the same stream however often
// and by whomever it is folded.
package correlator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Config is the `correlator:` section of the configuration file.
type Config struct {
	// Groups are the detector groups whose watermarks are waited for when the
	// watermarks themselves do not say which there are. Default: metrics, logs
	// and events.
	Groups []string `yaml:"groups"`
	// Grace is how far, in event time, one group may be behind another before it
	// is no longer waited for. Incidents are the same in every run over the same
	// telemetry as long as no group is further behind. Default: 2m.
	Grace time.Duration `yaml:"grace"`
	// Heard says when a replayed anomaly begins to count, by the id of its event:
	// the time at which the recorded run came to it. It is not read from a file.
	Heard map[string]time.Time `yaml:"-"`
}

// Validate checks the fields.
func (c *Config) Validate() error {
	if c.Grace < 10*time.Second || c.Grace > 30*24*time.Hour {
		return &policy.FieldError{Path: "grace", Value: c.Grace, Problem: "is not between 10s and 720h", Fix: "write 2m"}
	}
	return nil
}

// DefaultConfig is the configuration of a user who writes nothing.
func DefaultConfig() Config {
	return Config{Groups: []string{"metrics", "logs", "events"}, Grace: 2 * time.Minute}
}

// Spec is the service.
var Spec = service.Define("correlator", DefaultConfig, New)

// GroupName is the consumer group of the fold.
const GroupName = "correlator"

// ConfigHash names the state of the fold, and with [GroupName] its checkpoint.
var ConfigHash = fmt.Sprintf("v%d", stateVersion)

// Judged is the event time up to which the fold with this state has judged:
// every revision up to then is published, and none after it.
func Judged(checkpoint []byte) (time.Time, error) {
	f := fold{State: newState()}
	if err := f.UnmarshalBinary(checkpoint); err != nil {
		return time.Time{}, err
	}
	return f.State.Released.UTC(), nil
}

// New makes the service.
func New(cfg Config, env service.Env) (service.Runner, error) {
	b, err := newBook(env.Policies, env.Log, env.Metrics)
	if err != nil {
		return nil, err
	}
	return &runner{cfg: cfg, env: env, book: b}, nil
}

func (r *runner) newFold() *fold {
	f := &fold{
		inForce: r.book.inForce, cluster: r.env.Cluster, groups: r.cfg.Groups, grace: r.cfg.Grace, heardAt: r.cfg.Heard, scorers: Scorers(), State: newState(),
		late: func() { r.env.Bus.CountLate(GroupName, 1) },
	}
	f.reload()
	return f
}

// NewFold makes the fold outside the service: for backtests and benchmarks. Its
// inputs are the messages of ANOMALIES, its outputs revisions of incidents.
func NewFold(cfg Config, policies *policy.Store, cluster string) (bus.Fold, error) {
	r, err := readRules(policies)
	if err != nil {
		return nil, err
	}
	f := &fold{cluster: cluster, groups: cfg.Groups, grace: cfg.Grace, heardAt: cfg.Heard, scorers: Scorers(), State: newState()}
	f.policy, f.owners, f.policyHash = r.policy, r.owners, r.hash
	return f, nil
}

type runner struct {
	cfg  Config
	env  service.Env
	book *book
}

// Run folds until ctx is done. Of several correlators one folds and the others
// stand by.
func (r *runner) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return r.env.Bus.RunGroup(ctx, bus.Group{
			Name: GroupName, Stream: event.Anomalies, Partitions: 1,
			Filters: func(int) []string { return event.Anomalies.Subjects },
			// The policy is not part of the hash: what an incident is does not
			// start anew because an owner changed. Each revision says by which
			// policies it was judged.
			ConfigHash: ConfigHash,
			New:        func(int) (bus.Fold, error) { return r.newFold(), nil },
		})
	})
	g.Go(func() error { return r.remember(ctx) })
	g.Go(func() error { r.env.Bus.RunKept(ctx); return nil })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// remember keeps the present state of every incident in a bucket, for those
// who ask for one by its id, and holds the checkpoints that a replay of it
// begins with.
func (r *runner) remember(ctx context.Context) error {
	kv, err := r.env.Bus.KV(ctx, bus.BucketIncident)
	if err != nil {
		return err
	}
	c := bus.ConsumerConfig{Durable: "incident-state"}
	return r.env.Bus.ConsumeAny(ctx, event.Incidents, event.Incidents.Subjects, c, func(ctx context.Context, m bus.Message) error {
		inc, ok := m.Data.(event.Incident)
		if !ok {
			return nil
		}
		if m.Type == event.IncidentOpened.Type {
			if err := r.env.Bus.Pin(ctx, inc.Onset); err != nil {
				r.env.Log.Warn("checkpoints from before the incident are not held, it can be replayed exactly for two hours only", "incident", inc.ID, "err", err)
			}
		}
		raw, _, err := kv.Get(ctx, inc.ID)
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		var old event.Incident
		if raw != nil && json.Unmarshal(raw, &old) == nil && old.Revision >= inc.Revision {
			return nil
		}
		b, err := json.Marshal(inc)
		if err != nil {
			return bus.Reject(err)
		}
		_, err = kv.Put(ctx, inc.ID, b)
		return err
	})
}

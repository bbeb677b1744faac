// Package remotewrite takes metrics that are pushed by Prometheus' Remote-Write
// 1.0 and 2.0: from an agent, a collector or a Prometheus that cannot be asked.
//
// Every replica of the collector receives. What policies/pushed.yaml allows is
// reduced to the labels that are needed, redacted and stored in the stream of
// pushed samples, and then the sender is answered; the id of a batch is the
// hash of its content, so that a request sent again is stored once. The one
// collector that reads folds that log into aligned steps: counters become
// rates, series are joined to entities, errors and requests to ratios, as
// PromQL does it for the sources that can be asked. The end of a step is a
// message in the same log, written when its lateness has passed: what comes
// after it is late, which is counted. So a step is a function of the log, and a
// process that takes over reads one window of it again and goes on alike.
package remotewrite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/receiver"
)

// Config is a Remote-Write receiver in the collector's section.
type Config struct {
	receiver.Config `yaml:",inline"`
	// Name tells receivers apart: letters, digits, - and _. Default: remote_write.
	Name string `yaml:"name"`
	// Step is the time between two values of a signal. Default: 30s.
	Step time.Duration `yaml:"step"`
	// Window is the range of rates; at least two intervals in which the senders
	// scrape. Default: 2m.
	Window time.Duration `yaml:"window"`
	// Lateness is how long after its end a step waits for samples. Default: 30s.
	Lateness time.Duration `yaml:"lateness"`
	// MaxAge is the age of the oldest sample that is taken at all. Default: 1h.
	MaxAge time.Duration `yaml:"max_age"`
	// MaxSeries bounds the raw series that are followed; each takes about 500
	// bytes. Samples of further ones are counted and left out. Default: 200000.
	MaxSeries int `yaml:"max_series"`
	// ReplicaLabels tell apart senders that send the same. Default:
	// prometheus_replica, __replica__.
	ReplicaLabels []string `yaml:"replica_labels"`
}

// Path is where writes are taken, the one that Prometheus itself uses.
const Path = "/api/v1/write"

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill() {
	c.Config.Fill()
	if c.Name == "" {
		c.Name = "remote_write"
	}
	for p, d := range map[*time.Duration]time.Duration{&c.Step: 30 * time.Second, &c.Window: 2 * time.Minute, &c.Lateness: 30 * time.Second, &c.MaxAge: time.Hour} {
		if *p == 0 {
			*p = d
		}
	}
	if c.MaxSeries == 0 {
		c.MaxSeries = 200_000
	}
	if c.ReplicaLabels == nil {
		c.ReplicaLabels = []string{"prometheus_replica", "__replica__"}
	}
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	errs := []error{c.Config.Validate(path)}
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path + field, Value: value, Problem: problem, Fix: fix})
	}
	if c.Listen == "" {
		bad("listen", nil, "is missing", "write :9098")
	}
	if event.Token(c.Name) != c.Name {
		bad("name", c.Name, "has characters other than letters, digits, - and _", "write agents")
	}
	if c.Step < time.Second || c.Step > 10*time.Minute {
		bad("step", c.Step, "is not between 1s and 10m", "write 30s")
	}
	if c.Window < c.Step || c.Window > 30*time.Minute {
		bad("window", c.Window, "is not between step and 30m", "write 2m")
	}
	if c.Lateness < time.Second || c.Lateness > 10*time.Minute {
		bad("lateness", c.Lateness, "is not between 1s and 10m", "write 30s")
	}
	if c.MaxAge < c.Window || c.MaxAge > 24*time.Hour {
		bad("max_age", c.MaxAge, "is not between window and 24h", "write 1h")
	}
	if c.MaxSeries < 1 || c.MaxSeries > 5_000_000 {
		bad("max_series", c.MaxSeries, "is not between 1 and 5000000", "write 200000")
	}
	return errors.Join(errs...)
}

func init() {
	collector.Builtin.Register(collector.Define[Config]("remote_write", "Metrics pushed by Remote-Write 1.0 and 2.0.",
		func(cfg Config, env collector.Env) (collector.Built, error) {
			s, err := New(cfg, env)
			if err != nil {
				return collector.Built{}, err
			}
			return collector.Built{
				Sources: []collector.Running{{Source: s, Streams: []*event.Stream{event.Metrics}}},
				Serve:   []func(context.Context) error{s.Receiver().Run},
			}, nil
		}))
}

// Source folds what was pushed.
type Source struct {
	cfg     Config
	env     collector.Env
	rules   *Rules
	allow   allowed
	names   *entities.Map
	samples *prometheus.CounterVec
}

var _ collector.Source = (*Source)(nil)

// outcomes of samples.
var outcomes = []string{"taken", "not_allowed", "malformed", "histogram", "too_old_or_new", "late", "over_limit"}

// New makes a source.
func New(cfg Config, env collector.Env) (*Source, error) {
	cfg.Fill()
	if env.Now == nil {
		env.Now = time.Now
	}
	rules, err := LoadRules(env.Policies)
	if err != nil {
		return nil, err
	}
	names, err := entities.Load(env.Policies)
	if err != nil {
		return nil, err
	}
	s := &Source{
		cfg: cfg, env: env, rules: rules, allow: rules.allowed(), names: names,
		samples: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oncall_collector_pushed_samples_total", Help: "Samples that were pushed, by what became of them.", ConstLabels: prometheus.Labels{"source": cfg.Name},
		}, []string{"outcome"}),
	}
	for _, o := range outcomes {
		s.samples.WithLabelValues(o)
	}
	env.Metrics.MustRegister(s.samples)
	return s, nil
}

// Name is the configured name.
func (s *Source) Name() string { return s.cfg.Name }

// Receiver is the listening side, which runs on every replica.
func (s *Source) Receiver() *receiver.Receiver {
	return receiver.New(s.cfg.Config, receiver.Settings{Source: s.cfg.Name, Path: Path, Handle: s.receive, Log: s.env.Log, Metrics: s.env.Metrics})
}

// contentHash names a batch by what is in it.
func contentHash(series []event.Series) string {
	var parts []string
	for _, s := range series {
		parts = append(parts, strconv.FormatUint(s.ID, 16))
		for _, p := range s.Points {
			parts = append(parts, strconv.FormatInt(p.T, 16), strconv.FormatUint(math.Float64bits(p.V), 16))
		}
	}
	return event.SeriesHash(event.HashStrings(parts...))
}

// cursor is how far steps are stored.
type cursor struct {
	Step time.Time `json:"step"`
}

// endOf is the message that ends a step.
func (s *Source) endOf(step time.Time) event.Outgoing {
	return event.MetricsPushed.Out(event.MetricBatch{Source: s.cfg.Name, Query: "end", Step: step.UTC()})
}

// silence is how long nothing may be pushed before we count as blind.
const silence = 2 * time.Minute

// Run folds the log from a window before the cursor on, and ends steps.
func (s *Source) Run(ctx context.Context, raw []byte, emit collector.Emit) error {
	var cur cursor
	if raw != nil {
		if err := json.Unmarshal(raw, &cur); err != nil {
			s.env.Log.Warn("cursor unreadable, reading from now on", "source", s.cfg.Name, "err", err)
		}
	}
	now := s.env.Time()
	if cur.Step.IsZero() {
		cur.Step = now.Truncate(s.cfg.Step).UTC()
	}
	skipped := 0
	if oldest := now.Add(-s.cfg.MaxAge).Truncate(s.cfg.Step).UTC(); cur.Step.Before(oldest) {
		skipped = int(oldest.Sub(cur.Step) / s.cfg.Step)
		cur.Step = oldest
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	log := make(chan bus.Message)
	wg.Go(func() { s.follow(ctx, cur.Step.Add(-s.cfg.Window-2*ahead), log) })

	f := newFold(s.cfg.Name, s.cfg.Window, s.cfg.MaxSeries, s.rules, s.names)
	ended := cur.Step // of which the message is written
	next := due{every: s.cfg.Step, lateness: s.cfg.Lateness}
	heard, deaf := now, false
	for {
		wait := time.NewTimer(next.wait(ended, s.env.Time()))
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
			step := ended.Add(s.cfg.Step)
			if err := s.env.Publish(ctx, s.endOf(step)); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				s.env.Log.Error("end of a step not stored, trying again", "source", s.cfg.Name, "err", err)
				if !upstream.Wait(ctx, time.Second) {
					return ctx.Err()
				}
				continue
			}
			ended = step
			continue
		case m := <-log:
			wait.Stop()
			b, ok := m.Data.(event.MetricBatch)
			if !ok {
				s.env.Log.Warn("undecodable message passed over", "stream", m.Stream, "sequence", m.Sequence)
				continue
			}
			if len(b.Series) > 0 {
				heard = s.env.Time()
				f.add(b)
				continue
			}
			f.mark(b.Step)
			if !b.Step.After(cur.Step) {
				continue
			}
			e := collector.Emission{Stream: event.Metrics, Closed: b.Step, Skipped: skipped}
			for _, batch := range f.step(b.Step) {
				e.Events = append(e.Events, event.MetricsRead.Out(batch))
			}
			if quiet := s.env.Time().Sub(heard); quiet > silence {
				e.Blind = &event.Blindness{Source: s.cfg.Name, Since: heard.UTC().Truncate(time.Second), Reason: "nothing is pushed"}
			}
			if was := deaf; e.Blind != nil && !was {
				s.env.Log.Warn("nothing is pushed", "source", s.cfg.Name, "since", heard)
			}
			deaf = e.Blind != nil
			late, over := f.taken()
			s.samples.WithLabelValues("late").Add(float64(late))
			s.samples.WithLabelValues("over_limit").Add(float64(over))
			cur.Step, skipped = b.Step, 0
			if b.Step.After(ended) {
				ended = b.Step
			}
			var err error
			if e.Cursor, err = json.Marshal(cur); err != nil {
				return fmt.Errorf("cursor: %w", err)
			}
			if err := emit(ctx, e); err != nil {
				return err
			}
		}
	}
}

// due says when a step is ended. After a time in which none could be, senders
// have kept samples back too: they get the lateness once more.
type due struct {
	every, lateness time.Duration
	behind          time.Time // since when we are behind; zero when we are not
}

func (d *due) wait(ended, now time.Time) time.Duration {
	at := ended.Add(d.every + d.lateness)
	if now.Sub(at) < d.lateness {
		d.behind = time.Time{}
		return max(0, at.Sub(now))
	}
	if d.behind.IsZero() {
		d.behind = now
	}
	return max(0, d.behind.Add(d.lateness).Sub(now))
}

// follow hands on the log from a time on, until ctx is done.
func (s *Source) follow(ctx context.Context, from time.Time, out chan<- bus.Message) {
	o := bus.ReadOptions{Filters: []string{event.PushedTo(s.cfg.Name)}, StartTime: from, Follow: true}
	for {
		err := s.env.Follow(ctx, event.Pushed, o, func(m bus.Message) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case out <- m:
				o.StartSeq, o.StartTime = m.Sequence+1, time.Time{}
				return nil
			}
		})
		if ctx.Err() != nil {
			return
		}
		s.env.Log.Warn("log of pushed samples unreadable, trying again", "source", s.cfg.Name, "err", err)
		if !upstream.Wait(ctx, time.Second) {
			return
		}
	}
}

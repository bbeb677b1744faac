// Package prometheus reads golden signals from Prometheus and what speaks its
// API, at aligned steps, with the queries of policies/queries.
package prometheus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// Config is one Prometheus in the collector's section.
type Config struct {
	upstream.Config `yaml:",inline"`
	// Step is the time between two readings. Default: 30s.
	Step time.Duration `yaml:"step"`
	// Delay is how long after a step it is read, so that scrapes have arrived.
	// Default: 10s.
	Delay time.Duration `yaml:"delay"`
	// Window is the range of rates; at least four scrape intervals. Default: 2m.
	Window time.Duration `yaml:"window"`
	// MaxCatchUp is how far back missed steps are read after an outage. What is
	// older is skipped and counted. Default: 1h.
	MaxCatchUp time.Duration `yaml:"max_catch_up"`
	// WarmStart is what the first start reads of the past, so that detectors know
	// from the first step on what is usual.
	WarmStart WarmStart `yaml:"warm_start"`
	// Reprobe is how long what is there is taken to stay there; 0 means 5m. It is
	// for readings of the past, and not for the configuration file.
	Reprobe time.Duration `yaml:"-"`
}

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill() {
	c.Config.Fill("prometheus")
	for p, d := range map[*time.Duration]time.Duration{&c.Step: 30 * time.Second, &c.Delay: 10 * time.Second, &c.Window: 2 * time.Minute, &c.MaxCatchUp: time.Hour} {
		if *p == 0 {
			*p = d
		}
	}
	if c.WarmStart.History == 0 {
		c.WarmStart.History = min(2*time.Hour, 240*c.Step)
	}
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	errs := []error{c.Config.Validate(path)}
	if c.Step < time.Second || c.Step > 10*time.Minute {
		errs = append(errs, &policy.FieldError{Path: path + "step", Value: c.Step, Problem: "is not between 1s and 10m", Fix: "write 30s"})
	}
	if c.Window < time.Second {
		errs = append(errs, &policy.FieldError{Path: path + "window", Value: c.Window, Problem: "is less than a second", Fix: "write 2m"})
	}
	return errors.Join(append(errs, c.WarmStart.validate(path, c.Step))...)
}

func init() {
	collector.Builtin.Register(collector.Define[Config]("prometheus",
		"Golden signals from Prometheus, Thanos or Mimir, at aligned steps.",
		func(cfg Config, env collector.Env) (collector.Built, error) {
			s, err := New(cfg, env)
			if err != nil {
				return collector.Built{}, err
			}
			return collector.Built{
				Sources:   []collector.Running{{Source: s, Streams: []*event.Stream{event.Metrics}}},
				Retriever: evidence.NewPrometheus(s.client, env.Redact), Kind: evidence.Prometheus, Instance: cfg.Name,
			}, nil
		}))
}

// Source reads one Prometheus.
type Source struct {
	cfg      Config
	env      collector.Env
	client   *promql.Client
	now      func() time.Time // by the server's clock, which stamps what it scrapes
	ask      answers
	past     *ahead // answers the queries of a step; nil: ask does
	families []Family
	entities *entities.Map

	latencies latencies
	refused   map[string]string // by query, why the last step was without it
	bad       map[string]string // those of refused, while history is read

	mu      sync.Mutex
	queries []boundQuery
	owners  owners
	known   []map[model.Fingerprint]mapping // by query; each is touched by one goroutine at a time
	present map[string]bool                 // guard metrics that were there
	probed  time.Time                       // event time of the last look at everything that is there
	looked  time.Time                       // event time of the last look at the guard metrics alone
	changed time.Time                       // event time at which they were others than before
	walking bool                            // over what changes no more: nothing comes up while it is read
}

var _ collector.Source = (*Source)(nil)

// New makes a source.
func New(cfg Config, env collector.Env) (*Source, error) {
	cfg.Fill()
	families, err := loadQueries(env.Policies)
	if err != nil {
		return nil, err
	}
	names, err := entities.Load(env.Policies)
	if err != nil {
		return nil, err
	}
	promises, err := loadLatencies(env.Policies)
	if err != nil {
		return nil, err
	}
	up, err := upstream.New(cfg.Config, upstream.Settings{Service: "collector", Source: "prometheus", Audit: env.Audit, Now: env.Now})
	if err != nil {
		return nil, err
	}
	env.Clocks.Add(cfg.Name, up.Clock())
	client := promql.New(up)
	past := &ahead{
		answers: client, ranges: client.Range, step: cfg.Step, held: map[string]*stretch{},
		settled: func() time.Time { return up.Clock().Now().Add(-cfg.Delay) },
		first:   firstSteps, most: mostSteps, samples: mostSamples,
	}
	return &Source{cfg: cfg, env: env, client: client, now: up.Clock().Now, ask: client, past: past, families: families, entities: names, latencies: promises}, nil
}

// Name is the configured name.
func (s *Source) Name() string { return s.cfg.Name }

// Client is the client that the source reads with.
func (s *Source) Client() *promql.Client { return s.client }

// cursor is how far has been read.
type cursor struct {
	Step time.Time `json:"step"`          // the last step that is stored
	New  bool      `json:"new,omitempty"` // nothing is stored: history comes first
}

// After is the cursor of a source that has read everything up to a time: it
// goes on with the step after.
func After(at time.Time) []byte {
	b, _ := json.Marshal(cursor{Step: at.UTC()}) // a time of this era is JSON
	return b
}

// FirstAfter is the cursor of a source whose first step is the one after a time.
func FirstAfter(at time.Time) []byte {
	b, _ := json.Marshal(cursor{at.UTC(), true})
	return b
}

// introduction is how long the first reading waits for Kubernetes to say whose
// pods are.
const introduction = 30 * time.Second

// reprobe is how long what is there is taken to stay there.
const reprobe = 5 * time.Minute

// looks are when it is looked again for guard metrics, after the start and after
// every change of them: where one exporter has come up, others follow.
var looks = []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute}

// due says whether it is time to look for guard metrics. It depends on the times
// of steps alone, so that the same steps ask the same.
func (s *Source) due(at time.Time) bool {
	for _, d := range looks {
		if s.walking {
			break
		}
		if t := s.changed.Add(d); t.After(s.looked) {
			return !at.Before(t)
		}
	}
	return at.Sub(s.looked) >= s.reprobe()
}

func (s *Source) reprobe() time.Duration { return cmp.Or(s.cfg.Reprobe, reprobe) }

// Run reads every aligned step once it is Delay old.
func (s *Source) Run(ctx context.Context, raw []byte, emit collector.Emit) error {
	var cur cursor
	if raw != nil {
		if err := json.Unmarshal(raw, &cur); err != nil {
			s.env.Log.Warn("cursor unreadable, reading from now on", "source", s.cfg.Name, "err", err)
		}
	}
	fresh := cur.Step.IsZero()
	if fresh {
		cur.Step = s.latest()
	}
	first := raw == nil || cur.New
	cur.New = false
	s.env.Workloads.Wait(ctx, introduction)
	var blind *event.Blindness
	for backoff := time.Second; ; {
		next := cur.Step.Add(s.cfg.Step)
		now := s.now()
		if wait := next.Add(s.cfg.Delay).Sub(now); wait > 0 {
			if !upstream.Wait(ctx, wait) {
				return ctx.Err()
			}
			continue
		}
		skipped := 0
		if oldest := now.Add(-s.cfg.MaxCatchUp).Truncate(s.cfg.Step); next.Before(oldest) {
			skipped = int(oldest.Sub(next) / s.cfg.Step)
			next = oldest.UTC()
			s.env.Log.Warn("steps skipped, older than max_catch_up", "source", s.cfg.Name, "steps", skipped, "to", next)
		}
		read := s.read
		if first && !s.cfg.WarmStart.Off {
			read = s.readFirst
		}
		events, err := read(ctx, next)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if blind == nil {
				blind = &event.Blindness{Source: s.cfg.Name, Since: next, Reason: s.env.Redact.Line(upstream.Reason(err))}
				s.env.Log.Warn("source unreadable, trying again", "source", s.cfg.Name, "since", next, "err", blind.Reason)
			}
			if e := emit(ctx, collector.Emission{Stream: event.Metrics, Blind: blind}); e != nil {
				return e
			}
			if !upstream.Wait(ctx, max(backoff, upstream.RetryIn(err))) {
				return ctx.Err()
			}
			backoff = min(2*backoff, s.cfg.Step)
			continue
		}
		if blind != nil {
			s.env.Log.Info("source readable again, catching up", "source", s.cfg.Name, "blind_since", blind.Since, "steps", int(now.Sub(next)/s.cfg.Step))
		}
		blind, backoff = nil, time.Second
		// The answers have told what time it is there. What was asked of a time that
		// has not come is no answer, and it must not be closed.
		if next.Add(s.cfg.Delay).After(s.now()) {
			if fresh {
				cur.Step = s.latest()
			}
			continue
		}
		first, fresh = false, false
		cur.Step = next
		position, err := json.Marshal(cur)
		if err != nil {
			return fmt.Errorf("cursor: %w", err)
		}
		if err := emit(ctx, collector.Emission{Stream: event.Metrics, Events: events, Cursor: position, Closed: next, Skipped: skipped}); err != nil {
			return err
		}
	}
}

// latest is the last step but one that could be read now.
func (s *Source) latest() time.Time {
	return s.now().Add(-s.cfg.Delay).Truncate(s.cfg.Step).Add(-s.cfg.Step).UTC()
}

// concurrent is how many queries of a step are under way at once.
const concurrent = 6

// read asks every query at one step and returns the batches, in an order and
// with ids that depend on the answers alone.
func (s *Source) read(ctx context.Context, at time.Time) ([]event.Outgoing, error) {
	if err := s.probe(ctx, at); err != nil {
		return nil, err
	}
	answers, err := s.answers(ctx, at)
	if err != nil {
		return nil, err
	}
	return s.batches(at, answers, false), nil
}

// answers are the series of each query at one step.
func (s *Source) answers(ctx context.Context, at time.Time) ([][]event.Series, error) {
	answers := make([][]event.Series, len(s.queries))
	errs := make([]error, len(s.queries))
	refused := make([]string, len(s.queries))
	slots := make(chan struct{}, concurrent)
	var wg sync.WaitGroup
	for i, q := range s.queries {
		// Of the past is not asked what the server has refused of now.
		if refused[i] = s.bad[q.name()]; q.Ratio != nil || refused[i] != "" {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			v, err := s.instant(ctx, q.text(s.cfg.Window), at)
			if upstream.KindOf(err) == upstream.BadQuery && err != nil {
				// One query that this server refuses must not blind the others.
				refused[i] = s.env.Redact.Line(upstream.Reason(err))
				return
			}
			errs[i] = err
			answers[i] = s.series(s.known[i], q, v, at)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, firstOf(errs)
	}
	s.tell(refused)
	s.yield(answers)
	for i, q := range s.queries {
		if q.Ratio != nil {
			answers[i] = s.ratio(q, s.answer(q.family, q.Ratio[0], answers), s.answer(q.family, q.Ratio[1], answers))
		}
	}
	return answers, nil
}

// batches are the batches of the series of each query.
func (s *Source) batches(at time.Time, answers [][]event.Series, bootstrap bool) (out []event.Outgoing) {
	for i, q := range s.queries {
		for _, b := range Batches(s.cfg.Name, q.hash(s.cfg.Window), at, answers[i]) {
			b.Bootstrap = bootstrap
			out = append(out, event.MetricsRead.Out(b))
		}
	}
	return out
}

func (s *Source) instant(ctx context.Context, expr string, at time.Time) ([]keyed, error) {
	if s.past != nil {
		return s.past.instant(ctx, expr, at)
	}
	v, err := s.ask.Instant(ctx, expr, at)
	return keyOf(v), err
}

// yield leaves out of each family what a better one says of the same workload:
// the same requests, counted by a mesh and by the application, are one signal.
func (s *Source) yield(answers [][]event.Series) {
	type about struct{ family, signal, namespace, workload string }
	of := func(family, signal string, ls event.Labels) about {
		return about{family, signal, ls.Get(event.LabelNamespace), ls.Workload()}
	}
	said := map[about]bool{}
	for i, q := range s.queries {
		for _, one := range answers[i] {
			said[of(q.family, q.Signal, one.Labels)] = true
		}
	}
	for i, q := range s.queries {
		answers[i] = slices.DeleteFunc(answers[i], func(one event.Series) bool {
			return slices.ContainsFunc(q.unless, func(better string) bool { return said[of(better, q.Signal, one.Labels)] })
		})
	}
}

// answer is the series of one signal of a family.
func (s *Source) answer(family, signal string, answers [][]event.Series) []event.Series {
	i := slices.IndexFunc(s.queries, func(q boundQuery) bool { return q.family == family && q.Signal == signal })
	if i < 0 {
		return nil
	}
	return answers[i]
}

// ratio divides the series of two signals that speak of the same thing.
// Nothing is divided by zero: an entity without requests has no error ratio.
func (s *Source) ratio(q boundQuery, above, below []event.Series) []event.Series {
	about := func(ls event.Labels) event.Labels {
		return slices.DeleteFunc(slices.Clone(ls), func(l event.Label) bool {
			switch l.Name {
			case event.LabelName, event.LabelUnit, event.LabelClass, event.LabelDetected:
				return true
			}
			return false
		})
	}
	per := map[uint64]event.Series{}
	for _, b := range below {
		per[about(b.Labels).Hash()] = b
	}
	var out []event.Series
	for _, a := range above {
		ls := about(a.Labels)
		b, ok := per[ls.Hash()]
		if !ok || b.Points[0].V == 0 {
			continue
		}
		ls = with(with(with(ls, event.LabelName, q.Signal), event.LabelUnit, q.Unit), event.LabelClass, string(q.Class))
		if len(q.Detectors) > 0 {
			ls = with(ls, event.LabelDetected, strings.Join(q.Detectors, ","))
		}
		out = append(out, event.Series{ID: ls.Hash(), Labels: ls, Points: []event.Point{{T: a.Points[0].T, V: a.Points[0].V / b.Points[0].V}}})
	}
	return out
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ownerQueries say who owns what.
var ownerQueries = [3]string{
	`group by (namespace, pod, owner_kind, owner_name) (kube_pod_owner)`,
	`group by (namespace, replicaset, owner_kind, owner_name) (kube_replicaset_owner)`,
	`group by (namespace, job_name, owner_kind, owner_name) (kube_job_owner)`,
}

// probe finds out, now and then, which families are there and who owns which
// pod. Between those times one query looks whether there are others.
func (s *Source) probe(ctx context.Context, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := !s.probed.IsZero() && at.Sub(s.probed) < s.reprobe() && at.Sub(s.probed) >= 0 && len(s.queries) > 0
	if known && !s.due(at) {
		return nil
	}
	guards := []string{"kube_pod_owner"}
	for _, f := range s.families {
		if f.Guard != "" {
			guards = append(guards, f.Guard)
		}
	}
	present, err := s.ask.Has(ctx, guards, at)
	if err != nil {
		return err
	}
	same := maps.Equal(present, s.present)
	if known && same {
		s.looked = at
		return nil
	}
	queries := active(s.families, present)
	// What the probe itself asks is part of the step.
	queries, left := within(queries, MaxQueries-promql.Calls(len(guards))-len(ownerQueries)-s.latencies.checks())
	if left > 0 {
		s.env.Log.Warn("more queries than a step may send, the last left out", "source", s.cfg.Name, "left_out", left, "most", MaxQueries)
	}
	if err := s.checkLatencies(ctx, at); err != nil {
		return err
	}
	if present["kube_pod_owner"] {
		var vs [len(ownerQueries)]model.Vector
		for i, expr := range ownerQueries {
			if vs[i], err = s.ask.Instant(ctx, expr, at); err != nil {
				return err
			}
		}
		s.owners = makeOwners(vs[0], vs[1], vs[2])
	}
	if len(queries) == 0 && s.probed.IsZero() {
		s.env.Log.Warn("none of the metrics that the query families read are there, asking again at every step; see oncall doctor --coverage", "source", s.cfg.Name)
	}
	if len(queries) != len(s.queries) {
		var names []string
		for _, q := range queries {
			if !slices.Contains(names, q.family) {
				names = append(names, q.family)
			}
		}
		s.env.Log.Info("query families found", "source", s.cfg.Name, "families", strings.Join(names, " "), "queries", len(queries))
	}
	if !same {
		s.changed = at
	}
	s.queries, s.present, s.probed, s.looked = queries, present, at, at
	s.known = make([]map[model.Fingerprint]mapping, len(queries))
	for i := range s.known {
		s.known[i] = map[model.Fingerprint]mapping{}
	}
	return nil
}

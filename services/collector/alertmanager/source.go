package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// Source polls one Alertmanager and takes its webhooks.
type Source struct {
	cfg      Config
	env      collector.Env
	names    *entities.Map
	replicas []*upstream.Client
	now      func() time.Time // by the replicas' clocks; by Env.Time where none is polled
	left     prometheus.Counter
	watchdog prometheus.Gauge

	// alive is when the Watchdog was seen last, if ever; only the loop touches it.
	alive time.Time
}

var _ collector.Source = (*Source)(nil)

// New makes a source.
func New(cfg Config, env collector.Env, names *entities.Map) (*Source, error) {
	cfg.Fill()
	if env.Now == nil {
		env.Now = time.Now
	}
	s := &Source{
		cfg: cfg, env: env, names: names,
		left: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oncall_collector_alerts_left_out_total", Help: "Alerts that were not taken, because more fire than are followed or a webhook was truncated.",
			ConstLabels: prometheus.Labels{"source": cfg.Name},
		}),
		watchdog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oncall_collector_watchdog_timestamp_seconds", Help: "When the Watchdog alert, which always fires, was seen last; 0 for never.",
			ConstLabels: prometheus.Labels{"source": cfg.Name},
		}),
	}
	clocks := clock.NewServers(env.Now)
	for _, one := range cfg.replicas() {
		up, err := upstream.New(one, upstream.Settings{Service: "collector", Source: "alertmanager", Audit: env.Audit, Now: env.Now})
		if err != nil {
			return nil, err
		}
		s.replicas = append(s.replicas, up)
		env.Clocks.Add(cfg.Name, up.Clock())
		clocks.Add(cfg.Name, up.Clock())
	}
	if s.now = clocks.Now; len(s.replicas) == 0 {
		s.now = env.Time
	}
	env.Metrics.MustRegister(s.left, s.watchdog)
	return s, nil
}

// Name is the configured name.
func (s *Source) Name() string { return s.cfg.Name }

const (
	// heartbeat is how often the closed time moves on, to a multiple of itself:
	// every closed time is a tick for each partition. It is no longer than the
	// Kubernetes events of the same stream wait for late ones, so that they do not
	// wait for us.
	heartbeat = 5 * time.Second
	// deadAfter is how long the Watchdog may be away before we say so.
	deadAfter = 5 * time.Minute
)

// polled is the outcome of one poll.
type polled struct {
	at     time.Time // the aligned step
	alerts map[string]event.Alert
	alive  bool // the Watchdog fires
	err    error
}

// Run polls every replica at aligned times.
func (s *Source) Run(ctx context.Context, raw []byte, emit collector.Emit) error {
	f, err := decodeFiring(raw)
	if err != nil {
		s.env.Log.Warn("cursor unreadable, starting as if for the first time", "source", s.cfg.Name, "err", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	polls := make(chan polled) // the poller waits until its answer is stored
	if len(s.replicas) > 0 {
		wg.Go(func() { s.poll(ctx, polls) })
	}
	beat := time.NewTicker(min(heartbeat/5, s.cfg.Every)) // at least one falls early into each
	defer beat.Stop()
	var blind *event.Blindness
	heard := len(s.replicas) == 0 // what time it is there is known, as far as it will be
	for {
		e := collector.Emission{Stream: event.KubeEvents}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
		case p := <-polls:
			heard = true
			if p.err != nil {
				if blind == nil {
					blind = &event.Blindness{Source: s.cfg.Name, Since: p.at, Reason: s.env.Redact.Line(upstream.Reason(p.err))}
					s.env.Log.Warn("source unreadable, trying again", "source", s.cfg.Name, "since", p.at, "err", blind.Reason)
				}
				break
			}
			if blind != nil {
				s.env.Log.Info("source readable again", "source", s.cfg.Name, "blind_since", blind.Since)
			}
			blind = nil
			s.deadman(p)
			tell, changed, left := f.step(p.at, p.alerts, s.cfg.Settle)
			s.left.Add(float64(left))
			for _, a := range tell {
				e.Events = append(e.Events, event.AlertSeen.Out(a))
			}
			if changed {
				if e.Cursor, err = f.encode(); err != nil {
					return err
				}
			}
		}
		if !heard {
			continue
		}
		e.Blind, e.Closed = blind, s.now().Truncate(heartbeat).UTC()
		if err := emit(ctx, e); err != nil {
			return err
		}
	}
}

// deadman says when the alert that always fires no longer does: then no other
// alert can be trusted to arrive.
func (s *Source) deadman(p polled) {
	part := "alerts of " + s.cfg.Name
	switch {
	case p.alive:
		if !s.alive.IsZero() {
			s.env.Health.Ready(part)
		}
		s.alive = p.at
		s.watchdog.Set(float64(p.at.Unix()))
	case !s.alive.IsZero() && p.at.Sub(s.alive) >= deadAfter:
		s.env.Health.Degraded(part, fmt.Sprintf("the Watchdog alert has not fired since %s: Prometheus may not reach this Alertmanager", s.alive.Format(time.RFC3339)))
	}
}

// poll asks at every aligned time until ctx is done. A poll that is missed is
// not made up for: an Alertmanager knows only what is now.
func (s *Source) poll(ctx context.Context, out chan<- polled) {
	for {
		p := s.ask(ctx)
		p.at = s.now().Truncate(s.cfg.Every).UTC() // once the answer has told what time it is there
		select {
		case <-ctx.Done():
			return
		case out <- p:
		}
		now := s.now()
		wait := max(now.Truncate(s.cfg.Every).Add(s.cfg.Every).Sub(now), upstream.RetryIn(p.err))
		if !upstream.Wait(ctx, wait) {
			return
		}
	}
}

// ask asks every replica at once. What one of them has, counts; the answer is
// an error when none answers.
func (s *Source) ask(ctx context.Context) polled {
	answers := make([][]read, len(s.replicas))
	errs := make([]error, len(s.replicas))
	var wg sync.WaitGroup
	for i, r := range s.replicas {
		wg.Go(func() { answers[i], errs[i] = list(ctx, r) })
	}
	wg.Wait()
	p := polled{alerts: map[string]event.Alert{}}
	best := map[string]*read{}
	failed := 0
	for i := range s.replicas {
		part := fmt.Sprintf("alertmanager %s replica %d", s.cfg.Name, i)
		if errs[i] != nil {
			failed++
			if len(s.replicas) > 1 && ctx.Err() == nil {
				s.env.Health.Degraded(part, s.env.Redact.Line(upstream.Reason(errs[i])))
			}
			continue
		}
		if len(s.replicas) > 1 {
			s.env.Health.Ready(part)
		}
		for j := range answers[i] {
			a := &answers[i][j]
			p.alive = p.alive || a.watchdog()
			if !a.wanted() {
				continue
			}
			key := fingerprint(a)
			best[key] = joined(best[key], a)
		}
	}
	if failed == len(s.replicas) {
		p.err = errors.Join(errs...)
		return p
	}
	for key, a := range best {
		e := s.event(a)
		e.Silenced = a.Status.suppressed()
		p.alerts[key] = e
	}
	return p
}

// joined is what two replicas together say of an alert: the earlier start, as
// Alertmanager merges them, and the state that was updated last.
func joined(a, b *read) *read {
	if a == nil {
		return b
	}
	if b.UpdatedAt.After(a.UpdatedAt) || b.UpdatedAt.Equal(a.UpdatedAt) && b.Status.suppressed() {
		a, b = b, a
	}
	if b.StartsAt.Before(a.StartsAt) {
		one := *a
		one.StartsAt = b.StartsAt
		return &one
	}
	return a
}

// list is GET /api/v2/alerts: what fires now, silenced or not.
func list(ctx context.Context, up *upstream.Client) ([]read, error) {
	params := url.Values{"active": {"true"}, "silenced": {"true"}, "inhibited": {"true"}, "unprocessed": {"true"}}
	for _, m := range upstream.Matchers(up.Config().ExtraMatchers) {
		params.Add("filter", m)
	}
	body, err := up.Get(ctx, "/api/v2/alerts", params, upstream.Query{Operation: "alerts"})
	if err != nil {
		return nil, err
	}
	var out []read
	if err := json.Unmarshal(body, &out); err != nil {
		return nil, &upstream.Error{Source: up.Name(), Kind: upstream.Unreachable, Err: fmt.Errorf("answer is not JSON, or was cut: %w", err)}
	}
	return out, nil
}

// status is an alert's state: an object in the API, a word in a webhook.
type status struct {
	State       string   `json:"state"`
	SilencedBy  []string `json:"silencedBy"`
	InhibitedBy []string `json:"inhibitedBy"`
	MutedBy     []string `json:"mutedBy"`
}

// UnmarshalJSON reads both forms.
func (s *status) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &s.State)
	}
	type object status
	return json.Unmarshal(b, (*object)(s))
}

// suppressed says whether the user has asked not to hear of the alert.
func (s status) suppressed() bool {
	return s.State == "suppressed" || len(s.SilencedBy) > 0 || len(s.InhibitedBy) > 0 || len(s.MutedBy) > 0
}

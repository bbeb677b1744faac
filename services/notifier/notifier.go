// Package notifier decides who is told of an incident, and tells them.
//
// A router reads every drafted report, decides for each route, and publishes
// the decision; what is to be sent goes into a work queue with one consumer a
// channel, so that a slow channel delays no other. A delivery is idempotent
// by incident, report revision and channel, across restarts.
package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"golang.org/x/sync/errgroup"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Spec is the service.
var Spec = service.Define("notifier", DefaultConfig, New)

// Service routes and delivers reports.
type Service struct {
	cfg      Config
	env      service.Env
	channels map[string]*outlet
	metrics  *metrics
	now      func() time.Time
}

// outlet is one configured channel.
type outlet struct {
	name    string
	info    Info
	channel Channel
	slots   *window
}

// New makes the service and every configured channel.
func New(cfg Config, env service.Env) (service.Runner, error) {
	s := &Service{cfg: cfg, env: env, channels: map[string]*outlet{}, now: time.Now}
	client := &http.Client{Timeout: cfg.Timeout, CheckRedirect: refuseRedirect}
	if len(cfg.Channels) == 0 {
		cfg.Channels = map[string]ChannelConfig{}
	}
	for _, name := range sortedKeys(cfg.Channels) {
		c := cfg.Channels[name]
		info, ok := Builtin.Lookup(c.Type)
		if !ok {
			return nil, fmt.Errorf("notifier: channels.%s: type %q is not one of %s", name, c.Type, Builtin.Names())
		}
		ch, err := info.New("notifier.channels."+name, c.Settings, Env{Log: env.Log.With("channel", name), HTTP: client, Now: s.now})
		if err != nil {
			return nil, err
		}
		s.channels[name] = &outlet{name: name, info: info, channel: ch, slots: newWindow(cfg.MaxPerMinute, time.Minute)}
	}
	s.metrics = newMetrics(env.Metrics, sortedKeys(s.channels))
	return s, nil
}

// refuseRedirect keeps a report from following a redirect to somewhere else,
// which Standard Webhooks asks for too.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Run routes and delivers until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	kv, err := s.env.Bus.KV(ctx, bus.BucketNotifier)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", bus.BucketNotifier, err)
	}
	st := &store{kv: kv}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return bus.Consume(ctx, s.env.Bus, event.ReportDrafted, bus.ConsumerConfig{Durable: "notifier"},
			func(ctx context.Context, e event.Event[event.Report]) error { return s.route(ctx, st, e.Data) })
	})
	for _, name := range sortedKeys(s.channels) {
		o := s.channels[name]
		g.Go(func() error {
			c := bus.ConsumerConfig{
				Durable: "notifier-" + name, Filter: event.NotifyFilter(name), MaxDeliver: 12,
			}
			return bus.Consume(ctx, s.env.Bus, event.NotificationQueued, c,
				func(ctx context.Context, e event.Event[event.Notification]) error {
					return s.deliver(ctx, st, o, e.Data)
				})
		})
		if steady, ok := o.channel.(Steady); ok {
			g.Go(func() error { return s.repeat(ctx, st, name, steady) })
		}
	}
	g.Go(func() error { return s.digests(ctx, st) })
	// One service of the five moves what the server has given up, so that only
	// one needs the right to read single messages of the streams it is about.
	g.Go(func() error { s.env.Bus.RunDeadLetters(ctx); return nil })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// route decides about one report, queues what is to be sent, and publishes
// the decisions. Queue first: a crash in between repeats both, and both are
// idempotent, while a decision "sent" without its notification would be a lie.
func (s *Service) route(ctx context.Context, st *store, r event.Report) error {
	silenced := s.silence(ctx, r)
	told := map[string]Thread{}
	for _, name := range sortedKeys(s.channels) {
		th, _, err := st.thread(ctx, r.Incident, queuedKey(name))
		if err != nil {
			return err
		}
		told[name] = th
	}
	verdicts := decide(r, inputs{
		mode: s.cfg.Mode, routes: s.cfg.routes(), silenced: silenced, policy: s.env.Policies.Hash(),
		edits: func(ch string) bool { o, ok := s.channels[ch]; return ok && o.info.Edits },
		told:  func(ch string) Thread { return told[ch] },
	})
	var out []event.Outgoing
	for _, v := range verdicts {
		if v.Decision.Outcome == event.Sent {
			n := event.Notification{Incident: r.Incident, Revision: r.Revision, Channel: v.Decision.Channel, Route: v.Decision.Route, Update: v.Update, Report: r}
			if err := s.env.Bus.Publish(ctx, event.NotificationQueued.Out(n)); err != nil {
				return err
			}
			th := Thread{Revision: r.Revision, Priority: r.Priority, Cause: topCause(r)}
			if err := st.putThread(ctx, r.Incident, queuedKey(v.Decision.Channel), th); err != nil {
				return err
			}
		}
		out = append(out, event.Decided.Out(v.Decision))
		s.metrics.decisions.WithLabelValues(string(v.Decision.Outcome)).Inc()
	}
	return s.env.Bus.Publish(ctx, out...)
}

// queuedKey is where the router remembers what a channel was given, beside
// the channel's own thread: the queue may be behind.
func queuedKey(channel string) string { return channel + ".queued" }

// silence asks the channels that keep silences. A silence that cannot be read
// silences nothing: a page too many is better than one lost.
func (s *Service) silence(ctx context.Context, r event.Report) string {
	for _, name := range sortedKeys(s.channels) {
		sl, ok := s.channels[name].channel.(Silencer)
		if !ok {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		which, err := sl.Silenced(ctx, Labels(r))
		cancel()
		if err != nil {
			s.env.Log.Warn("silences unreadable, none applied", "channel", name, "err", err)
			s.env.Health.Degraded("silences "+name, "unreadable, none applied")
			continue
		}
		s.env.Health.Ready("silences " + name)
		if which != "" {
			return which
		}
	}
	return ""
}

// deliver sends one notification, once. What was sent is remembered after the
// sending, and that it was begun before it, so that a channel can find out
// about an attempt whose end was not seen.
func (s *Service) deliver(ctx context.Context, st *store, o *outlet, n event.Notification) error {
	id := event.NotificationID(n.Incident, n.Revision, n.Channel)
	th, rev, err := st.thread(ctx, n.Incident, o.name)
	if err != nil {
		return err
	}
	if th.Revision >= n.Revision {
		return nil // delivered before, or overtaken by a newer revision
	}
	if !o.info.Edits || th.Revision == 0 {
		if wait := o.slots.take(s.now()); wait > 0 {
			return bus.Retry(fmt.Errorf("channel %s has sent %d messages in a minute", o.name, s.cfg.MaxPerMinute), wait)
		}
	}
	begun := th
	begun.Pending = id
	if rev, err = st.updateThread(ctx, n.Incident, o.name, begun, rev); err != nil {
		return err
	}
	sendCtx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("channel %s: no answer in %v", o.name, s.cfg.Timeout))
	defer cancel()
	started := s.now()
	next, err := o.channel.Send(sendCtx, n, th)
	s.metrics.seconds.WithLabelValues(o.name).Observe(s.now().Sub(started).Seconds())
	if err != nil {
		return s.undelivered(ctx, st, o, n, th, rev, err)
	}
	next.Revision, next.Priority, next.Cause, next.Pending = n.Revision, n.Report.Priority, topCause(n.Report), ""
	if _, err := st.updateThread(ctx, n.Incident, o.name, next, rev); err != nil {
		return err
	}
	if err := st.remember(ctx, o.name, n); err != nil {
		return err
	}
	s.env.Health.Ready("channel " + o.name)
	s.metrics.deliveries.WithLabelValues(o.name, "sent").Inc()
	return s.env.Bus.Publish(ctx, event.ReportDelivered.Out(event.Delivery{
		Incident: n.Incident, Revision: n.Revision, Channel: n.Channel, Attempts: 1, Ref: next.Ref, Time: n.Report.Time,
	}))
}

// undelivered sorts a failed attempt: tried again, or given up with a record.
func (s *Service) undelivered(ctx context.Context, st *store, o *outlet, n event.Notification, th Thread, rev uint64, cause error) error {
	s.env.Health.Degraded("channel "+o.name, cause.Error())
	if errors.Is(cause, ErrUnsent) {
		th.Pending = "" // certainly not sent: nothing to look for next time
		if _, err := st.updateThread(ctx, n.Incident, o.name, th, rev); err != nil {
			return err
		}
	}
	if _, gone := errors.AsType[*bus.RejectError](cause); !gone {
		s.metrics.deliveries.WithLabelValues(o.name, "retried").Inc()
		return cause
	}
	s.metrics.deliveries.WithLabelValues(o.name, "failed").Inc()
	s.env.Log.Error("delivery given up", "channel", o.name, "incident", n.Incident, "err", cause)
	err := s.env.Bus.Publish(ctx, event.ReportFailed.Out(event.Delivery{
		Incident: n.Incident, Revision: n.Revision, Channel: n.Channel, Attempts: 1, Error: cause.Error(), Time: n.Report.Time,
	}))
	return errors.Join(cause, err)
}

// repeat gives a steady channel every open incident again at its interval.
func (s *Service) repeat(ctx context.Context, st *store, name string, ch Steady) error {
	t := time.NewTicker(ch.Interval())
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		open, err := st.open(ctx, name)
		if err != nil {
			s.env.Log.Warn("open incidents unreadable, repeating later", "channel", name, "err", err)
			continue
		}
		for _, n := range open {
			if err := ch.Repeat(ctx, n); err != nil {
				s.env.Log.Warn("repeat refused, repeating later", "channel", name, "incident", n.Incident, "err", err)
				s.metrics.deliveries.WithLabelValues(name, "retried").Inc()
			}
		}
	}
}

// store keeps threads and open notifications in the notifier's bucket.
type store struct{ kv bus.KV }

func threadKey(incident, channel string) string { return "thread." + incident + "." + channel }
func openKey(channel, incident string) string   { return "open." + channel + "." + incident }

func (s *store) thread(ctx context.Context, incident, channel string) (Thread, uint64, error) {
	b, rev, err := s.kv.Get(ctx, threadKey(incident, channel))
	if errors.Is(err, bus.ErrNotFound) {
		return Thread{}, 0, nil
	}
	if err != nil {
		return Thread{}, 0, fmt.Errorf("read thread of %s on %s: %w", incident, channel, err)
	}
	var th Thread
	if err := json.Unmarshal(b, &th); err != nil {
		return Thread{}, rev, fmt.Errorf("read thread of %s on %s: %w", incident, channel, err)
	}
	return th, rev, nil
}

func (s *store) updateThread(ctx context.Context, incident, channel string, th Thread, rev uint64) (uint64, error) {
	b, err := json.Marshal(th)
	if err != nil {
		return 0, fmt.Errorf("write thread: %w", err)
	}
	rev, err = s.kv.Update(ctx, threadKey(incident, channel), b, rev)
	if err != nil {
		return 0, fmt.Errorf("write thread of %s on %s: %w", incident, channel, err)
	}
	return rev, nil
}

func (s *store) putThread(ctx context.Context, incident, channel string, th Thread) error {
	b, err := json.Marshal(th)
	if err != nil {
		return fmt.Errorf("write thread: %w", err)
	}
	if _, err := s.kv.Put(ctx, threadKey(incident, channel), b); err != nil {
		return fmt.Errorf("write thread of %s on %s: %w", incident, channel, err)
	}
	return nil
}

// remember keeps what an open incident's channel was told last, and forgets a
// resolved one.
func (s *store) remember(ctx context.Context, channel string, n event.Notification) error {
	key := openKey(channel, n.Incident)
	if n.Report.State == event.Resolved {
		if err := s.kv.Delete(ctx, key); err != nil && !errors.Is(err, bus.ErrNotFound) {
			return fmt.Errorf("forget %s on %s: %w", n.Incident, channel, err)
		}
		return nil
	}
	b, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("remember %s on %s: %w", n.Incident, channel, err)
	}
	if _, err := s.kv.Put(ctx, key, b); err != nil {
		return fmt.Errorf("remember %s on %s: %w", n.Incident, channel, err)
	}
	return nil
}

func (s *store) open(ctx context.Context, channel string) ([]event.Notification, error) {
	keys, err := s.kv.Keys(ctx, openKey(channel, ""))
	if err != nil {
		return nil, err
	}
	var out []event.Notification
	for _, k := range keys {
		b, _, err := s.kv.Get(ctx, k)
		if errors.Is(err, bus.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var n event.Notification
		if err := json.Unmarshal(b, &n); err != nil {
			return nil, fmt.Errorf("read %s: %w", k, err)
		}
		out = append(out, n)
	}
	return out, nil
}

// metrics are the notifier's own.
type metrics struct {
	decisions  *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, channels []string) *metrics {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oncall_notifier_decisions_total", Help: "Decisions about report revisions, by outcome.",
		}, []string{"outcome"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oncall_notifier_deliveries_total", Help: "Delivery attempts, by channel and outcome.",
		}, []string{"channel", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "oncall_notifier_delivery_duration_seconds", Help: "Duration of delivery attempts.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}, []string{"channel"}),
	}
	reg.MustRegister(m.decisions, m.deliveries, m.seconds)
	for _, o := range []event.Outcome{event.Sent, event.HeldBack, event.Silenced, event.Maintenance, event.Shadow} {
		m.decisions.WithLabelValues(string(o))
	}
	for _, c := range channels {
		for _, o := range []string{"sent", "retried", "failed"} {
			m.deliveries.WithLabelValues(c, o)
		}
		m.seconds.WithLabelValues(c)
	}
	return m
}

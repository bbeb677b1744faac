// Package notifier decides who is told of an incident, and tells them.
//
// A router reads every drafted report, decides for each route, and publishes
// the decision; what is to be sent goes into a work queue with one consumer a
// channel, so that a slow channel delays no other. A delivery is idempotent
// by incident, report revision and channel, across restarts.
package notifier

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Spec is the service.
var Spec = service.Define("notifier", DefaultConfig, New)

// Service routes and delivers reports.
type Service struct {
	cfg     Config
	env     service.Env
	outlets map[string]*outlet
	metrics *metrics
	now     func() time.Time
	pace    pace
}

// pace are the intervals at which the service does things by itself. Tests
// are in more of a hurry.
type pace struct {
	margin   time.Duration // by which a message's time exceeds a delivery's
	silences time.Duration // between looks at silenced incidents
	probe    time.Duration // between attempts on a channel that refuses everything
	digest   time.Duration // between looks whether a digest is due
}

var defaultPace = pace{margin: 10 * time.Second, silences: 15 * time.Second, probe: time.Minute, digest: time.Minute}

// New makes the service and every configured channel.
func New(cfg Config, env service.Env) (service.Runner, error) {
	return build(cfg, env, &Builtin, defaultPace, env.Clock())
}

func build(cfg Config, env service.Env, kinds *service.Registry[Info], pace pace, now func() time.Time) (*Service, error) {
	s := &Service{cfg: cfg, env: env, outlets: map[string]*outlet{}, now: now, pace: pace}
	client := NewClient(cfg.Timeout)
	for _, name := range sortedKeys(cfg.Channels) {
		c := cfg.Channels[name]
		info, ok := kinds.Lookup(c.Type)
		if !ok {
			return nil, fmt.Errorf("notifier: channels.%s: type %q is not one of %s", name, c.Type, kinds.Names())
		}
		ch, err := info.New("notifier.channels."+name, c.settings(), Env{Log: env.Log.With("channel", name), HTTP: client, Out: os.Stdout, Now: s.now})
		if err != nil {
			return nil, err
		}
		s.outlets[name] = newOutlet(name, info, ch, cfg.MaxPerMinute, pace.probe)
	}
	s.metrics = newMetrics(env.Metrics, sortedKeys(s.outlets))
	return s, nil
}

// Run routes and delivers until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	kv, err := s.env.Bus.KV(ctx, bus.BucketNotifier)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", bus.BucketNotifier, err)
	}
	st := &store{kv: kv}
	if len(s.outlets) == 0 && s.cfg.Mode != ModeShadow {
		s.env.Log.Warn("nobody will be told: mode is not shadow, and no channel is configured", "mode", string(s.cfg.Mode))
		s.env.Health.Degraded("channels", "mode is "+string(s.cfg.Mode)+", and no channel is configured")
	}
	if err := s.resumeRefusals(ctx, st); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // a clean stop, before it began
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return bus.Consume(ctx, s.env.Bus, event.ReportDrafted, bus.ConsumerConfig{Durable: "notifier"},
			func(ctx context.Context, e event.Event[event.Report]) error { return s.route(ctx, st, e.Data) })
	})
	for _, name := range sortedKeys(s.outlets) {
		o := s.outlets[name]
		stop := ctx // a delivery that has not begun when the service stops is left to the next run
		g.Go(func() error {
			return bus.Consume(ctx, s.env.Bus, event.NotificationQueued, s.consumer(name),
				func(ctx context.Context, e event.Event[event.Notification]) error {
					return s.deliver(ctx, stop, st, o, e)
				})
		})
		if steady, ok := o.channel.(Steady); ok {
			g.Go(func() error { return s.repeat(ctx, st, name, steady) })
		}
	}
	g.Go(func() error { return s.recheckSilences(ctx, st) })
	g.Go(func() error { return s.digests(ctx, st) })
	// One service of the five moves what the server has given up, so that only
	// one needs the right to read single messages of the streams it is about.
	g.Go(func() error { s.env.Bus.RunDeadLetters(ctx); return nil })
	g.Go(func() error { s.env.Bus.WatchStreams(ctx); return nil })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// consumer is how a channel's share of the work queue is read. Most of what is
// held at once waits: for its predecessor, for a slot, for another attempt. It
// is this service that gives up, by age, and so deliveries are not counted.
func (s *Service) consumer(channel string) bus.ConsumerConfig {
	return bus.ConsumerConfig{
		Durable: "notifier-" + channel, Filter: event.NotifyFilter(channel), Workers: 32,
		AckWait: s.ackWait(), MaxDeliver: 1e6,
		Backoff: []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute},
	}
}

func (s *Service) ackWait() time.Duration { return s.cfg.Timeout + s.pace.margin }

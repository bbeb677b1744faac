// Package collector brings telemetry in: from Prometheus, Loki, Kubernetes and
// Alertmanager onto the telemetry streams, redacted, in batches whose ids are
// functions of what was read. It is the only service with rights towards the
// cluster and its sources, and it only reads.
package collector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Running is one source with the streams it writes.
type Running struct {
	Source  Source
	Streams []*event.Stream
}

// Collector runs sources and stores what they emit.
type Collector struct {
	env      service.Env
	sources  []Running
	serve    []func(context.Context) error
	progress *progress
	kick     chan struct{}
	clocks   *clock.Servers
	moment   func() moment
	until    time.Time
	held     func()
	ticking  sync.Mutex   // ticks of a stream are stored one after the other
	holding  atomic.Int32 // sources that have come to until
	apart    string       // what was said of the clocks last; only the ticker touches it

	batches *prometheus.CounterVec
	skew    *prometheus.GaugeVec
	skipped *prometheus.CounterVec
	blind   *prometheus.GaugeVec
	closed  *prometheus.GaugeVec
}

// Settings are what code passes to [NewCollector].
type Settings struct {
	Env     service.Env
	Sources []Running
	// Serve are further functions that run beside the sources on every replica:
	// look-ups, receivers.
	Serve []func(context.Context) error
	// Until and Held are those of [Config].
	Until time.Time
	Held  func()
	// Patience is how long a source that cannot be read holds its stream back.
	Patience time.Duration
	// Clocks are those of what the sources ask; nil for this machine's alone.
	Clocks *clock.Servers
	// Now is a clock to measure the patience by, and to go past a silent source
	// by; nil: the monotonic clock, and that of Clocks.
	Now func() time.Time
}

func (s *Settings) moment() moment {
	if s.Now != nil {
		now := s.Now()
		return moment{now, now}
	}
	return moment{event: s.Clocks.Now(), mono: time.Now()}
}

// NewCollector makes a collector of sources.
func NewCollector(s Settings) *Collector {
	if s.Clocks == nil {
		s.Clocks = clock.NewServers(s.Env.Clock())
	}
	c := &Collector{
		env: s.Env, sources: s.Sources, serve: s.Serve, clocks: s.Clocks, moment: s.moment, until: s.Until, held: s.Held,
		progress: newProgress(s.Patience, s.moment()), kick: make(chan struct{}, 1), // one is enough: a kick says "look"
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_collector_events_total", Help: "Events stored, by source and stream."}, []string{"source", "stream"}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_skipped_windows_total", Help: "Steps or windows given up because of a budget or the source's retention, by source."}, []string{"source"}),
		blind:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "oncall_collector_source_blind", Help: "1 while a source cannot be read, by source."}, []string{"source"}),
		skew:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "oncall_collector_clock_skew_seconds", Help: "This machine's clock less that of a source, as its answers tell it, in whole seconds, by source."}, []string{"source"}),
		closed:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "oncall_collector_closed_timestamp_seconds", Help: "Event time up to which a source has been read, by source and stream."}, []string{"source", "stream"}),
	}
	s.Env.Metrics.MustRegister(c.batches, c.skipped, c.blind, c.closed, c.skew)
	for _, r := range s.Sources {
		for _, st := range r.Streams {
			c.progress.expect(st, r.Source.Name())
			c.batches.WithLabelValues(r.Source.Name(), st.Name)
		}
		c.skipped.WithLabelValues(r.Source.Name())
		c.blind.WithLabelValues(r.Source.Name())
	}
	return c
}

// Run reads until ctx is done. Of several collectors one reads and the others
// stand by.
func (c *Collector) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, f := range c.serve {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	err := c.env.Bus.Lead(ctx, "collector", c.collect)
	cancel(nil)
	wg.Wait()
	if cause := context.Cause(ctx); err == nil || errors.Is(err, context.Canceled) {
		if cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
		return nil
	}
	return err
}

func (c *Collector) collect(ctx context.Context) error {
	kv, err := c.env.Bus.KV(ctx, bus.BucketCollector)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, r := range c.sources {
		wg.Go(func() {
			if err := c.read(ctx, kv, r.Source); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	wg.Go(func() { c.tick(ctx, kv) })
	wg.Wait()
	return context.Cause(ctx)
}

// read runs one source from its stored cursor.
func (c *Collector) read(ctx context.Context, kv bus.KV, s Source) error {
	key := event.Token(s.Name())
	cursor, _, err := kv.Get(ctx, key)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("source %s: cursor: %w", s.Name(), err)
	}
	closed := false // an emission that closes a time was stored
	err = s.Run(ctx, cursor, func(ctx context.Context, e Emission) error {
		if !c.until.IsZero() && e.Closed.After(c.until) {
			if e.Stream == event.KubeEvents && !closed {
				// The history of a cluster comes at once, as of now. Of a reading that
				// ends before, it is all there is.
				e.Closed = c.until
				if err := c.store(ctx, kv, s.Name(), e); err != nil {
					return err
				}
			}
			c.holding.Add(1)
			c.look()
			<-ctx.Done()
			return ctx.Err()
		}
		closed = closed || !e.Closed.IsZero()
		return c.store(ctx, kv, s.Name(), e)
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("source %s: %w", s.Name(), err)
	}
	return nil
}

// maxRun bounds how many events are published before any is waited for.
const maxRun = 256

// store publishes an emission and lets the ticks go on; its cursor is stored
// after the tick that covers it. A crash in between repeats events and ticks,
// whose ids are the same, and loses none.
func (c *Collector) store(ctx context.Context, kv bus.KV, source string, e Emission) error {
	pubCtx, end := c.env.Bus.StartPublish(ctx, e.Events)
	for from := 0; from < len(e.Events); from += maxRun {
		if err := c.env.Bus.Publish(pubCtx, e.Events[from:min(from+maxRun, len(e.Events))]...); err != nil {
			end(err)
			return err
		}
	}
	end(nil)
	c.batches.WithLabelValues(source, e.Stream.Name).Add(float64(len(e.Events)))
	c.skipped.WithLabelValues(source).Add(float64(e.Skipped))
	c.observe(source, e)
	if cursor := c.progress.record(source, e, c.moment()); cursor != nil {
		c.keep(ctx, kv, position{source, cursor})
	}
	// Before the source reads on: a fold that catches up must not see what comes
	// after a tick before it.
	c.pass(ctx, kv)
	return nil
}

// look makes the ticks be looked at.
func (c *Collector) look() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// keep stores a cursor. One that lags costs only repeats.
func (c *Collector) keep(ctx context.Context, kv bus.KV, p position) {
	if _, err := kv.Put(ctx, event.Token(p.source), p.cursor); err != nil && ctx.Err() == nil {
		c.env.Log.Warn("cursor not stored, reading may repeat after a restart", "source", p.source, "err", err)
	}
}

func (c *Collector) observe(source string, e Emission) {
	part := "source " + source
	if e.Blind != nil {
		c.blind.WithLabelValues(source).Set(1)
		c.env.Health.Degraded(part, fmt.Sprintf("blind since %s: %s", e.Blind.Since.Format(time.RFC3339), e.Blind.Reason))
		return
	}
	c.blind.WithLabelValues(source).Set(0)
	c.env.Health.Ready(part)
	if !e.Closed.IsZero() {
		c.closed.WithLabelValues(source, e.Stream.Name).Set(float64(e.Closed.UnixMilli()) / 1000)
	}
}

// compare says whose clocks this machine's disagrees with.
func (c *Collector) compare() {
	for _, k := range c.clocks.Skews() {
		c.skew.WithLabelValues(k.Name).Set(k.Ahead.Seconds())
	}
	why := c.clocks.Report()
	if why == c.apart {
		return
	}
	if c.apart = why; why == "" {
		c.env.Health.Ready("clock")
		c.env.Log.Info("clock of this machine agrees with those of the sources again")
		return
	}
	c.env.Health.Degraded("clock", why)
	c.env.Log.Warn("clock of this machine disagrees with those of the sources, reading each by its own", "skew", why)
}

// tick writes watermarks into the streams as they move without an emission:
// past a source that is silent, and after a failure.
func (c *Collector) tick(ctx context.Context, kv bus.KV) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		c.compare()
		held := int(c.holding.Load()) == len(c.sources) // before the last look
		if c.pass(ctx, kv) && held && c.held != nil {
			c.held()
			c.held = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-c.kick:
		}
	}
}

// pass stores the ticks that are due, and says whether it could.
func (c *Collector) pass(ctx context.Context, kv bus.KV) bool {
	c.ticking.Lock()
	defer c.ticking.Unlock()
	ok := true
	for s, ticks := range c.progress.due(c.moment()) {
		for _, tick := range ticks {
			if err := c.env.Bus.Publish(ctx, event.TickOf(s).Out(tick)); err != nil {
				ok = false
				if ctx.Err() == nil {
					c.env.Log.Error("tick not stored", "stream", s.Name, "err", err)
				}
				break
			}
			for _, p := range c.progress.done(s, tick) {
				c.keep(ctx, kv, p)
			}
		}
	}
	return ok
}

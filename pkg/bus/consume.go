package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// ConsumerConfig says how a stateless stage reads a stream.
type ConsumerConfig struct {
	Durable    string          // unique per stage; shared by its members
	Filter     string          // subject filter; "" for the kind's own address
	Workers    int             // messages handled at once; 0 means 1
	AckWait    time.Duration   // 0 means 10 s; extended while a handler runs, so only a crash is waited out
	MaxDeliver int             // 0 means 6; put-off deliveries count, so more where the handler uses Retry
	Backoff    []time.Duration // nil means 1s 5s 30s 2m 10m; the last one repeats

	failed *failures
}

func (c *ConsumerConfig) defaults() {
	c.Workers = max(1, c.Workers)
	c.AckWait = cmp.Or(c.AckWait, 10*time.Second)
	c.MaxDeliver = cmp.Or(c.MaxDeliver, 6)
	if c.Backoff == nil {
		c.Backoff = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}
	}
}

// delay is how long to wait after the n-th failure.
func (c *ConsumerConfig) delay(n int) time.Duration {
	return c.Backoff[min(n-1, len(c.Backoff)-1)]
}

// failures counts, by position in the stream, how often a handler of this
// process has failed on a message. The server's count of deliveries will not do
// for the back-off: it also counts those that were put off with [Retry], or
// given back at a stop.
type failures struct {
	mu sync.Mutex
	n  map[uint64]int
}

func (f *failures) add(seq uint64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n[seq]++
	return f.n[seq]
}

func (f *failures) forget(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.n, seq)
}

// Consume calls h with each event of kind k until ctx is done. What h returns
// is the acknowledgement: nil acknowledges, an error redelivers with back-off,
// [Retry] delays, [Reject] and an undecodable message go to the dead-letter
// stream with the reason. So does a message whose last attempt has failed.
func Consume[T any](ctx context.Context, b *Bus, k event.Kind[T], c ConsumerConfig, h func(context.Context, event.Event[T]) error) error {
	c.Filter = cmp.Or(c.Filter, k.Filter())
	return b.ConsumeAny(ctx, k.Stream, []string{c.Filter}, c, func(ctx context.Context, m Message) error {
		data, ok := m.Data.(T)
		if !ok || m.Type != k.Type {
			return nil // another kind on the same subject
		}
		return h(ctx, event.Event[T]{Attributes: m.Attributes, Data: data})
	})
}

// ConsumeAny is [Consume] for every kind on the subjects of a stream that the
// filters match.
//
// A consumer that is lost is made again, from where it was.
func (b *Bus) ConsumeAny(ctx context.Context, s *event.Stream, filters []string, c ConsumerConfig, h func(context.Context, Message) error) error {
	c.defaults()
	c.failed = &failures{n: map[uint64]int{}}
	for first := true; ; first = false {
		err := b.consume(ctx, s, filters, c, h)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if api, refused := errors.AsType[*jetstream.APIError](err); first && refused && api.Code < 500 && api.Code != 404 {
			return err // a configuration that the server will never take
		}
		b.set.Log.Warn("consumer interrupted, making it again", "consumer", c.Durable, "err", err)
		if !sleep(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

func (b *Bus) consume(ctx context.Context, s *event.Stream, filters []string, c ConsumerConfig, h func(context.Context, Message) error) error {
	cons, err := b.js.CreateOrUpdateConsumer(ctx, s.Name, jetstream.ConsumerConfig{
		Durable: c.Durable, FilterSubjects: filters, AckPolicy: jetstream.AckExplicitPolicy,
		// No more than are handled at once: what waits here would get no
		// heartbeat, and come again while it waits.
		AckWait: c.AckWait, MaxAckPending: c.Workers,
		// One more than ours, so that it is this code that gives up, with the
		// reason; the server's own limit is for a process that dies each time.
		MaxDeliver: c.MaxDeliver + 1,
	})
	if err != nil {
		return fmt.Errorf("consumer %s of %s: %w", c.Durable, s.Name, err)
	}
	it, err := pull(cons, c.Workers, true)
	if err != nil {
		return fmt.Errorf("consumer %s of %s: %w", c.Durable, s.Name, err)
	}
	for _, o := range []string{"ok", "retry", "reject"} {
		b.metrics.handled.WithLabelValues(c.Durable, o)
	}
	defer it.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, c.Workers) // as many as may run at once
	for {
		raw, err := it.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("consumer %s of %s: %w", c.Durable, s.Name, err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			_ = raw.Nak() // not begun: somebody else may have it at once
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			b.handle(ctx, s, c, raw, h)
		})
	}
}

// handle runs a handler on one message and turns its result into the
// acknowledgement.
func (b *Bus) handle(ctx context.Context, s *event.Stream, c ConsumerConfig, raw jetstream.Msg, h func(context.Context, Message) error) {
	meta, err := raw.Metadata()
	if err != nil {
		b.set.Log.Error("message without metadata", "subject", raw.Subject(), "err", err)
		return
	}
	b.metrics.pending.WithLabelValues(c.Durable).Set(float64(meta.NumPending))
	m, err := parse(s.Name, natsMsg(raw), meta.Sequence.Stream, meta.Timestamp)
	if err != nil {
		b.settle(ctx, c, raw, m, meta, Reject(err))
		return
	}
	// A handler that has begun may finish after ctx is done, within its own
	// deadlines: a clean stop leaves no delivery half done.
	spanCtx, span := b.startProcess(context.WithoutCancel(ctx), m, header(raw.Headers(), headerTrace), c.Durable)
	workCtx, cancel := context.WithCancel(spanCtx)
	defer cancel()
	stopLater := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(drainTime, cancel)
		context.AfterFunc(workCtx, func() { t.Stop() })
	})
	defer stopLater()
	beat := time.NewTicker(c.AckWait / 3)
	defer beat.Stop()
	done := make(chan error, 1) // the handler's one result
	go func() { done <- protect(func() error { return h(workCtx, m) }) }()
	for {
		select {
		case err := <-done:
			endSpan(span, err)
			b.settle(ctx, c, raw, m, meta, err)
			return
		case <-beat.C:
			if err := raw.InProgress(); err != nil {
				b.set.Log.Warn("cannot extend a message's time", "consumer", c.Durable, "err", err)
			}
		}
	}
}

// drainTime is how long a handler may go on after the stop was asked for.
const drainTime = 15 * time.Second

// panicError is a panic of a handler or a fold.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// protect turns a panic into an error.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return f()
}

func (b *Bus) settle(ctx context.Context, c ConsumerConfig, raw jetstream.Msg, m Message, meta *jetstream.MsgMetadata, err error) {
	outcome := "retry"
	var settleErr error
	seq := meta.Sequence.Stream
	retry, rejected := verdict(err)
	delayed := retry != nil
	switch {
	case err == nil:
		c.failed.forget(seq)
		outcome, settleErr = "ok", raw.Ack()
	case rejected || meta.NumDelivered >= uint64(c.MaxDeliver) && !delayed:
		outcome = "reject"
		if dead := b.deadLetter(context.WithoutCancel(ctx), c.Durable, m, raw.Headers(), int(meta.NumDelivered), err); dead != nil {
			b.set.Log.Error("dead letter not stored, message kept", "consumer", c.Durable, "subject", m.Subject, "err", dead)
			settleErr = raw.NakWithDelay(c.delay(c.failed.add(seq)))
			break
		}
		c.failed.forget(seq)
		settleErr = raw.TermWithReason(reason(err))
	case delayed:
		settleErr = raw.NakWithDelay(retry.After)
	default:
		n := c.failed.add(seq)
		b.set.Log.Warn("handler refused a message, delivering again", "consumer", c.Durable, "subject", m.Subject, "attempt", n, "err", err)
		settleErr = raw.NakWithDelay(c.delay(n))
	}
	if p, ok := errors.AsType[*panicError](err); ok {
		b.set.Log.Error("handler panicked", "consumer", c.Durable, "subject", m.Subject, "stack", string(p.stack))
	}
	if settleErr != nil {
		b.set.Log.Warn("acknowledgement not delivered, message comes again", "consumer", c.Durable, "err", settleErr)
	}
	b.metrics.handled.WithLabelValues(c.Durable, outcome).Inc()
}

// verdict is what a handler's error asks for: redelivery after a time, or none.
// Of a [Retry] around a [Reject], or the other way round, the outermost was said
// last, by who knows more.
func verdict(err error) (retry *RetryError, rejected bool) {
	for err != nil {
		switch e := err.(type) { //nolint:errorlint // each layer is looked at in turn
		case *RetryError:
			return e, false
		case *RejectError:
			return nil, true
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, part := range e.Unwrap() {
				if retry, rejected = verdict(part); retry != nil || rejected {
					return retry, rejected
				}
			}
			return nil, false
		default:
			return nil, false
		}
	}
	return nil, false
}

// reason is an error as one short line: it travels in a header.
func reason(err error) string {
	s := err.Error()
	out := make([]rune, 0, min(len(s), 240))
	for _, r := range s {
		if r < ' ' {
			r = ' '
		}
		if out = append(out, r); len(out) == 240 {
			break
		}
	}
	return string(out)
}

// deadLetter keeps a message that cannot be processed, with the reason.
func (b *Bus) deadLetter(ctx context.Context, consumer string, m Message, headers map[string][]string, deliveries int, cause error) error {
	b.metrics.deadLetters.WithLabelValues(consumer).Inc()
	b.set.Log.Error("message goes to the dead-letter stream", "consumer", consumer, "stream", m.Stream, "sequence", m.Sequence, "subject", m.Subject, "err", cause)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return b.Publish(ctx, event.DeadLettered.Out(event.DeadLetter{
		Stream: m.Stream, Consumer: consumer, Sequence: m.Sequence, Subject: m.Subject, Reason: reason(cause),
		Deliveries: deliveries, Headers: headers, Payload: m.Payload, Time: m.Received.UTC(),
	}))
}

package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// publishTimeout is how long one publish waits for the server before it is
// sent again; the id makes the repeat harmless.
const publishTimeout = 5 * time.Second

// Publish writes events to their streams and waits until the server has
// stored every one, in order: an event marked as a barrier is sent only when
// all before it are stored. An id that the server has seen inside its dedupe
// window is stored once and is no error. Publish blocks while too many
// publishes are under way or the server is away, which is the pipeline's
// back-pressure; it gives up only when ctx is done, or when an event is one
// that the server will never take: with a [Reject], where that is the event's own
// fault.
func (b *Bus) Publish(ctx context.Context, events ...event.Outgoing) error {
	if len(events) == 0 {
		return nil
	}
	started := b.set.Now()
	defer func() { b.metrics.publishSeconds.Observe(b.set.Now().Sub(started).Seconds()) }()
	for len(events) > 0 {
		n := 1
		for n < len(events) && !events[n].Barrier {
			n++
		}
		if err := b.publishRun(ctx, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// publishRun publishes events at once and waits for all of them, sending again
// from the first that failed so that their order holds.
func (b *Bus) publishRun(ctx context.Context, events []event.Outgoing) error {
	msgs := make([]*nats.Msg, len(events))
	for i, o := range events {
		m, err := b.encode(ctx, o)
		if err != nil {
			return Reject(err)
		}
		msgs[i] = m
	}
	blocked := time.Time{}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		done, err := b.send(ctx, msgs)
		for _, o := range events[:done] {
			b.metrics.published.WithLabelValues(o.Stream.Name).Inc()
		}
		events, msgs = events[done:], msgs[done:]
		if len(msgs) == 0 {
			if !blocked.IsZero() {
				b.metrics.blockedSeconds.Add(b.set.Now().Sub(blocked).Seconds())
				b.set.OnState(true, "")
				b.set.Log.Info("publishing again", "blocked_seconds", b.set.Now().Sub(blocked).Seconds())
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("publish %s: %w", msgs[0].Subject, errors.Join(context.Cause(ctx), err))
		}
		if malformed(err) {
			return Reject(fmt.Errorf("publish %s: %w", msgs[0].Subject, err))
		}
		if permanent(err) {
			return fmt.Errorf("publish %s: %w", msgs[0].Subject, err)
		}
		if blocked.IsZero() {
			blocked = b.set.Now()
			b.metrics.blocked.Inc()
			b.set.OnState(false, "NATS does not store: "+err.Error())
			b.set.Log.Warn("publish blocked, trying again until it is stored", "subject", msgs[0].Subject, "err", err)
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("publish %s: %w", msgs[0].Subject, errors.Join(context.Cause(ctx), err))
		}
	}
}

// send publishes messages and returns how many of the first are stored.
func (b *Bus) send(ctx context.Context, msgs []*nats.Msg) (int, error) {
	acks := make([]jetstream.PubAckFuture, 0, len(msgs))
	var sendErr error
	for _, m := range msgs {
		ack, err := b.js.PublishMsgAsync(m, jetstream.WithStallWait(publishTimeout))
		if err != nil {
			sendErr = err
			break
		}
		acks = append(acks, ack)
	}
	for i, ack := range acks {
		select {
		case a := <-ack.Ok():
			if a.Duplicate {
				b.metrics.duplicates.Inc()
			}
		case err := <-ack.Err():
			return i, err
		case <-ctx.Done():
			return i, ctx.Err()
		}
	}
	return len(acks), sendErr
}

// permanent says whether the server will never take a message from this account or
// connection.
func permanent(err error) bool {
	return errors.Is(err, nats.ErrPermissionViolation) || errors.Is(err, nats.ErrConnectionClosed)
}

// malformed says whether no server will ever take the message, whoever sends it. What
// it was made from is put aside: another attempt makes the same.
func malformed(err error) bool {
	if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == errMessageTooLarge
}

// errMessageTooLarge is JSStreamMessageExceedsMaximumErr of the server.
const errMessageTooLarge = 10054

func (b *Bus) encode(ctx context.Context, o event.Outgoing) (*nats.Msg, error) {
	hop := traceparent(ctx)
	switch {
	case o.Traceparent == "":
		o.Traceparent = hop
	case traceID(o.Traceparent) != traceID(hop):
		// What caused it lies in another trace than what let it out: the hop goes
		// on in that of the cause.
		hop = b.sent(o)
	}
	e, err := cloudEvent(o, b.set.Source, b.set.Now())
	if err != nil {
		return nil, err
	}
	m, err := ToMsg(o.Subject, e)
	if err != nil {
		return nil, err
	}
	if o.ContentEncoding != "" {
		m.Header[headerEncoding] = []string{o.ContentEncoding}
	}
	if hop != "" {
		m.Header[headerTrace] = []string{hop}
	}
	return m, nil
}

// Republish stores a recorded message under its own subject and headers, with
// the position and time it had before as headers: for replays and redrives.
func (b *Bus) Republish(ctx context.Context, subject string, headers map[string][]string, payload []byte) error {
	m := &nats.Msg{Subject: subject, Header: nats.Header(headers), Data: payload}
	n, err := b.send(ctx, []*nats.Msg{m})
	if n == 1 {
		return nil
	}
	return fmt.Errorf("publish %s: %w", subject, err)
}

// RepublishAll is [Bus.Republish] of many messages, in order, without waiting
// for each: for replays. It returns when all are stored.
func (b *Bus) RepublishAll(ctx context.Context, recorded []Raw) error {
	msgs := make([]*nats.Msg, len(recorded))
	for i, r := range recorded {
		msgs[i] = &nats.Msg{Subject: r.Subject, Header: nats.Header(r.Header), Data: r.Payload}
	}
	if n, err := b.send(ctx, msgs); n < len(msgs) {
		return fmt.Errorf("publish %s: %w", msgs[n].Subject, err)
	}
	return nil
}

// Publish is [Bus.Publish] for one value of a kind.
func Publish[T any](ctx context.Context, b *Bus, k event.Kind[T], v T) error {
	return b.Publish(ctx, k.Out(v))
}

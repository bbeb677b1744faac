package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Letter is one message of the dead-letter stream.
type Letter struct {
	Sequence uint64 // in the dead-letter stream
	event.DeadLetter
}

// Letters lists the dead letters, oldest first.
func (b *Bus) Letters(ctx context.Context) ([]Letter, error) {
	var out []Letter
	err := b.Read(ctx, event.DeadLetters, ReadOptions{}, func(m Message) error {
		if d, ok := m.Data.(event.DeadLetter); ok {
			out = append(out, Letter{m.Sequence, d})
		}
		return nil
	})
	return out, err
}

// Letter returns one dead letter by its position.
func (b *Bus) Letter(ctx context.Context, seq uint64) (Letter, error) {
	all, err := b.Letters(ctx)
	if err != nil {
		return Letter{}, err
	}
	for _, l := range all {
		if l.Sequence == seq {
			return l, nil
		}
	}
	return Letter{}, fmt.Errorf("dead letter %d: %w", seq, ErrNotFound)
}

// Redrive publishes a dead letter's message again where it came from, under a
// new Nats-Msg-Id so that the server does not take it for a repeat (its ce-id
// stays, and so consumers do), and removes the letter.
func (b *Bus) Redrive(ctx context.Context, l Letter) error {
	h := make(map[string][]string, len(l.Headers))
	for k, v := range l.Headers {
		if !strings.EqualFold(k, headerMsgID) {
			h[k] = v
		}
	}
	// A function of the letter: a redrive that is cut short and done again is
	// stored once.
	h[headerMsgID] = []string{header(l.Headers, headerMsgID) + ":redrive:" + strconv.FormatUint(l.Sequence, 10)}
	if err := b.Republish(ctx, l.Subject, h, l.Payload); err != nil {
		return fmt.Errorf("redrive dead letter %d: %w", l.Sequence, err)
	}
	s, err := b.js.Stream(ctx, event.DeadLetters.Name)
	if err != nil {
		return fmt.Errorf("redrive dead letter %d: %w", l.Sequence, err)
	}
	if err := s.DeleteMsg(ctx, l.Sequence); err != nil {
		return fmt.Errorf("redrive dead letter %d: published, but not removed: %w", l.Sequence, err)
	}
	return nil
}

// advisory is what the server says of a delivery that it gave up.
type advisory struct {
	Stream     string `json:"stream"`
	Consumer   string `json:"consumer"`
	Sequence   uint64 `json:"stream_seq"`
	Deliveries int    `json:"deliveries"`
	Reason     string `json:"reason"`
}

// The advisories that are about one message which its consumer will not see
// again.
var givenUp = []string{"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>"}

// RunDeadLetters moves messages to the dead-letter stream whose deliveries the
// server gave up, which no handler lived to reject, and those that a consumer
// of somebody else's terminated. (Our own consumers terminate what they have
// put there themselves, and the id is the same.) It runs until ctx is
// done; members share the work.
func (b *Bus) RunDeadLetters(ctx context.Context) {
	for ctx.Err() == nil {
		if err := b.moveGivenUp(ctx); err != nil && ctx.Err() == nil {
			b.set.Log.Warn("advisories unreadable, trying again", "err", err)
		}
		sleep(ctx, 5*time.Second)
	}
}

func (b *Bus) moveGivenUp(ctx context.Context) error {
	cons, err := b.js.CreateOrUpdateConsumer(ctx, event.Advisories.Name, jetstream.ConsumerConfig{
		Durable: "dead-letters", AckPolicy: jetstream.AckExplicitPolicy, FilterSubjects: givenUp,
		AckWait: 30 * time.Second, MaxDeliver: 10,
	})
	if err != nil {
		return err
	}
	it, err := pull(cons, pullMessages, true)
	if err != nil {
		return err
	}
	defer it.Stop()
	for {
		raw, err := it.Next(ctx)
		if err != nil {
			return err
		}
		var a advisory
		if err := json.Unmarshal(raw.Data(), &a); err != nil {
			_ = raw.TermWithReason("advisory is not JSON")
			continue
		}
		if err := b.giveUp(ctx, a); err != nil {
			b.set.Log.Warn("given-up message not moved, trying again", "stream", a.Stream, "sequence", a.Sequence, "err", err)
			_ = raw.NakWithDelay(5 * time.Second)
			continue
		}
		_ = raw.Ack()
	}
}

func (b *Bus) giveUp(ctx context.Context, a advisory) error {
	s, err := b.js.Stream(ctx, a.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	raw, err := s.GetMsg(ctx, a.Sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // too late: the stream let it go
	}
	if err != nil {
		return err
	}
	m := Message{Stream: a.Stream, Sequence: a.Sequence, Received: raw.Time, Payload: raw.Data}
	m.Subject = raw.Subject
	cause := fmt.Errorf("given up after %d deliveries that nobody acknowledged", a.Deliveries)
	if a.Reason != "" {
		cause = errors.New(a.Reason)
	}
	known, err := b.hasLetter(ctx, a)
	if err != nil || known {
		return err
	}
	if err := b.deadLetter(ctx, a.Consumer, m, raw.Header, a.Deliveries, cause); err != nil {
		return err
	}
	if s.CachedInfo().Config.Retention == jetstream.WorkQueuePolicy {
		// It would lie in the queue for ever, with nobody to take it.
		if err := s.DeleteMsg(ctx, a.Sequence); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return err
		}
	}
	return nil
}

// hasLetter says whether the consumer itself has put a message there.
func (b *Bus) hasLetter(ctx context.Context, a advisory) (bool, error) {
	found := false
	filter := event.DeadLettered.Out(event.DeadLetter{Stream: a.Stream, Consumer: a.Consumer}).Subject
	err := b.Read(ctx, event.DeadLetters, ReadOptions{Filters: []string{filter}}, func(m Message) error {
		d, ok := m.Data.(event.DeadLetter)
		found = found || ok && d.Sequence == a.Sequence
		return nil
	})
	return found, err
}

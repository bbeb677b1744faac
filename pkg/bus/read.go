package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// ReadOptions says what part of a stream to read.
type ReadOptions struct {
	Filters   []string  // none: everything
	StartSeq  uint64    // 0: from the start, or from StartTime
	StartTime time.Time // by the time the server stored it
	Follow    bool      // wait for new messages; else stop at the present end
	New       bool      // only messages that come from now on; needs Follow
}

// Read calls h with messages in stream order without leaving a trace on the
// server: for taps, watches and replays. An undecodable message is passed with
// nil Data. An error of h ends the read and is returned.
func (b *Bus) Read(ctx context.Context, s *event.Stream, o ReadOptions, h func(Message) error) error {
	return b.read(ctx, s, o, func(m Message, _ error) error { return h(m) })
}

func (b *Bus) read(ctx context.Context, s *event.Stream, o ReadOptions, h func(Message, error) error) error {
	stream, err := b.js.Stream(ctx, s.Name)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.Name, err)
	}
	last := stream.CachedInfo().State.LastSeq
	if !o.Follow && (last == 0 || o.StartSeq > last) {
		return nil
	}
	return b.each(ctx, s, o, last, func(raw jetstream.Msg, meta *jetstream.MsgMetadata) error {
		m, perr := parse(s.Name, natsMsg(raw), meta.Sequence.Stream, meta.Timestamp)
		return h(m, perr)
	})
}

// readOnce is how long the server keeps the consumer of a reading that has ended.
// It has a thousand of them for a stream at most, and keeps them for five minutes
// unless it is told otherwise: who looks four times a second would be refused.
const readOnce = 15 * time.Second

// each calls h with the messages that the options name, up to last unless it
// follows.
func (b *Bus) each(ctx context.Context, s *event.Stream, o ReadOptions, last uint64, h func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	cfg := orderedConfig(o)
	if !o.Follow {
		cfg.InactiveThreshold = readOnce
	}
	cons, err := b.js.OrderedConsumer(ctx, s.Name, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.Name, err)
	}
	if !o.Follow {
		info, err := cons.Info(ctx)
		if err != nil {
			return fmt.Errorf("read %s: %w", s.Name, err)
		}
		if info.NumPending == 0 && info.Delivered.Consumer == 0 {
			return nil
		}
	}
	it, err := pull(cons, pullMessages, false)
	if err != nil {
		return fmt.Errorf("read %s: %w", s.Name, err)
	}
	defer it.Stop()
	for {
		raw, err := it.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("read %s: %w", s.Name, err)
		}
		meta, err := raw.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", s.Name, err)
		}
		if !o.Follow && meta.Sequence.Stream > last {
			return nil
		}
		if err := h(raw, meta); err != nil {
			return err
		}
		if !o.Follow && (meta.Sequence.Stream >= last || meta.NumPending == 0) {
			return nil
		}
	}
}

// Pull limits: 84 KB messages overran the client's own default of 64 MiB, and
// each drop waits for a redelivery.
const (
	pullMessages = 256
	pullBytes    = 8 << 20
)

func orderedConfig(o ReadOptions) jetstream.OrderedConsumerConfig {
	c := jetstream.OrderedConsumerConfig{FilterSubjects: o.Filters, DeliverPolicy: jetstream.DeliverAllPolicy}
	switch {
	case o.New:
		c.DeliverPolicy = jetstream.DeliverNewPolicy
	case o.StartSeq > 0:
		c.DeliverPolicy, c.OptStartSeq = jetstream.DeliverByStartSequencePolicy, o.StartSeq
	case !o.StartTime.IsZero():
		c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, &o.StartTime
	}
	return c
}

func natsMsg(m jetstream.Msg) *nats.Msg {
	return &nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()}
}

// Raw is a message as the server holds it.
type Raw struct {
	Sequence uint64
	Received time.Time
	Subject  string
	Header   map[string][]string
	Payload  []byte
}

// ReadRaw is [Bus.Read] of a whole stream without decoding, for recordings.
func (b *Bus) ReadRaw(ctx context.Context, s *event.Stream, h func(Raw) error) error {
	last, err := b.Last(ctx, s)
	if err != nil || last == 0 {
		return err
	}
	return b.each(ctx, s, ReadOptions{}, last, func(raw jetstream.Msg, meta *jetstream.MsgMetadata) error {
		return h(Raw{meta.Sequence.Stream, meta.Timestamp, raw.Subject(), raw.Headers(), raw.Data()})
	})
}

package bus

import (
	"context"
	"errors"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// puller hands out the messages of a consumer one by one. The client's own
// iterator keeps messages and the server's status notes in one channel of a
// fixed size and drops what does not fit, messages too; here the callback
// blocks instead, and the server is asked for more only as messages are taken.
type puller struct {
	msgs   chan jetstream.Msg
	errs   chan error
	done   chan struct{}
	once   sync.Once
	cancel jetstream.ConsumeContext
	// closed is asked for once: an ordered consumer starts a goroutine for each
	// asking, which lives as long as the consumer.
	closed <-chan struct{}
	// giveBack returns messages that nobody takes any more.
	giveBack bool
}

// errStopped is what Next returns after Stop.
var errStopped = errors.New("stopped")

// pull begins to read a consumer, with at most n messages on their way. giveBack
// returns those that are when it stops, so that the next reader has them at
// once; it is for consumers whose messages are acknowledged one by one.
func pull(cons jetstream.Consumer, n int, giveBack bool) (*puller, error) {
	p := &puller{msgs: make(chan jetstream.Msg), errs: make(chan error, 1), done: make(chan struct{}), giveBack: giveBack}
	cc, err := cons.Consume(
		func(m jetstream.Msg) {
			select {
			case p.msgs <- m:
			case <-p.done:
				if giveBack {
					_ = m.Nak() // else it comes when its time is over
				}
			}
		},
		jetstream.PullMaxMessagesWithBytesLimit(n, pullBytes),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			// Heartbeats missed and the like mend themselves; what does not ends
			// the consumer.
			if !fatal(err) {
				return
			}
			select {
			case p.errs <- err:
			default:
			}
		}),
	)
	if err != nil {
		return nil, err
	}
	p.cancel, p.closed = cc, cc.Closed()
	return p, nil
}

// fatal says whether a consumer cannot go on after an error.
func fatal(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrBadRequest) ||
		errors.Is(err, jetstream.ErrConnectionClosed) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrOrderedConsumerReset)
}

// Next waits for a message, an error that ends the consumer, or Stop.
func (p *puller) Next(ctx context.Context) (jetstream.Msg, error) {
	select {
	case m := <-p.msgs:
		return m, nil
	case err := <-p.errs:
		return nil, err
	case <-p.done:
		return nil, errStopped
	case <-p.closed:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Stop ends it. Acknowledged messages that were on their way are delivered
// again to whoever reads next.
func (p *puller) Stop() {
	p.once.Do(func() {
		close(p.done)
		if p.giveBack {
			p.cancel.Drain()
		} else {
			p.cancel.Stop()
		}
	})
}

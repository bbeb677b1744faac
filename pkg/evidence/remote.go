package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Requester sends a request over the bus; a *bus.Bus is one.
type Requester interface {
	Request(ctx context.Context, subject string, request, response any) error
}

// Remote asks the collector over the bus.
type Remote struct {
	bus     Requester
	timeout time.Duration
}

var _ Retriever = (*Remote)(nil)

// NewRemote makes a retriever that asks over the bus and waits at most timeout
// for each answer; the collector itself gives up after 20 seconds.
func NewRemote(bus Requester, timeout time.Duration) *Remote { return &Remote{bus, timeout} }

// Retrieve asks the collector. Nobody answering is evidence that failed.
func (r *Remote) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	if err := q.Check(); err != nil {
		return event.Evidence{}, err
	}
	var e event.Evidence
	err := r.ask(ctx, q, &e)
	switch {
	case err == nil:
		return e, nil
	case ctx.Err() != nil:
		return event.Evidence{}, ctx.Err()
	case errors.Is(err, nats.ErrNoResponders):
		return Failed(q, "unreachable: no collector answers look-ups"), nil
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return Failed(q, fmt.Sprintf("timeout: no answer from the collector in %v", r.timeout)), nil
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrNoServers):
		return Failed(q, "unreachable: NATS: "+err.Error()), nil
	}
	return event.Evidence{}, err
}

// ask asks until somebody answers. A collector that is being restarted is
// waited for; a question whose answer was lost with it is asked once more.
func (r *Remote) ask(ctx context.Context, q Query, e *event.Evidence) error {
	for attempt := 1; ; attempt++ {
		askCtx, cancel := context.WithTimeout(ctx, r.timeout)
		err := r.bus.Request(askCtx, event.QuerySubject, q, e)
		for errors.Is(err, nats.ErrNoResponders) && pause(askCtx) {
			err = r.bus.Request(askCtx, event.QuerySubject, q, e)
		}
		lost := errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded)
		cancel()
		if !lost || attempt == 2 || ctx.Err() != nil {
			return err
		}
	}
}

// pause waits a little, and returns false when ctx is done first.
func pause(ctx context.Context) bool {
	t := time.NewTimer(250 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

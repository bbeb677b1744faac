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
	askCtx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var e event.Evidence
	err := r.bus.Request(askCtx, event.QuerySubject, q, &e)
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

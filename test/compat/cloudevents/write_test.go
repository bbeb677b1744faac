package cloudevents

import (
	"bytes"
	"context"

	cejs "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	sdk "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/nats-io/nats.go"
)

// written is an event as the binding puts it on the wire.
func written(ctx context.Context, e *sdk.Event) ([]byte, nats.Header, error) {
	var body bytes.Buffer
	header, err := cejs.WriteMsg(ctx, (*binding.EventMessage)(e), &body)
	return body.Bytes(), header, err
}

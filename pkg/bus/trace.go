package bus

import (
	"context"
	"slices"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Traces go from an anomaly to its delivery: the header traceparent is the hop
// before, ce-traceparent where the trace began. Telemetry is traced by sample,
// and linked, since a window has many batches. Names and attributes are those
// of OpenTelemetry's messaging conventions.

var w3c = propagation.TraceContext{}

// traceparent is the W3C header of the span in ctx; "" when it is not sampled.
func traceparent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	c := propagation.MapCarrier{}
	w3c.Inject(ctx, c)
	return c.Get(headerTrace)
}

// remote is the span context of a traceparent.
func remote(parent string) context.Context {
	return w3c.Extract(context.Background(), propagation.MapCarrier{headerTrace: parent})
}

// traceID is the trace of a traceparent; "" when it has none.
func traceID(parent string) string {
	if sc := trace.SpanContextFromContext(remote(parent)); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}

// template is the address of a type of event, which has few values where
// subjects have many; for a type that is not ours it is the stream.
func template(typ, stream string) string {
	if k, ok := event.Lookup(typ); ok {
		return k.Address
	}
	return stream
}

func messaging(operation, kind, stream, template string) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.type", kind),
		attribute.String("messaging.operation.name", operation),
		attribute.String("messaging.destination.name", stream),
		attribute.String("messaging.destination.template", template),
	}
}

// startProcess starts the span in which a message is handled, as a child of
// the hop that published it and linked to the start of its trace.
func (b *Bus) startProcess(ctx context.Context, m Message, hop, consumer string) (context.Context, trace.Span) {
	ctx = w3c.Extract(ctx, propagation.MapCarrier{headerTrace: hop})
	address := template(m.Type, m.Stream)
	attrs := append(messaging("process", "process", m.Stream, address),
		attribute.String("messaging.consumer.group.name", consumer), attribute.String("messaging.message.id", m.ID))
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...)}
	if m.Traceparent != "" && m.Traceparent != hop {
		opts = append(opts, trace.WithLinks(trace.LinkFromContext(remote(m.Traceparent))))
	}
	return b.set.Tracer.Start(ctx, "process "+address, opts...)
}

// maxLinks bounds the batches that one span is linked to.
const maxLinks = 32

// startCreate starts the trace of what a fold has found in telemetry: a trace of
// its own, linked to the batches that were traced.
func (b *Bus) startCreate(ctx context.Context, g Group, partition int, out []event.Outgoing, hops []string) (context.Context, trace.Span) {
	first := out[max(0, slices.IndexFunc(out, isAnomaly))]
	address := template(first.Type, first.Stream.Name)
	attrs := append(messaging("create", "create", first.Stream.Name, address),
		attribute.String("messaging.consumer.group.name", g.Name), attribute.String("messaging.destination.partition.id", strconv.Itoa(partition)),
		attribute.Int("messaging.batch.message_count", len(out)))
	var links []trace.Link
	for _, h := range hops {
		links = append(links, trace.LinkFromContext(remote(h)))
	}
	return b.set.Tracer.Start(ctx, "create "+address, trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attrs...), trace.WithLinks(links...))
}

// StartPublish starts the span of a batch of events that begins a trace; the
// events are published under the context that it returns. It is sampled.
func (b *Bus) StartPublish(ctx context.Context, out []event.Outgoing) (context.Context, func(error)) {
	if len(out) == 0 {
		return ctx, func(error) {}
	}
	address := template(out[0].Type, out[0].Stream.Name)
	attrs := append(messaging("publish", "send", out[0].Stream.Name, address), attribute.Int("messaging.batch.message_count", len(out)))
	ctx, span := b.set.Tracer.Start(ctx, "publish "+address, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...))
	return ctx, func(err error) { endSpan(span, err) }
}

// sent notes in the trace of its cause that an event is published, and returns
// that span as the hop.
func (b *Bus) sent(o event.Outgoing) string {
	address := template(o.Type, o.Stream.Name)
	attrs := append(messaging("publish", "send", o.Stream.Name, address), attribute.String("messaging.message.id", o.ID))
	ctx, span := b.set.Tracer.Start(remote(o.Traceparent), "publish "+address, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...))
	defer span.End()
	return traceparent(ctx)
}

func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// noSpan stands where nothing is traced.
var noSpan = trace.SpanFromContext(context.Background())

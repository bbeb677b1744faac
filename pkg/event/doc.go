// Package event holds the domain types of the project and [kinds.go], the one
// table that says which type travels on which subject of which stream under
// which id. Streams, JSON Schemas, the AsyncAPI document, NATS permissions and
// docs/events.md are all generated from that table.
//
// Everything on the bus is a CloudEvent. Telemetry keeps the ecosystem's own
// wire format as its payload (Prometheus Remote-Write 2.0, Loki's logproto,
// Kubernetes' JSON), so that any tool can read or feed it; what we conclude
// from it is JSON with a published schema.
//
// The package never reads a clock and imports nothing else of the project:
// every id and subject is a pure function of the data, which is what makes a
// repeated publish harmless and a replay exact.
package event

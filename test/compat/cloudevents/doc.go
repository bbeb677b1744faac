// Package cloudevents holds our CloudEvents codec for NATS against the SDK's own
// JetStream binding, in both directions.
package cloudevents

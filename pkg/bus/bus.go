// Package bus moves events over NATS JetStream: typed publish and consume,
// checkpointed folds over partitions, leases, key-value state, dead letters.
// It is the only package that knows JetStream; the server in process is
// bus/embedded.
package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Bus is a connection to one JetStream. Its methods are safe for concurrent use.
type Bus struct {
	nc *nats.Conn
}

// Publish writes events to their streams and waits until the server has
// stored every one. An id that the server has seen inside its dedupe window is
// stored once and is no error. Publish blocks while too many publishes are
// under way, which is the pipeline's back-pressure.
func (b *Bus) Publish(ctx context.Context, events ...event.Outgoing) error { panic("bus") }

// ConsumerConfig says how a stateless stage reads a stream.
type ConsumerConfig struct {
	Durable    string          // unique per stage; shared by its members
	Filter     string          // subject filter; "" for the kind's own address
	Workers    int             // messages handled at once; 0 means 1
	AckWait    time.Duration   // 0 means 30 s; extended while a handler runs
	MaxDeliver int             // 0 means 6
	Backoff    []time.Duration // nil means 1s 5s 30s 2m 10m
}

// Consume calls h with each event of kind k until ctx is done. What h returns
// is the acknowledgement: nil acknowledges, an error redelivers with back-off,
// [Retry] delays, [Reject] and an undecodable message go to the dead-letter
// stream with the reason.
func Consume[T any](ctx context.Context, b *Bus, k event.Kind[T], c ConsumerConfig, h func(context.Context, event.Event[T]) error) error {
	panic("bus")
}

// ConsumeAny is Consume for every kind on the subjects of a stream that the
// filters match.
func (b *Bus) ConsumeAny(ctx context.Context, s *event.Stream, filters []string, c ConsumerConfig, h func(context.Context, Message) error) error {
	panic("bus")
}

// RunGroup takes this member's share of the group's partitions and folds them
// until ctx is done, then checkpoints and leaves.
func (b *Bus) RunGroup(ctx context.Context, g Group) error { panic("bus") }

// ReadOptions says what part of a stream to read.
type ReadOptions struct {
	Filters   []string  // none: everything
	StartSeq  uint64    // 0: from the start, or from StartTime
	StartTime time.Time // by the time the server stored it
	Follow    bool      // wait for new messages; else stop at the present end
}

// Read calls h with messages in stream order without leaving a trace on the
// server: for taps, watches and replays. An undecodable message is passed with
// nil Data. An error of h ends the read and is returned.
func (b *Bus) Read(ctx context.Context, s *event.Stream, o ReadOptions, h func(Message) error) error {
	panic("bus")
}

// KV is a key-value bucket with compare-and-set.
type KV interface {
	// Get returns ErrNotFound for a key that is not there.
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	Put(ctx context.Context, key string, value []byte) (revision uint64, err error)
	// Update writes if revision is still current, with 0 for "must not exist";
	// else it returns ErrConflict.
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key string) error
	// Keys lists keys that start with prefix, sorted.
	Keys(ctx context.Context, prefix string) ([]string, error)
}

// The buckets.
const (
	BucketCollector = "collector" // cursors of sources
	BucketIncident  = "incident"  // current state of incidents, by id
	BucketNotifier  = "notifier"  // threads and sent notifications, by idempotency key
	BucketConfig    = "config"    // install id, redaction key reference, probed capabilities
)

// KV opens a bucket.
func (b *Bus) KV(ctx context.Context, bucket string) (KV, error) { panic("bus") }

// Lead runs f while this process holds the named lease, and waits for the
// lease before. The context of f is cancelled when the lease is lost; f is
// then run again once it is regained. A lease is a hint that saves work, not
// an exclusion: correctness comes from ids and compare-and-set.
func (b *Bus) Lead(ctx context.Context, name string, f func(context.Context) error) error {
	panic("bus")
}

// Request sends a core NATS request and decodes the JSON answer.
func (b *Bus) Request(ctx context.Context, subject string, request, response any) error { panic("bus") }

// Serve answers requests on a subject until ctx is done; members share them
// through the queue group. An error of h is sent back to the requester.
func (b *Bus) Serve(ctx context.Context, subject, queue string, h func(context.Context, []byte) (any, error)) error {
	panic("bus")
}

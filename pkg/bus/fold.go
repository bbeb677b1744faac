package bus

import (
	"encoding"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Message is one decoded message of a stream.
type Message struct {
	event.Attributes
	Stream   string
	Sequence uint64    // position in the stream: the canonical order
	Received time.Time // when the server stored it; never to be used by a fold
	Data     any       // a value of the kind's Go type, for example event.Anomaly
	Payload  []byte    // as it was on the wire
}

// Fold is the state of one partition of one consumer group: a deterministic
// state machine over the messages of its stream. It reads no clock, does no
// I/O and starts no goroutine; equal messages in equal order give equal
// outputs and equal state, byte for byte.
type Fold interface {
	// Apply folds one message and returns what has to be published because of
	// it, in order. The outputs' ids must be functions of the input, so that
	// publishing them twice is harmless. An error puts the message into the
	// dead-letter stream with the error as reason, and the fold goes on as if
	// the message had not been there: Apply must not have changed the state.
	Apply(Message) ([]event.Outgoing, error)

	encoding.BinaryMarshaler   // the state, for checkpoints
	encoding.BinaryUnmarshaler // and back
}

// Adopter is a fold that can go on from a state that was written under another
// [Group.ConfigHash]: after a change of configuration it need not learn again what
// the change has nothing to do with.
type Adopter interface {
	// Adopt takes over what it can of such a state, into a fold that was just made.
	// An error says that it is nothing that this version can read.
	Adopt(state []byte) error
}

// Group is a set of folds over one stream. Every member of the group that
// runs somewhere takes its share of the partitions; a partition is folded by
// one member at a time, which the checkpoint's compare-and-set guarantees.
type Group struct {
	Name   string        // unique; part of durable names and checkpoint keys
	Stream *event.Stream // the one input
	// Partitions is how many folds there are: [event.Partitions], or 1.
	Partitions int
	// Filters are the subjects of one partition. What is in those of several
	// goes to each of them.
	Filters func(partition int) []string
	// ConfigHash names version and configuration of the fold. Another hash
	// starts from what an [Adopter] takes over of the newest checkpoint of another,
	// else from a fresh state; the old checkpoint is kept for a rollback.
	ConfigHash string
	// New makes the fold of a partition, empty.
	New func(partition int) (Fold, error)
	// CheckpointEvery and CheckpointMessages bound the work that is repeated
	// after a crash. Zero: as [Config] says, and 20,000 messages.
	CheckpointEvery    time.Duration
	CheckpointMessages int
}

package bus

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// checkpoint is how far a fold has come, and its state there. It is written
// with compare-and-set, so that of two that believe they own a partition one
// finds out.
type checkpoint struct {
	Seq    uint64    `json:"seq"` // last message folded
	Time   time.Time `json:"time"`
	State  []byte    `json:"state,omitempty"`  // when small
	Object string    `json:"object,omitempty"` // name in the snapshots store, when large
	Digest string    `json:"digest"`           // SHA-256 of the state
	// Skip are messages after Seq that the fold could not bear: it panicked.
	Skip []uint64 `json:"skip,omitempty"`
}

// maxInline is the largest state kept beside its checkpoint.
const maxInline = 256 << 10

// checkpoints reads and writes the checkpoints of one group.
type checkpoints struct {
	kv     KV
	js     jetstream.JetStream
	prefix string // group and configuration hash
}

func (c *checkpoints) key(partition int) string {
	return fmt.Sprintf("%s.%02d", c.prefix, partition)
}

// errCorrupt is wrapped by errors about a checkpoint that is there and cannot
// be used: the fold starts afresh.
var errCorrupt = errors.New("checkpoint corrupt")

// load returns the checkpoint and its revision; a zero checkpoint when there
// is none. With errCorrupt the revision is good, so that it can be replaced.
func (c *checkpoints) load(ctx context.Context, partition int) (checkpoint, uint64, error) {
	var ck checkpoint
	raw, rev, err := c.kv.Get(ctx, c.key(partition))
	if errors.Is(err, ErrNotFound) {
		// A deleted key has revisions all the same; Update with 0 copes.
		return ck, 0, nil
	}
	if err != nil {
		return ck, 0, err
	}
	if err := json.Unmarshal(raw, &ck); err != nil {
		return checkpoint{}, rev, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if ck.Object != "" {
		store, err := c.js.ObjectStore(ctx, storeSnapshots)
		if err != nil {
			return checkpoint{}, rev, fmt.Errorf("open snapshots: %w", err)
		}
		ck.State, err = store.GetBytes(ctx, ck.Object)
		if err != nil {
			return checkpoint{}, rev, fmt.Errorf("%w: snapshot %s: %w", errCorrupt, ck.Object, err)
		}
	}
	if digest(ck.State) != ck.Digest {
		return checkpoint{}, rev, fmt.Errorf("%w: digest differs", errCorrupt)
	}
	return ck, rev, nil
}

// newest returns the checkpoint of a partition that went furthest, of all
// configurations of a group; a zero one where there is none. The subjects of the bucket's
// stream say which there are: whoever may open a bucket may ask for these, and to list
// its keys takes a consumer, which a detector may not make there.
func (c *checkpoints) newest(ctx context.Context, group string, partition int) (checkpoint, error) {
	stream, err := c.js.Stream(ctx, "KV_"+bucketCheckpoints)
	if err != nil {
		return checkpoint{}, fmt.Errorf("open checkpoints: %w", err)
	}
	const before = "$KV." + bucketCheckpoints + "."
	after := fmt.Sprintf(".%02d", partition)
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(before+event.Token(group)+".*"+after))
	if err != nil {
		return checkpoint{}, fmt.Errorf("list checkpoints: %w", err)
	}
	var best checkpoints
	var furthest uint64
	for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
		key := strings.TrimPrefix(subject, before)
		prefix := strings.TrimSuffix(key, after)
		raw, _, err := c.kv.Get(ctx, key)
		var ck checkpoint
		if err != nil || json.Unmarshal(raw, &ck) != nil || ck.Seq <= furthest {
			continue // gone meanwhile, no checkpoint, or an older one
		}
		best, furthest = checkpoints{kv: c.kv, js: c.js, prefix: prefix}, ck.Seq
	}
	if furthest == 0 {
		return checkpoint{}, nil
	}
	ck, _, err := best.load(ctx, partition)
	return ck, err
}

// save writes a checkpoint if revision is still the current one; ErrConflict
// says that somebody else owns the partition.
func (c *checkpoints) save(ctx context.Context, partition int, ck checkpoint, revision uint64) (uint64, error) {
	ck.Digest = digest(ck.State)
	if len(ck.State) > maxInline {
		store, err := c.js.ObjectStore(ctx, storeSnapshots)
		if err != nil {
			return 0, fmt.Errorf("open snapshots: %w", err)
		}
		// Two names in turn: the snapshot of the checkpoint in force is never
		// written over, whoever wins the compare-and-set.
		ck.Object = fmt.Sprintf("%s.%s", c.key(partition), ck.Digest[:12])
		old, _, err := c.kv.Get(ctx, c.key(partition))
		if _, err2 := store.Put(ctx, jetstream.ObjectMeta{Name: ck.Object}, bytes.NewReader(ck.State)); err2 != nil {
			return 0, fmt.Errorf("write snapshot: %w", err2)
		}
		ck.State = nil
		rev, err3 := c.write(ctx, partition, ck, revision)
		var before checkpoint
		if err == nil && err3 == nil && json.Unmarshal(old, &before) == nil && before.Object != "" && before.Object != ck.Object {
			_ = store.Delete(ctx, before.Object) // best effort: it is only space
		}
		return rev, err3
	}
	return c.write(ctx, partition, ck, revision)
}

func (c *checkpoints) write(ctx context.Context, partition int, ck checkpoint, revision uint64) (uint64, error) {
	b, err := json.Marshal(ck)
	if err != nil {
		return 0, fmt.Errorf("write checkpoint: %w", err)
	}
	return c.kv.Update(ctx, c.key(partition), b, revision)
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

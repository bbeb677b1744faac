package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// The buckets that other packages open.
const (
	BucketCollector = "collector" // cursors of sources
	BucketIncident  = "incident"  // current state of incidents, by id
	BucketNotifier  = "notifier"  // threads and sent notifications, by idempotency key
	BucketConfig    = "config"    // install id, redaction key reference, probed capabilities
)

// The buckets of the bus itself.
const (
	bucketMembers     = "members" // who lives, by group; leases
	bucketCheckpoints = "ckpt"    // progress and state of folds
	storeSnapshots    = "snapshots"
)

// EnsureStreams makes every stream and bucket of the table of kinds, or brings
// them up to date. It never deletes one.
func (b *Bus) EnsureStreams(ctx context.Context) error {
	share, snapshots := b.shares()
	for _, s := range event.Streams() {
		c := jetstream.StreamConfig{
			Name: s.Name, Description: s.Doc, Subjects: s.Subjects, Storage: jetstream.FileStorage,
			Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld, Replicas: b.cfg.Replicas,
			MaxAge: s.MaxAge, MaxBytes: int64(float64(s.MaxBytes) * share), MaxMsgSize: s.MaxMsg, Duplicates: s.Dedupe,
			AllowDirect: s.Direct, Compression: jetstream.NoCompression, MaxConsumers: -1, MaxMsgs: -1,
			Metadata: map[string]string{"oncall.schema": "v1"},
		}
		if s.WorkQueue {
			// A full queue refuses, which its publisher sees; dropping the oldest
			// would lose a notification.
			c.Retention, c.Discard = jetstream.WorkQueuePolicy, jetstream.DiscardNew
		}
		if s.Compress {
			c.Compression = jetstream.S2Compression
		}
		if err := b.ensure(ctx, "stream "+s.Name, func(ctx context.Context) error {
			_, err := b.js.CreateOrUpdateStream(ctx, c)
			return err
		}); err != nil {
			return err
		}
	}
	for _, kv := range []jetstream.KeyValueConfig{
		{Bucket: bucketMembers, TTL: b.cfg.MemberTTL, Storage: jetstream.MemoryStorage, MaxBytes: 8 << 20},
		{Bucket: bucketCheckpoints, History: 2, MaxBytes: int64(float64(2<<30) * share)},
		{Bucket: BucketCollector, History: 2, MaxBytes: int64(float64(256<<20) * share)},
		{Bucket: BucketIncident, History: 5, MaxBytes: int64(float64(gib) * share), Compression: true},
		{Bucket: BucketNotifier, TTL: 35 * 24 * time.Hour, MaxBytes: int64(float64(gib) * share), Compression: true},
		{Bucket: BucketConfig, History: 5, MaxBytes: 16 << 20},
	} {
		kv.Replicas = b.cfg.Replicas
		if err := b.ensure(ctx, "bucket "+kv.Bucket, func(ctx context.Context) error {
			_, err := b.js.CreateOrUpdateKeyValue(ctx, kv)
			return err
		}); err != nil {
			return err
		}
	}
	if err := b.ensure(ctx, "object store "+storeKept, func(ctx context.Context) error {
		_, err := b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: storeKept, Replicas: b.cfg.Replicas, MaxBytes: b.keptBytes(), TTL: event.Anomalies.MaxAge, Compression: true,
		})
		return err
	}); err != nil {
		return err
	}
	return b.ensure(ctx, "object store "+storeSnapshots, func(ctx context.Context) error {
		_, err := b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
			Bucket: storeSnapshots, Replicas: b.cfg.Replicas, MaxBytes: snapshots, Compression: true,
		})
		return err
	})
}

// LastMade is the stream that EnsureStreams makes last: where it is, all are.
const LastMade = "OBJ_" + storeSnapshots

// awaitStreams waits for the identity that makes the streams to have done so.
func (b *Bus) awaitStreams(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		_, err := b.js.Stream(ctx, LastMade)
		if err == nil {
			return nil
		}
		b.set.Log.Warn("streams are not made yet, waiting", "make_them_with", "oncall bus init", "err", err)
		if !sleep(ctx, wait) {
			return fmt.Errorf("streams are not made: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

const gib = 1 << 30

const (
	// allSnapshots is the room for snapshots where nothing is bounded.
	allSnapshots = 4 * gib
	// leastSnapshots is what they have at least, and at most one part in
	// snapshotsPart of all: a fold that cannot write its checkpoint folds the same
	// again. Series take some 200 bytes each in a snapshot, of which there are two
	// for a moment, so that this is for half a million.
	leastSnapshots = 256 << 20
	snapshotsPart  = 8
)

// shares are the room for snapshots, and by how much the limit of each other stream
// and bucket is scaled, so that all of them fit into Config.MaxBytes.
func (b *Bus) shares() (share float64, snapshots int64) {
	if b.cfg.MaxBytes == 0 {
		return 1, allSnapshots
	}
	total := int64(10 * gib) // buckets, snapshots and kept checkpoints
	for _, s := range event.Streams() {
		total += s.MaxBytes
	}
	share = min(1, float64(b.cfg.MaxBytes)/float64(total))
	snapshots = int64(allSnapshots * share)
	if least := min(leastSnapshots, b.cfg.MaxBytes/snapshotsPart); snapshots < least {
		return float64(b.cfg.MaxBytes-least) / float64(total-allSnapshots), least
	}
	return share, snapshots
}

// errCodeStorage is the server's JSStorageResourcesExceededErr, which the client has
// no name for.
const errCodeStorage jetstream.ErrorCode = 10047

// ensure repeats an administrative call while the cluster has no leader yet.
func (b *Bus) ensure(ctx context.Context, what string, f func(context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		err := f(ctx)
		if err == nil {
			return nil
		}
		api, refused := errors.AsType[*jetstream.APIError](err)
		if refused && api.Code != 503 || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			if refused && api.ErrorCode == errCodeStorage {
				err = fmt.Errorf("the NATS servers have less storage than the streams are bounded to; set bus.max_bytes to nine tenths of each server's max_file_store: %w", err)
			}
			return fmt.Errorf("ensure %s: %w", what, err)
		}
		if !sleep(ctx, wait) {
			return fmt.Errorf("ensure %s: %w", what, err)
		}
	}
}

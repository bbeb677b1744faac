package bus

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// KeepEvery is how often, in event time, a fold's checkpoint is kept beside the
// one in force: what a replay of an old incident begins with. Every partition
// of every group keeps its own at the first tick of each such interval, so that
// those of one interval belong together.
const KeepEvery = 10 * time.Minute

const (
	// keepFor is how long a kept checkpoint stays that no incident needs.
	keepFor = 2*time.Hour + KeepEvery
	// maxPins bounds how many intervals are held for incidents; incidents of one
	// interval share them.
	maxPins = 48
	// keyPins is the key, among the checkpoints, that says which are held.
	keyPins   = "pins"
	storeKept = "kept"
)

// Kept is a checkpoint from the past.
type Kept struct {
	Group     string    `json:"group"`
	Config    string    `json:"config"` // hash of the fold's version and configuration
	Partition int       `json:"partition"`
	Slot      time.Time `json:"slot"`    // beginning of its interval, in event time
	Stream    string    `json:"stream"`  // that the group folds
	Sequence  uint64    `json:"seq"`     // of the last message folded
	Outputs   uint64    `json:"outputs"` // last position in ANOMALIES by then: all it had found is there
	Digest    string    `json:"digest"`  // SHA-256 of the state
	Size      uint64    `json:"-"`       // of the state
	object    string
	nuid      string
}

// Intact says whether a state is the one that was kept.
func (k Kept) Intact(state []byte) bool { return digest(state) == k.Digest }

func (k Kept) name() string {
	return fmt.Sprintf("%d.%s.%s.%02d", k.Slot.Unix(), event.Token(k.Group), event.Token(k.Config), k.Partition)
}

// keep writes the fold's checkpoint, and keeps a copy of it, when a message
// begins a new interval. What cannot be kept is a replay that begins later, and
// no reason to stop.
func (r *groupRunner) keep(ctx context.Context, p *partition, m Message) error {
	switch m.Data.(type) {
	case event.Tick, event.Watermark:
	default:
		return nil
	}
	slot := m.Time.UTC().Truncate(KeepEvery)
	if !slot.After(p.slot) {
		return nil
	}
	begun := !p.slot.IsZero()
	p.slot = slot
	if !begun {
		return nil
	}
	if err := r.save(ctx, p); err != nil {
		return err
	}
	if err := r.store(ctx, p, slot); err != nil && ctx.Err() == nil {
		r.bus.set.Log.Warn("checkpoint not kept, an exact replay begins with an older one or later", "group", r.g.Name, "partition", p.n, "err", err)
		r.bus.metrics.checkpoints.WithLabelValues(r.g.Name, "not_kept").Inc()
	}
	return nil
}

func (r *groupRunner) store(ctx context.Context, p *partition, slot time.Time) error {
	store, err := r.bus.js.ObjectStore(ctx, storeKept)
	if err != nil {
		return fmt.Errorf("open kept checkpoints: %w", err)
	}
	outputs, err := r.bus.Last(ctx, event.Anomalies)
	if err != nil {
		return err
	}
	k := Kept{
		Group: r.g.Name, Config: r.g.ConfigHash, Partition: p.n, Slot: slot, Stream: r.g.Stream.Name,
		Sequence: p.saved, Outputs: outputs, Digest: digest(p.state),
	}
	about, err := json.Marshal(k)
	if err != nil {
		return err
	}
	_, err = store.Put(ctx, jetstream.ObjectMeta{Name: k.name(), Metadata: map[string]string{"kept": string(about)}}, bytes.NewReader(p.state))
	return err
}

// Kept lists the kept checkpoints, oldest interval first.
func (b *Bus) Kept(ctx context.Context) ([]Kept, error) {
	store, err := b.js.ObjectStore(ctx, storeKept)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil // made by a version that kept none
	}
	if err != nil {
		return nil, fmt.Errorf("open kept checkpoints: %w", err)
	}
	all, err := store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, fmt.Errorf("list kept checkpoints: %w", err)
	}
	var out []Kept
	for _, info := range all {
		var k Kept
		if json.Unmarshal([]byte(info.Metadata["kept"]), &k) != nil {
			continue // not ours
		}
		k.Size, k.object, k.nuid = info.Size, info.Name, info.NUID
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b Kept) int {
		return cmp.Or(a.Slot.Compare(b.Slot), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Config, b.Config), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}

// KeptState reads the state of a kept checkpoint; ErrNotFound when it is gone.
func (b *Bus) KeptState(ctx context.Context, k Kept) ([]byte, error) {
	store, err := b.js.ObjectStore(ctx, storeKept)
	if err != nil {
		return nil, fmt.Errorf("open kept checkpoints: %w", err)
	}
	state, err := store.GetBytes(ctx, k.name())
	switch {
	case errors.Is(err, jetstream.ErrObjectNotFound):
		return nil, fmt.Errorf("kept checkpoint %s: %w", k.name(), ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("kept checkpoint %s: %w", k.name(), err)
	case !k.Intact(state):
		return nil, fmt.Errorf("kept checkpoint %s: %w: digest differs", k.name(), errCorrupt)
	}
	return state, nil
}

// Checkpoint is the checkpoint in force of a partition, and its state;
// ErrNotFound when there is none.
func (b *Bus) Checkpoint(ctx context.Context, group, config string, partition int) (Kept, []byte, error) {
	c, err := b.checkpointsOf(ctx, group, config)
	if err != nil {
		return Kept{}, nil, err
	}
	ck, rev, err := c.load(ctx, partition)
	if err != nil {
		return Kept{}, nil, err
	}
	if rev == 0 {
		return Kept{}, nil, fmt.Errorf("checkpoint %s: %w", c.key(partition), ErrNotFound)
	}
	return Kept{Group: group, Config: config, Partition: partition, Sequence: ck.Seq, Digest: ck.Digest}, ck.State, nil
}

// Restore makes a state the checkpoint of a partition that has none, at a
// position in this bus's own stream: its group goes on from there. 0 is before
// the first message.
func (b *Bus) Restore(ctx context.Context, k Kept, state []byte, position uint64) error {
	c, err := b.checkpointsOf(ctx, k.Group, k.Config)
	if err != nil {
		return err
	}
	_, err = c.save(ctx, k.Partition, checkpoint{Seq: position, Time: b.set.Now(), State: state}, 0)
	return err
}

// Restored says whether a partition folded here began with the state of a
// checkpoint, the first time it was begun.
func (b *Bus) Restored(group string, partition int) bool {
	v, _ := b.restored.Load(partitionKey{group, partition})
	yes, _ := v.(bool)
	return yes
}

func (b *Bus) checkpointsOf(ctx context.Context, group, config string) (*checkpoints, error) {
	kv, err := b.KV(ctx, bucketCheckpoints)
	if err != nil {
		return nil, err
	}
	return &checkpoints{kv: kv, js: b.js, prefix: event.Token(group) + "." + event.Token(config)}, nil
}

// beginning is how long before its onset an incident's replay begins at the
// latest.
const beginning = time.Minute

// Before is the interval whose checkpoints a replay of an incident with this
// onset begins with.
func Before(onset time.Time) time.Time { return onset.UTC().Add(-beginning).Truncate(KeepEvery) }

// Pin holds the checkpoints from before an incident's onset for as long as the
// messages last that a replay would be fed. The oldest are let go when there
// are too many.
func (b *Bus) Pin(ctx context.Context, onset time.Time) error {
	kv, err := b.KV(ctx, bucketCheckpoints)
	if err != nil {
		return err
	}
	for {
		pins, rev, err := b.pins(ctx, kv)
		if err != nil {
			return err
		}
		slot := Before(onset).Unix()
		if slices.Contains(pins, slot) {
			return nil
		}
		pins = append(pins, slot)
		slices.Sort(pins)
		pins = pins[max(0, len(pins)-maxPins):]
		raw, err := json.Marshal(pins)
		if err != nil {
			return err
		}
		if _, err := kv.Update(ctx, keyPins, raw, rev); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// pins are the intervals that are held, as Unix seconds, sorted.
func (b *Bus) pins(ctx context.Context, kv KV) ([]int64, uint64, error) {
	raw, rev, err := kv.Get(ctx, keyPins)
	if errors.Is(err, ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var pins []int64
	if err := json.Unmarshal(raw, &pins); err != nil {
		b.set.Log.Warn("list of held checkpoints is unreadable, beginning a new one", "err", err)
		return nil, rev, nil
	}
	return pins, rev, nil
}

// RunKept lets kept checkpoints go whose time is over, until ctx is done.
func (b *Bus) RunKept(ctx context.Context) {
	for {
		if err := b.PruneKept(ctx); err != nil && ctx.Err() == nil {
			b.set.Log.Warn("kept checkpoints not looked through, trying again", "err", err)
		}
		if !sleep(ctx, KeepEvery/2) {
			return
		}
	}
}

// PruneKept lets kept checkpoints go: those that no incident needs after two
// hours, those of incidents when their streams hold no message of the time any
// more, and the oldest when there is no room for all.
func (b *Bus) PruneKept(ctx context.Context) error {
	all, err := b.Kept(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	kv, err := b.KV(ctx, bucketCheckpoints)
	if err != nil {
		return err
	}
	pins, _, err := b.pins(ctx, kv)
	if err != nil {
		return err
	}
	ages := map[string]time.Duration{}
	for _, s := range event.Streams() {
		ages[s.Name] = s.MaxAge
	}
	total := uint64(0)
	for _, k := range all {
		total += k.Size
	}
	now := b.set.Now()
	most := uint64(b.keptBytes()) * 3 / 4
	for _, k := range all {
		age := now.Sub(k.Slot)
		// The interval before is held too, for one that was not kept whole.
		held := age <= ages[k.Stream] && (slices.Contains(pins, k.Slot.Unix()) || slices.Contains(pins, k.Slot.Add(KeepEvery).Unix()))
		if (age <= keepFor || held) && total <= most {
			continue
		}
		if err := b.dropKept(ctx, k); err != nil {
			return err
		}
		total -= k.Size
	}
	return nil
}

// dropKept removes a kept checkpoint without the mark that the object store
// would leave for ever in its place.
func (b *Bus) dropKept(ctx context.Context, k Kept) error {
	s, err := b.js.Stream(ctx, "OBJ_"+storeKept)
	if err != nil {
		return fmt.Errorf("open kept checkpoints: %w", err)
	}
	for _, subject := range []string{
		"$O." + storeKept + ".M." + base64.URLEncoding.EncodeToString([]byte(k.object)),
		"$O." + storeKept + ".C." + k.nuid,
	} {
		if err := s.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("remove kept checkpoint %s of %s: %w", k.object, strconv.FormatInt(k.Slot.Unix(), 10), err)
		}
	}
	return nil
}

// keptBytes is the room for kept checkpoints.
func (b *Bus) keptBytes() int64 {
	share, _ := b.shares()
	return int64(2 * gib * share)
}

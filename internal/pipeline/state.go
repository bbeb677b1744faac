package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/correlator"
)

// cut is where a warm recording begins: every fold at its own position. The
// positions need not be of one moment: what a detector had found by its own is
// in ANOMALIES, and what it finds again after it has the same id.
type cut struct {
	slot        time.Time
	checkpoints []bus.Kept
	exactFrom   From
	since       time.Time // judged by then
	// low is the position in ANOMALIES after which its messages are recorded.
	low uint64
}

// after is the position in its stream after which a partition's messages are
// recorded; false for a group that has no state here.
func (c *cut) after(group string, partition int) (uint64, bool) {
	for _, k := range c.checkpoints {
		if k.Group == group && k.Partition == partition {
			return k.Sequence, true
		}
	}
	return 0, false
}

// extent is what a stream still holds.
type extent struct{ first, last uint64 }

func extents(ctx context.Context, b *bus.Bus) (map[string]extent, error) {
	out := map[string]extent{}
	for _, s := range append([]*event.Stream{event.Anomalies}, telemetry...) {
		first, last, err := b.Bounds(ctx, s)
		if err != nil {
			return nil, err
		}
		out[s.Name] = extent{first, last}
	}
	return out, nil
}

// whole says whether streams still hold all they ever got.
func whole(held map[string]extent) bool {
	for _, e := range held {
		if e.first > 1 {
			return false
		}
	}
	return true
}

// cutAt makes a cut of the checkpoints of one interval; nil when they are not
// all there, or the streams do not hold what follows them.
func cutAt(kept []bus.Kept, held map[string]extent) *cut {
	c := &cut{slot: kept[0].Slot}
	fold := latest(kept, correlator.GroupName)
	if len(fold) != 1 {
		return nil
	}
	c.low = fold[0].Sequence
	if anomalies := held[event.Anomalies.Name]; anomalies.first > c.low+1 {
		return nil
	}
	c.checkpoints, c.exactFrom = fold, FromAnomalies
	all := slices.Clone(fold)
	low := c.low
	for group, s := range groups {
		if held[s.Name].last == 0 {
			continue // nothing ever came
		}
		parts := latest(kept, group)
		if len(parts) != event.Partitions {
			return c
		}
		for _, k := range parts {
			if held[s.Name].first > k.Sequence+1 {
				return c
			}
			low = min(low, k.Outputs)
		}
		all = append(all, parts...)
	}
	if held[event.Anomalies.Name].first > low+1 {
		return c
	}
	slices.SortFunc(all, func(a, b bus.Kept) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Partition, b.Partition))
	})
	return &cut{slot: c.slot, checkpoints: all, exactFrom: FromTelemetry, low: low}
}

// latest are the checkpoints of a group, of the configuration that has come
// furthest.
func latest(kept []bus.Kept, group string) []bus.Kept {
	var best *bus.Kept
	for i, k := range kept {
		if k.Group == group && (best == nil || k.Sequence > best.Sequence) {
			best = &kept[i]
		}
	}
	var out []bus.Kept
	for _, k := range kept {
		if k.Group == group && k.Config == best.Config {
			out = append(out, k)
		}
	}
	return out
}

// chooseCut picks the checkpoints that a recording begins with: for an incident the
// last from before its onset, else the first that there are. nil: none.
func chooseCut(ctx context.Context, b *bus.Bus, onset time.Time, held map[string]extent) (*cut, error) {
	kept, err := b.Kept(ctx)
	if err != nil {
		return nil, err
	}
	var cuts []*cut
	for len(kept) > 0 {
		n := slices.IndexFunc(kept, func(k bus.Kept) bool { return !k.Slot.Equal(kept[0].Slot) })
		if n < 0 {
			n = len(kept)
		}
		if onset.IsZero() || !kept[0].Slot.After(bus.Before(onset)) {
			if c := cutAt(kept[:n], held); c != nil {
				cuts = append(cuts, c)
			}
		}
		kept = kept[n:]
	}
	if !onset.IsZero() {
		slices.Reverse(cuts)
	}
	slices.SortStableFunc(cuts, func(a, b *cut) int { // telemetry before anomalies
		return cmp.Compare(b.exactFrom, a.exactFrom)
	})
	for _, c := range cuts {
		i := slices.IndexFunc(c.checkpoints, func(k bus.Kept) bool { return k.Group == correlator.GroupName })
		state, err := b.KeptState(ctx, c.checkpoints[i])
		if errors.Is(err, bus.ErrNotFound) {
			continue // let go meanwhile
		}
		if err != nil {
			return nil, err
		}
		if c.since, err = correlator.Judged(state); err == nil {
			return c, nil
		}
	}
	return nil, nil
}

// judged is the event time up to which the incidents on a bus are complete; zero
// when the correlator has never written that down.
func judged(ctx context.Context, b *bus.Bus) (time.Time, error) {
	_, state, err := b.Checkpoint(ctx, correlator.GroupName, correlator.ConfigHash, 0)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, err
	}
	return correlator.Judged(state)
}

// write writes the cut's states into a bundle's folder.
func (c *cut) write(ctx context.Context, b *bus.Bus, dir string) error {
	var list []bundle.Checkpoint
	for _, k := range c.checkpoints {
		list = append(list, bundle.Checkpoint{
			Group: k.Group, Config: k.Config, Partition: k.Partition, Stream: k.Stream, Sequence: k.Sequence, Outputs: k.Outputs, Digest: k.Digest,
		})
	}
	return bundle.WriteState(dir, list, func(i int) ([]byte, error) { return b.KeptState(ctx, c.checkpoints[i]) })
}

// Fidelity is what a replay can equal, and when that is less than what could be
// wished, why.
type Fidelity struct {
	State bundle.State
	Why   string
}

// Fidelity says what the replay equals. What is not known before the services
// have begun, whether they can use the states, is known after Run.
func (r *Replay) Fidelity() Fidelity { return r.fidelity }

func (r *Replay) cold(format string, args ...any) {
	if r.fidelity.State != bundle.Cold {
		r.fidelity = Fidelity{bundle.Cold, fmt.Sprintf(format, args...)}
	}
}

// restore gives the folds the states that the bundle holds. States that cannot
// be used make the replay a cold one, and are no error.
func (r *Replay) restore(ctx context.Context) error {
	m := r.Bundle.Manifest
	r.fidelity = Fidelity{State: cmp.Or(m.State, bundle.Cold)}
	switch {
	case r.fidelity.State == bundle.Cold:
		r.fidelity.Why = "the recording begins in the middle of a run, and holds no state of before"
		return nil
	case m.State == bundle.Complete:
		return nil
	case r.From == FromSources:
		r.cold("state/ belongs to the recorded streams; replay it --from %s", m.ExactFrom)
		return nil
	case r.From == FromTelemetry && From(m.ExactFrom) == FromAnomalies:
		r.cold("the telemetry after the checkpoints was gone when it was recorded; replay it --from %s", FromAnomalies)
		return nil
	}
	list, states, err := r.states()
	if err != nil {
		r.cold("%v", err)
		return nil
	}
	if r.From == FromTelemetry {
		if err := r.seed(ctx, list); err != nil {
			return err
		}
	}
	for i, c := range list {
		position := uint64(0)
		if c.Group == correlator.GroupName {
			r.after, r.begins, position = c.Sequence, states[i], r.seeded
		} else if r.From == FromAnomalies {
			continue
		}
		k := bus.Kept{Group: c.Group, Config: c.Config, Partition: c.Partition}
		if err := r.Host.Bus.Restore(ctx, k, states[i], position); err != nil {
			return err
		}
		r.given = append(r.given, c)
	}
	return nil
}

// states reads the checkpoints; an error says which is not what it should be.
func (r *Replay) states() ([]bundle.Checkpoint, [][]byte, error) {
	list, err := r.Bundle.Checkpoints()
	if err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(list, func(c bundle.Checkpoint) bool { return c.Group == correlator.GroupName }) {
		return nil, nil, fmt.Errorf("bundle %s: state/ holds no checkpoint of the %s", r.Bundle.Manifest.Name, correlator.GroupName)
	}
	states := make([][]byte, len(list))
	for i, c := range list {
		if states[i], err = r.Bundle.StateOf(c); err != nil {
			return nil, nil, err
		}
	}
	return list, states, nil
}

// seed publishes what the detectors had found by their checkpoints and the
// correlator had not folded by its own, and what it had folded that they find
// again: an id that is there already is not stored twice.
func (r *Replay) seed(ctx context.Context, list []bundle.Checkpoint) error {
	var folded, found uint64
	for _, c := range list {
		if c.Group == correlator.GroupName {
			folded = c.Sequence
		} else {
			found = max(found, c.Outputs)
		}
	}
	var before, behind []bus.Raw
	for rec, err := range r.Bundle.Records(event.Anomalies.Name) {
		if err != nil {
			return err
		}
		raw := bus.Raw{Sequence: rec.Sequence, Received: rec.Received, Subject: rec.Subject, Header: rec.Header, Payload: rec.Payload}
		switch {
		case rec.Sequence <= folded:
			before = append(before, raw)
		case rec.Sequence <= found:
			behind = append(behind, raw)
		}
	}
	if err := r.republish(ctx, before); err != nil {
		return err
	}
	var err error
	if r.seeded, err = r.Host.Bus.Last(ctx, event.Anomalies); err != nil {
		return err
	}
	return r.republish(ctx, behind)
}

func (r *Replay) republish(ctx context.Context, msgs []bus.Raw) error {
	for run := range slices.Chunk(msgs, maxRun) {
		if err := r.Host.Bus.RepublishAll(ctx, run); err != nil {
			return err
		}
	}
	return nil
}

// verify looks whether the folds have begun with the states they were given.
func (r *Replay) verify() {
	for _, c := range r.given {
		if slices.ContainsFunc(r.workers, func(w *Host) bool { return w.Bus.Restored(c.Group, c.Partition) }) {
			continue
		}
		r.cold("the state of %s %02d is of another version or configuration than this oncall's", c.Group, c.Partition)
		return
	}
}

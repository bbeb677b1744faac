package detector

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// eventFold buffers Kubernetes events, changes, topology and alerts until the
// tick, and passes changes and topology on to the correlator.
type eventFold struct {
	*bank
	pending []pendingEvent
	// Two generations of ids make a set that forgets: an id is known for at
	// least idsFor and at most twice as long.
	ids, oldIDs map[uint64]bool
	turned      int64 // watermark at which the generations changed
}

// idsFor is longer than the API server keeps events.
const idsFor = 2 * time.Hour

// maxIDs bounds one generation of ids.
const maxIDs = 200_000

// pendingEvent is one of KubeEvent, Change, Topology and Alert.
type pendingEvent struct {
	at   time.Time
	id   string
	data any
}

func newEventFold(b *bank) *eventFold {
	return &eventFold{bank: b, ids: map[uint64]bool{}, oldIDs: map[uint64]bool{}}
}

func byEvent(a, b pendingEvent) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) }

// Apply folds an event, a change, topology, an alert or a tick.
func (f *eventFold) Apply(m bus.Message) ([]event.Outgoing, error) {
	p := pendingEvent{id: m.ID, data: m.Data}
	switch v := m.Data.(type) {
	case event.KubeEvent:
		p.at = v.Time()
	case event.Change:
		p.at = v.Time.UTC()
	case event.Topology:
		p.at = v.Time.UTC()
	case event.Alert:
		p.at = v.Time()
	case event.Tick:
		if f.passed(v) {
			f.drop("repeat", 1)
			return nil, nil
		}
		return f.tick(m, v), nil
	default:
		return nil, fmt.Errorf("detector: events fold got %s", m.Type)
	}
	id := event.HashStrings(m.ID)
	if f.ids[id] || f.oldIDs[id] {
		f.drop("repeat", 1)
		return nil, nil
	}
	f.ids[id] = true
	at, _ := slices.BinarySearchFunc(f.pending, p, byEvent)
	f.pending = slices.Insert(f.pending, at, p)
	return nil, nil
}

func (f *eventFold) tick(m bus.Message, t event.Tick) []event.Outgoing {
	batch := f.batch(t)
	var context []event.Outgoing
	kept := f.pending[:0:0]
	for _, p := range f.pending {
		if ahead := p.at.Sub(t.Watermark); ahead > 0 && ahead <= skew {
			kept = append(kept, p)
			continue
		}
		switch v := p.data.(type) {
		case event.KubeEvent:
			batch.Events = append(batch.Events, v)
		case event.Change:
			batch.Changes = append(batch.Changes, v)
			context = append(context, event.ContextChange.Out(v))
		case event.Topology:
			batch.Topology = append(batch.Topology, v)
			context = append(context, event.ContextTopology.Out(v))
		case event.Alert:
			batch.Alerts = append(batch.Alerts, v)
		}
	}
	f.metrics.samples.WithLabelValues(string(f.group)).Add(float64(len(f.pending) - len(kept)))
	f.pending = kept
	if w := t.Watermark.UnixMilli(); f.turned == 0 || w-f.turned >= idsFor.Milliseconds() || len(f.ids) > maxIDs {
		f.turned = w
		f.oldIDs, f.ids = f.ids, map[uint64]bool{}
	}
	return f.window(m, t, context, nil, func(int) event.Batch { return batch })
}

// The tags of pending events in a snapshot.
const (
	tagEvent = iota + 1
	tagChange
	tagTopology
	tagAlert
)

// MarshalBinary writes the state.
func (f *eventFold) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	if err := f.write(w); err != nil {
		return nil, err
	}
	w.Int(f.turned)
	for _, set := range []map[uint64]bool{f.ids, f.oldIDs} {
		w.Uint(uint64(len(set)))
		for _, id := range slices.Sorted(maps.Keys(set)) {
			w.Fixed(id)
		}
	}
	w.Uint(uint64(len(f.pending)))
	for _, p := range f.pending {
		w.Time(p.at)
		w.String(p.id)
		switch p.data.(type) {
		case event.KubeEvent:
			w.Uint(tagEvent)
		case event.Change:
			w.Uint(tagChange)
		case event.Topology:
			w.Uint(tagTopology)
		case event.Alert:
			w.Uint(tagAlert)
		}
		if err := encodeJSON(w, p.data); err != nil {
			return nil, fmt.Errorf("write pending event %s: %w", p.id, err)
		}
	}
	return w.Data(), nil
}

// UnmarshalBinary reads the state into a fold that was just made.
func (f *eventFold) UnmarshalBinary(data []byte) error {
	r := snapshot.NewReader(data)
	if err := f.read(r); err != nil {
		return err
	}
	f.turned = r.Int()
	f.ids, f.oldIDs, f.pending = map[uint64]bool{}, map[uint64]bool{}, nil
	for _, set := range []map[uint64]bool{f.ids, f.oldIDs} {
		for range r.Len() {
			set[r.Fixed()] = true
		}
	}
	for range r.Len() {
		p := pendingEvent{at: r.Time(), id: r.String()}
		switch tag, body := r.Uint(), r.Bytes(); tag {
		case tagEvent:
			p.data = decodeJSON[event.KubeEvent](r, body)
		case tagChange:
			p.data = decodeJSON[event.Change](r, body)
		case tagTopology:
			p.data = decodeJSON[event.Topology](r, body)
		case tagAlert:
			p.data = decodeJSON[event.Alert](r, body)
		default:
			r.Fail("unknown kind of pending event")
		}
		if r.Err() != nil {
			return r.Err()
		}
		f.pending = append(f.pending, p)
	}
	return r.Close()
}

func decodeJSON[T any](r *snapshot.Reader, body []byte) (v T) {
	if err := json.Unmarshal(body, &v); err != nil {
		r.Fail("pending event: " + err.Error())
	}
	return v
}

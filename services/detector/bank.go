package detector

import (
	"fmt"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// maxPanics is how often a detector may panic in one partition before it is
// left out there until its configuration or version changes.
const maxPanics = 3

// bank holds the detectors of one partition and what they have in common.
type bank struct {
	group     Input
	partition int
	slots     []*slot
	tracker   *tracker
	watermark int64 // milliseconds; 0 before the first tick
	heir      bool  // the state that is read is of another configuration
	metrics   *metrics

	vocabulary *Vocabulary // of logs; nil for other inputs
}

// slot is one detector with its place in the bank.
type slot struct {
	member
	detector Detector
	panics   int
}

// member is a detector that is switched on, with its configuration.
type member struct {
	info Info
	cfg  any
	hash string
	set  Settings
}

func newBank(group Input, partition int, members []member, m *metrics) (*bank, error) {
	b := &bank{group: group, partition: partition, tracker: newTracker(), metrics: m}
	if group == Logs {
		b.vocabulary = NewVocabulary()
	}
	for _, mem := range members {
		mem.set.Vocabulary = b.vocabulary
		d, err := mem.info.New(mem.cfg, mem.set)
		if err != nil {
			return nil, fmt.Errorf("detector %s: %w", mem.info.Name, err)
		}
		b.slots = append(b.slots, &slot{member: mem, detector: d})
	}
	return b, nil
}

func (b *bank) drop(reason string, n int) {
	if n > 0 {
		b.metrics.dropped.WithLabelValues(string(b.group), reason).Add(float64(n))
		if reason == "late" && b.metrics.late != nil {
			b.metrics.late(string(b.group), n)
		}
	}
}

// learn shows history to the detectors and forgets what they say of it.
func (b *bank) learn(m bus.Message, view func(int) event.Batch) []event.Outgoing {
	_, _, dead := b.observe(m, view)
	return dead
}

// window shows one window to every detector and returns everything that has
// to be published because of it, the watermark last.
func (b *bank) window(m bus.Message, t event.Tick, context []event.Outgoing, own []observed, view func(int) event.Batch) []event.Outgoing {
	all, tested, out := b.observe(m, view)
	out = append(out, context...)
	batch := event.Batch{Partition: b.partition, Watermark: t.Watermark.UTC(), Previous: b.previous(), Skipped: t.Skipped, Blind: t.Blind}
	published := b.tracker.step(batch, append(all, own...), func(reason string) { b.drop(reason, 1) })
	for _, o := range published {
		if a, ok := o.Data().(event.Anomaly); ok {
			b.metrics.anomalies.WithLabelValues(a.Detector).Inc()
		}
	}
	b.metrics.tested.WithLabelValues(string(b.group)).Add(float64(tested))
	b.watermark = t.Watermark.UnixMilli()
	return append(append(out, published...), event.WatermarkPassed.Out(event.Watermark{
		Group: string(b.group), Partition: b.partition, Time: batch.Watermark, HypothesesTested: tested, Blind: t.Blind, Signals: t.Signals,
	}))
}

// observe runs every detector. One that panics does not stop the others: the
// tick is put into the dead-letter stream with the reason, and the detector
// starts again from nothing, since its state may be half changed.
func (b *bank) observe(m bus.Message, view func(int) event.Batch) (all []observed, tested int64, dead []event.Outgoing) {
	for i, s := range b.slots {
		if s.panics >= maxPanics {
			continue
		}
		batch := view(i)
		found, why := guarded(s.detector, batch)
		if why != "" {
			s.panics++
			dead = append(dead, b.panicked(m, s.info.Name, why))
			fresh, err := s.info.New(s.cfg, s.set)
			if err != nil { // it was made from the same configuration before
				s.panics = maxPanics
				continue
			}
			s.detector = fresh
			continue
		}
		if t, ok := s.detector.(Tester); ok {
			tested += t.Tested()
		} else {
			for _, mb := range batch.Metrics {
				tested += int64(len(mb.Series))
			}
		}
		if r, ok := s.detector.(Rationer); ok {
			b.metrics.rationed.WithLabelValues(s.info.Name).Add(float64(r.Rationed()))
		}
		all = append(all, observed{info: s.info, hash: s.hash, anomalies: found})
	}
	return all, tested, dead
}

// panicked counts the panic of a detector and makes its dead letter.
func (b *bank) panicked(m bus.Message, name, why string) event.Outgoing {
	b.metrics.panics.WithLabelValues(name).Inc()
	return event.DeadLettered.Out(event.DeadLetter{
		Stream: m.Stream, Consumer: "detector-" + name, Sequence: m.Sequence, Subject: m.Subject,
		Reason: fmt.Sprintf("detector %s panicked: %s; its state of partition %d starts afresh", name, why, b.partition),
		Time:   m.Time,
	})
}

// guarded calls Observe and turns a panic into its text.
func guarded(d Detector, b event.Batch) (found []event.Anomaly, why string) {
	defer func() {
		if r := recover(); r != nil {
			found, why = nil, fmt.Sprintf("%.200v", r)
		}
	}()
	return d.Observe(b), ""
}

func (b *bank) write(w *snapshot.Writer) error {
	w.String(stateVersions[b.group])
	w.Int(b.watermark)
	if err := b.tracker.write(w); err != nil {
		return err
	}
	w.Uint(uint64(len(b.slots)))
	for _, s := range b.slots {
		w.String(s.info.Name)
		w.Uint(s.info.Version)
		w.String(s.hash)
		w.Uint(uint64(s.panics))
		state, err := s.detector.MarshalBinary()
		if err != nil {
			return fmt.Errorf("detector %s: write state: %w", s.info.Name, err)
		}
		w.Bytes(state)
	}
	return nil
}

func (b *bank) read(r *snapshot.Reader) error {
	if v := r.String(); r.Err() == nil && v != stateVersions[b.group] {
		r.Fail(fmt.Sprintf("state of version %q, not %q", v, stateVersions[b.group]))
	}
	b.watermark = r.Int()
	b.tracker.read(r)
	n := r.Len()
	if r.Err() == nil && n != len(b.slots) && !b.heir {
		r.Fail(fmt.Sprintf("state of %d detectors, not %d", n, len(b.slots)))
	}
	for i := range n {
		name, version, hash, panics, state := r.String(), r.Uint(), r.String(), r.Uint(), r.Bytes()
		if err := r.Err(); err != nil {
			return err
		}
		s := b.heirOf(i, name, version, hash)
		switch {
		case s == nil && b.heir:
			continue // it is no more, or has to learn afresh
		case s == nil:
			return fmt.Errorf("%w: state of detector %q, not %s", snapshot.ErrCorrupt, name, b.slots[i].info.Name)
		}
		s.panics = int(panics) //nolint:gosec // a small count
		if err := s.detector.UnmarshalBinary(state); err != nil {
			return fmt.Errorf("detector %s: read state: %w", name, err)
		}
	}
	return r.Err()
}

// heirOf is the detector that the i-th state belongs to; nil: none. Of another
// configuration it is the one of the same name whose own configuration is the same,
// or whose state says nothing of it.
func (b *bank) heirOf(i int, name string, version uint64, hash string) *slot {
	same := func(s *slot) bool { return s.info.Name == name && s.info.Version == version }
	if b.heir {
		i = slices.IndexFunc(b.slots, func(s *slot) bool { return same(s) && (s.hash == hash || s.info.Portable) })
	} else if !same(b.slots[i]) {
		i = -1
	}
	if i < 0 {
		return nil
	}
	return b.slots[i]
}

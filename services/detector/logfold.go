package detector

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// logFold buffers closed windows of lines until the tick that says that none
// are missing.
type logFold struct {
	*bank
	pending []event.LogBatch // sorted by byBatch
	learned []uint64         // hashes of the ids of the last bootstrap batches, sorted
	panics  int              // of the vocabulary
}

func newLogFold(b *bank) *logFold { return &logFold{bank: b} }

// maxLearned bounds the bootstrap batches whose repeats are known.
const maxLearned = 4096

func byBatch(a, b event.LogBatch) int {
	return cmp.Or(a.End.Compare(b.End), a.Start.Compare(b.Start), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Query, b.Query),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Chunk, b.Chunk))
}

// Apply folds a batch of lines or a tick.
func (f *logFold) Apply(m bus.Message) ([]event.Outgoing, error) {
	switch v := m.Data.(type) {
	case event.LogBatch:
		v.Streams = slices.Clone(v.Streams)
		slices.SortStableFunc(v.Streams, func(a, b event.LogStream) int { return cmp.Compare(a.ID, b.ID) })
		if v.Bootstrap {
			return f.bootstrap(m, v), nil
		}
		if f.watermark != 0 && v.End.UnixMilli() <= f.watermark {
			f.drop("late", 1)
			return nil, nil
		}
		at, found := slices.BinarySearchFunc(f.pending, v, byBatch)
		if found {
			f.drop("repeat", 1)
			return nil, nil
		}
		f.pending = slices.Insert(f.pending, at, v)
		return nil, nil
	case event.Tick:
		if f.passed(v) {
			f.drop("repeat", 1)
			return nil, nil
		}
		return f.tick(m, v), nil
	}
	return nil, fmt.Errorf("detector: logs fold got %s", m.Type)
}

func (f *logFold) bootstrap(m bus.Message, v event.LogBatch) []event.Outgoing {
	id := event.HashStrings(m.ID)
	at, found := slices.BinarySearch(f.learned, id)
	if found {
		f.drop("repeat", 1)
		return nil
	}
	if len(f.learned) < maxLearned {
		f.learned = slices.Insert(f.learned, at, id)
	}
	batch := event.Batch{Partition: f.partition, Watermark: v.End, Logs: []event.LogBatch{v}}
	dead := f.mine(m, batch)
	// Of lines that were chosen no rate can be learnt, and history that comes after
	// later windows, as after an upgrade, tells what was said and no more.
	if v.Chosen || f.watermark != 0 && v.End.UnixMilli() <= f.watermark {
		f.vocabulary.unseen()
		return dead
	}
	return append(dead, f.learn(m, func(int) event.Batch { return batch })...)
}

// mine gives the lines of a window to the vocabulary, which all detectors read.
// When it panics it starts afresh, as a detector would.
func (f *logFold) mine(m bus.Message, b event.Batch) (dead []event.Outgoing) {
	if f.panics >= maxPanics {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			f.panics++
			f.vocabulary.reset()
			dead = []event.Outgoing{f.panicked(m, vocabularyName, fmt.Sprintf("%.200v", r))}
		}
	}()
	f.vocabulary.Fold(b)
	return nil
}

// vocabularyName is what the vocabulary is called beside the names of detectors.
const vocabularyName = "vocabulary"

func (f *logFold) tick(m bus.Message, t event.Tick) []event.Outgoing {
	k := 0
	lines := 0
	for k < len(f.pending) && !f.pending[k].End.After(t.Watermark) {
		for _, s := range f.pending[k].Streams {
			lines += len(s.Lines)
		}
		k++
	}
	batch := f.batch(t)
	batch.Logs = slices.Clone(f.pending[:k])
	f.pending = slices.Delete(f.pending, 0, k)
	f.metrics.samples.WithLabelValues(string(f.group)).Add(float64(lines))
	dead := f.mine(m, batch)
	return append(dead, f.window(m, t, nil, nil, func(int) event.Batch { return batch })...)
}

// MarshalBinary writes the state.
func (f *logFold) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	if err := f.write(w); err != nil {
		return nil, err
	}
	f.vocabulary.write(w)
	w.Uint(uint64(f.panics))
	w.Uint(uint64(len(f.learned)))
	for _, id := range f.learned {
		w.Fixed(id)
	}
	w.Uint(uint64(len(f.pending)))
	for _, b := range f.pending {
		w.String(b.Source)
		w.String(b.Query)
		w.Uint(uint64(b.Partition))
		w.String(b.Namespace)
		w.Time(b.Start)
		w.Time(b.End)
		w.Uint(uint64(b.Chunk))
		w.Uint(uint64(b.SampledRate))
		w.Uint(uint64(len(b.Streams)))
		for _, s := range b.Streams {
			w.Fixed(s.ID)
			w.Uint(uint64(len(s.Labels)))
			for _, l := range s.Labels {
				w.String(l.Name)
				w.String(l.Value)
			}
			w.Uint(uint64(len(s.Lines)))
			for _, l := range s.Lines {
				w.Time(l.Time)
				w.String(l.Text)
			}
		}
	}
	return w.Data(), nil
}

// UnmarshalBinary reads the state into a fold that was just made.
func (f *logFold) UnmarshalBinary(data []byte) error {
	r := snapshot.NewReader(data)
	if err := f.read(r); err != nil {
		return err
	}
	f.vocabulary.read(r)
	f.panics = int(r.Uint())
	f.pending, f.learned = nil, nil
	for range r.Len() {
		f.learned = append(f.learned, r.Fixed())
	}
	for range r.Len() {
		b := event.LogBatch{
			Source: r.String(), Query: r.String(), Partition: int(r.Uint()), Namespace: r.String(),
			Start: r.Time(), End: r.Time(), Chunk: int(r.Uint()), SampledRate: int(r.Uint()),
		}
		for range r.Len() {
			s := event.LogStream{ID: r.Fixed()}
			for range r.Len() {
				s.Labels = append(s.Labels, event.Label{Name: r.String(), Value: r.String()})
			}
			for range r.Len() {
				s.Lines = append(s.Lines, event.LogLine{Time: r.Time(), Text: r.String()})
			}
			b.Streams = append(b.Streams, s)
			if r.Err() != nil {
				return r.Err()
			}
		}
		f.pending = append(f.pending, b)
	}
	return r.Close()
}

// skew is how far in the future an event may lie before it is taken as it is:
// the clock of the node that wrote it is wrong.
const skew = 10 * time.Minute

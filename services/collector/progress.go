package collector

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// progress knows how far every source has closed its stream, and from that how
// far each stream is closed as a whole: the watermark that its ticks carry.
//
// A source that cannot be read holds its stream's watermark back for the
// patience only. After that the stream goes on, and its ticks name the source
// as blind: nobody may read anything into the absence of its data. What it
// delivers later, when it catches up, is late.
type progress struct {
	mu       sync.Mutex
	patience time.Duration
	started  moment
	streams  map[*event.Stream]*streamProgress
}

type streamProgress struct {
	sources map[string]*sourceProgress
	ticked  time.Time
}

type sourceProgress struct {
	closed time.Time
	// closings are what the source has closed and no tick has passed yet, oldest
	// first.
	closings []closing
	blind    *event.Blindness
	// unheard is since when nothing was closed, by the monotonic clock: a clock
	// that is set, or a machine that slept, makes no source silent.
	unheard time.Time
}

// closing is one step or window that a source has closed.
type closing struct {
	at      time.Time
	cursor  []byte // may be stored once the tick is
	skipped int    // steps or windows given up before it
}

// moment is a time as two clocks show it.
type moment struct {
	event time.Time // that of events, as far as it is known
	mono  time.Time // of the monotonic clock, to measure by
}

// position is a cursor that may be stored.
type position struct {
	source string
	cursor []byte
}

func newProgress(patience time.Duration, now moment) *progress {
	return &progress{patience: patience, started: now, streams: map[*event.Stream]*streamProgress{}}
}

// expect says that a source will close a stream, so that the stream waits for
// it from the start.
func (p *progress) expect(s *event.Stream, source string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.source(s, source)
}

func (p *progress) source(s *event.Stream, name string) *sourceProgress {
	st, ok := p.streams[s]
	if !ok {
		st = &streamProgress{sources: map[string]*sourceProgress{}}
		p.streams[s] = st
	}
	src, ok := st.sources[name]
	if !ok {
		src = &sourceProgress{unheard: p.started.mono}
		st.sources[name] = src
	}
	return src
}

// record takes in what an emission says of its source. It returns the cursor
// when it may be stored at once, because no tick is to come for it.
func (p *progress) record(source string, e Emission, now moment) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	src := p.source(e.Stream, source)
	src.blind = e.Blind
	if e.Closed.After(src.closed) {
		src.closed, src.unheard = e.Closed, now.mono
		src.closings = append(src.closings, closing{e.Closed, e.Cursor, e.Skipped})
		return nil
	}
	if n := len(src.closings); n > 0 {
		last := &src.closings[n-1]
		last.skipped += e.Skipped
		if e.Cursor != nil {
			last.cursor = e.Cursor
		}
		return nil
	}
	return e.Cursor
}

// due returns the ticks that each stream can be given now, oldest first; the
// partition is left to the caller. There is one for everything that a source
// has closed, however many of them are due at once: a fold sees the same
// windows whether it follows or catches up.
func (p *progress) due(now moment) map[*event.Stream][]event.Tick {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[*event.Stream][]event.Tick{}
	var signals []string
	for s := range p.streams {
		signals = append(signals, signal(s))
	}
	slices.Sort(signals)
	for s, st := range p.streams {
		w, blind := p.watermark(st, now)
		if w.IsZero() || !w.After(st.ticked) {
			continue
		}
		at := map[time.Time]int{w.UTC(): 0} // to steps skipped
		for _, src := range st.sources {
			for _, c := range src.closings {
				t := c.at.UTC()
				switch {
				case t.After(w):
				case t.After(st.ticked):
					at[t] += c.skipped
				default:
					at[w.UTC()] += c.skipped
				}
			}
		}
		for _, t := range slices.SortedFunc(maps.Keys(at), time.Time.Compare) {
			out[s] = append(out[s], event.Tick{Watermark: t, Skipped: at[t], Blind: until(blind, t), Signals: signals})
		}
	}
	return out
}

// until leaves out the sources that were read up to t and became blind after.
func until(blind []event.Blindness, t time.Time) []event.Blindness {
	var out []event.Blindness
	for _, b := range blind {
		if !b.Since.After(t) {
			out = append(out, b)
		}
	}
	return out
}

// signal is the word for a stream in the subjects of its ticks.
func signal(s *event.Stream) string {
	switch s {
	case event.Metrics:
		return "metrics"
	case event.Logs:
		return "logs"
	}
	return "events"
}

// done notes that a stream's tick is stored, and returns the cursors that may
// be stored now. A cursor that went ahead of its tick would lose the tick to a
// crash in between.
func (p *progress) done(s *event.Stream, t event.Tick) []position {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.streams[s]
	st.ticked = t.Watermark
	var out []position
	for _, name := range slices.Sorted(maps.Keys(st.sources)) {
		src := st.sources[name]
		var cursor []byte
		n := 0
		for n < len(src.closings) && !src.closings[n].at.After(t.Watermark) {
			if c := src.closings[n].cursor; c != nil {
				cursor = c
			}
			n++
		}
		src.closings = slices.Delete(src.closings, 0, n)
		if cursor != nil {
			out = append(out, position{name, cursor})
		}
	}
	return out
}

func (p *progress) watermark(st *streamProgress, now moment) (time.Time, []event.Blindness) {
	var w time.Time
	var blind []event.Blindness
	for _, name := range slices.Sorted(maps.Keys(st.sources)) {
		src := st.sources[name]
		closed := src.closed
		silent := now.mono.Sub(src.unheard) > p.patience
		if src.blind != nil {
			blind = append(blind, *src.blind)
		} else if silent {
			since := src.closed
			if since.IsZero() {
				since = p.started.event
			}
			blind = append(blind, event.Blindness{Source: name, Since: since.UTC(), Reason: "nothing read yet"})
		}
		if silent {
			// Whole seconds, so that a stream without any other source ticks at a
			// readable pace.
			if late := now.event.Add(-p.patience).Truncate(5 * time.Second); late.After(closed) {
				closed = late
			}
		}
		if closed.IsZero() {
			return time.Time{}, nil
		}
		if w.IsZero() || closed.Before(w) {
			w = closed
		}
	}
	return w, blind
}

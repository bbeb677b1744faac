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
	started  time.Time
	streams  map[*event.Stream]*streamProgress
}

type streamProgress struct {
	sources map[string]*sourceProgress
	ticked  time.Time
	skipped int
}

type sourceProgress struct {
	closed time.Time
	blind  *event.Blindness
	// unheard is since when, by the wall clock, nothing was closed.
	unheard time.Time
}

func newProgress(patience time.Duration, now time.Time) *progress {
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
		src = &sourceProgress{unheard: p.started}
		st.sources[name] = src
	}
	return src
}

// record takes in what an emission says of its source.
func (p *progress) record(source string, e Emission, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	src := p.source(e.Stream, source)
	p.streams[e.Stream].skipped += e.Skipped
	src.blind = e.Blind
	if e.Closed.After(src.closed) {
		src.closed, src.unheard = e.Closed, now
	}
}

// due returns the tick of each stream that can be ticked further now; the
// partition is left to the caller.
func (p *progress) due(now time.Time) map[*event.Stream]event.Tick {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[*event.Stream]event.Tick{}
	for s, st := range p.streams {
		w, blind := p.watermark(st, now)
		if w.IsZero() || !w.After(st.ticked) {
			continue
		}
		out[s] = event.Tick{Watermark: w.UTC(), Skipped: st.skipped, Blind: blind}
	}
	return out
}

// ticked notes that a stream's tick is stored.
func (p *progress) done(s *event.Stream, t event.Tick) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.streams[s]
	st.ticked = t.Watermark
	st.skipped -= t.Skipped
}

func (p *progress) watermark(st *streamProgress, now time.Time) (time.Time, []event.Blindness) {
	var w time.Time
	var blind []event.Blindness
	for _, name := range slices.Sorted(maps.Keys(st.sources)) {
		src := st.sources[name]
		closed := src.closed
		silent := now.Sub(src.unheard) > p.patience
		if src.blind != nil {
			blind = append(blind, *src.blind)
		} else if silent {
			since := src.closed
			if since.IsZero() {
				since = p.started
			}
			blind = append(blind, event.Blindness{Source: name, Since: since.UTC(), Reason: "nothing read yet"})
		}
		if silent {
			// Whole seconds, so that a stream without any other source ticks at a
			// readable pace.
			if late := now.Add(-p.patience).Truncate(5 * time.Second); late.After(closed) {
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

package pipeline

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/correlator"
)

// Moment is one thing that happened, at its event time: one of its fields is
// set.
type Moment struct {
	At       time.Time
	Change   *event.Change
	Anomaly  *event.Anomaly // detected or ended
	Incident *event.Incident
}

// Story tells what a run finds in the order of event time, while it runs: a
// moment is told only when nothing before it can come any more. The same
// telemetry gives the same story, however fast it is told.
type Story struct {
	host   *Host
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	moments   []Moment // not told yet
	marks     map[string]time.Time
	anomalies uint64 // position read in ANOMALIES
	incidents uint64 // position read in INCIDENTS
	over      bool
}

// Tell begins to follow what is on a host's bus. Close ends it.
func Tell(ctx context.Context, h *Host) *Story {
	ctx, cancel := context.WithCancel(ctx)
	s := &Story{host: h, cancel: cancel, marks: map[string]time.Time{}}
	for _, stream := range []*event.Stream{event.Anomalies, event.Incidents} {
		s.wg.Go(func() {
			// An end before its time tells less and changes nothing.
			_ = h.Bus.Read(ctx, stream, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
				s.read(stream, m)
				return nil
			})
		})
	}
	return s
}

// Close ends the following.
func (s *Story) Close() {
	s.cancel()
	s.wg.Wait()
}

func (s *Story) read(stream *event.Stream, m bus.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream == event.Incidents {
		s.incidents = m.Sequence
	} else {
		s.anomalies = m.Sequence
	}
	switch d := m.Data.(type) {
	case event.Watermark:
		s.marks[d.Group+" "+event.PartitionToken(d.Partition)] = d.Time
	case event.Change:
		s.moments = append(s.moments, Moment{At: d.Time, Change: &d})
	case event.Anomaly:
		s.moments = append(s.moments, Moment{At: d.WindowEnd, Anomaly: &d})
	case event.Incident:
		s.moments = append(s.moments, Moment{At: d.Updated, Incident: &d})
	}
}

// Over says that the run has ended: what is on the bus is the rest.
func (s *Story) Over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// Next returns the moments up to a time that can be told now, in order, and up
// to when that is: the time asked for, or earlier while the run is not there.
func (s *Story) Next(ctx context.Context, until time.Time) ([]Moment, time.Time) {
	safe, ok := s.safe(ctx)
	if !ok {
		return nil, time.Time{}
	}
	if !safe.IsZero() && safe.Before(until) {
		until = safe
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.moments, func(a, b Moment) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.rank(), b.rank()))
	})
	n := 0
	for n < len(s.moments) && !s.moments[n].At.After(until) {
		n++
	}
	told := s.moments[:n:n]
	s.moments = slices.Clone(s.moments[n:])
	return told, until
}

// rank is the order of what happened at one time: causes before effects.
func (m Moment) rank() int {
	switch {
	case m.Change != nil:
		return 0
	case m.Anomaly != nil:
		return 1
	}
	return 2
}

// safe is the event time before which nothing will come any more; zero when
// the run is over and all of it is known. It is false while nothing is known.
func (s *Story) safe(ctx context.Context) (time.Time, bool) {
	s.mu.Lock()
	position, over := s.anomalies, s.over
	var mark time.Time
	for _, t := range s.marks {
		if mark.IsZero() || t.Before(mark) {
			mark = t
		}
	}
	s.mu.Unlock()
	if !over && (mark.IsZero() || s.host.Bus.Folded(correlator.GroupName, 0) < position) {
		return time.Time{}, false
	}
	// Whatever the correlator has made of it is stored; has it been read?
	for stream, read := range map[*event.Stream]*uint64{event.Incidents: &s.incidents, event.Anomalies: &s.anomalies} {
		end, err := s.host.Bus.Last(ctx, stream)
		s.mu.Lock()
		behind := *read < end
		s.mu.Unlock()
		if err != nil || behind && (over || stream == event.Incidents) {
			return time.Time{}, false
		}
	}
	if over {
		return time.Time{}, true
	}
	return mark, true
}

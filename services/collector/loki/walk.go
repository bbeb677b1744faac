package loki

import (
	"context"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
)

// NewHistory makes sources of what a Loki holds, to walk over: of log lines, and
// of an event exporter's events where a selector names them, else nil.
func NewHistory(cfg Config, env collector.Env) (lines, events *Source, err error) {
	cfg.Tail.Off = true
	s, err := New(cfg, env)
	if err != nil {
		return nil, nil, err
	}
	if cfg.KubernetesEvents.Selector == "" {
		return s, nil, nil
	}
	return s, s.events(), nil
}

// Bounds of what a walk asks for at once.
const (
	// walkShare of the most lines of an answer is aimed at, since one that is full
	// has to be asked for again in halves.
	walkShare = 0.6
	longest   = 6 * time.Hour
)

// Walk reads every window between two times as Run reads them, and calls f with
// what is published of each. Where lines are few, one question is about many
// windows.
//
// What cannot be read is asked for again until patience has been waited for it;
// then its error is returned, and so is one of f.
func (s *Source) Walk(ctx context.Context, from, to time.Time, patience time.Duration, f func(end time.Time, events []event.Outgoing) error) error {
	w := s.cfg.Window
	windows := 1
	for start := from.Truncate(w).UTC(); !start.Add(w).After(to); {
		n := max(1, min(windows, int(to.Sub(start)/w), int(longest/w)))
		var all []stream
		err := upstream.Patient(ctx, patience, func() (err error) {
			all, err = s.read(ctx, start, start.Add(time.Duration(n)*w))
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", start.Format(time.RFC3339), err)
		}
		lines := 0
		for i, streams := range split(all, start, w, n) {
			for _, st := range streams {
				lines += len(st.Values)
			}
			at := start.Add(time.Duration(i) * w)
			if err := f(at.Add(w), s.make(streams, at, at.Add(w))); err != nil {
				return err
			}
		}
		start = start.Add(time.Duration(n) * w)
		windows = min(4*n, max(1, int(walkShare*float64(s.limit.Load())*float64(n)/float64(max(lines, 1)))))
	}
	return nil
}

// split sorts the lines of an answer into n windows.
func split(all []stream, start time.Time, window time.Duration, n int) [][]stream {
	if n == 1 {
		return [][]stream{all} // what is not of it is left out where lines are joined
	}
	out := make([][]stream, n)
	for _, st := range all {
		last := -1
		for _, v := range st.Values {
			at, _, ok := value(v)
			i := int(at.Sub(start) / window)
			if !ok || at.Before(start) || i >= n {
				continue
			}
			if i != last {
				// Lines of a stream may come in any order.
				out[i] = append(out[i], stream{Labels: st.Labels})
				last = i
			}
			held := &out[i][len(out[i])-1]
			held.Values = append(held.Values, v)
		}
	}
	return out
}

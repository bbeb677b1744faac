package backtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector/loki"
)

// maxAhead is how many windows of a source are read before they are folded: what
// is asked while folding is going on, and no more memory than that.
const maxAhead = 64

// flow is what one source gives, in the order of its windows.
type flow struct {
	windows chan window
	next    *window
	err     error // read when windows is closed
}

// peek is the next window; nil at the end.
func (f *flow) peek() *window {
	if f.next == nil {
		if w, ok := <-f.windows; ok {
			f.next = &w
		}
	}
	return f.next
}

// slice reads and folds everything after one time up to another.
func (r *run) slice(ctx context.Context, from, to time.Time, said func(time.Time)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel(errStopped)
	start := func(read func(emit func(window) error) error) *flow {
		f := &flow{windows: make(chan window, maxAhead)}
		reading.Go(func() {
			defer close(f.windows)
			f.err = read(func(w window) error {
				select {
				case f.windows <- w:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		})
		return f
	}
	flows, err := r.flows(ctx, from, to, start)
	if err != nil {
		return err
	}
	beside, err := r.beside(ctx, from, to)
	if err != nil {
		return err
	}
	return r.merge(flows, beside, said)
}

// flows starts the reading of metrics, and of logs and events where there is a
// Loki.
func (r *run) flows(ctx context.Context, from, to time.Time, start func(func(func(window) error) error) *flow) ([]*flow, error) {
	source, err := r.newSource()
	if err != nil {
		return nil, err
	}
	var lines, events *loki.Source
	if r.o.Loki != nil {
		env := r.env
		env.Metrics = prom.NewRegistry()
		if lines, events, err = loki.NewHistory(*r.o.Loki, env); err != nil {
			return nil, err
		}
	}
	out := []*flow{start(func(emit func(window) error) error {
		return source.Walk(ctx, from, to, r.o.Patience, func(at time.Time, series []event.Series) error {
			return emit(window{at: at, series: series, metrics: true})
		})
	})}
	if lines == nil {
		return out, nil
	}
	out = append(out, start(func(emit func(window) error) error {
		return lines.Walk(ctx, from, to, r.o.Patience, func(at time.Time, found []event.Outgoing) error {
			return emit(window{at: at, logs: found, lines: true})
		})
	}))
	if events != nil {
		out = append(out, start(func(emit func(window) error) error {
			return events.Walk(ctx, from, to, r.o.Patience, func(at time.Time, found []event.Outgoing) error {
				return emit(window{at: at, events: found})
			})
		}))
	}
	return out, nil
}

// beside reads what is asked once a slice: changes, who runs where, and the
// user's alerts.
func (r *run) beside(ctx context.Context, from, to time.Time) ([]event.Outgoing, error) {
	if err := r.firings(ctx, from, to); err != nil {
		return nil, err
	}
	changes, err := r.source.PastChanges(ctx, from, to, r.h.Deployed, r.o.Patience)
	if err != nil {
		return nil, fmt.Errorf("past changes: %w", err)
	}
	topology, err := r.source.PastTopology(ctx, from, r.o.Patience)
	if err != nil {
		return nil, fmt.Errorf("who ran where: %w", err)
	}
	r.h.Read.Changes += len(changes)
	var out []event.Outgoing
	for _, t := range topology {
		out = append(out, event.TopologySeen.Out(t))
	}
	for _, c := range changes {
		out = append(out, event.ChangeSeen.Out(c))
	}
	return out, nil
}

// merge folds what the sources give in the order of event time, whichever is
// read faster.
func (r *run) merge(flows []*flow, waiting []event.Outgoing, said func(time.Time)) error {
	for {
		var first *flow
		for _, f := range flows {
			// Of two at one time the later listed comes first: lines and events are
			// there when metrics close the time.
			w := f.peek()
			if w == nil && f.err != nil {
				return f.err
			}
			if w != nil && (first == nil || !w.at.After(first.next.at)) {
				first = f
			}
		}
		if first == nil {
			return nil
		}
		w := *first.next
		first.next = nil
		switch {
		case w.lines:
			for _, o := range w.logs {
				for _, s := range o.Data().(event.LogBatch).Streams {
					r.h.Read.Lines += int64(len(s.Lines))
				}
			}
		case !w.metrics:
			r.h.Read.Events += len(w.events)
			waiting = append(waiting, w.events...)
			continue
		default:
			n := 0
			for _, o := range waiting {
				if o.Time.After(w.at) {
					waiting[n] = o
					n++
					continue
				}
				w.events = append(w.events, o)
			}
			waiting = waiting[:n]
			r.measured(&w)
		}
		if err := r.folds.fold(w, r.h.hear); err != nil {
			return err
		}
		if w.metrics && w.at.Minute()%10 == 0 {
			said(w.at)
		}
	}
}

// measured notes what a step of metrics holds. One that holds nothing says
// nothing of the cluster: Prometheus was away.
func (r *run) measured(w *window) {
	r.h.watch(w.at, r.o.Prometheus.Step, w.series, r.folds.place)
	if len(w.series) > 0 || r.h.Read.Samples == 0 {
		return // before the first there is no gap
	}
	w.skipped = 1
	since := w.at
	if n := len(r.h.Gaps); n > 0 && !r.h.Gaps[n-1].To.Before(w.at.Add(-r.o.Prometheus.Step)) {
		since = r.h.Gaps[n-1].From
	}
	r.h.empty(w.at, r.o.Prometheus.Step)
	w.blind = []event.Blindness{{Source: r.source.Name(), Since: since, Reason: "it holds nothing of this time"}}
}

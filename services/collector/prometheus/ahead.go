package prometheus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// ahead answers questions about steps that are long past with one range query
// for many of them. The engine evaluates each step of a range as it evaluates an
// instant, so that the answers are the same; a source that catches up on hours
// sends a few hundred queries and not many thousand.
type ahead struct {
	answers
	ranges  func(ctx context.Context, expr string, start, end time.Time, step time.Duration) (model.Matrix, error)
	step    time.Duration
	settled func() time.Time // up to here answers change no more

	// alone is without instants in place of a range that is refused: who reads what it can do without sends no thousand questions
	// where a few are refused.
	alone bool

	mu   sync.Mutex
	held map[string]*stretch // by expression
}

// stretch is what is held of one expression.
type stretch struct {
	from, to time.Time
	at       map[int64]model.Vector // by step, in milliseconds
	told     int64                  // the step that was answered last
	steps    int                    // how many to read the next time
}

// Bounds of a stretch.
const (
	firstSteps  = 8 // before it is known how many series there are
	mostSteps   = 120
	mostSamples = 100_000 // of one expression
)

// Instant answers from what is held, or reads on from the step.
func (a *ahead) Instant(ctx context.Context, expr string, at time.Time) (model.Vector, error) {
	a.mu.Lock()
	s := a.held[expr]
	if s == nil {
		s = &stretch{steps: firstSteps}
		a.held[expr] = s
	}
	a.mu.Unlock()
	if !at.Before(s.from) && !at.After(s.to) && s.at != nil {
		return s.tell(at), nil
	}
	end := at.Add(time.Duration(s.steps-1) * a.step)
	if settled := a.settled(); end.After(settled) {
		end = at.Add(max(0, settled.Sub(at)).Truncate(a.step))
	}
	s.at = nil
	if end.Before(at.Add(a.step)) {
		s.steps = firstSteps // nothing is left to catch up on
	}
	if end.Before(at.Add(2 * a.step)) {
		return a.answers.Instant(ctx, expr, at)
	}
	m, err := a.ranges(ctx, expr, at, end, a.step)
	if err != nil {
		s.steps = max(1, s.steps/4) // it may have been too much at once
		if a.alone && upstream.KindOf(err) == upstream.BadQuery {
			return nil, errRefused{err}
		}
		if up, ok := errors.AsType[*upstream.Error](err); ctx.Err() != nil || ok && up.Kind != upstream.BadQuery && up.Kind != upstream.TooLarge {
			return nil, err
		}
		return a.answers.Instant(ctx, expr, at)
	}
	s.from, s.to, s.at = at, end, map[int64]model.Vector{}
	for _, series := range m {
		for _, p := range series.Values {
			s.at[int64(p.Timestamp)] = append(s.at[int64(p.Timestamp)], &model.Sample{Metric: series.Metric, Value: p.Value, Timestamp: p.Timestamp})
		}
	}
	s.steps = max(2, min(mostSteps, mostSamples/max(1, len(m))))
	return s.tell(at), nil
}

// tell answers a step, and forgets the one before. It may be asked again, when
// another expression of it had no answer.
func (s *stretch) tell(at time.Time) model.Vector {
	if ms := at.UnixMilli(); s.told != ms {
		delete(s.at, s.told)
		s.told = ms
	}
	return s.at[s.told]
}

// errRefused is a range that was refused while there is nothing else to ask.
type errRefused struct{ err error }

func (e errRefused) Error() string { return "query_range: " + e.err.Error() }

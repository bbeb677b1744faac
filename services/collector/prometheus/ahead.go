package prometheus

import (
	"cmp"
	"context"
	"errors"
	"slices"
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

	// A stretch is first steps long before it is known how many series there are,
	// and then so many that it holds at most samples, at most steps.
	first, most, samples int

	mu   sync.Mutex
	held map[string]*stretch // by expression
}

// stretch is what is held of one expression.
type stretch struct {
	from, to time.Time
	series   []heldSeries // by key
	steps    int          // how many to read the next time
	refused  error        // that the server takes this for no query; nothing is held
	answer   []keyed      // of the last step that was told
}

// heldSeries is a series with the values that are not told yet.
type heldSeries struct {
	metric model.Metric
	key    model.Fingerprint
	values []model.SamplePair
}

// Bounds of a stretch of a source that catches up.
const (
	firstSteps  = 8
	mostSteps   = 120
	mostSamples = 100_000
)

// instant answers from what is held, or reads on from the step. An answer is
// good until the next question of the same expression.
func (a *ahead) instant(ctx context.Context, expr string, at time.Time) ([]keyed, error) {
	a.mu.Lock()
	s := a.held[expr]
	if s == nil {
		s = &stretch{steps: a.first}
		a.held[expr] = s
	}
	a.mu.Unlock()
	if !at.Before(s.from) && !at.After(s.to) {
		return s.tell(at)
	}
	end := at.Add(time.Duration(s.steps-1) * a.step)
	if settled := a.settled(); end.After(settled) {
		end = at.Add(max(0, settled.Sub(at)).Truncate(a.step))
	}
	s.forget()
	if end.Before(at.Add(a.step)) {
		s.steps = a.first // nothing is left to catch up on
	}
	if end.Before(at.Add(2 * a.step)) {
		return a.alike(ctx, expr, at)
	}
	m, err := a.ranges(ctx, expr, at, end, a.step)
	if err != nil {
		steps := s.steps
		s.steps = max(1, s.steps/4) // it may have been too much at once
		kind := upstream.KindOf(err)
		if a.alone && kind == upstream.BadQuery {
			return nil, errRefused{err}
		}
		if up, ok := errors.AsType[*upstream.Error](err); ctx.Err() != nil || ok && up.Kind != upstream.BadQuery && up.Kind != upstream.TooLarge {
			return nil, err
		}
		v, again := a.alike(ctx, expr, at)
		if again != nil && kind == upstream.BadQuery && upstream.KindOf(again) == upstream.BadQuery {
			// It is the query, and not how much was asked.
			s.from, s.to, s.refused, s.steps = at, end, again, steps
		}
		return v, again
	}
	s.hold(at, end, m)
	s.steps = max(2, min(a.most, a.samples/max(1, len(m))))
	return s.tell(at)
}

func (a *ahead) alike(ctx context.Context, expr string, at time.Time) ([]keyed, error) {
	v, err := a.Instant(ctx, expr, at)
	return keyOf(v), err
}

func (s *stretch) forget() { s.from, s.to, s.series, s.refused = time.Time{}, time.Time{}, nil, nil }

func (s *stretch) hold(from, to time.Time, m model.Matrix) {
	s.from, s.to, s.series, s.refused = from, to, make([]heldSeries, 0, len(m)), nil
	for _, one := range m {
		s.series = append(s.series, heldSeries{one.Metric, one.Metric.Fingerprint(), one.Values})
	}
	slices.SortFunc(s.series, func(a, b heldSeries) int { return cmp.Compare(a.key, b.key) })
}

// tell answers a step, and forgets what is before it. It may be asked again, when
// another expression of it had no answer.
func (s *stretch) tell(at time.Time) ([]keyed, error) {
	ms := model.Time(at.UnixMilli())
	s.answer = s.answer[:0]
	for i := range s.series {
		one := &s.series[i]
		for len(one.values) > 0 && one.values[0].Timestamp < ms {
			one.values = one.values[1:]
		}
		if len(one.values) > 0 && one.values[0].Timestamp == ms {
			s.answer = append(s.answer, keyed{one.metric, one.key, float64(one.values[0].Value)})
		}
	}
	return s.answer, s.refused
}

// errRefused is a range that was refused while there is nothing else to ask.
type errRefused struct{ err error }

func (e errRefused) Error() string { return "query_range: " + e.err.Error() }

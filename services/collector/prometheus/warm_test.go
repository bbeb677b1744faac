package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// firstStep runs a source until its first emission.
func firstStep(t *testing.T, s *Source, cursor []byte) collector.Emission {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	var first collector.Emission
	if err := s.Run(ctx, cursor, func(_ context.Context, e collector.Emission) error { first = e; return enough }); !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return first
}

func TestTheFirstStartReadsWhatWas(t *testing.T) {
	const steps = 240
	never := func(int) int { return 0 }
	for name, c := range map[string]struct {
		refuse func(int) int
		cursor []byte
		off    bool
		steps  int // of history that series without gaps have
		asked  int // requests at the most
	}{
		"a server that answers": {never, nil, false, steps, 40},
		"a server for which many are too much": {func(n int) int {
			if n > 60 {
				return http.StatusServiceUnavailable
			}
			return 0
		}, nil, false, steps, 80},
		"a server that knows no ranges":         {func(int) int { return http.StatusNotFound }, nil, false, 0, 20},
		"a server for which any range is wrong": {func(int) int { return http.StatusUnprocessableEntity }, nil, false, 0, 20},
		"history that nobody wants":             {never, nil, true, 0, 10},
		"a start that goes on where it was":     {never, After(time.Now().Add(-45 * time.Second)), false, 0, 10},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := history(t, c.refuse)
			s := newTestSource(t, builtin(t), url, func(c2 *Config) {
				c2.Step, c2.Delay, c2.WarmStart.Off = 15*time.Second, time.Second, c.off
			})
			e := firstStep(t, s, c.cursor)
			if n := asked(); n > c.asked {
				t.Errorf("%d requests, want at most %d", n, c.asked)
			}
			before := map[uint64][]event.Point{}
			now := map[uint64]string{}
			for _, o := range e.Events {
				b := o.Data().(event.MetricBatch)
				points := 0
				for _, one := range b.Series {
					points += len(one.Points)
					if b.Bootstrap {
						before[one.ID] = append(before[one.ID], one.Points...)
					} else {
						now[one.ID] = one.Labels.Get(event.LabelName)
					}
				}
				if points > event.MaxBatchSamples {
					t.Errorf("a batch of %d samples, more than %d", points, event.MaxBatchSamples)
				}
				if b.Bootstrap && !b.Step.Before(e.Closed) {
					t.Errorf("history of step %s, which is not before the first one, %s", b.Step, e.Closed)
				}
			}
			most := 0
			for id, points := range before {
				if now[id] == "" {
					t.Errorf("history of a series that is not there")
				}
				for i, p := range points {
					if at := time.UnixMilli(p.T); !at.Before(e.Closed) || !at.Equal(at.Truncate(s.cfg.Step)) || i > 0 && p.T <= points[i-1].T {
						t.Errorf("%s: history has a sample at %s, the first step is %s", now[id], at, e.Closed)
					}
				}
				most = max(most, len(points))
			}
			if len(now) == 0 || most != c.steps {
				t.Errorf("%d series with at most %d samples of history, want %d", len(now), most, c.steps)
			}
		})
	}
}

// What a first start reads of the past is what steps would have read then.
func TestHistoryIsWhatStepsWouldHaveRead(t *testing.T) {
	url, _ := history(t, func(int) int { return 0 })
	change := func(c *Config) {
		c.Step, c.Delay, c.WarmStart = 15*time.Second, time.Second, WarmStart{History: 10 * time.Minute}
	}
	e := firstStep(t, newTestSource(t, builtin(t), url, change), nil)
	got := map[int64]map[uint64]float64{}
	for _, o := range e.Events {
		if b := o.Data().(event.MetricBatch); b.Bootstrap {
			for _, one := range b.Series {
				for _, p := range one.Points {
					if got[p.T] == nil {
						got[p.T] = map[uint64]float64{}
					}
					got[p.T][one.ID] = p.V
				}
			}
		}
	}
	steps := 0
	s := newTestSource(t, builtin(t), url, change)
	for at := e.Closed.Add(-10 * time.Minute); at.Before(e.Closed); at = at.Add(s.cfg.Step) {
		out, err := s.read(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		want := map[uint64]float64{}
		for _, o := range out {
			for _, one := range o.Data().(event.MetricBatch).Series {
				want[one.ID] = one.Points[0].V
			}
		}
		for id, v := range got[at.UnixMilli()] {
			if want[id] != v {
				t.Errorf("at %s history has %g, the step %g", at, v, want[id])
			}
		}
		if len(got[at.UnixMilli()]) > 0 {
			steps++
		}
	}
	if steps != 40 {
		t.Errorf("history of %d steps, want 40", steps)
	}
	if _, err := json.Marshal(e.Cursor); err != nil || len(e.Cursor) == 0 {
		t.Error("the first step has no cursor")
	}
}

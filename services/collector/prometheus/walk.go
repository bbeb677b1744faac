package prometheus

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// Bounds of a stretch of a source that walks over days: few questions, of at
// most a few megabytes, and far from the 11,000 points a series that Prometheus
// gives at once.
const (
	walkFirst   = 120
	walkSteps   = 2880
	walkSamples = 200_000
)

// Walk reads every step after one time, up to and with another, as Run reads
// them, and calls f with the series of each. What is read depends on the two
// times and on what the server holds, and on nothing that was read before.
//
// A step that cannot be read is asked for again until patience has been waited
// for it; then its error is returned, and so is one of f.
func (s *Source) Walk(ctx context.Context, from, to time.Time, patience time.Duration, f func(at time.Time, series []event.Series) error) error {
	s.walking = true
	s.past.first, s.past.most, s.past.samples = walkFirst, walkSteps, walkSamples
	s.past.settled = func() time.Time { return to }
	for at := from.Truncate(s.cfg.Step).Add(s.cfg.Step).UTC(); !at.After(to); at = at.Add(s.cfg.Step) {
		var answers [][]event.Series
		err := upstream.Patient(ctx, patience, func() error {
			err := s.probe(ctx, at)
			if err == nil {
				answers, err = s.answers(ctx, at)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", at.Format(time.RFC3339), err)
		}
		if err := f(at, slices.Concat(answers...)); err != nil {
			return err
		}
	}
	return nil
}

// Range evaluates an expression at every step of a past time, patiently.
func (s *Source) Range(ctx context.Context, expr string, from, to time.Time, step, patience time.Duration) (out []Line, err error) {
	err = upstream.Patient(ctx, patience, func() error {
		m, err := s.client.Range(ctx, expr, from, to, step)
		if err != nil {
			return err
		}
		out = make([]Line, 0, len(m))
		for _, one := range m {
			l := Line{Labels: map[string]string{}}
			for k, v := range one.Metric {
				l.Labels[string(k)] = string(v)
			}
			for _, p := range one.Values {
				l.Points = append(l.Points, event.Point{T: int64(p.Timestamp), V: float64(p.Value)})
			}
			out = append(out, l)
		}
		slices.SortFunc(out, func(a, b Line) int {
			return slices.CompareFunc(event.LabelsOf(a.Labels), event.LabelsOf(b.Labels), compareLabels)
		})
		return nil
	})
	return out, err
}

func compareLabels(a, b event.Label) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
}

// Line is a series of an answer with the labels that the server gave it, as
// they are: not redacted.
type Line struct {
	Labels map[string]string
	Points []event.Point
}

// Curves reads one signal over a past time, as Walk reads it, and calls f with
// every series of every step.
func (s *Source) Curves(ctx context.Context, family, signal string, from, to time.Time, f func(event.Series)) error {
	s.past.first, s.past.most, s.past.samples = walkSteps, walkSteps, walkSamples
	s.past.settled = func() time.Time { return to }
	s.past.held = map[string]*stretch{} // what was told is not held any more
	s.probed = time.Time{}
	if err := s.probe(ctx, from); err != nil {
		return err
	}
	i := slices.IndexFunc(s.queries, func(q boundQuery) bool { return q.family == family && q.Signal == signal })
	if i < 0 {
		return nil
	}
	parts := s.queries[i].Ratio
	s.queries = slices.DeleteFunc(slices.Clone(s.queries), func(q boundQuery) bool {
		return q.family != family || q.Signal != signal && !slices.Contains(parts, q.Signal)
	})
	s.known = s.known[:len(s.queries)] // nothing is known yet
	for at := from.Truncate(s.cfg.Step).Add(s.cfg.Step).UTC(); !at.After(to); at = at.Add(s.cfg.Step) {
		answers, err := s.answers(ctx, at)
		if err != nil {
			return err
		}
		for _, one := range slices.Concat(answers...) {
			if one.Labels.Get(event.LabelName) == signal {
				f(one)
			}
		}
	}
	return nil
}

// Guards are the metrics that show which exporters are there, by the family of
// queries that reads them.
func (s *Source) Guards() map[string]string {
	out := map[string]string{}
	for _, f := range s.families {
		if f.Guard != "" {
			out[f.Family] = f.Guard
		}
	}
	return out
}

// Held says how many series each of the metrics has at every step of a past time.
func (s *Source) Held(ctx context.Context, metrics []string, from, to time.Time, step, patience time.Duration) (map[string][]event.Point, error) {
	out := map[string][]event.Point{}
	for part := range slices.Chunk(metrics, 20) {
		lines, err := s.Range(ctx, promql.Count(part), from, to, step, patience)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			out[l.Labels[event.LabelName]] = l.Points
		}
	}
	return out, nil
}

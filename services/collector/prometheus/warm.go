package prometheus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// WarmStart is what the first start reads of the past.
type WarmStart struct {
	// Off reads nothing of it: detectors learn from what comes. Default: false.
	Off bool `yaml:"off"`
	// History is how far back, at the same steps. Default: 2h, and at most 240
	// steps.
	History time.Duration `yaml:"history"`
}

// MostHistory bounds the samples of a series that a first start reads: they are
// held in memory until they are stored.
const MostHistory = 2880

// A step of history is asked for again so often, after such a pause or what the
// server asks for.
const (
	historyTries = 3
	historyPause = 200 * time.Millisecond
)

func (w WarmStart) validate(path string, step time.Duration) error {
	if w.History >= 0 && w.History <= MostHistory*step {
		return nil
	}
	return &policy.FieldError{
		Path: path + "warm_start.history", Value: w.History, Problem: fmt.Sprintf("is not between 0 and %d steps of %s", MostHistory, step),
		Fix: "write 2h, or warm_start: {off: true} to read nothing of the past",
	}
}

// readFirst reads a step, and before it the history of the series that it has.
// What has ended before is no one's past. History is worth having and no more: a
// server that does not answer such questions is read from now on.
func (s *Source) readFirst(ctx context.Context, at time.Time) ([]event.Outgoing, error) {
	if err := s.probe(ctx, at); err != nil {
		return nil, err
	}
	now, err := s.answers(ctx, at)
	if err != nil {
		return nil, err
	}
	past, points, err := s.history(ctx, at, now)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		s.env.Log.Warn("history unreadable, learning from now on", "source", s.cfg.Name, "err", s.env.Redact.Line(upstream.Reason(err)))
		return s.batches(at, now, false), nil
	}
	s.env.Log.Info("history read", "source", s.cfg.Name, "from", at.Add(-s.cfg.WarmStart.History), "samples", points)
	return append(s.batches(at.Add(-s.cfg.Step), past, true), s.batches(at, now, false)...), nil
}

// history are the samples before a step of the series that a step has.
func (s *Source) history(ctx context.Context, until time.Time, now [][]event.Series) (past [][]event.Series, points int, err error) {
	past = make([][]event.Series, len(now))
	place := make([]map[uint64]int, len(now)) // of a series in past
	for i := range now {
		place[i] = make(map[uint64]int, len(now[i]))
		for k, one := range now[i] {
			place[i][one.ID] = k
			past[i] = append(past[i], event.Series{ID: one.ID, Labels: one.Labels})
		}
	}
	s.past.alone, s.bad = true, s.refused
	defer func() { s.past.alone, s.bad = false, nil }()
	for at := until.Add(-s.cfg.WarmStart.History).Truncate(s.cfg.Step); at.Before(until); at = at.Add(s.cfg.Step) {
		step, err := s.answers(ctx, at)
		// What was too much at once is asked for in smaller parts.
		for range historyTries {
			if refused := (errRefused{}); err == nil || errors.As(err, &refused) || !upstream.Wait(ctx, max(historyPause, upstream.RetryIn(err))) {
				break
			}
			step, err = s.answers(ctx, at)
		}
		if err != nil {
			return nil, 0, err
		}
		for i := range step {
			for _, one := range step[i] {
				if k, ok := place[i][one.ID]; ok {
					past[i][k].Points = append(past[i][k].Points, one.Points...)
					points++
				}
			}
		}
	}
	return past, points, nil
}

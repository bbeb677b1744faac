package loki

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
)

// WarmStart is what the first start reads of the past, and the first after an
// upgrade whose miner finds other statements in the same lines.
type WarmStart struct {
	// Off reads nothing of it: detectors learn from what comes. Default: false.
	Off bool `yaml:"off"`
	// History is how far back. Default: 24h.
	History time.Duration `yaml:"history"`
	// MinutesPerHour is how many minutes of each hour are read, evenly spread; what
	// one answer holds of each. Default: 4.
	MinutesPerHour int `yaml:"minutes_per_hour"`
	// Patience bounds the time that all of it takes; what was read by then is
	// learnt from. Default: 2m.
	Patience time.Duration `yaml:"patience"`
}

const (
	// mostHistory bounds how far back it is read.
	mostHistory = 7 * 24 * time.Hour
	// historyShare of a day's budget of bytes is published of the past at most.
	historyShare = 0.05
	// historyTries is how often a question about the past is asked.
	historyTries = 3
	historyPause = 200 * time.Millisecond
)

func (w *WarmStart) fill() {
	if w.History == 0 {
		w.History = 24 * time.Hour
	}
	if w.MinutesPerHour == 0 {
		w.MinutesPerHour = 4
	}
	if w.Patience == 0 {
		w.Patience = 2 * time.Minute
	}
}

func (w WarmStart) validate(path string) (errs []error) {
	if w.History < time.Hour || w.History > mostHistory {
		errs = append(errs, &policy.FieldError{
			Path: path + "warm_start.history", Value: w.History, Problem: fmt.Sprintf("is not between 1h and %s", mostHistory),
			Fix: "write 24h, or warm_start: {off: true} to read nothing of the past",
		})
	}
	if w.MinutesPerHour < 1 || w.MinutesPerHour > 60 || 60%max(1, w.MinutesPerHour) != 0 {
		errs = append(errs, &policy.FieldError{Path: path + "warm_start.minutes_per_hour", Value: w.MinutesPerHour, Problem: "is not a part of 60", Fix: "write 4"})
	}
	if w.Patience < time.Second || w.Patience > 15*time.Minute {
		errs = append(errs, &policy.FieldError{Path: path + "warm_start.patience", Value: w.Patience, Problem: "is not between 1s and 15m", Fix: "write 2m"})
	}
	return errs
}

// past publishes what was said before a time: first the lines that sound like
// trouble, an hour to a question, so that what is seldom said is known; then
// whole minutes, by which is learnt how often things are said. An answer that is
// full stands for its minute by the part that it covers.
//
// The times do not depend on when it is read, so that reading it twice gives the
// same batches. It returns an error only when ctx is done: history is worth
// having and no more.
func (s *Source) past(ctx context.Context, until time.Time, emit collector.Emit) error {
	w := s.cfg.WarmStart
	limited, cancel := context.WithTimeout(ctx, w.Patience)
	defer cancel()
	left := int64(historyShare * float64(s.cfg.BytesPerDay))
	lines := 0
	ask := func(query string, from time.Time, span time.Duration, chosen bool) (goOn bool, err error) {
		streams, n, err := s.few(limited, query, from, from.Add(span))
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			s.env.Log.Warn("history not read to its end, learning from now on", "source", s.name, "from", from, "err", s.env.Redact.Line(upstream.Reason(err)))
			return false, nil
		}
		out, size := s.ofPast(query, streams, n, from, span, chosen)
		lines, left = lines+n, left-size
		if len(out) == 0 {
			return true, nil
		}
		if err := emit(ctx, collector.Emission{Stream: s.stream, Events: out}); err != nil {
			return false, err
		}
		if left < 0 {
			s.env.Log.Warn("history not read to its end, it is more than its part of log_bytes_per_day", "source", s.name, "from", from)
		}
		return left >= 0, nil
	}
	begin := until.Add(-w.History)
	for from := begin.Truncate(time.Hour); !from.Add(time.Hour).After(until); from = from.Add(time.Hour) {
		if goOn, err := ask(s.query+" "+s.cfg.Tail.Filter, from, time.Hour, true); err != nil || !goOn {
			return err
		}
	}
	every := time.Hour / time.Duration(w.MinutesPerHour)
	for from := begin.Truncate(every); !from.Add(time.Minute).After(until); from = from.Add(every) {
		if goOn, err := ask(s.query, from, time.Minute, false); err != nil || !goOn {
			return err
		}
	}
	s.env.Log.Info("history read", "source", s.name, "from", begin, "lines", lines)
	return nil
}

// few returns the first lines of [start, end), one answer's worth, and how many.
func (s *Source) few(ctx context.Context, query string, start, end time.Time) (streams []stream, n int, err error) {
	for try := 0; ; try++ {
		limit := int(s.limit.Load())
		streams, n, err = s.ask(ctx, query, start, end, limit)
		if err == nil {
			return streams, n, nil
		}
		if fewer, _, ok := s.smaller(err, limit, start, end); ok && fewer == int(s.limit.Load()) && fewer < limit {
			continue
		}
		if try == historyTries-1 || !upstream.Wait(ctx, max(historyPause, upstream.RetryIn(err))) {
			return nil, 0, err
		}
	}
}

// ofPast are the batches of an answer about the past, and their size.
func (s *Source) ofPast(query string, streams []stream, n int, from time.Time, span time.Duration, chosen bool) (out []event.Outgoing, size int64) {
	covers := 1.0
	if n >= int(s.limit.Load()) && !chosen {
		covers = max(1e-3, latest(streams).Sub(from).Seconds()/span.Seconds())
	}
	hash := event.SeriesHash(event.HashStrings("past", query))[:8]
	for _, b := range s.batches(streams, from, from.Add(span), newSampler(nil, time.Time{}), newTraces(nil)) {
		b.Query, b.Bootstrap, b.Chosen = hash, true, chosen
		b.SampledRate = int(max(1, min(1000, math.Round(float64(b.SampledRate)/covers))))
		for _, st := range b.Streams {
			for _, l := range st.Lines {
				size += int64(len(l.Text))
			}
		}
		out = append(out, event.LogsRead.Out(b))
	}
	return out, size
}

// Package loghistory asks Loki what statements of a program did in the hours before:
// since when they are made, and how often a minute.
//
// A Loki that runs its pattern ingester has counted them already, by its own miner
// (GET /loki/api/v1/patterns); that answer costs it no line. It can show that a
// statement was made, and not that it was not: it leaves out what was made fewer than
// thirty times in the range, all but its 300 commonest patterns, and whatever was
// before it started or its retain_for, three hours by default. So a statement that
// its patterns do not show from the beginning on is counted in the lines themselves.
package loghistory

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// MaxStatements is how many statements a [Question] may have. It costs Loki at most
// two requests more than that.
const MaxStatements = 5

// Question is what is asked.
type Question struct {
	Selector   string // LogQL of the streams: {namespace="shop", pod=~"web-.*"}
	Statements []Statement
	Start, End time.Time

	step time.Duration
}

// Step is the grain in which lines are counted: a minute, or as many as make 180
// steps of the range.
func (q Question) Step() time.Duration {
	const most = 180
	if q.step > 0 {
		return q.step
	}
	step := (q.End.Sub(q.Start) / most).Truncate(time.Minute)
	if step < time.Minute || q.End.Sub(q.Start) > most*step {
		step += time.Minute
	}
	return step
}

// Statement is a statement of a program.
type Statement struct {
	Template string   // as [logpattern.Miner] has it
	Lines    []string // of it, masked; the first finds its words in others
}

// Source is who counted.
type Source string

// The sources.
const (
	Patterns Source = "patterns" // Loki's pattern ingester: at least so many, at least since then
	Lines    Source = "lines"    // a metric query over the lines
)

// History is what is known of a statement.
type History struct {
	Source Source `json:"source"`
	// Known is from when on something is known: the start of the question, or later
	// when the logs of the streams, or Loki's patterns of them, begin later.
	Known time.Time `json:"known"`
	// First is the beginning of the first step with a line; zero when there is none.
	First time.Time `json:"first,omitzero"`
	// Start is that of the first step of Counts, End that of the question.
	Start    time.Time     `json:"start"`
	End      time.Time     `json:"end"`
	Step     time.Duration `json:"step"`
	Counts   []float64     `json:"counts,omitempty"`   // lines of each step
	Query    string        `json:"query"`              // that was asked: a selector of patterns, or a metric query
	Patterns []string      `json:"patterns,omitempty"` // of Loki that are of the statement, masked; the commonest first
}

// Total is how many lines there are from one time to another, by whole steps.
func (h *History) Total(from, to time.Time) float64 {
	sum := 0.0
	for i, n := range h.Counts {
		if at := h.Start.Add(time.Duration(i) * h.Step); !at.Before(from) && at.Before(to) {
			sum += n
		}
	}
	return sum
}

// Reader asks one Loki. It is safe for concurrent use.
type Reader struct {
	up   *upstream.Client
	mask func(string) string
	none atomic.Bool // it has no pattern endpoint
}

// New makes a reader; mask does to Loki's patterns what was done to the lines of
// statements.
func New(up *upstream.Client, mask func(string) string) *Reader {
	return &Reader{up: up, mask: mask}
}

// Read gives the history of each statement, nil where Loki knows nothing of it. A
// Loki without the endpoint is asked for it once in the life of the reader. The error
// says why statements have none; those that have one are right.
func (r *Reader) Read(ctx context.Context, q Question) ([]*History, error) {
	q = q.bounded()
	out := make([]*History, len(q.Statements))
	if len(out) == 0 {
		return nil, nil
	}
	found, unread := r.patterns(ctx, q)
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	var open []int
	for i, s := range q.Statements {
		out[i] = found.of(q, s, r.mask)
		if !out[i].settled(q) {
			open = append(open, i)
		}
	}
	if len(open) == 0 {
		return out, nil
	}
	// What the patterns leave open is counted in the lines. Where that fails, they
	// still say since when at least.
	oldest, counted, err := r.count(ctx, q, open)
	for i, h := range counted {
		if h == nil || oldest.IsZero() {
			continue
		}
		h.Known = later(q.Start, oldest.Truncate(h.Step))
		out[open[i]] = h
	}
	if slices.Contains(out, nil) {
		err = errors.Join(unread, err)
	}
	return out, err
}

// bounded is the question as it is asked.
func (q Question) bounded() Question {
	q.Statements = q.Statements[:min(len(q.Statements), MaxStatements)]
	q.step = q.Step()
	q.Start, q.End = q.Start.UTC().Truncate(q.step), q.End.UTC()
	return q
}

// Shown gives what Loki's patterns alone show of each statement, nil where they show
// nothing or there are none: that it was made so often at least, and since then at
// least. It is one request, which costs Loki no line.
func (r *Reader) Shown(ctx context.Context, q Question) ([]*History, error) {
	q = q.bounded()
	out := make([]*History, len(q.Statements))
	if len(out) == 0 {
		return out, nil
	}
	found, err := r.patterns(ctx, q)
	for i, s := range q.Statements {
		out[i] = found.of(q, s, r.mask)
	}
	return out, err
}

// settled says whether the patterns show the statement from the beginning on, so that
// the lines could say nothing else.
func (h *History) settled(q Question) bool {
	return h != nil && !h.First.IsZero() && h.First.Sub(q.Start) <= q.End.Sub(q.Start)/6
}

// patterns asks for Loki's patterns of the streams. That there is no such endpoint is
// no error.
func (r *Reader) patterns(ctx context.Context, q Question) (answer, error) {
	if r.none.Load() {
		return answer{}, nil
	}
	params := q.params(q.Selector, r.up, q.Start, q.End)
	body, err := r.up.Get(ctx, "/loki/api/v1/patterns", params, upstream.Query{Operation: "patterns", Text: q.Selector})
	if e, ok := errors.AsType[*upstream.Error](err); ok && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented) {
		r.none.Store(true)
		return answer{}, nil
	}
	if err != nil {
		return answer{}, err
	}
	return decode(body, q)
}

// count counts statements in the lines, and says when the oldest line of the streams
// was, zero when there is none in the range.
func (r *Reader) count(ctx context.Context, q Question, which []int) (oldest time.Time, out []*History, err error) {
	out = make([]*History, len(which))
	errs := make([]error, len(which)+1)
	var wg sync.WaitGroup
	wg.Go(func() { oldest, errs[0] = r.oldest(ctx, q) })
	for i, s := range which {
		wg.Go(func() { out[i], errs[i+1] = r.countOne(ctx, q, q.Statements[s]) })
	}
	wg.Wait()
	return oldest, out, errors.Join(errs...)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// of is what Loki's patterns say of a statement; nil when none is of it.
func (a answer) of(q Question, s Statement, mask func(string) string) *History {
	h := &History{Source: Patterns, Start: q.Start, End: q.End, Step: q.Step(), Query: q.Selector, Known: later(q.Start, a.first)}
	for _, p := range a.patterns {
		f := logpattern.NewForeign(p.text, mask)
		if !f.Keeps(s.Template) || !covers(f, s.Lines) {
			continue
		}
		if text := mask(p.text); !slices.Contains(h.Patterns, text) { // it has one for each level
			h.Patterns = append(h.Patterns, text)
		}
		for at, n := range p.counts {
			h.add(at, n)
		}
	}
	if h.First.IsZero() {
		return nil
	}
	return h
}

func covers(f logpattern.Foreign, lines []string) bool {
	for _, l := range lines {
		if f.Covers(l) {
			return true
		}
	}
	return false
}

// add counts lines of the step that begins at a time, if it is of the range.
func (h *History) add(at time.Time, n float64) {
	if !(n > 0) || math.IsInf(n, 0) || at.Before(h.Start) || at.After(h.End) {
		return
	}
	i := int(at.Sub(h.Start) / h.Step)
	for len(h.Counts) <= i {
		h.Counts = append(h.Counts, 0)
	}
	h.Counts[i] += n
	if begin := h.Start.Add(time.Duration(i) * h.Step); h.First.IsZero() || begin.Before(h.First) {
		h.First = begin
	}
}

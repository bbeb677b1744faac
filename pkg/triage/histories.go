package triage

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
)

// Bounds of what is asked of the hours before.
const (
	// leastHistory is as far as Loki's pattern ingester remembers by default.
	leastHistory = 3 * time.Hour
	mostHistory  = 24 * time.Hour
	historyTime  = 5 * time.Second
	// justNow is what is told apart from what was before.
	justNow = 10 * time.Minute
	// sparkSteps is how many points a course has.
	sparkSteps = 30
)

// histories asks what the patterns that look like trouble did in the hours before.
func (a *assembly) histories(ctx context.Context, found []Pattern) {
	if a.s.History == nil {
		return
	}
	end := a.g.c.Now
	q := loghistory.Question{Selector: a.g.selector(), Start: end.Add(-min(max(leastHistory, end.Sub(a.r.Since)), mostHistory)), End: end}
	var of []*Pattern
	for i := range found {
		if p := &found[i]; p.Trouble && len(of) < loghistory.MaxStatements {
			of = append(of, p)
			q.Statements = append(q.Statements, loghistory.Statement{Template: p.Template, Lines: append([]string{p.Example}, p.lines...)})
		}
	}
	if len(of) == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, historyTime, fmt.Errorf("no answer in %s", historyTime))
	defer cancel()
	all, err := a.s.History(ctx, q)
	if err != nil {
		a.notRead("what patterns of logs did before", a.line(err.Error()))
	}
	for i, h := range all {
		if h != nil {
			of[i].History = a.told(h)
		}
	}
}

// told is a history in words, with its evidence.
func (a *assembly) told(h *loghistory.History) *PatternHistory {
	out := &PatternHistory{
		Source: h.Source, Asked: h.Start, Known: h.Known, First: h.First, Lines: int(h.Total(h.Start, h.End.Add(h.Step))), Patterns: h.Patterns,
	}
	lately := h.End.Add(-justNow).Truncate(h.Step)
	if minutes := lately.Sub(h.Known).Minutes(); minutes > 0 {
		out.Before = h.Total(h.Known, lately) / minutes
	}
	out.Now = h.Total(lately, h.End.Add(h.Step)) / h.End.Sub(lately).Minutes()
	out.Sparkline = Sparkline(course(h))
	out.Text = historyText(out, h)
	expr := h.Query
	if h.Source == loghistory.Patterns {
		expr = "patterns " + expr
	}
	says := []string{out.Text}
	for _, p := range h.Patterns {
		says = append(says, "pattern of Loki: "+p)
	}
	e := evidence.New(evidence.Query{Source: evidence.Loki, Expr: expr, Start: h.Start, End: h.End, Step: h.Step, Entity: a.g.root}, says, nil)
	out.Evidence = []string{a.cite(e)}
	return out
}

// course is how many lines there were, from the beginning of the range to its end;
// NaN before anything is known.
func course(h *loghistory.History) []float64 {
	steps := int(h.End.Sub(h.Start)/h.Step) + 1
	each := h.Step * time.Duration(max(1, (steps+sparkSteps-1)/sparkSteps))
	var out []float64
	for at := h.Start; at.Before(h.End); at = at.Add(each) {
		n := h.Total(at, at.Add(each))
		if n == 0 && !at.Add(each).After(h.Known) {
			n = math.NaN()
		}
		out = append(out, n)
	}
	return out
}

// historyText says no more than the range that was asked for shows: not how old a
// pattern is that was there at its beginning, and not that there was none before what
// Loki's patterns show, which leave out what is rare.
func historyText(p *PatternHistory, h *loghistory.History) string {
	counted := "lines counted in Loki"
	if p.Source == loghistory.Patterns {
		counted = "by Loki's patterns"
	}
	clock := func(t time.Time) string { return t.UTC().Format("15:04") }
	age := func(t time.Time) string { return check.Age(h.End.Sub(t)) }
	begins := fmt.Sprintf("when the last %s begin", age(p.Asked))
	if p.Known.Sub(p.Asked) > h.Step {
		begins = "when its logs in Loki begin"
		if p.Source == loghistory.Patterns {
			begins = "when Loki's patterns of it begin"
		}
	}
	var text string
	switch {
	case p.First.IsZero():
		return fmt.Sprintf("none since %s, %s (%s)", clock(p.Known), begins, counted)
	case p.First.Sub(p.Known) <= max(h.Step, justNow/2):
		text = fmt.Sprintf("there at %s already, %s", clock(p.First), begins)
	case p.Source == loghistory.Patterns:
		text = fmt.Sprintf("there since %s at least, %s ago", clock(p.First), age(p.First))
	default:
		text = fmt.Sprintf("first at %s, %s ago; none in the %s before", clock(p.First), age(p.First), check.Age(p.First.Sub(p.Known)))
	}
	if p.Before > 0 {
		text += fmt.Sprintf("; %s/min before, %s/min in the last %s", short(p.Before), short(p.Now), check.Age(justNow))
	} else {
		text += fmt.Sprintf("; %s lines", short(float64(p.Lines)))
	}
	return text + " (" + counted + ")"
}

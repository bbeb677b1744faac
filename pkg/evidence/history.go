package evidence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

const (
	// HistoryRange is the most that a question for a history reads, from its start on,
	// wherever it ends: as far as Loki's pattern ingester remembers by default.
	HistoryRange = 3 * time.Hour

	historyTime   = 5 * time.Second
	historyPrefix = "history "
)

// Told is what a question for histories is about: statements of the streams of one
// selector, at most [loghistory.MaxStatements].
type Told struct {
	Selector   string      `json:"selector"` // {namespace="shop", pod=~"web-.*"}
	Statements []Statement `json:"statements"`
}

// Statement is a statement of a program.
type Statement struct {
	Template string `json:"template"`
	Line     string `json:"line"` // of it, redacted
}

// Expr is the expression of the question.
func (t Told) Expr() string {
	b, err := json.Marshal(t)
	if err != nil {
		return historyPrefix // strings cannot fail to be written
	}
	return historyPrefix + string(b)
}

// toldOf reads the expression of a question for histories; false for another
// question.
func toldOf(expr string) (t Told, ok bool, err error) {
	body, ok := strings.CutPrefix(expr, historyPrefix)
	if !ok {
		return t, false, nil
	}
	wrong := func(problem string) (Told, bool, error) {
		return Told{}, true, fmt.Errorf("query %q: %s; write history {\"selector\": …, \"statements\": [{\"template\": …, \"line\": …}]}", clip(expr, 100), problem)
	}
	if err := json.Unmarshal([]byte(body), &t); err != nil {
		return wrong(err.Error())
	}
	inner, open := strings.CutPrefix(t.Selector, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	ms, err := upstream.ParseMatchers(inner)
	switch {
	case !open || !closed || err != nil || len(ms) == 0:
		return wrong("selector chooses no streams")
	case len(t.Statements) == 0 || len(t.Statements) > loghistory.MaxStatements:
		return wrong(fmt.Sprintf("it has %d statements, not 1 to %d", len(t.Statements), loghistory.MaxStatements))
	}
	return t, true, nil
}

// historyOf answers a question for histories: in words a line for each statement that
// something is known of, and in Values["statements"] each as a [loghistory.History],
// null where nothing is known. What could not be read is in Values["unread"].
func (l loki) historyOf(ctx context.Context, q Query, t Told) (event.Evidence, error) {
	asked := loghistory.Question{Selector: t.Selector, Start: q.Start, End: q.End}
	if most := q.Start.Add(HistoryRange); asked.End.After(most) {
		asked.End = most
	}
	for _, s := range t.Statements {
		asked.Statements = append(asked.Statements, loghistory.Statement{Template: s.Template, Lines: []string{s.Line}})
	}
	askCtx, cancel := context.WithTimeoutCause(ctx, historyTime, fmt.Errorf("no answer in %v", historyTime))
	defer cancel()
	all, err := l.history.Read(askCtx, asked)
	known := 0
	var lines []string
	for i, h := range all {
		if h == nil {
			continue
		}
		known++
		h.Query = l.redact.Line(h.Query)
		lines = append(lines, fmt.Sprintf("%s: %s lines by %s from %s to %s, the first %s", clip(t.Statements[i].Template, 160),
			number(h.Total(h.Start, h.End.Add(h.Step))), h.Source, h.Known.UTC().Format(time.RFC3339), h.End.UTC().Format(time.RFC3339), firstOf(h)))
	}
	if err != nil && (known == 0 || ctx.Err() != nil) {
		return failure(ctx, q, err, l.redact)
	}
	values := map[string]any{}
	if err != nil {
		why, _ := failure(ctx, q, err, l.redact)
		values["unread"] = why.Failed
	}
	// As it is after a journey over the bus, for the digest's sake.
	b, err := json.Marshal(all)
	var list []any
	if err = errors.Join(err, json.Unmarshal(b, &list)); err != nil {
		return event.Evidence{}, fmt.Errorf("history: %w", err)
	}
	values["statements"] = list
	return New(q, lines, values), nil
}

func firstOf(h *loghistory.History) string {
	if h.First.IsZero() {
		return "never"
	}
	return h.First.UTC().Format(time.RFC3339)
}

// Histories are those of an answer, one for each statement of the question, nil where
// nothing is known.
func Histories(e event.Evidence) ([]*loghistory.History, error) {
	b, err := json.Marshal(e.Values["statements"])
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	var out []*loghistory.History
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return out, nil
}

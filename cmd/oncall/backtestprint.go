package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/internal/backtest"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/render"
)

// printBacktest writes the outcome, the bottom line first. html is where the
// graphs are; "" for nowhere.
func printBacktest(o *options, x *backtest.Result, html string) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), x)
	}
	s := &backtestPage{page: &page{now: x.Until, o: o.terminal(), md: o.format() == render.MD}, x: x}
	s.write(html)
	_, err := io.WriteString(o.out, s.b.String())
	return err
}

// backtestPage writes the result of a backtest.
type backtestPage struct {
	*page
	x *backtest.Result
}

// Bounds of what is shown; all of it is in the JSON and on the page.
const (
	shownPages  = 12
	shownReason = 8
)

// pastTime is a time of the past, in UTC as the heads say.
const pastTime = "01-02 15:04"

func (s *backtestPage) write(html string) {
	x := s.x
	if s.md {
		fmt.Fprintf(&s.b, "# %s\n\n", s.show(x.Headline))
	} else {
		fmt.Fprintln(&s.b, s.o.Paint("1", render.Plain(x.Headline)))
	}
	where := x.Cluster
	if x.Namespace != "" {
		where += "/" + x.Namespace
	}
	text := fmt.Sprintf("%s, %s to %s, after %s of learning", where, x.Since.Format("2006-01-02 15:04"), x.Until.Format("2006-01-02 15:04 MST"), backtest.Span(x.Since.Sub(x.Read.From)))
	s.text(text)
	s.counts()
	s.ours()
	s.theirs()
	s.missing()
	s.b.WriteString("\n")
	r := x.Read
	read := fmt.Sprintf("read %d series every %s (%d samples), %s in %s, %.0f s", r.Series, x.Step, r.Samples, counted(r.Changes, "change"), counted(int(r.Requests), "request"), x.Seconds)
	if r.Lines > 0 || r.Events > 0 {
		read = fmt.Sprintf("read %d series every %s (%d samples), %d log lines, %s, %s in %s, %.0f s", r.Series, x.Step, r.Samples, r.Lines, counted(r.Events, "event"), counted(r.Changes, "change"), counted(int(r.Requests), "request"), x.Seconds)
	}
	s.text(read)
	if html != "" {
		s.text("graphs: " + html)
	}
}

// counts is both sides beside each other.
func (s *backtestPage) counts() {
	x := s.x
	lead := ""
	if x.Same.LeadSeconds != nil {
		lead = backtest.Lead(*x.Same.LeadSeconds) + " (median)"
	}
	rows := [][]string{
		{"pages", fmt.Sprint(x.Yours.Pages), fmt.Sprint(x.Ours.Pages), fmt.Sprintf("%g and %g a week; yours are %s if grouped by alert and namespace", x.Yours.PerWeek, x.Ours.PerWeek, counted(x.Yours.Groups, "notification"))},
		{"  same trouble", fmt.Sprint(x.Same.Firings), fmt.Sprint(x.Same.Incidents), lead},
		{"  only one side", fmt.Sprint(x.Yours.Only), fmt.Sprint(x.Ours.Only), ""},
		{"no page", fmt.Sprint(x.Yours.Others), fmt.Sprint(x.Ours.Tickets + x.Ours.Digest), fmt.Sprintf("ours: %s, %s in digests, %d of them held; budget of tickets without a symptom: %g a week", counted(x.Ours.Tickets, "ticket"), counted(x.Ours.Digest, "line"), x.Ours.Held, x.Ours.Budget)},
	}
	head := []string{"", "you (ALERTS)", "oncall", ""}
	s.b.WriteString("\n")
	if s.md {
		_ = markdownTable(&s.b, head, rows)
		return
	}
	for _, r := range append([][]string{head}, rows...) {
		line := fmt.Sprintf("%-16s%12s%9s", r[0], r[1], r[2])
		room := s.o.Columns() - len(line) - 3
		if r[3] == "" {
			fmt.Fprintln(&s.b, line)
			continue
		}
		for i, part := range render.Wrap(r[3], max(room, 30), "", "") {
			if i > 0 {
				line = strings.Repeat(" ", len(line))
			}
			fmt.Fprintln(&s.b, line+"   "+part)
		}
	}
}

func (s *backtestPage) ours() {
	x := s.x
	if len(x.Incidents) == 0 {
		return
	}
	s.head("What oncall would have paged for", "times in UTC")
	for _, i := range x.Incidents[:min(len(x.Incidents), shownPages)] {
		paged := i.Paged[0].UTC().Format(pastTime)
		if n := len(i.Paged) - 1; n > 0 {
			paged += fmt.Sprintf(" and %s more", counted(n, "time"))
		}
		lasted := "goes on"
		if i.Resolved != nil {
			lasted = "for " + backtest.Span(max(i.Resolved.Sub(i.Onset), time.Minute))
		}
		s.item(fmt.Sprintf("%s %s %s %s: %s", paged, i.Priority, check.Name(i.Entity), lasted, cmp.Or(i.Symptom, i.Title)), nil)
		s.below(s.beside(i))
		if i.Cause != "" {
			s.below(fmt.Sprintf("likely (%s): %s", i.Confidence, i.Cause))
		}
	}
	if n := len(x.Incidents) - shownPages; n > 0 {
		s.item(fmt.Sprintf("and %d more: -o json, --html FILE", n), nil)
	}
}

// below is more about an item.
func (s *backtestPage) below(text string) {
	text = s.show(text)
	if s.md {
		fmt.Fprintf(&s.b, "  - %s\n", text)
		return
	}
	for _, l := range render.Wrap(text, s.o.Columns(), "      ", "        ") {
		fmt.Fprintln(&s.b, l)
	}
}

// beside says which of the user's alerts are about the same.
func (s *backtestPage) beside(i backtest.Incident) string {
	if len(i.Firings) == 0 {
		text := "only ours: none of your pages"
		if len(i.Beside) > 0 {
			text += "; of yours " + strings.Join(i.Beside, ", ")
		}
		return text
	}
	count := map[string]int{}
	var names []string
	for _, n := range i.Firings {
		name := s.x.Firings[n].Alert
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	for n, name := range names {
		if count[name] > 1 {
			names[n] = fmt.Sprintf("%s x%d", name, count[name])
		}
	}
	first := s.x.Firings[i.Firings[0]]
	return fmt.Sprintf("%s than yours at %s: %s", backtest.Lead(*i.LeadSeconds), first.Start.UTC().Format(pastTime), strings.Join(names, ", "))
}

// reasons are the words for why there is none of ours.
var reasons = map[backtest.Why]string{
	backtest.HeldByBudget: "held by the page budget", backtest.BelowPage: "seen, and no page", backtest.BelowThreshold: "watched, not odd enough",
	backtest.NotWatched: "not watched", backtest.HistoryMissing: "history missing", backtest.PagedBefore: "paged before", backtest.NamesNothing: "names nothing",
}

// theirs tells the user's pages without one of ours: one line for what is alike.
func (s *backtestPage) theirs() {
	type alike struct {
		alert string
		why   backtest.Why
		all   []backtest.Firing
	}
	var list []*alike
	for _, f := range s.x.Firings {
		if f.Why == "" {
			continue
		}
		i := slices.IndexFunc(list, func(a *alike) bool { return a.alert == f.Alert && a.why == f.Why })
		if i < 0 {
			i = len(list)
			list = append(list, &alike{alert: f.Alert, why: f.Why})
		}
		list[i].all = append(list[i].all, f)
	}
	if len(list) == 0 {
		return
	}
	slices.SortStableFunc(list, func(a, b *alike) int { return len(b.all) - len(a.all) })
	s.head("Only yours", "and why there is none of ours")
	for _, a := range list[:min(len(list), shownReason)] {
		first := a.all[0]
		name := "what it does not name"
		if !first.Entity.IsZero() {
			name = check.Name(first.Entity)
		}
		lasted := "goes on"
		if first.End != nil {
			lasted = "for " + backtest.Span(max(first.End.Sub(first.Start), time.Minute))
		}
		text := fmt.Sprintf("%d %s: %s: %s at %s %s: %s", len(a.all), a.alert, reasons[a.why], name, first.Start.UTC().Format(pastTime), lasted, first.Because)
		if n := len(a.all) - 1; n > 0 {
			text += fmt.Sprintf(" (and %d more)", n)
		}
		s.item(text, nil)
	}
	if n := len(list) - shownReason; n > 0 {
		s.item(fmt.Sprintf("and %d more alerts: -o json, --html FILE", n), nil)
	}
}

func (s *backtestPage) missing() {
	if len(s.x.Missing) == 0 {
		return
	}
	s.head("History that is missing", "")
	for _, m := range s.x.Missing {
		text := m.What + ": " + m.Why
		if m.Fix != "" {
			text += ": " + m.Fix
		}
		s.item(text, nil)
	}
}

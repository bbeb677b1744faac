package reasoner

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
)

// Bounds of what is asked of the hours before.
const (
	// maxStatements bounds the statements of one report whose history is asked for.
	// Loki is asked three times for each at most, and each time for three hours.
	maxStatements = 3
	// lookBack is how long before the onset is read; the rest of
	// [evidence.HistoryRange] is of the time after it.
	lookBack = evidence.HistoryRange - 15*time.Minute
	// longBefore is what is told apart from an onset that was seen late: what is new
	// may have been among the lines that were not read.
	longBefore = 10 * time.Minute
	// asMany is how many times fewer lines than in a spike are no other sight.
	asMany = 1.5
)

// past is what Loki says that the statement of an anomaly did in the hours before.
type past struct {
	text  string // in words
	doubt string // the same, shorter, when it speaks against the anomaly
	shown event.Evidence
}

// unread is a question for histories that has no answer, and why.
type unread struct{ what, why string }

// statementOf is what to ask about the statement of an anomaly, and where; false when
// the anomaly is not one of what a program says, or its lines are not shown.
func statementOf(a event.Anomaly) (selector string, s evidence.Statement, ok bool) {
	switch a.Detector {
	case "log_new_pattern", "log_spike", "log_vanished":
	default:
		return "", s, false
	}
	if a.Foreign || len(a.Evidence) == 0 || a.Evidence[0].Source != evidence.Loki || len(a.Evidence[0].Excerpt) == 0 || a.Labels["template"] == "" {
		return "", s, false
	}
	selector, _, _ = strings.Cut(a.Evidence[0].Query, " |= ")
	template := a.Labels["template"]
	if cut, ok := strings.CutSuffix(template, "…"); ok {
		// It was clipped, in a word as a rule.
		template = cut[:max(0, strings.LastIndexByte(cut, ' '))]
	}
	return selector, evidence.Statement{Template: template, Line: a.Evidence[0].Excerpt[0]}, template != ""
}

// asked is one question for histories, with the keys of the anomalies that it is for.
type asked struct {
	question
	keys []string
}

// historyQuestions ask what the statements of the anomalies did before, those of one
// workload in one question. The worst anomalies come first in an incident.
func (d *draft) historyQuestions(subject int) []asked {
	type group struct {
		told   evidence.Told
		source string
		entity event.Entity
		onset  time.Time
		keys   []string
	}
	var groups []*group
	n := 0
	for _, a := range d.inc.Anomalies {
		selector, s, ok := statementOf(a)
		if !ok || n == maxStatements || d.inc.Updated.Before(a.Onset) {
			continue
		}
		if a.Severity == event.Info && !strings.Contains(symptom(d.inc), a.Summary) {
			continue // no finding is made of it
		}
		i := slices.IndexFunc(groups, func(g *group) bool {
			return g.told.Selector == selector && g.source == a.Labels[event.LabelSource] && g.onset.Sub(a.Onset).Abs() < longBefore
		})
		if i < 0 {
			groups = append(groups, &group{source: a.Labels[event.LabelSource], entity: a.Entity, onset: a.Onset, told: evidence.Told{Selector: selector}})
			i = len(groups) - 1
		}
		g := groups[i]
		if !slices.Contains(g.told.Statements, s) {
			g.told.Statements = append(g.told.Statements, s)
			g.keys = append(g.keys, a.Key)
			if a.Onset.Before(g.onset) {
				g.onset = a.Onset
			}
			n++
		}
	}
	var out []asked
	for i, g := range groups {
		q := d.question(subject, g.entity, fmt.Sprintf("history %d", i), evidence.Loki, g.told.Expr(), 0)
		q.query.Instance, q.query.Start = g.source, g.onset.Add(-lookBack).Truncate(time.Minute)
		out = append(out, asked{q, g.keys})
	}
	return out
}

// remember keeps what the answers say, by the key of the anomaly.
func (d *draft) remember(qs []asked, answers map[string]event.Evidence) {
	d.pasts = map[string]past{}
	for _, q := range qs {
		e := answers[q.name]
		what := "the hours before in the logs of " + q.query.Entity.String()
		why := e.Failed
		if why == "" {
			why, _ = e.Values["unread"].(string)
		}
		if why != "" {
			d.unread = append(d.unread, unread{what, why})
		}
		if e.Failed != "" {
			continue
		}
		all, err := evidence.Histories(e)
		if err != nil {
			d.unread = append(d.unread, unread{what, err.Error()})
			continue
		}
		for i, h := range all {
			if h == nil || i >= len(q.keys) || h.Step <= 0 {
				continue
			}
			at := slices.IndexFunc(d.inc.Anomalies, func(a event.Anomaly) bool { return a.Key == q.keys[i] })
			if at < 0 {
				continue
			}
			p := tell(d.inc.Anomalies[at], h)
			expr := h.Query
			if h.Source == loghistory.Patterns {
				expr = "patterns " + expr
			}
			lines := []string{p.text}
			for _, l := range h.Patterns {
				lines = append(lines, "pattern of Loki: "+l)
			}
			lines = append(lines, courses(h)...)
			shown := evidence.Query{Source: evidence.Loki, Instance: e.Instance, Expr: expr, Start: h.Start, End: h.End, Step: h.Step, Entity: q.query.Entity}
			p.shown = evidence.New(shown, lines, map[string]any{"counted_by": string(h.Source)})
			d.pasts[q.keys[i]] = p
		}
	}
}

// courses are the counts of a history by the half hour, a line each.
func courses(h *loghistory.History) []string {
	const each = 30 * time.Minute
	var out []string
	for at := h.Start; at.Before(h.End); at = at.Add(each) {
		out = append(out, fmt.Sprintf("%s %.0f lines", at.UTC().Format(time.RFC3339), h.Total(at, at.Add(each))))
	}
	return out
}

// tell says what a history has to do with an anomaly.
func tell(a event.Anomaly, h *loghistory.History) past {
	by := "lines counted in Loki"
	if h.Source == loghistory.Patterns {
		by = "Loki's patterns"
	}
	before := a.Onset.Truncate(h.Step) // whole steps up to it
	var p past
	switch span := before.Sub(h.Known); {
	case span < h.Step:
		p.text = fmt.Sprintf("nothing is known of the hours before: its logs in Loki begin at %s", clock(h.Known))
		if h.Source == loghistory.Patterns {
			p.text = fmt.Sprintf("nothing is known of the hours before: Loki's patterns of it begin at %s", clock(h.Known))
		}
	case a.Detector == "log_spike":
		p.text, p.doubt = tellSpike(a, h, before)
	case a.Detector == "log_vanished":
		p.text, p.doubt = tellVanished(a, h, before)
	case h.First.IsZero() || !h.First.Before(before):
		p.text = "none in the " + age(span) + " before"
		if h.Source == loghistory.Patterns {
			by += ", which leave out what is rare"
		}
	default:
		p.text = fmt.Sprintf("there at %s already, %s before, with %s lines up to then", clock(h.First), age(a.Onset.Sub(h.First)), count(h.Total(h.Start, before)))
		if a.Onset.Sub(h.First) >= longBefore {
			p.doubt = fmt.Sprintf("Loki has it at %s already, so that it is not new", clock(h.First))
		}
	}
	p.text += " (" + by + ")"
	return p
}

func count(n float64) string { return fmt.Sprintf("%.0f", n) }

// tellSpike compares the worst minutes of before with those since.
func tellSpike(a event.Anomaly, h *loghistory.History, before time.Time) (text, doubt string) {
	was, at := peak(h, h.Known, before.Add(-longBefore).Truncate(h.Step))
	if was == 0 {
		if h.Total(h.Start, before) == 0 {
			return "none in the " + age(before.Sub(h.Known)) + " before", ""
		}
		return fmt.Sprintf("first at %s, none in the %s before that", clock(h.First), age(h.First.Sub(h.Known))), ""
	}
	text = fmt.Sprintf("at most %.3g lines a minute in the %s before, at %s", was, age(before.Sub(h.Known)), clock(at))
	now, _ := peak(h, before, later(a.WindowEnd, before.Add(h.Step)).Add(h.Step))
	if was*asMany >= max(now, a.Observed) {
		doubt = fmt.Sprintf("Loki has %.3g lines a minute at %s, before it", was, clock(at))
	}
	return text, doubt
}

// peak is the greatest rate of a step, in lines a minute, and its time.
func peak(h *loghistory.History, from, to time.Time) (rate float64, at time.Time) {
	for t := h.Start; t.Before(to); t = t.Add(h.Step) {
		if n := h.Total(t, t.Add(h.Step)); !t.Before(from) && n > rate {
			rate, at = n, t
		}
	}
	return rate / h.Step.Minutes(), at
}

// tellVanished looks for lines of what is said to be missing, and for those that
// there must have been before it was.
func tellVanished(a event.Anomaly, h *loghistory.History, before time.Time) (text, doubt string) {
	until := a.WindowEnd
	if a.Ended != nil {
		until = *a.Ended
	}
	since, at := 0.0, time.Time{}
	for t := before.Add(h.Step); !t.Add(h.Step).After(until) && t.Before(h.End); t = t.Add(h.Step) {
		if n := h.Total(t, t.Add(h.Step)); n > 0 {
			if since == 0 {
				at = t
			}
			since += n
		}
	}
	n := h.Total(h.Start, before)
	switch gap := longest(a); {
	case since > 0:
		return fmt.Sprintf("%s lines since, the first at %s", count(since), clock(at)), fmt.Sprintf("Loki has it at %s, so that it is not gone", clock(at))
	case n > 0:
		return fmt.Sprintf("%s lines in the %s before, none since", count(n), age(before.Sub(h.Known))), ""
	case h.Source == loghistory.Lines && gap > 0 && before.Sub(h.Known) > 2*gap:
		return "none in the " + age(before.Sub(h.Known)) + " before either", "Loki has none of it in the " + age(before.Sub(h.Known)) + " before either"
	}
	return "none in the " + age(before.Sub(h.Known)) + " before", ""
}

// longest is the longest gap that was usual; zero when it is not known.
func longest(a event.Anomaly) time.Duration {
	if a.Expected == nil || a.Unit != "s" || math.IsNaN(a.Expected.High) || a.Expected.High > 1e6 {
		return 0
	}
	return time.Duration(a.Expected.High * float64(time.Second))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// recall says of the findings that speak of an anomaly of logs what Loki knows of the
// hours before, and trusts those less that it speaks against.
func (d *draft) recall() {
	for _, a := range d.inc.Anomalies {
		p, ok := d.pasts[a.Key]
		if !ok {
			continue
		}
		i := slices.IndexFunc(d.report.Findings, func(f event.Finding) bool {
			return strings.Contains(f.Title, a.Summary) && (f.Entity == a.Entity || f.Entity == d.root(a.Entity))
		})
		if i < 0 {
			if p.doubt != "" {
				d.report.Checked = append(d.report.Checked, fmt.Sprintf("%s: %s", a.Summary, p.text))
			}
			continue
		}
		f := &d.report.Findings[i]
		f.Detail = strings.TrimSpace(f.Detail + " In Loki " + p.text + ".")
		f.Evidence = append(f.Evidence, d.cite(p.shown))
		if p.doubt != "" {
			f.Confidence = event.Low
			f.Detail += " That speaks against it."
		}
	}
}

// doubtOf is what Loki says against an anomaly that a text is about, and the evidence.
func (d *draft) doubtOf(text string) (past, bool) {
	for _, a := range d.inc.Anomalies {
		if p := d.pasts[a.Key]; p.doubt != "" && strings.Contains(text, a.Summary) {
			return p, true
		}
	}
	return past{}, false
}

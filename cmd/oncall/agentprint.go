package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/survey"
)

// printSurvey writes what was found. Nothing wrong takes at most five lines.
func printSurvey(o *options, x *survey.Result) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), x)
	}
	p := &page{now: x.Time, o: o.terminal(), md: o.format() == render.MD}
	s := &surveyPage{page: p, x: x}
	if len(x.Things) == 0 {
		s.well()
	} else {
		s.troubled()
	}
	_, err := io.WriteString(o.out, p.b.String())
	return err
}

// surveyPage writes a survey.
type surveyPage struct {
	*page
	x *survey.Result
}

// read says how much was looked at.
func (s *surveyPage) read() string {
	r := s.x.Read
	text := fmt.Sprintf("%d series, %d log lines, %d events read", r.Series, r.Lines, r.Events)
	if r.Pods+r.Nodes > 0 {
		text += fmt.Sprintf("; %s, %s examined", counted(r.Pods, "pod"), counted(r.Nodes, "node"))
	}
	return text
}

func (s *surveyPage) window() string {
	w := "the last " + span(s.x.Time.Sub(s.x.Since).Round(time.Minute))
	if !s.x.Learnt.IsZero() {
		w += ", against the " + span(s.x.Since.Sub(s.x.Learnt).Round(time.Minute)) + " before"
	}
	return w
}

func (s *surveyPage) where() string {
	if s.x.Namespace != "" {
		return s.x.Cluster + "/" + s.x.Namespace
	}
	return s.x.Cluster
}

func (s *surveyPage) well() {
	x := s.x
	s.text(fmt.Sprintf("%s: nothing abnormal in %s: %s (%.1f s)", s.where(), s.window(), s.read(), x.Seconds))
	if n := len(x.Odd); n > 0 {
		s.text(fmt.Sprintf("odd, and nobody feels it: %s since %s: %s%s", check.Name(x.Odd[0].Entity), x.Odd[0].Since.UTC().Format("15:04"), x.Odd[0].Title, others(n-1)))
	}
	s.rest()
	if n := len(x.NotLooked); n > 0 {
		var list []string
		for _, u := range x.NotLooked {
			list = append(list, u.What+" ("+u.Why+")")
		}
		text := "not looked at: " + strings.Join(list, "; ")
		if !s.md {
			text = render.Clip(render.Plain(text), max(s.o.Columns(), 200))
		}
		fmt.Fprintln(&s.b, s.show(text))
	}
}

func others(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf("; and %d more: -o json", n)
}

// rest counts what is not told.
func (s *surveyPage) rest() {
	var parts []string
	if n := s.x.Over; n > 0 {
		parts = append(parts, fmt.Sprintf("%d came and went meanwhile", n))
	}
	if n := s.x.Hygiene; n > 0 {
		parts = append(parts, fmt.Sprintf("%d hygiene hidden (oncall health --hygiene)", n))
	}
	if len(parts) > 0 {
		s.text(strings.Join(parts, "; "))
	}
}

// closely is how many things are told with all that was found about them.
const closely = 3

// shownFindings is how many findings of a thing are told.
const shownFindings = 6

func (s *surveyPage) troubled() {
	x := s.x
	if s.md {
		fmt.Fprintf(&s.b, "# %s\n\n", s.show(s.where()))
	}
	s.text(x.TLDR)
	s.b.WriteString("\n")
	width := 0
	for _, t := range x.Things {
		width = max(width, min(len(check.Name(t.Entity)), 48))
	}
	for _, t := range x.Things {
		word := strings.ToUpper(string(t.Urgency))
		color := map[event.Urgency]string{event.Broken: "31;1", event.Soon: "33;1"}[t.Urgency]
		if t.Priority != "" {
			word, color = string(t.Priority), render.PriorityColor(t.Priority, event.Open)
		}
		name, line := check.Name(t.Entity), t.Line
		if t.Owner.Team != "" {
			line += " @" + t.Owner.Team
		}
		if s.md {
			fmt.Fprintf(&s.b, "- **%s** %s: %s\n", word, s.show(name), s.show(line))
			continue
		}
		fmt.Fprintf(&s.b, "%s  %s  %s\n", s.o.Paint(color, fmt.Sprintf("%-6s", word)), render.Plain(name)+strings.Repeat(" ", max(0, width-len(name))), render.Plain(line))
	}
	for i, t := range x.Things[:min(len(x.Things), closely)] {
		s.thing(t, i)
	}
	s.changes()
	s.commands("Next checks", "they only read", x.Checks)
	s.commands("Rollback", "changes the cluster; for a human to decide", x.Rollback)
	if x.Status != "" {
		s.head("Status draft", "")
		s.item(x.Status, nil)
	}
	s.b.WriteString("\n")
	if len(x.Normal) > 0 {
		s.text("looked at, normal: " + strings.Join(x.Normal, ", "))
	}
	for _, u := range x.NotLooked {
		s.text("not looked at: " + u.What + ": " + u.Why)
	}
	for i, odd := range x.Odd[:min(len(x.Odd), 3)] {
		s.text(fmt.Sprintf("odd, and nobody feels it: %s since %s: %s", check.Name(odd.Entity), odd.Since.UTC().Format("15:04"), odd.Title))
		if i == 2 {
			s.text(strings.TrimPrefix(others(len(x.Odd)-3), "; "))
		}
	}
	s.rest()
	s.text(fmt.Sprintf("%s; %s; %.1f s", s.window(), s.read(), x.Seconds))
	s.page.evidence(x.Evidence)
}

// thing tells the causes and findings of one thing.
func (s *surveyPage) thing(t survey.Thing, _ int) {
	note := ""
	if t.Incident != "" {
		note = "incident " + event.ShortID(t.Incident)
	}
	s.head(check.Name(t.Entity), note)
	if len(t.Causes) == 0 {
		s.item("no cause stands out", nil)
	}
	for i, c := range t.Causes {
		label := "likely"
		if i > 0 {
			label = "or"
		}
		s.item(fmt.Sprintf("%s (%s): %s", label, c.Confidence, c.Text), c.Evidence)
	}
	shown := 0
	for _, f := range t.Findings {
		if slices.ContainsFunc(t.Causes, func(c event.Cause) bool { return strings.HasSuffix(c.Text, f.Title) }) {
			continue
		}
		if shown++; shown > shownFindings {
			s.item(fmt.Sprintf("and %d more: -o json", len(t.Findings)-shown+1), nil)
			break
		}
		text := f.Title
		if f.Entity != t.Entity && f.Entity.Name != t.Entity.Name {
			text = check.Name(f.Entity) + ": " + text
		}
		s.item(fmt.Sprintf("+ %s (%s)", text, cmp.Or(f.Confidence, event.High)), f.Evidence)
	}
	if len(t.Alerts) > 0 {
		s.item("alerts: "+strings.Join(t.Alerts, ", "), nil)
	}
	for _, r := range t.Runbooks[:min(len(t.Runbooks), 2)] {
		s.item(fmt.Sprintf("runbook: %s (%s)", r.Title, r.Path), nil)
	}
	for _, l := range t.Links {
		s.item(l.Title+": "+l.URL, nil)
	}
}

// shownChanges of a survey: what is newest says most.
const surveyChanges = 5

func (s *surveyPage) changes() {
	x := s.x
	if len(x.Changes) == 0 {
		return
	}
	s.head("Recent changes", "")
	for _, c := range x.Changes[:min(len(x.Changes), surveyChanges)] {
		text := fmt.Sprintf("%s  %s %s: %s", c.Time.UTC().Format("15:04:05"), c.Kind, check.Name(c.Entity), c.Summary)
		if c.Actor != "" {
			text += " (" + c.Actor + ")"
		}
		s.item(text, nil)
	}
	if n := len(x.Changes) - surveyChanges; n > 0 {
		s.item(fmt.Sprintf("and %d more: -o json", n), nil)
	}
}

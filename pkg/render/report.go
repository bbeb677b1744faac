package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Format is how something is written.
type Format string

// The formats of -o.
const (
	Table Format = "table" // for people at a terminal
	JSON  Format = "json"
	YAML  Format = "yaml"
	MD    Format = "markdown"
)

// Formats lists the formats, for error messages.
const Formats = "table, json, yaml or markdown"

// Options say how a terminal is written to.
type Options struct {
	Color bool
	Width int // columns; 0 means 100
}

// Value writes any value as JSON or YAML.
func Value(w io.Writer, f Format, v any) error {
	if f == JSON {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			return err
		}
		_, err := io.WriteString(w, visible(b.String(), func(r rune) string {
			// Such runes stand in strings only, where JSON has a word for them.
			if r > 0xffff {
				return ""
			}
			return fmt.Sprintf(`\u%04x`, r)
		}))
		return err
	}
	// Through JSON, so that both formats have the same field names.
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var n any
	// YAML writes them as they are, and people read it on a terminal.
	if err := json.Unmarshal([]byte(visible(string(b), func(rune) string { return "" })), &n); err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	defer func() { _ = enc.Close() }()
	return enc.Encode(n)
}

// visible replaces what a terminal would act on or hide and JSON leaves as it is.
func visible(s string, instead func(rune) string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x7f && hostile(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r >= 0x7f && hostile(r) {
			b.WriteString(instead(r))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Report writes a report in any format.
func Report(w io.Writer, f Format, r event.Report, o Options) error {
	switch f {
	case JSON, YAML:
		return Value(w, f, r)
	case MD:
		return reportMarkdown(w, r)
	}
	return reportTerminal(w, r, o)
}

func (o Options) width() int {
	if o.Width <= 0 {
		return 100
	}
	return o.Width
}

// Paint puts an ANSI code around text when colours are on.
func (o Options) Paint(code, s string) string {
	if !o.Color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31;1"
	yellow = "33;1"
	green  = "32;1"
)

// PriorityColor is the colour of a priority or state.
func PriorityColor(p event.Priority, s event.IncidentState) string {
	switch {
	case s == event.Resolved:
		return green
	case p == event.P1:
		return red
	case p == event.P2, p == event.P3:
		return yellow
	}
	return dim
}

func reportTerminal(w io.Writer, r event.Report, o Options) error {
	width := o.width()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	head := Plain(r.Headline)
	if r.State == event.Resolved {
		head = "RESOLVED " + head
	}
	for _, l := range broken(head, width, "", "  ") {
		line("%s", o.Paint(PriorityColor(r.Priority, r.State), l))
	}
	if r.TLDR != "" {
		hang(&b, Plain(r.TLDR), width, "", "")
	}
	if len(r.Causes) == 0 && r.Entity.Kind != "Source" {
		line("%s no cause stands out", o.Paint(bold, "Likely:"))
	}
	for i, c := range r.Causes {
		label := "Likely:"
		if i > 0 {
			label = "   or: "
		}
		text := broken(fmt.Sprintf("%s (%s)%s", Plain(c.Text), Plain(string(c.Confidence)), refs(c.Evidence)), width-len(label)-1, "", "")
		line("%s %s", o.Paint(bold, label), text[0])
		for _, more := range text[1:] {
			line("%s %s", strings.Repeat(" ", len(label)), more)
		}
	}
	for _, f := range r.Findings {
		text, ok := finding(r, f)
		if !ok {
			continue
		}
		first := " + "
		if !stated(r, f) {
			hang(&b, Plain(text)+refs(f.Evidence), width, first, "   ")
			first = "   "
		}
		if f.Detail != "" {
			hang(&b, Plain(f.Detail), width, first, "   ")
		}
	}
	if len(r.Checked) > 0 {
		hang(&b, "checked, normal: "+Plain(strings.Join(r.Checked, ", ")), width, " - ", "   ")
	}
	for _, u := range r.Unknown {
		hang(&b, Plain(u), width, " ? ", "   ")
	}
	commands(&b, o, "Next checks", " (read only)", r.Checks)
	if r.State == event.Open {
		commands(&b, o, "Rollback", " (needs a human)", r.Rollback)
	}
	if len(r.Alerts) > 0 {
		line("Also firing: %s", Plain(strings.Join(r.Alerts, ", ")))
	}
	for _, rb := range r.Runbooks {
		line("Runbook: %s (%s)", Plain(rb.Title), Plain(rb.Path))
	}
	for _, l := range r.Links {
		line("%s: %s", Plain(l.Title), Plain(l.URL))
	}
	if len(r.Evidence) > 0 {
		line("%s", o.Paint(bold, "Evidence"))
		for _, e := range r.Evidence {
			line("  %s", o.Paint(dim, clip(fmt.Sprintf("%s %s: %s", Plain(e.ID), Plain(e.Source), Plain(e.Query)), width-2)))
			for _, x := range e.Excerpt[:min(3, len(e.Excerpt))] {
				line("     %s", clip(Plain(x), width-5))
			}
			if e.Failed != "" {
				line("     not answered: %s", Plain(e.Failed))
			}
		}
	}
	if len(r.Timeline) > 0 {
		line("%s", o.Paint(bold, "Timeline"))
		for _, t := range r.Timeline {
			line("  %s  %s", t.Time.UTC().Format("15:04:05"), clip(Plain(entry(t)), width-12))
		}
	}
	if r.Status != "" {
		line("%s", o.Paint(bold, "Status draft"))
		hang(&b, Plain(r.Status), width, "  ", "  ")
	}
	line("%s", o.Paint(dim, fmt.Sprintf("incident %s, revision %d, score %.1f; why: oncall why %s", Plain(r.Incident), r.Revision, r.Score, Plain(event.ShortID(r.Incident)))))
	_, err := io.WriteString(w, b.String())
	return err
}

// stated says whether a cause says what a finding does.
func stated(r event.Report, f event.Finding) bool {
	return slices.ContainsFunc(r.Causes, func(c event.Cause) bool { return c.Entity == f.Entity && strings.HasSuffix(c.Text, f.Title) })
}

// finding words a finding for a reader of its report: with the entity where it
// is another than the report's, and how sure it is. The symptom that the summary
// begins with is not said twice.
func finding(r event.Report, f event.Finding) (text string, ok bool) {
	if f.Entity == r.Entity && f.Title == r.Symptom {
		return "", false
	}
	text = f.Title
	if f.Entity != r.Entity {
		text = f.Entity.String() + ": " + text
	}
	if f.Confidence != "" {
		text += " (" + string(f.Confidence) + ")"
	}
	if f.Model {
		text += " (worded by a model)"
	}
	return text, true
}

func entry(t event.TimelineEntry) string {
	if t.Entity.IsZero() {
		return t.What
	}
	return t.Entity.String() + "  " + t.What
}

func refs(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " [" + Plain(strings.Join(ids, ", ")) + "]"
}

// commands writes each command on a line of its own, whole, so that it can be
// copied, below what it is for.
func commands(b *strings.Builder, o Options, title, note string, cs []event.Check) {
	if len(cs) == 0 {
		return
	}
	fmt.Fprintf(b, "%s%s\n", o.Paint(bold, title), note)
	for _, c := range cs {
		for _, l := range broken("# "+Plain(c.Why), o.width(), "  ", "  # ") {
			fmt.Fprintf(b, "%s\n", o.Paint(dim, l))
		}
		fmt.Fprintf(b, "  %s\n", Plain(c.Command))
	}
}

// hang writes text broken at spaces, its first line after one indent and the
// others after another.
func hang(b *strings.Builder, s string, width int, first, rest string) {
	for _, l := range broken(s, width, first, rest) {
		b.WriteString(l + "\n")
	}
}

// broken is text in lines of a width, broken at spaces. A word that is longer
// than a line stays whole.
func broken(s string, width int, first, rest string) []string {
	var out []string
	line, col, indent := "", 0, first
	for _, word := range strings.Fields(s) {
		n := len([]rune(word))
		if col > 0 && col+1+n > width-len(indent) {
			out = append(out, indent+line)
			line, col, indent = "", 0, rest
		}
		if col > 0 {
			line += " "
			col++
		}
		line += word
		col += n
	}
	if col > 0 || out == nil {
		out = append(out, indent+line)
	}
	return out
}

// clip cuts text to a number of columns.
func clip(s string, n int) string {
	r := []rune(s)
	if n < 2 || len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func reportMarkdown(w io.Writer, r event.Report) error {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# %s\n", Markdown(r.Headline))
	if r.TLDR != "" {
		p("%s\n", Markdown(r.TLDR))
	}
	p("| | |\n|---|---|\n| state | %s |\n| priority | %s |\n| owner | %s (%s) |\n| since | %s |", Markdown(string(r.State)), Markdown(string(r.Priority)), orNone(Markdown(r.Owner.Team)), Markdown(r.Owner.Rule), r.Onset.UTC().Format(time.RFC3339))
	if r.ResolvedAt != nil {
		p("| resolved | %s |", r.ResolvedAt.UTC().Format(time.RFC3339))
	}
	p("\n## Likely causes\n")
	if len(r.Causes) == 0 {
		p("No cause stands out.")
	}
	for i, c := range r.Causes {
		p("%d. %s (%s)%s", i+1, Markdown(c.Text), Markdown(string(c.Confidence)), Markdown(refs(c.Evidence)))
	}
	if len(r.Findings) > 0 {
		p("\n## Findings\n")
		for _, f := range r.Findings {
			text, ok := finding(r, f)
			if !ok {
				continue
			}
			p("- %s%s", Markdown(text), Markdown(refs(f.Evidence)))
			if f.Detail != "" {
				p("  %s", Markdown(f.Detail))
			}
		}
	}
	mdCommands(&b, "Next checks (read only)", r.Checks)
	mdCommands(&b, "Rollback (needs a human)", r.Rollback)
	if len(r.Evidence) > 0 {
		p("\n## Evidence\n")
		for _, e := range r.Evidence {
			p("- %s, %s: %s", Markdown(e.ID), Markdown(e.Source), Code(e.Query))
			for _, x := range e.Excerpt[:min(5, len(e.Excerpt))] {
				p("  - %s", Code(clip(x, 300)))
			}
			if e.Failed != "" {
				p("  - not answered: %s", Markdown(e.Failed))
			}
		}
	}
	if len(r.Timeline) > 0 {
		p("\n## Timeline (UTC)\n")
		for _, t := range r.Timeline {
			p("- %s %s", t.Time.UTC().Format("15:04:05"), Markdown(entry(t)))
		}
	}
	if len(r.Unknown) > 0 {
		p("\n## Not known\n")
		for _, u := range r.Unknown {
			p("- %s", Markdown(u))
		}
	}
	if r.Status != "" {
		p("\n## Status draft\n\n%s", Markdown(r.Status))
	}
	for i, rb := range r.Runbooks {
		if i == 0 {
			p("\n## Runbooks\n")
		}
		p("- %s: %s", Markdown(rb.Title), Code(rb.Path))
	}
	for i, l := range r.Links {
		if i == 0 {
			p("\n## Links\n")
		}
		if !strings.HasPrefix(l.URL, "https://") && !strings.HasPrefix(l.URL, "http://") {
			p("- %s: %s", Markdown(l.Title), Code(l.URL))
			continue
		}
		p("- [%s](%s)", Markdown(l.Title), strings.NewReplacer("(", "%28", ")", "%29", " ", "%20", "<", "%3C", ">", "%3E").Replace(Plain(l.URL)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func mdCommands(b *strings.Builder, title string, cs []event.Check) {
	if len(cs) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n", title)
	for _, c := range cs {
		fmt.Fprintf(b, "- %s: %s\n", Markdown(c.Why), Code(c.Command))
	}
}

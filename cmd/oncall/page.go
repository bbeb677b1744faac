package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
)

// page writes for people: on a terminal, or as Markdown. All text of others
// passes show.
type page struct {
	now time.Time
	o   render.Options
	md  bool
	b   strings.Builder
}

func (p *page) show(s string) string {
	if p.md {
		return render.Markdown(s)
	}
	return render.Plain(s)
}

// head begins a section; note stands behind it.
func (p *page) head(title, note string) {
	if p.md {
		fmt.Fprintf(&p.b, "\n## %s\n\n", title)
		if note != "" {
			fmt.Fprintf(&p.b, "%s\n\n", p.show(note))
		}
		return
	}
	line := p.o.Paint("1", title)
	if note != "" {
		line += "  " + p.show(note)
	}
	fmt.Fprintf(&p.b, "\n%s\n", line)
}

// item is one entry of a section, broken at the width, with its evidence.
func (p *page) item(text string, evidence []string) {
	text = p.show(text) + refs(evidence)
	if p.md {
		fmt.Fprintf(&p.b, "- %s\n", text)
		return
	}
	for _, l := range render.Wrap(text, p.o.Columns(), "  ", "      ") {
		fmt.Fprintln(&p.b, l)
	}
}

// quote is a line of somebody else's text below an item, cut at the width.
func (p *page) quote(text string) {
	if p.md {
		fmt.Fprintf(&p.b, "  %s\n", render.Code(text))
		return
	}
	fmt.Fprintf(&p.b, "%s\n", p.o.Paint("2", "      "+render.Clip(render.Plain(text), p.o.Columns()-6)))
}

// text is a paragraph, with its evidence.
func (p *page) text(s string, evidence ...string) {
	s = p.show(s) + refs(evidence)
	if p.md {
		fmt.Fprintf(&p.b, "%s\n\n", s)
		return
	}
	for _, l := range render.Wrap(s, p.o.Columns(), "", "  ") {
		fmt.Fprintln(&p.b, l)
	}
}

// commands writes each command on a line of its own, whole, so that it can be
// copied.
func (p *page) commands(title, note string, list []event.Check) {
	if len(list) == 0 {
		return
	}
	p.head(title, note)
	for _, c := range list {
		if p.md {
			fmt.Fprintf(&p.b, "- %s: %s\n", p.show(c.Why), render.Code(c.Command))
			continue
		}
		for _, l := range render.Wrap("# "+p.show(c.Why), p.o.Columns(), "  ", "  # ") {
			fmt.Fprintln(&p.b, p.o.Paint("2", l))
		}
		fmt.Fprintf(&p.b, "  %s\n", render.Plain(c.Command))
	}
}

// evidence is what the sections refer to; on a terminal, where it is.
func (p *page) evidence(all []event.Evidence) {
	if len(all) == 0 {
		return
	}
	if !p.md {
		fmt.Fprintf(&p.b, "evidence E1-E%d in full: -o json\n", len(all))
		return
	}
	p.head("Evidence", "")
	for _, e := range all {
		fmt.Fprintf(&p.b, "- %s %s: %s\n", e.ID, e.Source, render.Code(e.Query))
		for _, l := range e.Excerpt[:min(len(e.Excerpt), 5)] {
			fmt.Fprintf(&p.b, "  - %s\n", render.Code(l))
		}
	}
}

func refs(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " [" + strings.Join(ids, ", ") + "]"
}

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/render"
)

// printable is text of others as one line of a terminal.
func printable(s string) string { return strings.ReplaceAll(render.Plain(s), "\n", " ") }

func (x *asked) page(o *options) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), x)
	}
	p := &page{o: o.terminal(), md: o.format() == render.MD}
	if p.md {
		fmt.Fprintf(&p.b, "# %s\n\n", p.show(x.Question))
	}
	for _, s := range x.Answer {
		p.item(s.Text, s.Evidence)
	}
	if n := x.left(); n != "" {
		p.b.WriteString("\n")
		p.text(n)
	}
	p.commands("Next checks", "they only read", x.Checks)
	p.commands("Rollback", "changes the cluster; for a human to decide", x.Rollback)
	p.b.WriteString("\n")
	for _, u := range x.NotLooked {
		p.text("not looked at: " + u.What + ": " + u.Why)
	}
	if len(x.About)+len(x.Scope) == 0 {
		p.text("the question names no workload, node or namespace that is here")
	}
	p.text(x.how())
	if !p.md {
		for _, e := range x.Evidence {
			fmt.Fprintln(&p.b, p.o.Paint("2", render.Clip(fmt.Sprintf("%s %s: %s", e.ID, render.Plain(e.Source), render.Plain(e.Query)), p.o.Columns())))
		}
	} else {
		p.evidence(x.Evidence)
	}
	_, err := io.WriteString(o.out, p.b.String())
	return err
}

// left counts what the model said and its evidence does not show.
func (x *asked) left() string {
	n := 0
	var whys []string
	for _, why := range slices.Sorted(maps.Keys(x.Dropped)) {
		n += x.Dropped[why]
		whys = append(whys, fmt.Sprintf("%d %s", x.Dropped[why], why))
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("left out: %s of the model that its evidence does not show (%s)", counted(n, "sentence"), strings.Join(whys, ", "))
}

// how says who answered, about what, and at what cost.
func (x *asked) how() string {
	scope := "the whole cluster was looked at"
	if len(x.Scope) > 0 {
		scope = "only " + strings.Join(x.Scope, ", ") + " was looked at"
	}
	switch {
	case x.By == "model":
		return fmt.Sprintf("answered by %s in %s, %d tokens; %s; %.1f s", x.Model, counted(len(x.Steps), "step"), x.Tokens, scope, x.Seconds)
	case x.Model != "":
		return fmt.Sprintf("answered by rules, since %s gave no answer (%s; %s, %d tokens); %s; %.1f s", x.Model, x.Failed, counted(len(x.Steps), "step"), x.Tokens, scope, x.Seconds)
	}
	return fmt.Sprintf("answered by rules: no model is configured (reasoner.model in the configuration file); %s; %.1f s", scope, x.Seconds)
}

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/render"
)

// list writes a listing in the format asked for: value as JSON or YAML, the
// rows as a table for a terminal or for Markdown.
func (o *options) list(value any, head []string, rows [][]string) error {
	switch o.format() {
	case render.JSON, render.YAML:
		return render.Value(o.out, o.format(), value)
	case render.MD:
		return markdownTable(o.out, head, rows)
	}
	return table(o.out, head, rows)
}

// table writes rows in columns.
func table(w io.Writer, head []string, rows [][]string) error {
	width := make([]int, len(head))
	all := append([][]string{head}, rows...)
	for _, r := range all {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(render.Plain(c))))
		}
	}
	for n, r := range all {
		var b strings.Builder
		for i, c := range r {
			c = render.Plain(c)
			if n == 0 {
				c = strings.ToUpper(c)
			}
			b.WriteString(c)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-len([]rune(c))+2))
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// markdownTable writes rows as a table of GitHub's Markdown.
func markdownTable(w io.Writer, head []string, rows [][]string) error {
	line := func(cells []string) error {
		_, err := fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		return err
	}
	if err := line(head); err != nil {
		return err
	}
	if err := line(strings.Split(strings.Repeat("---,", len(head)-1)+"---", ",")); err != nil {
		return err
	}
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = render.Markdown(c)
		}
		if err := line(cells); err != nil {
			return err
		}
	}
	return nil
}

// Package terminal shows reports on the standard output of `oncall up`.
package terminal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("terminal",
		"Reports on standard output.", notifier.Traits{Examples: []string{"brief: false\n"}},
		func() Config { return Config{} },
		func(cfg Config, env notifier.Env) (notifier.Channel, error) { return New(cfg, env.Out), nil }))
}

// Config is a channel of type terminal.
type Config struct {
	// Color is always or never; empty: when standard output is a terminal and
	// NO_COLOR is not set.
	Color string `yaml:"color"`
	// Brief shows headlines only.
	Brief bool `yaml:"brief"`
}

type channel struct {
	mu  sync.Mutex // a report is written whole
	cfg Config
	out io.Writer
}

// New makes the channel writing to out.
func New(cfg Config, out io.Writer) notifier.Channel { return &channel{cfg: cfg, out: out} }

// Options are the options for a writer: colours only on a terminal.
func Options(out io.Writer, color string) render.Options {
	o := render.Options{Color: color == "always", Width: 100}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.Color = o.Color || color == "" && os.Getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w >= 40 {
			o.Width = min(w, 140)
		}
	}
	return o
}

// Send writes the report.
func (c *channel) Send(_ context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := Options(c.out, c.cfg.Color)
	var b bytes.Buffer
	switch {
	case c.cfg.Brief:
		fmt.Fprintf(&b, "%s %s\n", n.Update, render.Plain(n.Report.Headline))
	case n.Update == "digest":
		digest(&b, n.Report)
	default:
		b.WriteByte('\n')
		if err := render.Report(&b, render.Table, n.Report, o); err != nil {
			return th, fmt.Errorf("terminal: %w", err)
		}
	}
	if _, err := c.out.Write(b.Bytes()); err != nil {
		return th, fmt.Errorf("terminal: %w", err)
	}
	th.Ref = n.Incident
	return th, nil
}

// digest lists what was not sent. Its headings have no reference.
func digest(b *bytes.Buffer, r event.Report) {
	fmt.Fprintf(b, "\n%s\n%s\n", render.Plain(r.Headline), render.Plain(r.TLDR))
	for _, e := range r.Timeline {
		if e.Ref == "" {
			fmt.Fprintln(b, render.Plain(e.What))
			continue
		}
		fmt.Fprintf(b, "  %s  %s\n", event.ShortID(e.Ref), render.Plain(e.What))
	}
	if len(r.Timeline) > 0 {
		fmt.Fprintln(b, "Why: oncall why ID")
	}
}

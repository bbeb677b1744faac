package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// watchFlags are those of a command that can look again and again.
type watchFlags struct {
	watch bool
	every time.Duration
}

func (f *watchFlags) register(c *cobra.Command) {
	c.Flags().BoolVarP(&f.watch, "watch", "w", false, "look again and again, until Ctrl-C: a terminal is redrawn, a pipe gets what has changed")
	c.Flags().DurationVar(&f.every, "every", 30*time.Second, "`time` between two looks of --watch")
}

// minEvery keeps a --watch from loading what it looks at.
const minEvery = time.Second

func (f *watchFlags) check() error {
	if f.watch && f.every < minEvery {
		return hint(&service.UsageError{Err: fmt.Errorf("--every %s: is not at least %s", f.every, minEvery)}, service.ExitUsage, "--every 30s")
	}
	return nil
}

// watched is what one look has found.
type watched struct {
	value any          // as -o json has it
	page  func() error // writes it for people
	lines []watchedLine
	end   error // ends the watch, if it is not nil
}

// watchedLine is one line about one thing, for a reader who wants to know what
// has changed. Two lines with one state say the same, however old it has grown.
type watchedLine struct{ key, state, text string }

// watcher looks again and again.
type watcher struct {
	o      *options
	notes  io.Writer
	redraw bool // a terminal
	now    func() time.Time

	seen   map[string]watchedLine
	order  []string
	looked bool
	failed string // the last error of a look
}

func (o *options) newWatcher(notes io.Writer) *watcher {
	w := &watcher{o: o, notes: notes, now: time.Now, seen: map[string]watchedLine{}}
	if f, ok := o.out.(*os.File); ok {
		w.redraw = term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" && (o.format() == render.Table || o.format() == render.MD)
	}
	return w
}

// run looks at once and then at every interval, until ctx is done or a look says
// that it is the last. Looks never overlap. An error of the first look is
// returned; later ones are said, once, and the watch goes on.
func (w *watcher) run(ctx context.Context, every time.Duration, look func(context.Context) (*watched, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		x, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !w.looked:
			return err
		case err != nil:
			if said := firstLine(err); said != w.failed {
				w.failed = said
				fmt.Fprintf(w.notes, "oncall: %s  %s\n", w.now().Format(time.TimeOnly), said)
			}
		default:
			if err := w.show(x, every); err != nil {
				return err
			}
			if x.end != nil {
				return x.end
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// show writes a look.
func (w *watcher) show(x *watched, every time.Duration) error {
	changed := w.changes(x.lines)
	recovered := w.failed != ""
	w.failed = ""
	first := !w.looked
	w.looked = true
	switch {
	case w.redraw:
		if _, err := io.WriteString(w.o.out, "\x1b[H\x1b[J"); err != nil {
			return err
		}
		if err := x.page(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w.o.out, "\n%s, every %s; stop with Ctrl-C\n", w.now().Format(time.TimeOnly), span(every))
		return err
	case w.o.format() == render.JSON:
		if len(changed) == 0 && !first {
			return nil
		}
		b, err := json.Marshal(x.value)
		if err != nil {
			return err
		}
		_, err = w.o.out.Write(append(b, '\n'))
		return err
	case w.o.format() == render.YAML:
		if len(changed) == 0 && !first {
			return nil
		}
		if _, err := io.WriteString(w.o.out, "---\n"); err != nil {
			return err
		}
		return render.Value(w.o.out, render.YAML, x.value)
	}
	if recovered {
		fmt.Fprintf(w.notes, "oncall: %s  answers again\n", w.now().Format(time.TimeOnly))
	}
	show := render.Plain
	if w.o.format() == render.MD {
		show = func(s string) string { return render.Markdown(s) + "  " }
	}
	for _, l := range changed {
		if _, err := fmt.Fprintf(w.o.out, "%s  %s\n", w.now().Format(time.TimeOnly), show(l)); err != nil {
			return err
		}
	}
	return nil
}

// changes are the lines that were not there, or said something else, at the look
// before, and those that are gone.
func (w *watcher) changes(lines []watchedLine) []string {
	var out []string
	now := map[string]watchedLine{}
	var order []string
	for _, l := range lines {
		if _, ok := now[l.key]; ok {
			continue
		}
		now[l.key] = l
		order = append(order, l.key)
		if before, ok := w.seen[l.key]; !ok || before.state != l.state {
			out = append(out, l.text)
		}
	}
	for _, key := range w.order {
		if _, ok := now[key]; !ok {
			out = append(out, "over: "+w.seen[key].text)
		}
	}
	w.seen, w.order = now, order
	return out
}

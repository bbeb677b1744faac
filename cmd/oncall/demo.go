package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	recorded "github.com/oncall-copilot/oncall/examples/incidents"
	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
)

func newDemo(o *options) *cobra.Command {
	var fast bool
	c := &cobra.Command{
		Use: "demo", Short: "Watch a recorded real incident being found, explained and resolved, in seconds.",
		Long: `Watch a recorded real incident being found, explained and resolved, in seconds.

The recording is in this binary; it goes through the real pipeline on an embedded
bus. Nothing else is needed, nothing is contacted and nothing is left behind.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := recorded.Open(recorded.Default)
			if err != nil {
				return err
			}
			return demo(cmd.Context(), o, b, fast, cmd.ErrOrStderr())
		},
	}
	c.Flags().BoolVar(&fast, "fast", false, "do not wait for the clock of the incident")
	return c
}

// playTime is how long the incident takes to be told.
const playTime = 5500 * time.Millisecond

// demo replays a bundle, tells how its incident develops, and prints the report
// that mattered.
func demo(ctx context.Context, o *options, b *bundle.Bundle, fast bool, notes io.Writer) (err error) {
	h, err := openReplay(ctx, o, b, notes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	out := o.terminal()
	if !out.Color {
		out.Width = min(out.Width, 80)
	}
	p := player{w: o.out, o: out, live: out.Color, manifest: b.Manifest, seen: map[string]bool{}}
	p.opening()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1) // the replay's end
	go func() { done <- (&pipeline.Replay{Host: h, Bundle: b, From: pipeline.FromSources}).Run(ctx) }()
	s := pipeline.Tell(ctx, h)
	defer s.Close()
	if err := p.play(ctx, s, done, fast); err != nil {
		return err
	}
	all, err := outcomes(ctx, h.Bus, pipeline.Span{})
	if err != nil {
		return err
	}
	return p.closing(all)
}

// player tells a story on a terminal.
type player struct {
	w        io.Writer
	o        render.Options
	live     bool // a clock may run
	manifest bundle.Manifest
	seen     map[string]bool
	clock    bool // a clock stands on the last line
}

func (p *player) opening() {
	m := p.manifest
	fmt.Fprintf(p.w, "%s\n", p.o.Paint("1", "oncall demo: a real incident, recorded "+m.Start.Format("2 January 2006")))
	fmt.Fprintf(p.w, "%s of a real cluster, in seconds; no network, no cluster, no model.\n\n", minutes(m.End.Sub(m.Start)))
}

func minutes(d time.Duration) string {
	return fmt.Sprintf("%d minutes", int(d.Round(time.Minute).Minutes()))
}

// play tells moments as the clock reaches them and the pipeline has found them.
func (p *player) play(ctx context.Context, s *pipeline.Story, done <-chan error, fast bool) error {
	began := time.Now()
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	over := false
	m := p.manifest
	for {
		target := m.End
		if !fast {
			share := min(1, float64(time.Since(began))/float64(playTime))
			target = m.Start.Add(time.Duration(share * float64(m.End.Sub(m.Start))))
		}
		if over && !target.Before(m.End) {
			target = m.End.Add(24 * time.Hour) // what was found late is told too
		}
		moments, at := s.Next(ctx, target)
		for _, mo := range moments {
			p.tell(mo)
		}
		if over && at.After(m.End) {
			p.wipe()
			return nil
		}
		if !at.IsZero() && !at.After(m.End) {
			p.tick(at)
		}
		select {
		case <-ctx.Done():
			p.wipe()
			return context.Cause(ctx)
		case err := <-done:
			if err != nil {
				p.wipe()
				return err
			}
			over, done = true, nil
			s.Over()
		case <-tick.C:
		}
	}
}

// tick shows the clock of the incident, where a line can be written over.
func (p *player) tick(at time.Time) {
	if p.live {
		fmt.Fprintf(p.w, "\r\x1b[K%s", p.o.Paint("2", at.UTC().Format(time.TimeOnly)+"  …"))
		p.clock = true
	}
}

func (p *player) wipe() {
	if p.clock {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.clock = false
	}
}

// line writes one line of the story, clipped to the width.
func (p *player) line(at time.Time, what, color, text string) {
	p.wipe()
	const head = 20 // clock and word
	room := max(20, p.o.Width-head)
	for i, part := range fold(render.Plain(text), room) {
		if i == 0 {
			fmt.Fprintf(p.w, "%s  %s %s\n", at.UTC().Format(time.TimeOnly), p.o.Paint(color, fmt.Sprintf("%-9s", what)), part)
			continue
		}
		fmt.Fprintf(p.w, "%s%s\n", strings.Repeat(" ", head), part)
	}
}

// fold breaks text at spaces, into two lines at most.
func fold(s string, width int) []string {
	r := []rune(s)
	if len(r) <= width {
		return []string{s}
	}
	cut := width
	for i := width; i > width/2; i-- {
		if r[i] == ' ' {
			cut = i
			break
		}
	}
	rest := strings.TrimSpace(string(r[cut:]))
	if n := []rune(rest); len(n) > width {
		rest = string(n[:width-1]) + "…"
	}
	return []string{strings.TrimRight(string(r[:cut]), " "), rest}
}

// tell writes a moment, if it is worth a line.
func (p *player) tell(m pipeline.Moment) {
	switch {
	case m.Change != nil:
		c := *m.Change
		if c.Time.Before(p.manifest.Start) || c.Kind == event.NodeState {
			return
		}
		p.line(m.At, "change", "36", fmt.Sprintf("%s %s %s: %s", named(c.Entity), c.Kind, c.Revision, c.Summary))
	case m.Anomaly != nil:
		a := *m.Anomaly
		if a.Ended != nil && a.Severity == event.Critical && p.seen[a.Key] {
			p.line(m.At, "over", "32", named(a.Entity)+": "+a.Summary)
			return
		}
		if a.Severity == event.Info || a.Ended != nil || p.seen[a.Key] {
			return
		}
		p.seen[a.Key] = true
		p.line(m.At, "anomaly", "33", named(a.Entity)+": "+a.Summary)
	case m.Incident != nil:
		i := *m.Incident
		if i.Priority == event.P4 {
			return
		}
		key := fmt.Sprint(i.ID, i.State, i.Priority)
		word := "now " + string(i.Priority)
		switch {
		case i.State == event.Resolved:
			word = "RESOLVED"
		case p.seen[key]:
			return
		case !p.seen[i.ID]:
			word = "OPEN " + string(i.Priority)
		}
		p.seen[key], p.seen[i.ID] = true, true
		p.line(m.At, word, render.PriorityColor(i.Priority, i.State), i.Title)
	}
}

// named is an entity without its kind, which the words around it say.
func named(e event.Entity) string {
	if e.Namespace == "" {
		return strings.ToLower(e.Kind) + "/" + e.Name
	}
	return e.Namespace + "/" + e.Name
}

// closing prints the report of the worst incident, how it ended, and what to
// do next.
func (p *player) closing(all []outcome) error {
	var worst *outcome
	for i := range all {
		if w := all[i].worst; w.Incident != "" && (worst == nil || w.Priority.Worse(worst.worst.Priority)) {
			worst = &all[i]
		}
	}
	if worst == nil {
		return errors.New("the recorded incident was not found; please report this")
	}
	fmt.Fprintf(p.w, "\n%s\n", p.o.Paint("2", "The report, as it was at its worst:"))
	fmt.Fprintln(p.w)
	if err := render.Report(p.w, render.Table, worst.worst, p.o); err != nil {
		return err
	}
	if l := worst.last; l.State == event.Resolved {
		fmt.Fprintln(p.w)
		for _, line := range render.Wrap("Later: "+render.Plain(l.TLDR), p.o.Columns(), "", "") {
			fmt.Fprintln(p.w, p.o.Paint(render.PriorityColor(l.Priority, l.State), line))
		}
	}
	fmt.Fprintf(p.w, "\nWatch your own cluster, read only:\n  %s\n", upCommand())
	return nil
}

// upCommand is how this program would be asked to watch the user's cluster.
func upCommand() string {
	exe, err := os.Executable()
	if err == nil && !strings.Contains(exe, "go-build") {
		return cmp.Or(os.Args[0], "oncall") + " up"
	}
	return "go run ./cmd/oncall up"
}

package backtest

import (
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

//go:embed page.html
var pageText string

// Bounds of the page: series that are read again to be drawn, and the user's own
// pages that have a section each.
const (
	maxPictures = 60
	maxSections = 500
)

const (
	drawnBefore = 2 * time.Hour
	drawnAfter  = 30 * time.Minute
	drawnMost   = 8 * time.Hour
)

// shown is a Result with pictures, as the page shows it.
type shown struct {
	*Result
	Pages  []shownIncident
	Theirs []shownFiring
	More   int // that are in the JSON alone
	Lead   string
}

type shownIncident struct {
	Incident
	Pictures []shownPicture
	Of       []Firing
}

type shownFiring struct {
	Firing
	Pictures []shownPicture
}

type shownPicture struct {
	Signal string
	SVG    template.HTML // drawn here, without text of others
	Failed string
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"when":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") },
	"short": event.ShortID,
	"name": func(e event.Entity) string {
		if e.IsZero() {
			return "-"
		}
		return render.Plain(check.Name(e))
	},
	"span": func(from time.Time, to *time.Time) string {
		if to == nil {
			return "goes on"
		}
		return Span(max(to.Sub(from), time.Minute))
	},
	"lead":  func(s *float64) string { return Lead(*s) },
	"days":  func(a, b time.Time) string { return Span(b.Sub(a)) },
	"plain": render.Plain,
}).Parse(pageText))

// HTML writes a page that needs nothing but itself: the result, and graphs of
// what is told in it, whose series are read again. A series that cannot be read
// again leaves a note where its graph would be.
func (b *Backtest) HTML(ctx context.Context, w io.Writer) error {
	x := &b.Result
	s := shown{Result: x}
	if x.Same.LeadSeconds != nil {
		s.Lead = Lead(*x.Same.LeadSeconds)
	}
	source, err := b.run.newSource()
	if err != nil {
		return err
	}
	d := &drawer{source: source, left: maxPictures, until: x.Until}
	for _, i := range x.Incidents {
		one := shownIncident{Incident: i}
		p := picture{paged: i.Paged}
		for _, n := range i.Firings {
			one.Of = append(one.Of, x.Firings[n])
			p.firings = append(p.firings, x.Firings[n].period(x.Until))
		}
		for _, c := range i.Changes {
			p.changes = append(p.changes, c.Time)
		}
		end := x.Until
		if i.Resolved != nil {
			end = *i.Resolved
		}
		one.Pictures = d.draw(ctx, i.curves, i.Onset, end, p)
		s.Pages = append(s.Pages, one)
	}
	for _, f := range x.Firings {
		if f.Why != "" && len(s.Theirs) == maxSections {
			s.More++
		} else if f.Why != "" {
			one := shownFiring{Firing: f}
			of := f.period(x.Until)
			one.Pictures = d.draw(ctx, f.curves, of.From, of.To, picture{firings: []period{of}})
			s.Theirs = append(s.Theirs, one)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return pageTemplate.Execute(w, s)
}

func (f *Firing) period(until time.Time) period {
	if f.End != nil {
		until = *f.End
	}
	return period{f.Start, until}
}

// drawer reads series again, and draws them.
type drawer struct {
	source *prometheus.Source
	left   int
	until  time.Time
}

func (d *drawer) draw(ctx context.Context, curves []curveRef, from, to time.Time, p picture) []shownPicture {
	var out []shownPicture
	for _, c := range curves {
		if d.left == 0 || ctx.Err() != nil {
			return append(out, shownPicture{Signal: c.Signal, Failed: fmt.Sprintf("only the first %d graphs are drawn", maxPictures)})
		}
		d.left--
		start, end := from.Add(-drawnBefore), to.Add(drawnAfter)
		if end.Sub(start) > drawnMost {
			end = start.Add(drawnMost)
		}
		if end.After(d.until) {
			end = d.until
		}
		points, err := c.read(ctx, d.source, start, end)
		if err != nil {
			out = append(out, shownPicture{Signal: c.Signal, Failed: "it could not be read again: " + err.Error()})
			continue
		}
		slices.SortStableFunc(points, func(a, b event.Point) int { return int(max(-1, min(1, a.T-b.T))) })
		one := p
		one.points, one.unit, one.expected, one.onset = points, c.Unit, c.Expected, c.Onset
		svg, err := one.svg()
		if err != nil {
			out = append(out, shownPicture{Signal: c.Signal, Failed: err.Error()})
			continue
		}
		out = append(out, shownPicture{Signal: c.Signal, SVG: template.HTML(svg)}) //nolint:gosec // drawn above, without text of others
	}
	return out
}

// read reads the series again; where it has another name by now, that of the same
// signal of the same thing.
func (c curveRef) read(ctx context.Context, source *prometheus.Source, from, to time.Time) ([]event.Point, error) {
	var exact, alike []event.Point
	err := source.Curves(ctx, c.Family, c.Signal, from, to, func(s event.Series) {
		switch {
		case event.SeriesHash(s.ID) == c.Series:
			exact = append(exact, s.Points...)
		case placeOf(s.Labels.Entity()) == placeOf(c.Entity):
			alike = append(alike, s.Points...)
		}
	})
	if exact == nil {
		exact = alike
	}
	return exact, err
}

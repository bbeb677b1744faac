package main

import (
	"cmp"
	"context"
	"fmt"
	"image/color"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// mostRows is how many changes and anomalies a picture of an incident shows.
const mostRows = 40

// laneText is how much of a summary stands beside a row, in characters.
const laneText = 70

// Colours of anomalies by severity; of changes, and of what was decided.
var (
	severityColours = map[event.Severity]color.Color{
		event.Critical: anomalyColour,
		event.Warning:  color.RGBA{R: 0xe6, G: 0x9f, A: 0xff},
		event.Info:     color.RGBA{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff},
	}
	changeColour  = color.RGBA{G: 0x72, B: 0xb2, A: 0xff}
	decidedColour = color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xff}
)

// lane is a row of the picture: what was, from when to when.
type lane struct {
	who, what string
	from, to  time.Time
	colour    color.Color
	change    bool // a moment
}

// gravest is the last revision of the gravest incident that a replay found, in a span;
// of equals the first.
func gravest(ctx context.Context, b *bus.Bus, holds func(time.Time) bool) (event.Incident, bool, error) {
	last := map[string]event.Incident{}
	worst := map[string]event.Priority{}
	var order []string
	err := b.Read(ctx, event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
		i, ok := m.Data.(event.Incident)
		if !ok || !holds(m.Time) {
			return nil
		}
		if _, seen := last[i.ID]; !seen {
			order = append(order, i.ID)
			worst[i.ID] = i.Priority
		}
		if i.Priority.Worse(worst[i.ID]) {
			worst[i.ID] = i.Priority
		}
		last[i.ID] = i
		return nil
	})
	if err != nil || len(order) == 0 {
		return event.Incident{}, false, err
	}
	best := order[0]
	for _, id := range order[1:] {
		if worst[id].Worse(worst[best]) {
			best = id
		}
	}
	i := last[best]
	i.Priority = worst[best]
	return i, true, nil
}

// lanes are the changes and then the anomalies of an incident, each in the order of
// their beginnings.
func lanes(i event.Incident) []lane {
	end := i.Updated
	if i.ResolvedAt != nil {
		end = *i.ResolvedAt
	}
	var changes, anomalies []lane
	for _, c := range i.Changes {
		// What was long before would leave no room for the rest.
		if i.Onset.Sub(c.Time) <= time.Hour {
			changes = append(changes, lane{string(c.Kind) + "  " + c.Entity.Name, c.Summary, c.Time, c.Time, changeColour, true})
		}
	}
	for _, a := range i.Anomalies {
		to := end
		if a.Ended != nil {
			to = *a.Ended
		}
		anomalies = append(anomalies, lane{a.Detector + "  " + a.Entity.Name, a.Summary, a.Onset, to, severityColours[a.Severity], false})
	}
	byTime := func(a, b lane) int { return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.who, b.who)) }
	slices.SortStableFunc(changes, byTime)
	slices.SortStableFunc(anomalies, byTime)
	all := append(changes, anomalies...)
	return all[:min(len(all), mostRows)]
}

// plotIncident draws when what of an incident was found, and what had changed.
func plotIncident(name string, i event.Incident) error {
	rows := lanes(i)
	if len(rows) == 0 {
		return &service.UsageError{Err: fmt.Errorf("--plot %s: the incident has nothing to draw", name)}
	}
	p := plot.New()
	p.Title.Text = clipped(render.Plain(string(i.Priority)+" "+i.Title), 110)
	p.Title.TextStyle.Font.Size = vg.Points(11)
	first, last := i.Opened, i.Updated
	for _, r := range rows {
		first, last = earlier(first, r.from), later(later(last, r.to), r.from)
	}
	var names []plot.Tick
	at := func(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
	for k, r := range rows {
		y := float64(len(rows) - k)
		names = append(names, plot.Tick{Value: y, Label: "   " + clipped(render.Plain(r.who), 44)})
		if err := drawLane(p, r, at(r.from), at(r.to), y); err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
	}
	for _, mark := range []struct {
		what string
		at   time.Time
	}{{"opened", i.Opened}, {"resolved", deref(i.ResolvedAt)}} {
		if mark.at.IsZero() {
			continue
		}
		line, err := plotter.NewLine(plotter.XYs{{X: at(mark.at), Y: 0.3}, {X: at(mark.at), Y: float64(len(rows)) + 0.7}})
		if err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
		line.Color, line.Width, line.Dashes = decidedColour, vg.Points(0.8), []vg.Length{vg.Points(3), vg.Points(2)}
		p.Add(line)
		if err := write(p, at(mark.at), float64(len(rows))+0.75, mark.what); err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
	}
	p.Y.Tick.Marker = plot.ConstantTicks(names)
	p.Y.Tick.Length = 0
	p.Y.Min, p.Y.Max = 0.3, float64(len(rows))+1.3
	span := max(at(last)-at(first), 60)
	// Beside the last bar there is room for what is said of it.
	p.X.Min, p.X.Max = at(first)-0.02*span, at(last)+0.55*span
	p.X.Tick.Marker = clockTicks(first, last)
	p.X.Label.Text = "UTC"
	height := vg.Length(len(rows))*0.75*vg.Centimeter + 3.5*vg.Centimeter
	if err := p.Save(32*vg.Centimeter, height, name); err != nil {
		return fmt.Errorf("draw %s: %w", name, err)
	}
	return nil
}

// drawLane draws one row, and says beside it what it is.
func drawLane(p *plot.Plot, r lane, from, to, y float64) error {
	dot, err := plotter.NewScatter(plotter.XYs{{X: from, Y: y}})
	if err != nil {
		return err
	}
	dot.Color, dot.Radius, dot.Shape = r.colour, vg.Points(3), draw.CircleGlyph{}
	if r.change {
		dot.Shape, dot.Radius = draw.PyramidGlyph{}, vg.Points(4)
	} else {
		bar, err := plotter.NewLine(plotter.XYs{{X: from, Y: y}, {X: to, Y: y}})
		if err != nil {
			return err
		}
		bar.Color, bar.Width = r.colour, vg.Points(5)
		p.Add(bar)
	}
	p.Add(dot)
	return write(p, to, y-0.12, "   "+clipped(render.Plain(r.what), laneText))
}

func write(p *plot.Plot, x, y float64, text string) error {
	l, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{text}})
	if err != nil {
		return err
	}
	for k := range l.TextStyle {
		l.TextStyle[k].Font.Size = font.Length(8)
	}
	p.Add(l)
	return nil
}

func clipped(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func deref(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// plotReplay draws the gravest incident of a replay.
func plotReplay(ctx context.Context, b *bus.Bus, name string, holds func(time.Time) bool) error {
	i, ok, err := gravest(ctx, b, holds)
	if err != nil {
		return err
	}
	if !ok {
		return &service.UsageError{Err: fmt.Errorf("--plot %s: the replay found no incident", filepath.Base(name))}
	}
	return plotIncident(name, i)
}

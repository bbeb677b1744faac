package backtest

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	_ "gonum.org/v1/plot/vg/vgsvg" // .svg

	"github.com/oncall-copilot/oncall/pkg/event"
)

// picture is one series around an episode, with what happened then.
type picture struct {
	points   []event.Point
	unit     string
	expected *event.Interval
	onset    time.Time // expected holds from then on
	paged    []time.Time
	changes  []time.Time
	firings  []period
}

// Colours that are told apart by the colour-blind too (Okabe and Ito 2008).
var (
	valueColour    = color.RGBA{R: 0x33, G: 0x33, B: 0x33, A: 0xff}
	expectedColour = color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff}
	oursColour     = color.RGBA{R: 0xd5, G: 0x5e, A: 0xff}
	yoursColour    = color.RGBA{R: 0xbf, G: 0xdd, B: 0xee, A: 0xff}
	changeColour   = color.RGBA{R: 0x77, G: 0x55, B: 0xaa, A: 0xff}
)

// svg draws it. No text of others is in the drawing.
func (p *picture) svg() ([]byte, error) {
	d, err := p.plot()
	if err != nil {
		return nil, err
	}
	w, err := d.WriterTo(24*vg.Centimeter, 6*vg.Centimeter, "svg")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		return nil, err
	}
	// What stands before is of a file of its own.
	out := b.Bytes()
	if i := bytes.Index(out, []byte("<svg")); i > 0 {
		out = out[i:]
	}
	return out, nil
}

func (p *picture) plot() (*plot.Plot, error) {
	d := plot.New()
	d.X.Tick.Marker = plot.TimeTicks{Format: "15:04"}
	if p.unit != "1" {
		d.Y.Label.Text = p.unit
	}
	d.Legend.Top, d.Legend.Left = true, true
	line := make(plotter.XYs, 0, len(p.points))
	for _, pt := range p.points {
		if !math.IsNaN(pt.V) && !math.IsInf(pt.V, 0) {
			line = append(line, plotter.XY{X: float64(pt.T) / 1000, Y: pt.V})
		}
	}
	if len(line) < 2 {
		return nil, errNothing
	}
	left, right, low, high := plotter.XYRange(line)
	room := max(0.1*(high-low), 1e-9*math.Abs(high), 1e-12)
	d.Y.Min, d.Y.Max = low-room, high+2*room
	if e := p.expected; e != nil && e.High > low && e.High < high+(high-low) {
		d.Y.Max = max(d.Y.Max, e.High+room)
	}
	d.X.Min, d.X.Max = left, right
	clamp := func(t time.Time) float64 { return min(max(float64(t.Unix()), left), right) }
	for i, f := range p.firings {
		a, b := clamp(f.From), clamp(f.To)
		box, err := plotter.NewPolygon(plotter.XYs{{X: a, Y: d.Y.Min}, {X: a, Y: d.Y.Max}, {X: b, Y: d.Y.Max}, {X: b, Y: d.Y.Min}})
		if err != nil {
			return nil, err
		}
		box.Color, box.LineStyle.Width = yoursColour, 0
		d.Add(box)
		if i == 0 {
			d.Legend.Add("your alert fires", box)
		}
	}
	if err := p.lines(d, clamp, right); err != nil {
		return nil, err
	}
	value, err := plotter.NewLine(line)
	if err != nil {
		return nil, err
	}
	value.Color, value.Width = valueColour, vg.Points(0.8)
	d.Add(value)
	return d, nil
}

// lines adds what was expected, and when ours would have paged and things were
// changed.
func (p *picture) lines(d *plot.Plot, clamp func(time.Time) float64, right float64) error {
	add := func(name string, colour color.Color, dashed bool, pts plotter.XYs) error {
		l, err := plotter.NewLine(pts)
		if err != nil {
			return err
		}
		l.Color, l.Width = colour, vg.Points(1.2)
		if dashed {
			l.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		d.Add(l)
		if name != "" {
			d.Legend.Add(name, l)
		}
		return nil
	}
	if e := p.expected; e != nil && !p.onset.IsZero() {
		name := "expected at most, at least"
		for _, y := range []float64{e.High, e.Low} {
			if y < d.Y.Min || y > d.Y.Max {
				continue
			}
			if err := add(name, expectedColour, true, plotter.XYs{{X: clamp(p.onset), Y: y}, {X: right, Y: y}}); err != nil {
				return err
			}
			name = ""
		}
	}
	for _, k := range []struct {
		name   string
		colour color.Color
		at     []time.Time
	}{{"oncall pages", oursColour, p.paged}, {"change", changeColour, p.changes}} {
		name := k.name
		for _, at := range k.at {
			if x := float64(at.Unix()); x < d.X.Min || x > d.X.Max {
				continue
			}
			if err := add(name, k.colour, name == "change", plotter.XYs{{X: clamp(at), Y: d.Y.Min}, {X: clamp(at), Y: d.Y.Max}}); err != nil {
				return err
			}
			name = ""
		}
	}
	return nil
}

var errNothing = fmt.Errorf("it holds no numbers of that time")

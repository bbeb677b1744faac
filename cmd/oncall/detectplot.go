package main

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	_ "gonum.org/v1/plot/vg/vgimg" // .png
	_ "gonum.org/v1/plot/vg/vgsvg" // .svg

	"github.com/oncall-copilot/oncall/pkg/baseline"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// drawing collects what a plot shows: the value, the interval that was
// expected, and the samples in anomalies.
type drawing struct {
	title string

	first, last time.Time // of the values
	value       plotter.XYs
	low, high   plotter.XYs
	anomalies   plotter.XYs
}

// plottable refuses what cannot be drawn, before anything is read.
func plottable(name string) error {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".svg", ".png":
		return nil
	}
	return hint(&service.UsageError{Err: fmt.Errorf("--plot %s: is neither .svg nor .png", name)}, service.ExitUsage, "--plot out.svg")
}

func (d *drawing) add(at time.Time, x float64, v baseline.Verdict) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return
	}
	p := plotter.XY{X: float64(at.UnixMilli()) / 1000, Y: x}
	if d.value = append(d.value, p); len(d.value) == 1 {
		d.first = at
	}
	d.last = at
	// An interval that is open on one side cannot be drawn.
	if v.Ready && max(math.Abs(v.Low), math.Abs(v.High)) < 1e100 {
		d.low, d.high = append(d.low, plotter.XY{X: p.X, Y: v.Low}), append(d.high, plotter.XY{X: p.X, Y: v.High})
	}
	if v.Anomaly {
		d.anomalies = append(d.anomalies, p)
	}
}

// Colours that are told apart by the colour-blind too (Okabe and Ito 2008).
var (
	valueColour   = color.RGBA{R: 0x33, G: 0x33, B: 0x33, A: 0xff}
	bandColour    = color.RGBA{R: 0xbf, G: 0xdd, B: 0xee, A: 0xff}
	anomalyColour = color.RGBA{R: 0xd5, G: 0x5e, A: 0xff}
)

// save draws what was collected.
func (d *drawing) save(name string) error {
	if len(d.value) == 0 {
		return &service.UsageError{Err: fmt.Errorf("--plot %s: the file has no numbers to draw", name)}
	}
	value, low, high, anomalies := thinned(d.value), thinned(d.low), thinned(d.high), thinned(d.anomalies)
	p := plot.New()
	p.Title.Text = filepath.Base(d.title)
	p.X.Tick.Marker = clockTicks(d.first, d.last)
	p.Legend.Top, p.Legend.Left = true, true
	if len(low) > 1 {
		around := slices.Clone(high)
		for _, xy := range slices.Backward(low) {
			around = append(around, xy)
		}
		band, err := plotter.NewPolygon(around)
		if err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
		band.Color, band.Width = bandColour, 0
		p.Add(band)
		p.Legend.Add("expected", band)
	}
	line, err := plotter.NewLine(value)
	if err != nil {
		return fmt.Errorf("draw %s: %w", name, err)
	}
	line.Color, line.Width = valueColour, vg.Points(0.6)
	p.Add(strokes{line})
	p.Legend.Add("value", line)
	if len(anomalies) > 0 {
		dots, err := plotter.NewScatter(anomalies)
		if err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
		dots.Color, dots.Radius = anomalyColour, vg.Points(1.8)
		p.Add(dots)
		p.Legend.Add("anomaly", dots)
	}
	// The value decides the scale: a band that is wide while little is known
	// would flatten it.
	_, _, lowest, highest := plotter.XYRange(value)
	room := max(0.15*(highest-lowest), 1e-9*math.Abs(highest), 1e-12)
	p.Y.Min, p.Y.Max = lowest-room, highest+2*room
	if err := p.Save(30*vg.Centimeter, 10*vg.Centimeter, name); err != nil {
		return fmt.Errorf("draw %s: %w", name, err)
	}
	return nil
}

// clockTicks are at most ten or so round times between two, in UTC.
func clockTicks(first, last time.Time) plot.ConstantTicks {
	const day = 24 * time.Hour
	span := last.Sub(first)
	step := day
	for 10*step < span {
		step += day
	}
	for _, s := range []time.Duration{
		10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	} {
		if span <= 10*s {
			step = s
			break
		}
	}
	layout := "15:04"
	switch {
	case step < time.Minute:
		layout = "15:04:05"
	case step >= day:
		layout = "2 Jan"
	case step >= 12*time.Hour:
		layout = "2 Jan 15:04"
	}
	var out plot.ConstantTicks
	for t := first.UTC().Truncate(step); !t.After(last); t = t.Add(step) {
		if !t.Before(first) {
			out = append(out, plot.Tick{Value: float64(t.UnixMilli()) / 1000, Label: t.Format(layout)})
		}
	}
	return out
}

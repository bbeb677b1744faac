package main

import (
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"
)

// columns is into how many columns a long series is put before it is drawn: more than
// a picture has pixels, so that nothing is seen to be missing, while its size and the time it
// takes do not grow with the series.
const columns = 2000

// thinned are the points of a line that looks the same: of each column the first, the
// lowest, the highest and the last point, in their order. Points are in the order of
// time.
func thinned(in plotter.XYs) plotter.XYs {
	if len(in) <= 4*columns {
		return in
	}
	width := (in[len(in)-1].X - in[0].X) / columns
	var out plotter.XYs
	for from := 0; from < len(in); {
		to, low, high := from, from, from
		for column := int((in[from].X - in[0].X) / width); to < len(in) && int((in[to].X-in[0].X)/width) == column; to++ {
			if in[to].Y < in[low].Y {
				low = to
			}
			if in[to].Y > in[high].Y {
				high = to
			}
		}
		kept := -1
		for _, i := range [4]int{from, min(low, high), max(low, high), to - 1} {
			if i > kept {
				out, kept = append(out, in[i]), i
			}
		}
		from = to
	}
	return out
}

// piece is how many points of a line are drawn in one stroke.
const piece = 100

// strokes is a line that is drawn piece by piece: to find what a stroke covers the
// rasteriser of images takes time that grows with the square of its points.
type strokes struct{ *plotter.Line }

var _ plot.Plotter = strokes{}

// Plot draws the line.
func (s strokes) Plot(c draw.Canvas, p *plot.Plot) {
	for from := 0; from+1 < len(s.XYs); from += piece {
		one := *s.Line
		one.XYs = s.XYs[from:min(from+piece+1, len(s.XYs))]
		one.Plot(c, p)
	}
}

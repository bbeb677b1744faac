package main

import (
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/plot/plotter"

	"github.com/oncall-copilot/oncall/pkg/baseline"
)

func TestALongSeriesIsDrawnByWhatIsSeenOfIt(t *testing.T) {
	t.Parallel()
	var in plotter.XYs
	for i := range 1_000_000 {
		in = append(in, plotter.XY{X: 1.7e9 + 60*float64(i), Y: math.Sin(float64(i))})
	}
	in[123_456].Y, in[654_321].Y = 50, -70
	out := thinned(in)
	if len(out) > 4*(columns+1) || len(out) < columns {
		t.Errorf("%d points of %d, want at most four for each of %d columns", len(out), len(in), columns)
	}
	for _, want := range []plotter.XY{in[0], in[123_456], in[654_321], in[len(in)-1]} {
		if !slices.Contains(out, want) {
			t.Errorf("%v is not drawn", want)
		}
	}
	if !slices.IsSortedFunc(out, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) }) {
		t.Error("points are not in the order of time")
	}
}

func TestASeriesThatFitsIsDrawnAsItIs(t *testing.T) {
	t.Parallel()
	in := make(plotter.XYs, 4*columns)
	if out := thinned(in); len(out) != len(in) {
		t.Errorf("%d points of %d", len(out), len(in))
	}
}

// An image of twice the points takes some twice as long, and not four times.
func TestAnImageTakesNoTimeThatGrowsWithTheSquareOfItsPoints(t *testing.T) {
	drawn := func(points int) time.Duration {
		d := &drawing{title: "noise"}
		for i := range points {
			d.add(time.Unix(60*int64(i), 0), float64(i*7919%1000), baseline.Verdict{Ready: true, Low: 0, High: 1000})
		}
		best := time.Duration(math.MaxInt64)
		for range 3 {
			began := time.Now()
			if err := d.save(filepath.Join(t.TempDir(), "out.png")); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	if few, many := drawn(1000), drawn(8000); many > 24*few {
		t.Errorf("8,000 points took %v, 1,000 %v: %.0f times as long", many, few, many.Seconds()/few.Seconds())
	}
}

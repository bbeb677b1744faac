package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Sketch turns a score into a probability by what scores were before, as
// [Calibration] does, in a tenth of the space: for scores that lie between -4
// and 4, to a fifth of their size. It counts in whole numbers and halves them
// all when they are many, so that it forgets in steps. The zero value has seen
// nothing.
type Sketch struct {
	bins   [sketchBins]uint16
	total  uint16
	halved uint16 // how often, modulo two
}

const (
	sketchSide = 24 // bins a side: 4 per octave over 2^-4 … 2^2
	sketchBins = 2*sketchSide + 1
	// The lightest shape that is believed of a tail by who alarms: means over a window
	// depend on each other, so that fewer say how light a tail is than there are. At
	// -0.4, which a [Calibration] believes, series in which nothing happens gave three
	// times the alarms that were asked for; at 0 changes were found a third later.
	sketchLightest = -0.1
	// The lightest shape that is stated.
	sketchLight = -0.3
	// MaxSketch is the most scores that a sketch can remember.
	MaxSketch = math.MaxUint16
)

var sketchEdges = func() (e [sketchSide + 1]float64) {
	for k := range e {
		e[k] = math.Exp2(float64(k)/4 - 4)
	}
	return e
}()

func sketchBin(z float64) int {
	a := math.Abs(z)
	if a < 1.0/16 {
		return sketchSide
	}
	k := min(int(4*(math.Log2(a)+4))+1, sketchSide)
	if z < 0 {
		return sketchSide - k
	}
	return sketchSide + k
}

// Add folds one score; half is forgotten when horizon scores are remembered,
// at most [MaxSketch].
func (s *Sketch) Add(z, horizon float64) {
	if math.IsNaN(z) {
		return
	}
	if float64(s.total) >= min(horizon, MaxSketch) {
		s.Halve()
	}
	s.bins[sketchBin(z)]++
	s.total++
}

// Halve forgets half of what it remembers. Of odd counts every second bin keeps
// the one that is left over, and the next time the other ones, so that a tail of
// single scores is halved too.
func (s *Sketch) Halve() {
	s.total, s.halved = 0, 1-s.halved&1
	for i := range s.bins {
		s.bins[i] = s.bins[i]/2 + s.bins[i]&(uint16(i)+s.halved)&1
		s.total += s.bins[i]
	}
}

// N is how many scores it remembers.
func (s *Sketch) N() float64 { return float64(s.total) }

// Prob is the two-sided probability of a score at least as extreme as z; 1
// before anything was seen. Far out it is rather too large than too small.
func (s *Sketch) Prob(z float64) float64 {
	cautious, _ := s.Probs(z)
	return cautious
}

// Probs are two opinions of Prob, which differ beyond what was seen: one that is
// cautious, for who alarms by it, and one that is as often right as it says of scores
// that do not depend on each other, for who states it.
func (s *Sketch) Probs(z float64) (cautious, stated float64) {
	if s.total == 0 || math.IsNaN(z) {
		return 1, 1
	}
	side := 1
	if z < 0 {
		side = -1
	}
	k := (sketchBin(z) - sketchSide) * side
	beyond, equal := 0.0, float64(s.bins[sketchSide+side*k])
	for j := k + 1; j <= sketchSide; j++ {
		beyond += float64(s.bins[sketchSide+side*j])
	}
	p := (beyond + equal/2 + 0.5) / (float64(s.total) + 1)
	cautious, stated = p, p
	if t := s.tail(side, 0.05, sketchLightest); t.edge > 0 && math.Abs(z) > t.edge {
		cautious = min(p, t.beyond(math.Abs(z)))
		t = s.tail(side, 0.03, sketchLight)
		stated = min(p, t.beyond(math.Abs(z)))
	}
	return Prob(2 * cautious), Prob(2 * stated)
}

// tail is that of one side, with a bin at least so wide, and no lighter than that.
func (s *Sketch) tail(side int, narrowest, light float64) tail {
	t := fitTail(s.bins[:], sketchEdges[:], float64(s.total), 1, side, narrowest)
	t.xi = max(t.xi, light)
	return t
}

// Write writes the state.
func (s *Sketch) Write(w *snapshot.Writer) {
	w.Bool(s.halved != 0)
	writeBins(w, s.bins[:], func(n uint16) { w.Uint(uint64(n)) })
}

// Read reads the state.
func (s *Sketch) Read(r *snapshot.Reader) {
	*s = Sketch{}
	if r.Bool() {
		s.halved = 1
	}
	readBins(r, s.bins[:], func() uint16 {
		n := r.Uint()
		if n > MaxSketch-uint64(s.total) {
			r.Fail("a sketch counts more than it can")
			return 0
		}
		s.total += uint16(n)
		return uint16(n)
	})
}

package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Calibration turns a score into a probability by what scores were before: a
// decayed histogram on a signed logarithmic scale gives conformal p-values in
// the body, and a generalised Pareto tail fitted by moments to the outermost
// per cent gives them beyond what was seen. Without it, Gaussian tails alarm
// at a hundred times the rate they state on real series.
type Calibration struct {
	bins   []float32 // nil until the first value; calBins long
	weight float64   // of everything in bins
	grow   float64   // weight of the next value
	adds   uint32
	tail   [2]tail // lower, upper
}

type tail struct {
	edge  float64 // of |z| beyond which the tail begins; 0: no tail yet
	prob  float64 // of being beyond it
	xi    float64
	sigma float64
}

const (
	calSide     = 80 // bins a side: 4 per octave over 2^-5 … 2^15
	calBins     = 2*calSide + 1
	calHalfLife = 4000 // values
	calRefit    = 16   // values
	tailShare   = 0.005
	lightest    = -0.4 // shape of a tail
	heaviest    = 0.5  // one without a variance
	lighter     = 5    // how much less probable than by an exponential tail a score can be
)

// Seed gives a calibration that has seen nothing an opinion: that scores fall
// off as those of a Laplace distribution of standard deviation one, with the
// weight of so many values. What is seen outweighs it with time; until then an
// empty histogram does not take the first wild score for an ordinary one.
func (c *Calibration) Seed(weight float64) {
	c.bins, c.grow, c.weight = make([]float32, calBins), 1, weight
	left := 0.5
	for k := 0; k <= calSide; k++ {
		beyond := 0.5 * math.Exp(-math.Sqrt2*edges[k])
		if k == calSide {
			beyond = 0
		}
		m := float32(weight * (left - beyond))
		if left = beyond; k == 0 {
			m *= 2
		}
		c.bins[calSide+k], c.bins[calSide-k] = m, m
	}
	c.tail[0], c.tail[1] = c.fit(-1), c.fit(1)
}

// binOf maps a score to its bin; calSide is zero's.
func binOf(z float64) int {
	a := math.Abs(z)
	if a < 1.0/32 {
		return calSide
	}
	k := min(int(4*(math.Log2(a)+5))+1, calSide)
	if z < 0 {
		return calSide - k
	}
	return calSide + k
}

// edges are those of the bins, in |z|.
var edges = func() (e [calSide + 1]float64) {
	for k := range e {
		e[k] = math.Exp2(float64(k)/4 - 5)
	}
	return e
}()

// Prob is the two-sided probability of a score at least as extreme as z;
// 1 before anything was seen.
func (c *Calibration) Prob(z float64) float64 {
	if c.bins == nil || c.weight <= 0 || math.IsNaN(z) {
		return 1
	}
	up, down := c.side(z)
	return Prob(2 * min(up, down))
}

// ProbAbove is the probability of a score at least z.
func (c *Calibration) ProbAbove(z float64) float64 {
	if c.bins == nil || c.weight <= 0 || math.IsNaN(z) {
		return 1
	}
	up, _ := c.side(z)
	return Prob(up)
}

func (c *Calibration) side(z float64) (up, down float64) {
	b := binOf(z)
	above, equal := 0.0, float64(c.bins[b])
	for _, v := range c.bins[b+1:] {
		above += float64(v)
	}
	w := c.weight / c.grow
	above, equal = above/c.grow, equal/c.grow
	up = (above + equal/2 + 0.5) / (w + 1)
	down = (w - above - equal/2 + 0.5) / (w + 1)
	if t := c.tail[1]; t.edge > 0 && z > t.edge {
		up = min(up, t.beyond(z))
	}
	if t := c.tail[0]; t.edge > 0 && -z > t.edge {
		down = min(down, t.beyond(-z))
	}
	return up, down
}

func (t tail) beyond(a float64) float64 {
	x := (a - t.edge) / t.sigma
	if math.Abs(t.xi) < 1e-6 {
		return t.prob * math.Exp(-x)
	}
	beyond := math.Pow(max(1+float64(t.xi*x), 0), -1/t.xi)
	if t.xi < 0 {
		// A light tail ends somewhere, and where it does is known from few scores:
		// an exponential one of the same mean bounds what is believed of it.
		beyond = max(beyond, math.Exp(-x*(1-t.xi))/lighter)
	}
	return t.prob * beyond
}

// Add folds one score.
func (c *Calibration) Add(z float64) { c.AddWeight(z, 1) }

// AddWeight folds one score as so much of one, in (0, 1].
func (c *Calibration) AddWeight(z, weight float64) {
	if math.IsNaN(z) {
		return
	}
	if c.bins == nil {
		c.bins = make([]float32, calBins)
		c.grow = 1
	}
	c.bins[binOf(z)] += float32(weight * c.grow)
	c.weight += weight * c.grow
	c.grow *= decay
	if c.grow > 1e6 {
		for i := range c.bins {
			c.bins[i] = float32(float64(c.bins[i]) / c.grow)
		}
		c.weight /= c.grow
		c.grow = 1
	}
	if c.adds++; c.adds%calRefit == 0 {
		c.tail[0], c.tail[1] = c.fit(-1), c.fit(1)
	}
}

var decay = math.Exp2(1.0 / calHalfLife)

func (c *Calibration) fit(side int) tail {
	return fitTail(c.bins, edges[:], c.weight, c.grow, side, 0.25)
}

// fitTail is the tail of one side of a histogram of signed scores, whose middle
// bin is zero's and whose edges are those of |z|, by the moments of the excesses
// in its bins (Hosking and Wallis 1987), with two pseudo-excesses of one bin's
// width, at least narrowest. The moments of a heavy tail are those of its few
// largest values, which a short past lacks: what they say of its shape is half of
// it. That a tail is light is believed by the square of how many excesses say so.
func fitTail[B uint16 | float32](bins []B, edges []float64, weight, grow float64, side int, narrowest float64) tail {
	last := len(edges) - 1
	share := weight * tailShare
	sum, k := 0.0, last
	for ; k > 1; k-- {
		v := float64(bins[last+side*k])
		if sum+v > share {
			break
		}
		sum += v
	}
	edge := edges[k]
	width := max(edge-edges[k-1], narrowest)
	n := sum / grow
	m, q := 2*width, 2*2*float64(width*width)
	for j := k + 1; j <= last; j++ {
		v := float64(bins[last+side*j]) / grow
		if v == 0 {
			continue
		}
		e := (edges[j-1]+edges[j])/2 - edge
		m += float64(v * e)
		q += float64(v * e * e)
	}
	m /= n + 2
	variance := q/(n+2) - float64(m*m)
	xi := 0.0
	if variance > 0 {
		if xi = 0.5 * (1 - float64(m*m)/variance); xi > 0 {
			xi *= 2
		} else {
			xi *= float64(n*n) / (float64(n*n) + 100)
		}
		xi = max(lightest, min(heaviest, xi))
	}
	return tail{edge: edge, prob: (n + 1) / (weight/grow + 2), xi: xi, sigma: m * (1 - xi)}
}

// writeBins writes the bins that are not empty, which few are.
func writeBins[B uint16 | float32](w *snapshot.Writer, bins []B, one func(B)) {
	n := 0
	for _, v := range bins {
		if v != 0 {
			n++
		}
	}
	w.Uint(uint64(n))
	for i, v := range bins {
		if v != 0 {
			w.Uint(uint64(i))
			one(v)
		}
	}
}

// readBins reads what writeBins wrote.
func readBins[B uint16 | float32](r *snapshot.Reader, bins []B, one func() B) {
	for range r.Len() {
		i := r.Uint()
		if i >= uint64(len(bins)) {
			r.Fail("bin of a histogram out of range")
			return
		}
		bins[i] = one()
	}
}

// Write writes the state.
func (c *Calibration) Write(w *snapshot.Writer) {
	w.Bool(c.bins != nil)
	if c.bins == nil {
		return
	}
	writeBins(w, c.bins, w.Float32)
	w.Float(c.weight)
	w.Float(c.grow)
	w.Uint(uint64(c.adds))
	for _, t := range c.tail {
		w.Float(t.edge)
		w.Float(t.prob)
		w.Float(t.xi)
		w.Float(t.sigma)
	}
}

// Read reads the state.
func (c *Calibration) Read(r *snapshot.Reader) {
	*c = Calibration{}
	if !r.Bool() {
		return
	}
	c.bins = make([]float32, calBins)
	readBins(r, c.bins, r.Float32)
	c.weight, c.grow, c.adds = r.Float(), r.Float(), uint32(r.Uint())
	for i := range c.tail {
		c.tail[i] = tail{edge: r.Float(), prob: r.Float(), xi: r.Float(), sigma: r.Float()}
	}
}

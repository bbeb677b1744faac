package stat

import (
	"math"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Ring keeps the last points of a series, at most one for each slot of a fixed
// width, so that a window of hours takes bounded space whatever the step.
type Ring struct {
	T []int64   // milliseconds, ascending
	V []float64 // same length
}

// Add keeps a point that is at least every milliseconds after the last one,
// and forgets what is older than window milliseconds.
func (r *Ring) Add(t int64, v float64, every, window int64) {
	if n := len(r.T); n > 0 && t-r.T[n-1] < every {
		return
	}
	r.T, r.V = append(r.T, t), append(r.V, v)
	cut := 0
	for cut < len(r.T) && r.T[cut] < t-window {
		cut++
	}
	if cut > 0 {
		r.T, r.V = slices.Delete(r.T, 0, cut), slices.Delete(r.V, 0, cut)
	}
}

// Reset forgets everything.
func (r *Ring) Reset() { r.T, r.V = r.T[:0], r.V[:0] }

// Write writes the state.
func (r *Ring) Write(w *snapshot.Writer) {
	w.Uint(uint64(len(r.T)))
	last := int64(0)
	for i := range r.T {
		w.Int(r.T[i] - last)
		w.Float(r.V[i])
		last = r.T[i]
	}
}

// Read reads the state.
func (r *Ring) Read(s *snapshot.Reader) {
	r.Reset()
	last := int64(0)
	for range s.Len() {
		last += s.Int()
		r.T, r.V = append(r.T, last), append(r.V, s.Float())
	}
}

// Line is a fitted line: value = Level + Slope·seconds, seconds counted from
// the time that Fit was given, as Prometheus' predict_linear does.
type Line struct {
	Level, Slope float64 // at the origin; per second
	SlopeErr     float64 // standard error of Slope
	Residual     float64 // standard deviation of the residuals
	N            int
	mean         float64 // of the seconds
	sxx          float64
}

// Fit is the least-squares line through the points, with seconds counted from
// origin (milliseconds). It returns false for fewer than three points or no
// spread in time.
func Fit(ts []int64, vs []float64, origin int64) (Line, bool) {
	n := len(ts)
	if n < 3 {
		return Line{}, false
	}
	var mx, my float64
	for i := range ts {
		mx += float64(ts[i]-origin) / 1000
		my += vs[i]
	}
	mx /= float64(n)
	my /= float64(n)
	var sxx, sxy float64
	for i := range ts {
		dx := float64(ts[i]-origin)/1000 - mx
		sxx += float64(dx * dx)
		sxy += float64(dx * (vs[i] - my))
	}
	if sxx <= 0 {
		return Line{}, false
	}
	l := Line{Slope: sxy / sxx, N: n, mean: mx, sxx: sxx}
	l.Level = my - float64(l.Slope*mx)
	var sse float64
	for i := range ts {
		e := vs[i] - l.At(float64(ts[i]-origin)/1000)
		sse += float64(e * e)
	}
	l.Residual = math.Sqrt(sse / float64(n-2))
	l.SlopeErr = l.Residual / math.Sqrt(sxx)
	return l, true
}

// At is the line's value, seconds after the origin.
func (l Line) At(seconds float64) float64 { return l.Level + float64(l.Slope*seconds) }

// TimeTo is in how many seconds the line reaches limit, with the earliest and
// latest time at z standard errors of the slope. ok is false when it does not
// get nearer. late is +Inf when the slower slope never arrives.
func (l Line) TimeTo(limit, z float64) (best, early, late float64, ok bool) {
	gap := limit - l.Level
	if gap == 0 {
		return 0, 0, 0, true
	}
	if l.Slope == 0 || gap/l.Slope < 0 {
		return 0, 0, 0, false
	}
	best = gap / l.Slope
	margin := z * l.SlopeErr
	fast, slow := math.Abs(l.Slope)+margin, math.Abs(l.Slope)-margin
	early, late = math.Abs(gap)/fast, math.Inf(1)
	if slow > 0 {
		late = math.Abs(gap) / slow
	}
	return best, early, late, true
}

// TheilSen is the median of the slopes between all pairs of points, per
// second: a trend that a few wild points do not bend. It looks at no more
// than 60 points, evenly chosen.
func TheilSen(ts []int64, vs []float64) (slope float64, ok bool) {
	idx := make([]int, 0, 60)
	stride := max(1, (len(ts)+59)/60)
	for i := 0; i < len(ts); i += stride {
		idx = append(idx, i)
	}
	var slopes []float64
	for a := range idx {
		for _, j := range idx[a+1:] {
			i := idx[a]
			if dt := ts[j] - ts[i]; dt > 0 {
				slopes = append(slopes, (vs[j]-vs[i])/(float64(dt)/1000))
			}
		}
	}
	if len(slopes) == 0 {
		return 0, false
	}
	return Median(slopes), true
}

// Median sorts xs and returns its median; NaN when it is empty.
func Median(xs []float64) float64 { return Quantile(xs, 0.5) }

// Quantile sorts xs and returns the q-quantile by linear interpolation, as
// PromQL does; NaN when it is empty.
func Quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	slices.Sort(xs)
	rank := max(0, min(1, q)) * float64(len(xs)-1)
	i := int(rank)
	if i+1 >= len(xs) {
		return xs[len(xs)-1]
	}
	f := rank - float64(i)
	return float64(xs[i]*(1-f)) + float64(xs[i+1]*f)
}

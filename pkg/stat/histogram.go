package stat

import (
	"math"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Histogram counts numbers in buckets whose width grows with the number, eight
// to a doubling, so that a quantile is known to about a tenth of itself. Two of
// them add up to that of all their numbers. Numbers that are zero or less share
// one bucket. It is bounded: beyond a range of 4096 to 1 the least are counted
// together.
type Histogram struct {
	N      uint64   // numbers
	Zero   uint32   // those that are zero or less
	Low    int      // the bucket that Counts begins with
	Counts []uint32 // by bucket
}

const (
	// subBuckets divide a doubling, and mostBuckets bound a histogram.
	subBuckets  = 8
	mostBuckets = 12 * subBuckets
)

// bucketOf is the bucket of a number above zero. It is exact arithmetic, the same
// on every processor.
func bucketOf(x float64) int {
	frac, exp := math.Frexp(x) // frac in [0.5, 1)
	return exp*subBuckets + int((frac-0.5)*2*subBuckets)
}

// bucketLow is the least number of a bucket.
func bucketLow(b int) float64 {
	exp, sub := b/subBuckets, b%subBuckets
	if sub < 0 {
		exp, sub = exp-1, sub+subBuckets
	}
	return math.Ldexp(0.5+float64(sub)/(2*subBuckets), exp)
}

// Add counts a number; what is no number, or infinite, is passed over.
func (h *Histogram) Add(x float64) {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return
	case x <= 0:
		h.Zero++
	default:
		h.count(bucketOf(x), 1)
	}
	h.N++
}

// count adds to a bucket, and makes room for it.
func (h *Histogram) count(b int, n uint32) {
	if len(h.Counts) == 0 {
		h.Low = b
	}
	if b < h.Low {
		if grow := min(h.Low-b, mostBuckets-len(h.Counts)); grow > 0 {
			h.Counts = append(h.Counts, make([]uint32, grow)...)
			copy(h.Counts[grow:], h.Counts)
			clear(h.Counts[:grow])
			h.Low -= grow
		}
		b = max(b, h.Low)
	}
	if over := b - h.Low + 1 - mostBuckets; over > 0 {
		// The least are counted together from now on.
		sum := uint32(0)
		drop := min(over, len(h.Counts))
		for _, c := range h.Counts[:drop] {
			sum += c
		}
		h.Counts = h.Counts[:copy(h.Counts, h.Counts[drop:])]
		h.Low += over
		if len(h.Counts) == 0 {
			h.Counts = append(h.Counts, 0)
		}
		h.Counts[0] += sum
	}
	for len(h.Counts) <= b-h.Low {
		h.Counts = append(h.Counts, 0)
	}
	h.Counts[b-h.Low] += n
}

// Merge adds the numbers of another.
func (h *Histogram) Merge(o *Histogram) {
	h.N, h.Zero = h.N+o.N, h.Zero+o.Zero
	for i, n := range o.Counts {
		if n > 0 {
			h.count(o.Low+i, n)
		}
	}
}

// Halve forgets half of what was counted.
func (h *Histogram) Halve() {
	h.Zero /= 2
	h.N = uint64(h.Zero)
	for i := range h.Counts {
		h.Counts[i] /= 2
		h.N += uint64(h.Counts[i])
	}
}

// Reset forgets everything and keeps the room.
func (h *Histogram) Reset() { *h = Histogram{Counts: h.Counts[:0]} }

// Quantile is the number below which a share q of all lie, 0 for none.
func (h *Histogram) Quantile(q float64) float64 {
	left := q * float64(h.N)
	if left -= float64(h.Zero); left < 0 || h.N == 0 {
		return 0
	}
	last := 0.0
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		low, high := bucketLow(h.Low+i), bucketLow(h.Low+i+1)
		if left <= float64(n) {
			return low + float64((high-low)*(left/float64(n)))
		}
		left -= float64(n)
		last = high
	}
	return last
}

// Above is the share of numbers that lie in higher buckets than x does, 0 to 1.
func (h *Histogram) Above(x float64) float64 {
	if h.N == 0 {
		return 0
	}
	n := uint64(0)
	for i, c := range h.Counts {
		if x <= 0 || h.Low+i > bucketOf(x) {
			n += uint64(c)
		}
	}
	return float64(n) / float64(h.N)
}

// Write writes the state.
func (h *Histogram) Write(w *snapshot.Writer) {
	w.Uint(h.N)
	w.Uint(uint64(h.Zero))
	w.Int(int64(h.Low))
	w.Uint(uint64(len(h.Counts)))
	for _, n := range h.Counts {
		w.Uint(uint64(n))
	}
}

// Read reads the state.
func (h *Histogram) Read(r *snapshot.Reader) {
	*h = Histogram{N: r.Uint(), Zero: uint32(r.Uint()), Low: int(r.Int())}
	n := r.Len()
	if n > mostBuckets {
		r.Fail("histogram has too many buckets")
		return
	}
	for range n {
		h.Counts = append(h.Counts, uint32(r.Uint()))
	}
}

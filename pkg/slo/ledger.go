package slo

import (
	"math"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// Ledger counts good and bad requests of one objective over thirty days, in cells of
// time that are the wider the longer ago they are: a minute up to an hour ago, five
// up to two hours, a quarter of an hour up to six, an hour up to a day, three hours
// up to three days, and half a day beyond. A window of d is thus counted exactly up
// to an hour, and to a cell at its far end beyond, of which the part that lies in
// the window counts: a 24th of two hours, of six, of a day and of three, and a 60th
// of thirty. Cells are rounded to a 2,048th each time they are put together (at most
// 0.3 % of any sum); the minute that is being counted is not.
//
// Its state is at most 196 cells of four bytes. The zero value is empty.
type Ledger struct {
	cells    []cell           // the oldest first: those of the last tier, …, those of minutes
	n        [len(tiers)]byte // cells of each tier, from minutes on
	at       int32            // minute since the epoch that is being counted
	first    int32            // minute with which it begins
	resumed  int32            // minute after the last pause of more than six hours
	bad, all float32          // of the minute that is being counted
}

// tier is of cells that are so many minutes wide, which it keeps until they are so
// many minutes old.
type tier struct{ width, reach int32 }

// Each width is a multiple of the one before.
var tiers = [...]tier{{1, 60}, {5, 120}, {15, fine}, {60, 24 * 60}, {180, 72 * 60}, {720, 30 * 24 * 60}}

// fine is how many minutes back failures are known to have begun.
const fine = 6 * 60

// maxRequests is more than any service gets in one step, and far from what a cell
// cannot hold.
const maxRequests = 1e12

// Add books bad of all requests at a time in milliseconds. What is older than
// the ledger reaches is left out.
func (l *Ledger) Add(ms int64, bad, all float64) {
	unit := ms / 60_000
	if !(all >= 0 && all < maxRequests && bad >= 0) || unit < 0 || unit > math.MaxInt32 {
		return
	}
	l.turn(int32(unit))
	if int32(unit) == l.at {
		l.bad += float32(bad)
		l.all += float32(all)
		return
	}
	for i, start := range l.back {
		if start <= int32(unit) {
			l.cells[i].add(bad, all)
			return
		}
	}
}

// Serve books what was served in a step that ends at its time, spread evenly over
// the minutes of it.
func (l *Ledger) Serve(x Served, step time.Duration) {
	const minute = 60_000
	n := max(1, step.Milliseconds()/minute)
	for i := n - 1; i >= 0; i-- {
		l.Add(x.Time.UnixMilli()-i*minute, min(max(0, x.Failed), x.Requests)/float64(n), x.Requests/float64(n))
	}
}

// empty says whether nothing was booked.
func (l *Ledger) empty() bool { return l.at == 0 && len(l.cells) == 0 && l.all == 0 }

// turn closes the minutes before one.
func (l *Ledger) turn(unit int32) {
	if last := tiers[len(tiers)-1]; l.empty() || int64(unit)-int64(l.at) > int64(last.reach+last.width) {
		*l = Ledger{cells: l.cells[:0], at: unit, first: unit, resumed: unit}
		return
	}
	if unit-l.at > fine {
		l.resumed = unit
	}
	for ; l.at < unit; l.at++ {
		if len(l.cells) == cap(l.cells) { // by few, since there are many ledgers
			l.cells = append(make([]cell, 0, len(l.cells)+12), l.cells...)
		}
		l.cells = append(l.cells, cell{})
		l.cells[len(l.cells)-1].add(float64(l.bad), float64(l.all))
		l.n[0]++
		l.bad, l.all = 0, 0
		l.age()
	}
}

// age puts together, in each tier, what has become too old for it: cells that make
// up one of the next, which begins and ends where its width does.
func (l *Ledger) age() {
	pos, end := len(l.cells), l.at+1
	for i := range len(tiers) - 1 {
		w, next := tiers[i].width, tiers[i+1].width
		pos -= int(l.n[i])
		start := end - int32(l.n[i])*w
		edge := (start/next + 1) * next // where the oldest of them leave
		if l.n[i] == 0 || l.at+1-edge < tiers[i].reach {
			return
		}
		k := int((edge - start) / w)
		var bad, all float64
		for _, c := range l.cells[pos : pos+k] {
			bad, all = bad+c.bad.value(), all+c.all.value()
		}
		l.cells[pos] = cell{}
		l.cells[pos].add(bad, all)
		l.cells = slices.Delete(l.cells, pos+1, pos+k)
		l.n[i] -= byte(k)
		l.n[i+1]++
		pos, end = pos+1, edge
	}
	last := len(tiers) - 1
	if end-int32(l.n[last]-1)*tiers[last].width <= l.at+1-tiers[last].reach {
		l.cells = slices.Delete(l.cells, 0, 1)
		l.n[last]--
	}
}

// back goes through the cells from the newest to the oldest, and gives the minute
// with which each begins.
func (l *Ledger) back(yield func(i int, start int32) bool) {
	start, at := l.at, len(l.cells)
	for t, n := range l.n {
		for range n {
			start -= tiers[t].width
			at--
			if !yield(at, start) {
				return
			}
		}
	}
}

// Last is how many of how many requests were bad in the last d before a time in
// milliseconds, to the cells that there are.
func (l *Ledger) Last(ms int64, d time.Duration) (bad, all float64) {
	from := ms/60_000 - max(1, int64(d/time.Minute)) + 1
	end := int64(l.at)
	if end < from {
		return 0, 0
	}
	bad, all = float64(l.bad), float64(l.all)
	for i, start := range l.back {
		if end <= from {
			break
		}
		share := float64(end-max(int64(start), from)) / float64(end-int64(start))
		bad += float64(share * l.cells[i].bad.value())
		all += float64(share * l.cells[i].all.value())
		end = int64(start)
	}
	return bad, all
}

// lull is how many minutes failures may pause and still be the same trouble: a
// crashing pod comes back for a while.
const lull = 3

// Began is when the failures that burn at a time in milliseconds began, at most six
// hours back: the first minute with more than the allowed share of bad requests that
// no lull of three minutes parts from the last one. What is longer ago than an hour
// is known to a cell, of which the first is taken to have failed for as long before
// its end as its share of bad requests is of the next one's. It is zero when there is
// no such minute.
func (l *Ledger) Began(ms int64, allowed float64) time.Time {
	began, quiet, before := -1.0, int32(0), 0.0
	look := func(bad, all float64, start, end int32) (more bool) {
		if all <= 0 || bad <= allowed*all {
			quiet += end - start
			return began < 0 || quiet <= lull
		}
		share, part := bad/all, 1.0
		if end-start > 1 && quiet == 0 && share < before {
			part = share / before
		}
		began, quiet, before = float64(end)-math.Round(part*float64(end-start)), 0, share
		return true
	}
	now := ms / 60_000
	if int64(l.at) <= now && !look(float64(l.bad), float64(l.all), l.at, l.at+1) {
		return time.Time{}
	}
	end := l.at
	for i, start := range l.back {
		if int64(end) <= now-fine || int64(start) <= now && !look(l.cells[i].bad.value(), l.cells[i].all.value(), start, end) {
			break
		}
		end = start
	}
	if began < 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(began) * 60_000).UTC()
}

// Since is how much of the last d the ledger knows of: to the minute while that is
// less than six hours, beyond that to the hour. After a pause of more than six
// hours it is so much as came after it, until that is six hours.
func (l *Ledger) Since(d time.Duration) time.Duration {
	if l.empty() {
		return 0
	}
	if n := l.at - l.resumed + 1; n < fine {
		return min(d, time.Duration(n)*time.Minute)
	}
	return min(d, time.Duration((l.at-l.first+1)/60)*time.Hour)
}

// Write writes the state.
func (l *Ledger) Write(w *snapshot.Writer) {
	w.Int(int64(l.at))
	w.Int(int64(l.first))
	w.Int(int64(l.resumed))
	w.Float32(l.bad)
	w.Float32(l.all)
	for _, n := range l.n {
		w.Uint(uint64(n))
	}
	for _, c := range l.cells {
		w.Uint(uint64(c.bad))
		w.Uint(uint64(c.all))
	}
}

// Read reads the state.
func (l *Ledger) Read(r *snapshot.Reader) {
	*l = Ledger{at: int32(r.Int()), first: int32(r.Int()), resumed: int32(r.Int()), bad: r.Float32(), all: r.Float32()} //nolint:gosec // of hostile bytes any time is as good
	sum := 0
	for i := range l.n {
		n := r.Uint()
		if n > math.MaxUint8 {
			r.Fail("a ledger longer than it can be")
			return
		}
		l.n[i] = byte(n)
		sum += int(n)
	}
	l.cells = make([]cell, sum)
	for i := range l.cells {
		l.cells[i] = cell{float16(r.Uint()), float16(r.Uint())} //nolint:gosec // of hostile bytes any count is as good
	}
}

// cell is what was counted in its time.
type cell struct{ bad, all float16 }

func (c *cell) add(bad, all float64) {
	c.bad, c.all = shortened(c.bad.value()+bad), shortened(c.all.value()+all)
}

// float16 is a number of requests: ten bits of fraction, and six of an exponent of two
// from -15 to 48. What is no more than 2^-15 is nothing.
type float16 uint16

const (
	fraction = 10
	bias     = 127 - 15 // of the exponent of a float32, to that of a float16
)

// shortened is the nearest number to one that is not negative.
func shortened(x float64) float16 {
	// Half of what is dropped is added, so that it is rounded; ties go up.
	b := int64(math.Float32bits(float32(x))) + 1<<(23-fraction-1)
	switch b = b>>(23-fraction) - bias<<fraction; {
	case b <= 0:
		return 0
	case b > math.MaxUint16:
		return math.MaxUint16
	}
	return float16(b) //nolint:gosec // clipped
}

func (f float16) value() float64 {
	if f == 0 {
		return 0
	}
	return float64(math.Float32frombits((uint32(f) + bias<<fraction) << (23 - fraction)))
}

package slo

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// Ledger counts good and bad requests of one objective over time: in minutes
// for the last six hours, in hours for the last thirty days.
type Ledger struct {
	minutes counts
	hours   counts
}

// counts are sums, one for each unit of time, the newest last.
type counts struct {
	bad, all []float32
	at       int64 // unit since the epoch of the newest
}

// maxRequests is more than any service gets in one step, and far from what a
// sum of float32 cannot hold.
const maxRequests = 1e15

const (
	minuteSlots = 6*60 + 1
	hourSlots   = 30*24 + 1
)

// Add books bad of all requests at a time in milliseconds. What is older than
// the ledger reaches is left out.
func (l *Ledger) Add(ms int64, bad, all float64) {
	if !(all >= 0 && all < maxRequests && bad >= 0) {
		return
	}
	l.minutes.add(ms/60_000, bad, all, minuteSlots)
	l.hours.add(ms/3_600_000, bad, all, hourSlots)
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

func (c *counts) add(unit int64, bad, all float64, size int) {
	if len(c.all) == 0 || c.at < unit-int64(size) {
		c.bad, c.all, c.at = append(c.bad[:0], 0), append(c.all[:0], 0), unit
	}
	for c.at < unit {
		c.bad, c.all = append(c.bad, 0), append(c.all, 0)
		c.at++
	}
	// Cut in blocks, so that most additions move nothing.
	if over := len(c.all) - size; over > size/8 {
		c.bad, c.all = slices.Delete(c.bad, 0, over), slices.Delete(c.all, 0, over)
	}
	if i := len(c.all) - 1 - int(c.at-unit); i >= 0 {
		c.bad[i] += float32(bad)
		c.all[i] += float32(all)
	}
}

// sum adds up the last n units up to and with the one that now is in.
func (c *counts) sum(now int64, n int) (bad, all float64) {
	n -= int(now - c.at)
	for i := len(c.all) - 1; i >= 0 && n > 0; i, n = i-1, n-1 {
		bad += float64(c.bad[i])
		all += float64(c.all[i])
	}
	return bad, all
}

// Last is how many of how many requests were bad in the last d before a time
// in milliseconds, to the minute up to six hours and to the hour beyond.
func (l *Ledger) Last(ms int64, d time.Duration) (bad, all float64) {
	if d <= 6*time.Hour {
		return l.minutes.sum(ms/60_000, max(1, int(d/time.Minute)))
	}
	return l.hours.sum(ms/3_600_000, int(d/time.Hour))
}

// lull is how long failures may pause and still be the same trouble: a crashing
// pod comes back for a while.
const lull = 3

// Began is when the failures that burn at a time in milliseconds began, to the
// minute and at most six hours back: the first minute with more than the
// allowed share of bad requests that no lull of three minutes parts from the
// last one. It is zero when there is no such minute.
func (l *Ledger) Began(ms int64, allowed float64) time.Time {
	c := &l.minutes
	began, quiet := int64(-1), 0
	for i := len(c.all) - 1; i >= 0; i-- {
		unit := c.at - int64(len(c.all)-1-i)
		if unit > ms/60_000 {
			continue
		}
		if c.all[i] > 0 && float64(c.bad[i]) > allowed*float64(c.all[i]) {
			began, quiet = unit, 0
		} else if quiet++; began >= 0 && quiet > lull {
			break
		}
	}
	if began < 0 {
		return time.Time{}
	}
	return time.UnixMilli(began * 60_000).UTC()
}

// Since is how much of the last d the ledger knows of: to the minute while that
// is less than six hours, beyond that to the hour.
func (l *Ledger) Since(d time.Duration) time.Duration {
	if n := len(l.minutes.all); n < minuteSlots-1 {
		return min(d, time.Duration(n)*time.Minute)
	}
	return min(d, max(6*time.Hour, time.Duration(len(l.hours.all)-1)*time.Hour))
}

// Burn is the state of one objective at a time.
type Burn struct {
	Fired     bool
	Window    Window  // that fired; the fastest when several did
	Long      float64 // burn rate over its long window, in multiples of the allowed rate
	Short     float64 // and over its short one
	Ratio     float64 // share of bad requests in the short window
	Remaining float64 // share of the period's budget that is left; below 0 when overspent
	Exhausted time.Duration
	TailProb  float64 // of so many bad requests if exactly the budget were spent
}

// Evaluate tests every window at a time in milliseconds. A burn counts when
// both windows burn at the rule's rate, when it still burns, when there was
// traffic enough, and
// when the short window's failures cannot be chance: the lower Wilson bound
// (95 %) lies above the allowed ratio.
func (o Objective) Evaluate(l *Ledger, windows []Window, ms int64) Burn {
	allowed := 1 - o.Target
	b := Burn{TailProb: 1, Exhausted: -1}
	bad, all := l.Last(ms, o.Period)
	// What was not seen is taken to have been like the part that was.
	b.Remaining = 1
	if all > 0 {
		known := float64(l.Since(o.Period)) / float64(o.Period)
		b.Remaining = 1 - known*bad/(all*allowed)
	}
	for _, w := range windows {
		r := o.rate(l, w, ms)
		if !r.Fires || b.Fired && b.Window.Severity.Number() >= w.Severity.Number() {
			continue
		}
		b.Fired, b.Window, b.Long, b.Short, b.Ratio = true, w, r.Long, r.Short, r.bad/r.ShortRequests
		b.TailProb = stat.BinomialTail(r.bad, r.ShortRequests, allowed)
	}
	if b.Fired {
		b.Exhausted = 0
		if b.Remaining > 0 {
			b.Exhausted = time.Duration(math.Min(b.Remaining/b.Long, 10) * float64(o.Period))
		}
		if b.Window.Severity == event.Critical && o.Page != nil && !*o.Page {
			b.Window.Severity = event.Warning
		}
	}
	return b
}

// Rate is how fast one rule's windows burn.
type Rate struct {
	Window
	Long          float64 // burn rate over the long window; 0 without traffic
	Short         float64 // and over the short one
	LongRequests  float64
	ShortRequests float64
	Fires         bool

	// Why is the reason for which windows that burn at the limit do not fire.
	Why string

	bad float64 // of the short window
}

// lately is how far back it must still burn for a rule to fire, whatever its own
// windows: as long as the short window of the fastest rule of the SRE Workbook.
const lately = 5 * time.Minute

// rate tests one rule.
func (o Objective) rate(l *Ledger, w Window, ms int64) Rate {
	allowed := 1 - o.Target
	r := Rate{Window: w}
	lb, la := l.Last(ms, w.Long)
	sb, sa := l.Last(ms, w.Short)
	r.LongRequests, r.ShortRequests, r.bad = la, sa, sb
	if la > 0 {
		r.Long = lb / la / allowed
	}
	if sa > 0 {
		r.Short = sb / sa / allowed
	}
	if la <= 0 || sa < o.MinRequests {
		return r
	}
	low, _ := stat.Wilson(sb, sa, 1.96)
	// The long window is there so that a short trouble does not page. Half an
	// hour's knowledge is no six hours: of a long window that is mostly unknown a
	// quarter counts, and what was not seen of that was good. The fastest rule
	// goes by what there is, since nobody wants to be blind for the first hour.
	long, known := r.Long, l.Since(w.Long)
	if least := w.Long / 4; w.Long > time.Hour && known < least {
		long *= float64(known) / float64(least)
	}
	if r.Long < w.Burn || r.Short < w.Burn {
		return r
	}
	// Slow rules look back for hours, and what is over is no trouble.
	nb, na := l.Last(ms, lately)
	switch {
	case known < w.Short, long < w.Burn:
		r.Why = fmt.Sprintf("only %s of the %s is known", Span(known), Span(w.Long))
	case na >= o.MinRequests && nb <= allowed*na:
		r.Why = fmt.Sprintf("it is over: the last %s are within the budget", Span(lately))
	case low <= allowed:
		r.Why = fmt.Sprintf("%.0f of %.0f requests in the last %s may be chance", sb, sa, Span(w.Short))
	default:
		r.Fires = true
	}
	return r
}

// Write writes the state.
func (l *Ledger) Write(w *snapshot.Writer) { l.minutes.write(w); l.hours.write(w) }

// Read reads the state.
func (l *Ledger) Read(r *snapshot.Reader) { l.minutes.read(r); l.hours.read(r) }

func (c *counts) write(w *snapshot.Writer) {
	w.Int(c.at)
	w.Uint(uint64(len(c.all)))
	for i := range c.all {
		w.Float32(c.bad[i])
		w.Float32(c.all[i])
	}
}

func (c *counts) read(r *snapshot.Reader) {
	*c = counts{at: r.Int()}
	for range r.Len() {
		c.bad, c.all = append(c.bad, r.Float32()), append(c.all, r.Float32())
	}
	if len(c.all) > 2*hourSlots {
		r.Fail("ledger longer than it can be")
	}
}

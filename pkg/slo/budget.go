package slo

import (
	"fmt"
	"math"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

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

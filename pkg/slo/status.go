package slo

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Verdict is what a state of an error budget asks for.
type Verdict string

// The verdicts.
const (
	Page   Verdict = "page"
	Ticket Verdict = "ticket"
	OK     Verdict = "ok"
	NoData Verdict = "no-data" // no traffic now, or too little known: neither good nor bad
)

// gravity orders the verdicts. Having no data is worse than being well.
var gravity = map[Verdict]int{OK: 0, NoData: 1, Ticket: 2, Page: 3}

// Worse says whether a verdict is graver than another.
func (v Verdict) Worse(than Verdict) bool { return gravity[v] > gravity[than] }

// Status is the state of an objective as people ask for it.
type Status struct {
	Objective string            `json:"objective"`
	Labels    map[string]string `json:"labels,omitempty"` // of the series it speaks of
	Target    float64           `json:"target"`
	Within    string            `json:"within,omitempty"` // how long a good request takes at most; of a latency objective
	Verdict   Verdict           `json:"verdict"`
	Reasons   []string          `json:"reasons"`
	// BurnRate is by window, in multiples of the rate that spends exactly the
	// budget in the period; a window without traffic is absent.
	BurnRate map[string]float64 `json:"burn_rate"`
	Rules    []RuleStatus       `json:"rules"`
	// BudgetRemaining is the share of the period's budget that is left; below 0
	// when it is overspent, absent without traffic.
	BudgetRemaining *float64 `json:"budget_remaining,omitempty"`
	// ExhaustedHours is when the budget is gone if the burn of the shortest rule's
	// long window goes on; absent when that spends it no sooner than allowed.
	ExhaustedHours *float64 `json:"exhausted_hours,omitempty"`
	// Requests and Errors are those of the part of the period that is known.
	Requests    float64 `json:"requests"`
	Errors      float64 `json:"errors"`
	PeriodHours float64 `json:"period_hours"`
	KnownHours  float64 `json:"known_hours"`
	// Since is when the failures that burn now began, to the minute and at most
	// six hours back.
	Since *time.Time `json:"since,omitempty"`
	At    time.Time  `json:"at"`
}

// Gravest sorts states, the gravest first.
func Gravest(all []Status) {
	slices.SortStableFunc(all, func(a, b Status) int { return gravity[b.Verdict] - gravity[a.Verdict] })
}

// RuleStatus is one pair of windows.
type RuleStatus struct {
	Long   string   `json:"long"`
	Short  string   `json:"short"`
	Limit  float64  `json:"limit"` // burn rate from which on it fires
	Burn   *float64 `json:"burn,omitempty"`
	Now    *float64 `json:"now,omitempty"` // of the short window
	Asks   Verdict  `json:"asks"`          // for what, when it fires
	Fires  bool     `json:"fires"`
	Enough bool     `json:"enough"` // whether there was traffic enough in the short window to say
}

// asks is the verdict of a rule that fires.
func (o Objective) asks(s event.Severity) Verdict {
	if s == event.Critical && (o.Page == nil || *o.Page) {
		return Page
	}
	return Ticket
}

// Status is the state of the objective at a time in milliseconds. It fires when
// [Objective.Evaluate] does.
func (o Objective) Status(l *Ledger, windows []Window, ms int64) Status {
	s := Status{
		Objective: o.Name, Target: o.Target, Verdict: OK, BurnRate: map[string]float64{}, PeriodHours: o.Period.Hours(),
		KnownHours: l.Since(o.Period).Hours(), At: time.UnixMilli(ms).UTC(), Reasons: []string{}, Rules: []RuleStatus{},
	}
	if o.Latency != nil {
		s.Within = o.Latency.Threshold.String()
	}
	s.Errors, s.Requests = l.Last(ms, o.Period)
	burn := o.Evaluate(l, windows, ms)
	if s.Requests > 0 {
		s.BudgetRemaining = shown(burn.Remaining)
	}
	var nearest *Rate // the rule with the shortest long window
	for _, w := range windows {
		r := o.rate(l, w, ms)
		x := RuleStatus{Long: Span(w.Long), Short: Span(w.Short), Limit: w.Burn, Asks: o.asks(w.Severity), Fires: r.Fires, Enough: r.ShortRequests >= o.MinRequests}
		if r.LongRequests > 0 {
			x.Burn = shown(r.Long)
			s.BurnRate[x.Long] = *x.Burn
		}
		if r.ShortRequests > 0 {
			x.Now = shown(r.Short)
			s.BurnRate[x.Short] = *x.Now
		}
		if nearest == nil || w.Long < nearest.Window.Long {
			nearest = &r
		}
		if r.Why != "" {
			s.Reasons = append(s.Reasons, fmt.Sprintf("burns %.3gx over %s and %.3gx over %s, but %s", r.Long, x.Long, r.Short, x.Short, r.Why))
		}
		if r.Fires {
			s.Reasons = append(s.Reasons, fmt.Sprintf("burns %.3gx over %s and %.3gx over %s, limit %gx: %s", r.Long, x.Long, r.Short, x.Short, w.Burn, x.Asks))
			if x.Asks.Worse(s.Verdict) {
				s.Verdict = x.Asks
			}
		}
		s.Rules = append(s.Rules, x)
	}
	if nearest != nil {
		o.explain(&s, *nearest, l.Since(nearest.Window.Long), burn.Remaining)
	}
	if s.Verdict != OK && s.Verdict != NoData {
		if began := l.Began(ms, 1-o.Target); !began.IsZero() {
			s.Since = &began
		}
	}
	return s
}

// explain adds what the fastest rule has to say.
func (o Objective) explain(s *Status, r Rate, known time.Duration, remaining float64) {
	short := Span(r.Window.Short)
	switch {
	case s.Verdict != OK:
	case r.ShortRequests <= 0:
		s.Verdict = NoData
		s.Reasons = append(s.Reasons, fmt.Sprintf("no traffic in the last %s: nothing to say, which is not the same as ok", short))
	case r.ShortRequests < o.MinRequests:
		s.Reasons = append(s.Reasons, fmt.Sprintf("%.3g requests in the last %s, fewer than the %g that it takes to call a burn a burn", r.ShortRequests, short, o.MinRequests))
	case known < r.Window.Short:
		s.Verdict = NoData
		s.Reasons = append(s.Reasons, fmt.Sprintf("only %s is known, less than the shortest window", Span(known)))
	case len(s.Reasons) == 0:
		s.Reasons = append(s.Reasons, "no pair of windows burns at its limit")
	}
	if r.Long > 1 && s.Requests > 0 {
		s.ExhaustedHours = shown(max(0, remaining) / r.Long * o.Period.Hours())
	}
	s.Requests, s.Errors = *shown(s.Requests), *shown(s.Errors)
}

// shown is a figure to four digits, of which the last is uncertain: the cells of a
// ledger are rounded.
func shown(x float64) *float64 {
	if y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64); err == nil {
		x = y
	}
	return &x
}

// Span is a duration as people write windows: 5m, 1h, 72h.
func Span(d time.Duration) string {
	switch {
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// Age is a number of hours as people say it: 30 min, 3.5 h, 2.1 d.
func Age(hours float64) string {
	switch {
	case hours < 1:
		return fmt.Sprintf("%.0f min", 60*hours)
	case hours < 48:
		return fmt.Sprintf("%.1f h", hours)
	}
	return fmt.Sprintf("%.1f d", hours/24)
}

package slo

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func TestStatus(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	const minutes = 2880
	no := false
	for name, c := range map[string]struct {
		objective Objective
		bad       func(minute int) float64 // share of bad requests
		rate      func(minute int) float64 // requests a minute
		want      Verdict
		says      string
		gone      bool // whether the budget runs out early
	}{
		"nothing fails":                   {Objective{}, share(0), share(100), OK, "no pair of windows burns at its limit", false},
		"a tenth fails for two hours":     {Objective{}, func(m int) float64 { return step(m >= minutes-120, 0.1) }, share(100), Page, "burns 100x over 1h and 100x over 5m, limit 14.4x: page", true},
		"the same, and nobody is woken":   {Objective{Page: &no}, func(m int) float64 { return step(m >= minutes-120, 0.1) }, share(100), Ticket, "limit 14.4x: ticket", true},
		"four times the budget for a day": {Objective{}, func(m int) float64 { return step(m >= 1000, 0.004) }, share(1000), Ticket, "over 24h", true},
		"failed long ago":                 {Objective{}, func(m int) float64 { return step(m < 60, 0.1) }, share(100), OK, "", false},
		"it has just ended":               {Objective{}, func(m int) float64 { return step(m >= minutes-125 && m < minutes-5, 0.1) }, share(100), OK, "but it is over: the last 5m are within the budget", true},
		"a failure now and then":          {Objective{}, func(m int) float64 { return step(m%300 == 180, 0.5) }, share(2), OK, "1 of 720 requests in the last 6h may be chance", false},
		"no request at all":               {Objective{}, share(0), share(0), NoData, "no traffic in the last 5m: nothing to say, which is not the same as ok", false},
		"traffic has stopped":             {Objective{}, share(0), func(m int) float64 { return step(m < minutes-30, 100) }, NoData, "no traffic in the last 5m", false},
		"a request in twenty minutes":     {Objective{}, func(m int) float64 { return step(m >= minutes-60, 1) }, share(0.05), OK, "0.25 requests in the last 5m, fewer than the 30", true},
	} {
		t.Run(name, func(t *testing.T) {
			o := c.objective
			o.Name, o.Target, o.Period, o.MinRequests = "web", 0.999, 720*time.Hour, DefaultMinRequests
			var l Ledger
			for m := range minutes {
				l.Add(start+int64(m)*60_000, c.bad(m)*c.rate(m), c.rate(m))
			}
			at := start + (minutes-1)*60_000
			s := o.Status(&l, DefaultWindows(), at)
			if s.Verdict != c.want || !strings.Contains(strings.Join(s.Reasons, "\n"), c.says) {
				t.Errorf("got %s %q, want %s, %q", s.Verdict, s.Reasons, c.want, c.says)
			}
			if (s.ExhaustedHours != nil) != c.gone {
				t.Errorf("the budget is gone in %v", s.ExhaustedHours)
			}
			if (s.Verdict == Page || s.Verdict == Ticket) != (s.Since != nil) {
				t.Errorf("since %v", s.Since)
			}
			// It says what the detector says.
			if burn := o.Evaluate(&l, DefaultWindows(), at); burn.Fired != slices.ContainsFunc(s.Rules, func(r RuleStatus) bool { return r.Fires }) ||
				burn.Fired && (burn.Window.Severity == event.Critical) != (s.Verdict == Page) {
				t.Errorf("the detector says %+v", burn)
			}
			if s.Requests == 0 && (s.BudgetRemaining != nil || len(s.BurnRate) > 0) {
				t.Errorf("figures of nothing: %+v", s)
			}
			if s.Requests > 0 && math.Abs(*s.BudgetRemaining-(1-48./720*s.Errors/s.Requests/0.001)) > 0.01 {
				t.Errorf("budget %g of %g in %g", *s.BudgetRemaining, s.Errors, s.Requests)
			}
		})
	}
}

// Of a minute nothing is concluded, however it burns.
func TestAMinuteIsNotEnoughToSay(t *testing.T) {
	o := Objective{Name: "web", Target: 0.999, Period: 720 * time.Hour, MinRequests: DefaultMinRequests}
	var l Ledger
	l.Add(0, 500, 1000)
	s := o.Status(&l, DefaultWindows(), 0)
	if got := strings.Join(s.Reasons, "; "); s.Verdict != NoData || !strings.Contains(got, "but only 1m of the 1h is known") || !strings.Contains(got, "only 1m is known, less than the shortest window") {
		t.Errorf("got %s %q", s.Verdict, got)
	}
}

func share(x float64) func(int) float64 { return func(int) float64 { return x } }

func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{"5m": 5 * time.Minute, "72h": 72 * time.Hour, "90m": 90 * time.Minute, "1.5s": 1500 * time.Millisecond} {
		if got := Span(d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

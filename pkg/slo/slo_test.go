package slo

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func parsed(t *testing.T, text string) Policy {
	t.Helper()
	p, err := Parse("policies/slo.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheFirstObjectiveThatMatchesCounts(t *testing.T) {
	p := parsed(t, "objectives:\n- {name: own, target: 0.5, errors: e, total: t}\n- {name: shop, target: 0.999, match: {namespaces: [shop-*]}}\n- {name: rest, target: 0.9}\n")
	for ns, want := range map[string]string{"shop-eu": "shop", "other": "rest"} {
		if o, ok := p.For(ns, "web"); !ok || o.Name != want {
			t.Errorf("%s: got %q, want %q", ns, o.Name, want)
		}
	}
	if q := p.Queries(); len(q) != 2 || q[0].Objective != "own" {
		t.Errorf("queries: got %+v", q)
	}
}

func TestErrorsNameLineFieldAndFix(t *testing.T) {
	_, err := Parse("policies/slo.yaml", []byte("objectives:\n  - name: a\n    target: 99.9\n  - name: a\n    target: 0.9\n    errors: x\nwindows:\n  - {burn: 0, long: 1h, short: 2h, severity: page}\n"))
	for _, want := range []string{
		"policies/slo.yaml:3: objectives[0].target: 99.9 is not between 0 and 1; write 0.999", "objectives[1].name: a is used twice",
		"has one of errors and total only", "windows[0].burn", "windows[0].severity: page is not info, warning or critical",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestASlowRuleNeedsKnowledge has one trouble seen by ledgers of different ages.
func TestASlowRuleNeedsKnowledge(t *testing.T) {
	for name, c := range map[string]struct {
		known int // minutes, the last six of which fail by 30 %
		rules map[time.Duration]bool
	}{
		"the first minutes are enough for the fastest rule": {12, map[time.Duration]bool{time.Hour: true}},
		"half an hour is no six hours":                      {40, map[time.Duration]bool{time.Hour: false, 6 * time.Hour: false, 24 * time.Hour: false}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Policy{Objectives: []Objective{{Name: "x", Target: 0.99}}}
			p.fill()
			var l Ledger
			for m := range c.known {
				l.Add(int64(m)*60_000, 1000*step(m >= c.known-6, 0.3), 1000)
			}
			for _, w := range p.Windows {
				want, ok := c.rules[w.Long]
				if r := p.Objectives[0].rate(&l, w, int64(c.known-1)*60_000); ok && r.Fires != want {
					t.Errorf("%s: fires %v at %.1fx and %.1fx, want %v", w.Long, r.Fires, r.Long, r.Short, want)
				}
			}
		})
	}
}

func TestBurn(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	for name, c := range map[string]struct {
		bad  func(minute int) float64 // share of bad requests
		rate float64                  // requests a minute
		want event.Severity           // "" for no alarm
	}{
		"nothing fails":                                 {func(int) float64 { return 0 }, 100, ""},
		"exactly the budget is spent":                   {func(int) float64 { return 0.001 }, 10_000, ""},
		"two per cent fail for the last hour of three":  {func(m int) float64 { return step(m >= 2820, 0.02) }, 1000, event.Critical},
		"a fast burn of two hours pages while it lasts": {func(m int) float64 { return step(m >= 2760, 0.02) }, 1000, event.Critical},
		"the fast burn is over for ten minutes":         {func(m int) float64 { return step(m >= 2750 && m < 2870, 0.02) }, 1000, ""}, // though 6x over 30 m
		"the fast burn is over for an hour":             {func(m int) float64 { return step(m >= 2790 && m < 2810, 0.05) }, 1000, ""},
		"a slow burn of two days is a note":             {func(int) float64 { return 0.0015 }, 10_000, event.Info},
		"three times the budget for a day is a warning": {func(m int) float64 { return step(m >= 1000, 0.004) }, 10_000, event.Warning},
		"too few requests to say":                       {func(m int) float64 { return step(m >= 2820, 0.5) }, 0.01, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := Policy{Objectives: []Objective{{Name: "x", Target: 0.999}}}
			p.fill()
			var l Ledger
			for m := range 2880 {
				l.Add(start+int64(m)*60_000, c.rate*c.bad(m), c.rate)
			}
			b := p.Objectives[0].Evaluate(&l, p.Windows, start+2879*60_000)
			if got := b.Window.Severity; b.Fired && got != c.want || !b.Fired && c.want != "" {
				t.Errorf("got fired %v %s (%+v), want %q", b.Fired, got, b, c.want)
			}
			if b.Fired && !(b.TailProb > 0 && b.TailProb <= 1 && b.Remaining <= 1) {
				t.Errorf("got %+v", b)
			}
		})
	}
}

func step(on bool, v float64) float64 {
	if on {
		return v
	}
	return 0
}

func TestLedgerForgetsAndIsExact(t *testing.T) {
	var l Ledger
	for m := range int64(3000) {
		l.Add(m*60_000, 1, 2)
	}
	if bad, all := l.Last(2999*60_000, time.Hour); bad != 60 || all != 120 {
		t.Errorf("last hour: got %g of %g, want 60 of 120", bad, all)
	}
	if bad, _ := l.Last(3059*60_000, time.Hour); bad != 0 {
		t.Errorf("an hour after the last entry: got %g bad, want 0", bad)
	}
	l.Add(math.MaxInt64/2, math.NaN(), 1)
	if _, all := l.Last(2999*60_000, time.Hour); all != 120 {
		t.Errorf("after an entry that is no number: got %g, want 120", all)
	}
}

func TestFailuresBeganWithTheFirstBadMinuteOfTheSameTrouble(t *testing.T) {
	minute := func(n int) int64 { return int64(n) * 60_000 }
	for name, tc := range map[string]struct {
		bad  map[int]float64 // by minute
		want int             // minute; -1 for none
	}{
		"a jump":                                 {map[int]float64{20: 5, 21: 5, 22: 5}, 20},
		"a pod that comes back in between":       {map[int]float64{20: 5, 24: 5, 28: 5}, 20},
		"older trouble that was over":            {map[int]float64{5: 9, 20: 5, 21: 5}, 20},
		"failures that are allowed are no start": {map[int]float64{10: 0.5, 20: 5}, 20},
		"trouble that has just ended":            {map[int]float64{20: 5, 24: 5}, 20},
		"nothing":                                {nil, -1},
	} {
		t.Run(name, func(t *testing.T) {
			var l Ledger
			for n := range 30 {
				l.Add(minute(n), tc.bad[n], 100)
			}
			got := l.Began(minute(29), 0.01)
			want := time.UnixMilli(minute(tc.want)).UTC()
			if tc.want < 0 {
				want = time.Time{}
			}
			if !got.Equal(want) {
				t.Errorf("Began = %v, want %v", got, want)
			}
		})
	}
}

func TestAnHourThatHasStruckIsNoHourThatIsKnown(t *testing.T) {
	var l Ledger
	for n := range 17 { // from ten to the hour on
		l.Add(int64(50+n)*60_000, 0, 100)
	}
	if got := l.Since(6 * time.Hour); got != 17*time.Minute {
		t.Errorf("Since(6h) = %v, want 17m", got)
	}
}

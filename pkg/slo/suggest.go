package slo

import (
	"math"
	"time"
)

// Served is what a workload served in one step.
type Served struct {
	Time     time.Time
	Requests float64
	Failed   float64
}

// Suggestion is an objective that a workload has kept.
type Suggestion struct {
	Namespace string  `json:"namespace"`
	Workload  string  `json:"workload"`
	Family    string  `json:"family"`    // of policies/queries, whose metrics count the requests
	Target    float64 `json:"target"`    // the strictest usual one that was kept; 0 when none was
	Kept      float64 `json:"kept"`      // share of good requests
	Requests  float64 `json:"requests"`  // in all
	PerSecond float64 `json:"per_s"`     // over the time that is known
	Hours     float64 `json:"hours"`     // that are known
	Pages     int     `json:"pages"`     // burns that would have paged at that target
	Tickets   int     `json:"tickets"`   // and that would have been tickets
	Few       bool    `json:"few_in_5m"` // the usual five minutes have fewer requests than make a burn count
}

// targets are those that people promise, the strictest first.
var targets = []float64{0.9999, 0.9995, 0.999, 0.995, 0.99, 0.98, 0.95, 0.9}

// Suggest is the strictest usual objective that was kept, and what would have
// burned at it: each burn counts once, by its gravest. step is the time between
// two entries. An objective that would allow less than one failure of all that was
// served is none that was kept. False when there was no traffic.
func Suggest(served []Served, step time.Duration, windows []Window) (Suggestion, bool) {
	var s Suggestion
	var failed float64
	known := 0
	for _, x := range served {
		if x.Requests >= 0 && !math.IsInf(x.Requests, 0) {
			s.Requests += x.Requests
			failed += min(max(0, x.Failed), x.Requests)
			known++
		}
	}
	if s.Requests <= 0 {
		return s, false
	}
	s.Kept = 1 - failed/s.Requests
	s.Hours = (time.Duration(known) * step).Hours()
	s.PerSecond = s.Requests / (s.Hours * 3600)
	s.Few = s.PerSecond*300 < DefaultMinRequests
	for _, t := range targets {
		// Of so few requests that none of them might fail it is not known what is kept.
		if s.Kept < t || s.Requests*(1-t) < 1 {
			continue
		}
		s.Target = t
		s.burns(served, step, windows)
		break
	}
	return s, true
}

// burns counts what would have burned.
func (s *Suggestion) burns(served []Served, step time.Duration, windows []Window) {
	o := Objective{Name: "x", Target: s.Target, Period: defaultPeriod, MinRequests: DefaultMinRequests}
	var l Ledger
	gravest := OK
	end := func() {
		switch gravest {
		case Page:
			s.Pages++
		case Ticket:
			s.Tickets++
		}
		gravest = OK
	}
	for _, x := range served {
		ms := x.Time.UnixMilli()
		l.Serve(x, step)
		b := o.Evaluate(&l, windows, ms)
		if !b.Fired {
			end()
			continue
		}
		if v := o.asks(b.Window.Severity); v.Worse(gravest) {
			gravest = v
		}
	}
	end()
}

package slo

import (
	"testing"
	"time"
)

func TestTheStrictestObjectiveThatWasKeptIsSuggested(t *testing.T) {
	const step = 5 * time.Minute
	for name, c := range map[string]struct {
		requests float64
		failed   func(step int) float64 // share
		target   float64                // 0: none
		pages    int
		few      bool
	}{
		"nothing failed":          {3000, func(int) float64 { return 0 }, 0.9999, 0, false},
		"a percent and a half":    {3000, func(int) float64 { return 0.015 }, 0.98, 0, false},
		"two outages of an hour":  {3000, func(n int) float64 { return failing(n >= 1000 && n < 1012 || n >= 3000 && n < 3012, 0.5) }, 0.995, 2, false},
		"a service nobody calls":  {0, func(int) float64 { return 0 }, 0, 0, false},
		"a fifth always fails":    {3000, func(int) float64 { return 0.2 }, 0, 0, false}, // less than anybody promises
		"one request every step":  {1, func(int) float64 { return 0 }, 0.9995, 0, true},  // at 99.99 % none of 4032 may fail
		"an outage of few bursts": {1, func(n int) float64 { return failing(n == 500, 1) }, 0.9995, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			var served []Served
			for n := range 14 * 288 {
				served = append(served, Served{time.UnixMilli(int64(n) * step.Milliseconds()), c.requests, c.requests * c.failed(n)})
			}
			s, ok := Suggest(served, step, DefaultWindows())
			if ok != (c.requests > 0) || ok && (s.Target != c.target || s.Pages != c.pages || s.Few != c.few || s.Hours != 336) {
				t.Errorf("got %+v, %v; want %g with %d pages", s, ok, c.target, c.pages)
			}
		})
	}
}

func failing(on bool, share float64) float64 {
	if on {
		return share
	}
	return 0
}

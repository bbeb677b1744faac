package slo

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// exact is what was counted up to the end of each minute.
type exact [][2]float64

func (e *exact) add(bad, all float64) {
	was := [2]float64{}
	if n := len(*e); n > 0 {
		was = (*e)[n-1]
	}
	*e = append(*e, [2]float64{was[0] + bad, was[1] + all})
}

// last is what was counted in the last so many minutes.
func (e exact) last(minutes int) (bad, all float64) {
	now := e[len(e)-1]
	if minutes >= len(e) {
		return now[0], now[1]
	}
	was := e[len(e)-1-minutes]
	return now[0] - was[0], now[1] - was[1]
}

// traffic is what comes in a minute of a service with a night, bursts, pauses and
// failures that come and go.
type traffic struct {
	rng     *rand.Rand
	perHour float64
	failing float64
	paused  int64
}

func (s *traffic) next(m int64) (bad, all float64, told bool) {
	if s.paused > 0 {
		s.paused--
		return 0, 0, false
	}
	switch s.rng.IntN(400) {
	case 0:
		s.failing = math.Pow(10, -4*s.rng.Float64())
	case 1, 2:
		s.failing = 0
	case 3:
		s.paused = s.rng.Int64N(90)
	}
	all = s.perHour / 60 * (1.1 + math.Sin(2*math.Pi*float64(m)/1440)) * s.rng.ExpFloat64()
	return all * s.failing * s.rng.Float64(), all, true
}

// TestAWindowIsCountedToACellAtItsFarEnd holds a ledger against one that keeps every
// minute, over six weeks: what it counts in a window lies between what came in one
// that is shorter by a cell and in one that is longer by as much, but for the rounding
// of cells, and up to an hour it is what came.
func TestAWindowIsCountedToACellAtItsFarEnd(t *testing.T) {
	const rounding = 6. / 2048
	for seed, perHour := range []float64{30, 6_000, 5e6, 3e11} {
		t.Run(fmt.Sprintf("%g an hour", perHour), func(t *testing.T) {
			s := traffic{rng: rand.New(rand.NewPCG(1, uint64(seed))), perHour: perHour}
			var l Ledger
			var all exact
			const begin = 29_000_000
			windows := []int{1, 5, 17, 30, 60, 61, 90, 120, 121, 200, 360, 361, 720, 1440, 2000, 4320, 10_080, 30 * 1440}
			for m := int64(begin); m < begin+42*1440; m++ {
				bad, n, told := s.next(m)
				all.add(bad, n)
				if told {
					l.Add(m*60_000, bad, n)
				}
				if m%97 != 0 {
					continue
				}
				for _, w := range windows {
					cell := 0
					for i := len(tiers) - 1; i > 0 && cell == 0; i-- {
						if w > int(tiers[i-1].reach) {
							cell = int(tiers[i].width)
						}
					}
					gotBad, gotAll := l.Last(m*60_000, time.Duration(w)*time.Minute)
					lowBad, lowAll := all.last(w - cell)
					highBad, highAll := all.last(w + cell)
					for _, x := range [][3]float64{{lowBad, gotBad, highBad}, {lowAll, gotAll, highAll}} {
						if slack := 1e-4 * float64(w); x[1] < x[0]*(1-rounding)-slack || x[1] > x[2]*(1+rounding)+slack {
							t.Fatalf("minute %d: %g in the last %d minutes, want %g to %g", m-begin, x[1], w, x[0], x[2])
						}
					}
				}
			}
			if len(l.cells) > 196 || cap(l.cells) > 220 {
				t.Errorf("%d cells in %d places", len(l.cells), cap(l.cells))
			}
		})
	}
}

// TestBurnRatesAreThoseOfEveryMinute states how far the burn rates of the workbook's
// windows go on average from those of a ledger that keeps every minute, where a
// hundred requests failed or more. It is most while a burst leaves a window, since
// that is known to a cell.
func TestBurnRatesAreThoseOfEveryMinute(t *testing.T) {
	s := traffic{rng: rand.New(rand.NewPCG(2, 2)), perHour: 360_000}
	var l Ledger
	var all exact
	sum, n := map[int]float64{}, map[int]float64{}
	most := map[int]float64{5: 0.0005, 30: 0.0005, 60: 0.0005, 120: 0.03, 360: 0.03, 1440: 0.03, 4320: 0.03, 30 * 1440: 0.005}
	for m := range int64(60 * 1440) {
		bad, requests, told := s.next(m)
		all.add(bad, requests)
		if told {
			l.Add(m*60_000, bad, requests)
		}
		if m < 30*1440 || m%7 != 0 {
			continue
		}
		for w := range most {
			wantBad, wantAll := all.last(w)
			if wantBad < 100 {
				continue
			}
			gotBad, gotAll := l.Last(m*60_000, time.Duration(w)*time.Minute)
			sum[w] += math.Abs(gotBad/gotAll/(wantBad/wantAll) - 1)
			n[w]++
		}
	}
	for w, limit := range most {
		mean := sum[w] / n[w]
		t.Logf("over %5d minutes the mean of %g burn rates is off by %.3f %%", w, n[w], 100*mean)
		if n[w] < 1000 || mean > limit {
			t.Errorf("over %d minutes %g burn rates are off by %g on average, want at most %g", w, n[w], mean, limit)
		}
	}
}

// TestTroubleOfHoursAgoBeganWhenItDid lets a tenth fail from some minute on and asks
// later when that was.
func TestTroubleOfHoursAgoBeganWhenItDid(t *testing.T) {
	for began := 1000; began < 1017; began++ {
		var l Ledger
		for m := range began + 355 {
			l.Add(int64(m)*60_000, 10*step(m >= began, 1), 100)
			age := m - began + 1
			if age < 1 {
				continue
			}
			got := int(l.Began(int64(m)*60_000, 0.001).Unix() / 60)
			if exact := age <= 60; got != began && exact || math.Abs(float64(got-began)) > 1 {
				t.Fatalf("%d minutes after minute %d it began at %d", age, began, got)
			}
		}
	}
}

func TestALedgerSurvivesASnapshot(t *testing.T) {
	s := traffic{rng: rand.New(rand.NewPCG(3, 3)), perHour: 3000}
	var l Ledger
	for m := range int64(5000) {
		if bad, all, told := s.next(m); told {
			l.Add(m*60_000, bad, all)
		}
		w := &snapshot.Writer{}
		l.Write(w)
		var back Ledger
		r := snapshot.NewReader(w.Data())
		if back.Read(r); r.Close() != nil {
			t.Fatal(r.Close())
		}
		again := &snapshot.Writer{}
		if back.Write(again); !bytes.Equal(w.Data(), again.Data()) {
			t.Fatalf("minute %d: what was written and read is another ledger", m)
		}
		if m%7 == 0 {
			l = back // and goes on as the one that was written
		}
	}
}

func TestACellIsRoundedToATwoThousandth(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 100_000 {
		x := math.Exp2(-14 + 62*rng.Float64())
		if got := shortened(x).value(); math.Abs(got-x) > x/2048 {
			t.Fatalf("%g became %g", x, got)
		}
	}
	for x, want := range map[float64]float64{0: 0, 1e-9: 0, 1: 1, 2047: 2047, 1e30: shortened(1e15).value()} {
		if got := shortened(x).value(); got != want {
			t.Errorf("%g became %g, want %g", x, got, want)
		}
	}
}

package baseline

import (
	"math/rand/v2"
	"testing"
)

func TestASeriesThatBeginsInAnIncidentLearnsWhatComesAfterIt(t *testing.T) {
	at100 := func(r *rand.Rand) float64 { return 100 + 5*r.NormFloat64() }
	for name, c := range map[string]struct {
		begins float64
		n      int
		looks  bool // like any other after a hundred samples
	}{
		"twenty samples far above":      {400, 20, true},
		"forty samples at nothing":      {0, 40, true},
		"as it goes on":                 {100, 20, true},
		"three samples, as a job makes": {400, 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(21, 21))
			var s Series
			var l Light
			for i := range 3 * 60 {
				x := at100(r)
				if i < c.n {
					x += c.begins - 100
				}
				at := monday + int64(i)*minute*60
				v, lv := s.Observe(at, x), l.Observe(at, x)
				if i >= 120 && (v.Anomaly || lv.Anomaly) {
					t.Fatalf("sample %d: an anomaly of nothing", i)
				}
				if i >= 120 && (v.Low < 50 && c.n > 3 || v.High > 150 && c.n > 3) {
					t.Fatalf("sample %d: between %.0f and %.0f is expected", i, v.Low, v.High)
				}
			}
			at := int64(monday + 180*minute*60)
			if v := s.Observe(at, 300); !v.Anomaly {
				t.Errorf("forty standard deviations are none: %+v", v)
			}
			if v := l.Observe(at, 300); !v.Anomaly {
				t.Errorf("forty standard deviations are none, lightly: %+v", v)
			}
		})
	}
}

func TestALevelThatAnIncidentReachesForOneHourIsNoNewBeginning(t *testing.T) {
	r := rand.New(rand.NewPCG(22, 22))
	var s Series
	feed(&s, 0, 1440, r, same)
	feed(&s, 1440, 60, r, func(_ int, x float64) float64 { return x + 400 })
	if v := feed(&s, 1500, 1, r, same)[0]; v.Distance > 4 || s.level.N < 1000 {
		t.Errorf("the day before is forgotten: %+v", v)
	}
}

func TestAJobOfTheNightIsToldTwice(t *testing.T) {
	for name, observe := range map[string]func() func(int64, float64) Verdict{
		"in full": func() func(int64, float64) Verdict { var s Series; return s.Observe },
		"lightly": func() func(int64, float64) Verdict { var l Light; return l.Observe },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(23, 23))
			next := observe()
			told, was := map[int]bool{}, false
			var last Verdict
			for hour := range 24 * 14 {
				day, x := hour/24, 20+2*r.NormFloat64()
				if hour%24 == 2 && day >= 4 {
					x += 60
				}
				if day == 12 && hour%24 == 2 {
					x += 300 // the job, and something else
				}
				last = next(monday+int64(hour)*3_600_000, x)
				if last.Anomaly && !was {
					told[day] = true
				}
				was = last.Anomaly
			}
			for day := range 14 {
				if want := day == 4 || day == 5 || day == 12; told[day] != want {
					t.Errorf("day %d: told %v, want %v", day, told[day], want)
				}
			}
		})
	}
}

func TestALongAnomalyIsLearntFromLikeOneEvent(t *testing.T) {
	for samples, want := range map[int64]float64{0: 1, 1: 0.5, 4: 0.2, 9: 0.1, 500: 0.1} {
		s := Series{gap: minute, last: monday + samples*minute, alarm: alarm{on: true, onset: monday}}
		if got := s.weight(); got != want {
			t.Errorf("after %d samples of an anomaly: %g, want %g", samples, got, want)
		}
	}
	if got := (&Series{gap: minute, last: monday}).weight(); got != 1 {
		t.Errorf("without an anomaly: %g", got)
	}
}

func TestHoursThatExplainEverythingAreKnownWhenTheyWereSeen(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 25))
	var wave, noise Series
	for hour := range 24 * 10 {
		at := monday + int64(hour)*3_600_000
		wave.Observe(at, busy(r, hour*60))
		noise.Observe(at, 100+5*r.NormFloat64())
	}
	if d := wave.doubt(); d > 0.5 {
		t.Errorf("a day's wave is doubted with the weight of %.1f samples", d)
	}
	if d := noise.doubt(); d < 3 {
		t.Errorf("hours of noise are believed, with a doubt of %.1f samples", d)
	}
}

func TestTheFirstSampleIsNoDistanceFromAnything(t *testing.T) {
	var s Series
	for hour := range 24 * 4 {
		v := s.Observe(monday+int64(hour)*3_600_000, 7)
		if v.Anomaly || v.Ready && (v.Low > 7 || v.High < 7 || v.HourDistance > 0) {
			t.Fatalf("hour %d of a constant: %+v", hour, v)
		}
	}
}

package canary

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// The table of docs/benchmarks.md:
//
//	go test ./pkg/canary -run TestErrorRates -v -full
var full = flag.Bool("full", false, "simulate the whole grid of docs/benchmarks.md, and print it")

// scenario is one canary, many times over.
type scenario struct {
	baseline   float64 // share of requests that fail
	difference float64 // true difference of the success rates, in margins: -1 is exactly the allowed regression
	requests   int     // of the canary, in all
	split      int     // baseline requests for each of the canary's
	looks      int
}

// errorRates are shares of the runs.
type errorRates struct {
	proceed, rollback, hold float64 // verdicts at the first look that decides, or at the last
	used                    float64 // median share of the requests that a decision took
}

// simulate runs a scenario: it is looked at after equal numbers of requests,
// and the first verdict other than hold stands.
func simulate(p Policy, s scenario, runs int, seed uint64) errorRates {
	rng := rand.New(rand.NewPCG(seed, 1))
	bad := s.baseline + p.MinSuccessDelta*s.difference
	var r errorRates
	var took []float64
	for range runs {
		var c, b Counts
		verdict, used := Hold, 1.0
		for look := 1; look <= s.looks && verdict == Hold; look++ {
			n := float64(s.requests*look/s.looks) - c.Total
			c = c.plus(Counts{n - failures(rng, int(n), bad), n})
			m := n * float64(s.split)
			b = b.plus(Counts{m - failures(rng, int(m), s.baseline), m})
			verdict, used = p.decide(c, b), float64(look)/float64(s.looks)
		}
		took = append(took, used)
		switch verdict {
		case Continue:
			r.proceed++
		case Rollback:
			r.rollback++
		case Hold:
			r.hold++
		}
	}
	n := float64(runs)
	r.proceed, r.rollback, r.hold, r.used = r.proceed/n, r.rollback/n, r.hold/n, sampleQuantile(took, 0.5)
	return r
}

// failures is how many of n requests fail that fail with probability q: the
// gaps between failures are geometric.
func failures(rng *rand.Rand, n int, q float64) float64 {
	if q <= 0 {
		return 0
	}
	f := 0.0
	for at := 0; ; f++ {
		at += 1 + int(math.Log(1-rng.Float64())/math.Log1p(-q))
		if at > n {
			return f
		}
	}
}

// TestErrorRates holds the gate to its promise: a canary that is worse by
// exactly the configured regression continues in at most alpha of the runs,
// whatever the traffic and the number of looks.
func TestErrorRates(t *testing.T) {
	p := Default()
	runs, baselines, sizes, looks := 200, []float64{0, 0.01}, []int{3000}, []int{1, 100}
	differences := []float64{0, -1, -3}
	if *full {
		runs, baselines, sizes, looks = 500, []float64{0, 0.001, 0.01, 0.05}, []int{1000, 10000}, []int{1, 20, 500}
		differences = []float64{0, -0.5, -1, -2}
		fmt.Println("| baseline fails | canary : baseline | canary requests | true difference | looks | continue | hold | rollback | median requests to a verdict |")
		fmt.Println("|---|---|---|---|---|---|---|---|---|")
	}
	worst := 0.0
	for _, q := range baselines {
		for _, split := range []int{1, 9} {
			for _, size := range sizes {
				for _, d := range differences {
					for _, n := range looks {
						r := simulate(p, scenario{q, d, size, split, n}, runs, uint64(size+n))
						if *full {
							fmt.Printf("| %g %% | 1 : %d | %d | %+g points | %d | %.1f %% | %.1f %% | %.1f %% | %.0f |\n", 100*q, split, size, -100*p.MinSuccessDelta*d, n, 100*r.proceed, 100*r.hold, 100*r.rollback, r.used*float64(size))
						}
						if d <= -1 {
							worst = max(worst, r.proceed)
						}
						if d <= -1 && r.proceed > p.Alpha {
							t.Errorf("baseline fails %g, 1:%d, %d requests, difference %g margins, %d looks: %.3f continue, want at most %g", q, split, size, d, n, r.proceed, p.Alpha)
						}
						if d >= -1 && r.rollback > p.Alpha {
							t.Errorf("baseline fails %g, 1:%d, %d requests, difference %g margins, %d looks: %.3f rolled back, want at most %g", q, split, size, d, n, r.rollback, p.Alpha)
						}
						// The gate must also let go, and stop, what is far from the margin.
						if d == 0 && size >= 3000 && q <= 0.001 && r.proceed < 0.95 {
							t.Errorf("baseline fails %g, 1:%d, %d requests, no difference, %d looks: only %.3f continue", q, split, size, n, r.proceed)
						}
						if d == -3 && size >= 3000 && q <= 0.001 && r.rollback < 0.95 {
							t.Errorf("baseline fails %g, 1:%d, %d requests, three margins worse, %d looks: only %.3f rolled back", q, split, size, n, r.rollback)
						}
					}
				}
			}
		}
	}
	if *full {
		fmt.Printf("\nlargest false Continue: %.1f %%\n", 100*worst)
	}
}

// The score interval is for one look: the same simulation shows what polling it
// costs, and with it that this simulation can fail.
func TestPollingAScoreIntervalIsWrong(t *testing.T) {
	p := Default()
	p.Looks = OneLook
	at := scenario{baseline: 0.01, difference: -1, requests: 10000, split: 1, looks: 1}
	if r := simulate(p, at, 300, 1); r.proceed > p.Alpha {
		t.Errorf("%.3f continue at one look, want at most %g", r.proceed, p.Alpha)
	}
	at.looks = 200
	if r := simulate(p, at, 300, 1); r.proceed <= p.Alpha {
		t.Errorf("%.3f continue at two hundred looks, want more than %g", r.proceed, p.Alpha)
	}
}

// What a look costs.
func BenchmarkJudge(b *testing.B) {
	p := Default()
	in := Input{Canary: side(9950, 10000), Baseline: side(99500, 100000)}
	for b.Loop() {
		p.Judge(in)
	}
}

package correlator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// weeklyTests is how many hypotheses the cluster of these tests tests a week.
const weeklyTests = 50_000

// stream is a detector of a third party that finds something at the times of
// a Poisson process, and gives what it finds any probability it likes.
type stream struct {
	name  string
	every time.Duration // mean
	claim func(*rand.Rand) float64
}

// earned feeds weeks of a stream to a fold and gives what each anomaly of all
// but the first four weeks is worth.
func (s stream) earned(weeks int) []event.Anomaly {
	f := &fold{policy: Policy{TrustedDetectors: []string{s.name}}, State: newState()}
	r := rand.New(rand.NewPCG(7, 11))
	var out []event.Anomaly
	for i, now := 0, noon; now.Before(noon.Add(time.Duration(weeks+4) * week)); i++ {
		now = now.Add(time.Duration(r.ExpFloat64() * float64(s.every)))
		f.State.Tests = testCount{Since: noon.Add(-week), Count: int64(weeklyTests * 120 * float64(now.Sub(noon.Add(-week))) / float64(week))}
		a := event.Anomaly{Key: fmt.Sprint(i), Detector: s.name, Foreign: true, TailProb: s.claim(r), Onset: now, WindowEnd: now}
		if got := f.trust(a, now); now.After(noon.Add(4 * week)) {
			out = append(out, got)
		}
	}
	return out
}

// TestWhatAThirdPartyEarnsIsWhatItsRarityIs is the property that the page
// budget rests on: of a detector that finds nothing but chance, as many
// anomalies a week have H·p of at most r as r says, whatever it claims.
func TestWhatAThirdPartyEarnsIsWhatItsRarityIs(t *testing.T) {
	const weeks = 60
	for name, s := range map[string]stream{
		"honest":                 {"theirs", 30 * time.Minute, func(r *rand.Rand) float64 { return 1e-9 * r.Float64() }},
		"too sure, in power":     {"theirs", 30 * time.Minute, func(r *rand.Rand) float64 { return 1e-9 * math.Pow(r.Float64(), 9) }},
		"too sure, by the limit": {"theirs", 30 * time.Minute, func(r *rand.Rand) float64 { return 1e-300 * r.Float64() }},
		"of many words":          {"theirs", 5 * time.Minute, func(r *rand.Rand) float64 { return 1e-30 * r.Float64() }},
		"of few words":           {"theirs", 6 * time.Hour, func(r *rand.Rand) float64 { return 1e-30 * r.Float64() }},
	} {
		t.Run(name, func(t *testing.T) {
			got := s.earned(weeks)
			mean := float64(week) / float64(s.every) // anomalies a week
			// Below one in the time that is remembered, nothing is called rarer.
			least := max(1./4, mean/maxClaims)
			for _, rate := range []float64{2, 5, 20, 100, 300} {
				if rate < 2*least || rate > mean/2 {
					continue
				}
				n := 0
				for _, a := range got {
					if a.TailProb*weeklyTests <= rate {
						n++
					}
				}
				want := rate * weeks
				// The rank's steps are a whole anomaly; the rest is five deviations
				// of a count.
				if d := math.Abs(float64(n) - want); d > 5*math.Sqrt(want)+weeks*least {
					t.Errorf("%d of %d anomalies pass as at most %g a week in %d weeks, want about %.0f", n, len(got), rate, weeks, want)
				}
			}
			// Uniform: the share of anomalies at each rank is that rank.
			for _, q := range []float64{0.1, 0.25, 0.5, 0.75, 0.9} {
				n := 0
				for _, a := range got {
					if a.TailProb*weeklyTests <= q*mean {
						n++
					}
				}
				if share := float64(n) / float64(len(got)); math.Abs(share-q) > 0.06 {
					t.Errorf("%.2f of them are among the strangest %.2f", share, q)
				}
			}
		})
	}
}

func TestADetectorThatCriesAtEveryStepEarnsNothing(t *testing.T) {
	p := stream{"theirs", 30 * time.Second, func(*rand.Rand) float64 { return 1e-9 }}.earned(1)
	for _, a := range p {
		// 20160 a week: none of them is anywhere near one a week.
		if rate := a.TailProb * weeklyTests; rate < 15_000 {
			t.Fatalf("an anomaly passes as one of %.0f a week, of 20160 alike", rate)
		}
	}
}

func TestOnlyTheOrderOfClaimsIsBelieved(t *testing.T) {
	claim := func(squeeze float64) func(*rand.Rand) float64 {
		return func(r *rand.Rand) float64 { return 1e-9 * math.Pow(r.Float64(), squeeze) }
	}
	a := stream{"theirs", time.Hour, claim(1)}.earned(2)
	b := stream{"theirs", time.Hour, claim(6)}.earned(2)
	for i := range a {
		if a[i].TailProb != b[i].TailProb {
			t.Fatalf("anomaly %d is worth %g, and %g when all claims are made stronger alike", i, a[i].TailProb, b[i].TailProb)
		}
	}
}

func TestTrustIsEarnedInSmallSteps(t *testing.T) {
	type step struct {
		at      time.Duration
		key     string
		p       float64
		ended   bool
		untold  bool // by a detector that no policy lists
		least   float64
		most    float64
		context bool
	}
	for name, steps := range map[string][]step{
		"the first anomaly weighs nothing": {{p: 1e-9, least: 1, most: 1}},
		"the first in a quiet week is one of one a week": {
			{p: 1e-2, least: 1, most: 1}, {at: week, key: "b", p: 1e-9, least: 1. / weeklyTests, most: 1. / weeklyTests},
		},
		"an equal claim counts against it": {
			{p: 1e-9, least: 1, most: 1}, {at: week, key: "b", p: 1e-9, least: 2. / weeklyTests, most: 2. / weeklyTests},
		},
		"nothing is stranger than its detector says": {
			{p: 1e-1, least: 1, most: 1}, {at: week, key: "b", p: 0.2, least: 0.2, most: 0.2},
		},
		"what is said again of one anomaly counts once": {
			{p: 1e-2, least: 1, most: 1},
			{at: week, key: "b", p: 1e-9, least: 1. / weeklyTests, most: 1. / weeklyTests},
			{at: week + time.Minute, key: "b", p: 1e-12, least: 0.99 / weeklyTests, most: 1. / weeklyTests},
			{at: week + 2*time.Minute, key: "b", p: 1e-12, ended: true, least: 0.99 / weeklyTests, most: 1. / weeklyTests},
		},
		"a claim made stronger later counts as the stronger one": {
			{p: 1e-2, least: 1, most: 1},
			{at: time.Minute, p: 1e-12, least: 0.1, most: 1},
			{at: week, key: "b", p: 1e-9, least: 2. / weeklyTests, most: 2. / weeklyTests},
		},
		"what is older than four weeks is forgotten": {
			{p: 1e-12, least: 1, most: 1}, {at: 5 * week, key: "b", p: 1e-9, least: 0.25 / weeklyTests, most: 0.25 / weeklyTests},
		},
		"a detector that no policy lists stays context": {{p: 1e-9, untold: true, least: 1e-9, most: 1e-9, context: true}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fold{policy: Policy{TrustedDetectors: []string{"theirs"}}, State: newState()}
			for i, s := range steps {
				now := noon.Add(s.at)
				f.State.Tests = testCount{Since: now.Add(-week), Count: weeklyTests * 120}
				a := event.Anomaly{Key: s.key, Detector: "theirs", Foreign: true, TailProb: s.p, WindowEnd: now, Explanation: "odd"}
				if s.untold {
					a.Detector = "others"
				}
				if s.ended {
					a.Ended = &now
				}
				got := f.trust(a, now)
				if p := got.TailProb; p < s.least*(1-1e-9) || p > s.most*(1+1e-9) {
					t.Errorf("step %d: worth p %g, want %g to %g", i, p, s.least, s.most)
				}
				if got.Foreign != s.context {
					t.Errorf("step %d: context %v, want %v", i, got.Foreign, s.context)
				}
				if told := strings.HasPrefix(got.Explanation, "odd; its detector says p "); told != (got.TailProb > s.p) {
					t.Errorf("step %d: p %g instead of %g is explained as %q", i, got.TailProb, s.p, got.Explanation)
				}
			}
		})
	}
}

func TestWhatIsRememberedOfClaimsIsBounded(t *testing.T) {
	f := &fold{policy: Policy{TrustedDetectors: []string{"theirs"}}, State: newState()}
	for i := range 3 * maxClaims {
		now := noon.Add(time.Duration(i) * time.Second)
		f.trust(event.Anomaly{Key: fmt.Sprint(i), Detector: "theirs", Foreign: true, TailProb: 1e-9, WindowEnd: now}, now)
	}
	r := f.State.Claims["theirs"]
	if len(r.Claims) != maxClaims || !r.Since.Equal(noon.Add((2*maxClaims-1)*time.Second)) {
		t.Errorf("%d claims since %v, want %d since the last that was forgotten", len(r.Claims), r.Since, maxClaims)
	}
}

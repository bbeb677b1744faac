package canary

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

func TestTheShippedPolicyIsTheDefault(t *testing.T) {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(store)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	if got.Analyses != nil || got.MinRequests != want.MinRequests || got.MinSuccessDelta != want.MinSuccessDelta || got.MaxP95Regression != want.MaxP95Regression ||
		got.MaxP99Regression != want.MaxP99Regression || got.Alpha != want.Alpha || got.Looks != want.Looks {
		t.Errorf("policies/canary.yaml is %+v, the default %+v", got, want)
	}
}

func TestErrorsOfThePolicyNameFieldAndFix(t *testing.T) {
	_, err := Parse("policies/canary.yaml", []byte(`min_requests: -1
min_success_delta: 1
max_p95_regression: 20
alpha: 0.95
looks: hourly
analyses:
- name: a
  canary: {ok: sum(x), total: "sum(increase(x[$window]))", latency: "h[$window]"}
  baseline: {ok: "x[$window]", errors: "y[$window]", total: "sum(x[$window])"}
- name: a
  canary: {errors: "x[$window]", total: "x[$window]"}
`))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"policies/canary.yaml:1: min_requests: -1 is not between 0 and 1e9; write 100",
		"canary.yaml:2: min_success_delta: 1 is not below 0 and at least -0.5; write -0.01",
		"canary.yaml:3: max_p95_regression: 20 is not between 0 and 4; write 0.2",
		"alpha: 0.95 is not between 0.000001 and 0.2; write 0.05: the probability of error",
		"looks: hourly is not any or once",
		"canary.yaml:8: analyses[0].canary.ok: sum(x) does not say [$window]",
		"analyses[0].canary.latency: has nothing to be compared with",
		"analyses[0].baseline.ok: needs one of ok and errors",
		"analyses[1].name: a is used twice",
		"analyses[1].baseline.total: is missing",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func ptr(x float64) *float64 { return &x }

func side(ok, total float64) Side { return Side{Counts: Counts{OK: ok, Total: total}} }

func TestVerdicts(t *testing.T) {
	nan := math.NaN()
	slow := func(s Side, p95 float64) Side { s.P95 = &p95; return s }
	slowest := func(s Side, p99 float64) Side { s.P99 = &p99; return s }
	for name, c := range map[string]struct {
		canary, baseline Side
		want             Verdict
		says             string
	}{
		"the same, with requests enough":                {side(9950, 10000), side(9950, 10000), Continue, "canary 99.50 % (9,950 of 10,000)"},
		"the same, with too few requests":               {side(995, 1000), side(9950, 10000), Hold, "allowed -1.00 points; too few requests to tell"},
		"nothing fails, with too few to show it":        {side(412, 412), side(412, 412), Hold, ""},
		"nothing fails":                                 {side(2000, 2000), side(2000, 2000), Continue, ""},
		"one in ten fails":                              {side(900, 1000), side(995, 1000), Rollback, "-9.50 points"},
		"all of forty fail, fewer than the minimum":     {side(0, 40), side(400, 400), Rollback, ""},
		"exactly the allowed regression":                {side(9850, 10000), side(9950, 10000), Hold, ""},
		"the canary is much better":                     {side(3000, 3000), side(2700, 3000), Continue, ""},
		"the canary has no traffic":                     {side(0, 0), side(400, 400), Hold, "the canary has served no request"},
		"the baseline has no traffic":                   {side(400, 400), side(0, 0), Hold, "the baseline has served no request"},
		"nobody has traffic":                            {side(0, 0), side(0, 0), Hold, "neither"},
		"a number is missing":                           {side(nan, 9000), side(9000, 9000), Hold, "not measured: canary ok (NaN)"},
		"a number is infinite":                          {side(9000, 9000), side(9000, math.Inf(1)), Hold, "not measured: baseline total (+Inf)"},
		"no number at all":                              {side(nan, nan), side(nan, nan), Hold, "canary total (NaN), baseline ok (NaN)"},
		"p95 is within the threshold":                   {slow(side(9950, 10000), 220), slow(side(9950, 10000), 200), Continue, "a threshold: a bare percentile does not say how sure it is"},
		"p95 is beyond the threshold":                   {slow(side(9950, 10000), 241), slow(side(9950, 10000), 200), Rollback, "p95: canary 241, baseline 200: +20.5 %; allowed +20 %"},
		"p95 of few requests":                           {slow(side(150, 150), 900), slow(side(9950, 10000), 200), Hold, "of fewer than 200 requests says little"},
		"p95 is not a number":                           {slow(side(9950, 10000), nan), slow(side(9950, 10000), 200), Hold, "p95: not measured: canary NaN"},
		"p95 of the baseline is nought":                 {slow(side(9950, 10000), 3), slow(side(9950, 10000), 0), Hold, "nothing to compare with"},
		"p99 of requests that suffice for p95 only":     {slowest(side(800, 800), 20), slowest(side(9950, 10000), 20), Hold, "p99: canary 20"},
		"p99 of a thousand requests suffices":           {slowest(side(2000, 2000), 20), slowest(side(2000, 2000), 20), Continue, ""},
		"too slow and too few requests for the success": {slow(side(400, 400), 900), slow(side(400, 400), 200), Rollback, ""},
		"p95 of counts that are not known":              {slow(side(nan, nan), 100), slow(side(400, 400), 200), Hold, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Canary: c.canary, Baseline: c.baseline}
			if err := in.Validate(); err != nil {
				t.Fatal(err)
			}
			got := Default().Judge(in)
			if got.Verdict != c.want || !strings.Contains(strings.Join(got.Reasons, "\n"), c.says) {
				t.Errorf("got %s %q, want %s, %q", got.Verdict, got.Reasons, c.want, c.says)
			}
			if len(got.Reasons) == 0 {
				t.Error("no reason")
			}
			if _, err := json.Marshal(got); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNonsenseIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"more ok than there were":        {Input{Canary: side(101, 100), Baseline: side(1, 1)}, "canary: 101 of 100 requests were ok, more than there were; both are counts, not percentages"},
		"a negative number":              {Input{Canary: side(-1, 100), Baseline: side(1, 1)}, "canary ok: -1 is not between 0 and 1e+12"},
		"more than is counted exactly":   {Input{Canary: side(1, 1), Baseline: side(1, 1e13)}, "baseline total: 1e+13"},
		"a percentile of one side":       {Input{Canary: Side{Counts: Counts{1, 1}, P95: ptr(3)}, Baseline: side(1, 1)}, "p95 of one side only"},
		"a latency that runs backwards":  {Input{Canary: Side{Counts: Counts{1, 1}, P99: ptr(-3)}, Baseline: Side{Counts: Counts{1, 1}, P99: ptr(3)}}, "canary p99: -3 is negative"},
		"less than nothing is not valid": {Input{Canary: side(math.Inf(-1), 100), Baseline: side(1, 1)}, "-Inf"},
	} {
		if err := c.in.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// What a hold says is needed is what it takes, if what follows is as good.
func TestNeededIsWhatItTakes(t *testing.T) {
	for _, looks := range []Looks{AnyLooks, OneLook} {
		p := Default()
		p.Looks = looks
		for _, c := range [][2]Counts{{{0, 0}, {0, 0}}, {{212, 212}, {1900, 1900}}, {{198, 200}, {1990, 2000}}, {{95, 100}, {950, 1000}}} {
			r := p.Judge(Input{Canary: Side{Counts: c[0]}, Baseline: Side{Counts: c[1]}, Over: 10 * time.Minute})
			if r.Verdict != Hold || r.NeededRequests == nil || *r.MoreRequests <= 0 {
				t.Fatalf("%s %v: got %+v", looks, c, r)
			}
			both := c[0].plus(c[1])
			split := 1.0
			if c[0].Total > 0 {
				split = c[1].Total / c[0].Total
				if want := *r.MoreRequests / c[0].Total * 10; math.Abs(*r.Minutes-want) > 1e-9 {
					t.Errorf("%s %v: %g minutes, want %g", looks, c, *r.Minutes, want)
				}
			}
			after := func(more float64) Verdict {
				ok := more * (1 - both.rate())
				return p.Judge(Input{Canary: Side{Counts: c[0].plus(Counts{ok, more})}, Baseline: Side{Counts: c[1].plus(Counts{ok * split, more * split})}}).Verdict
			}
			if got := after(*r.MoreRequests); got != Continue {
				t.Errorf("%s %v: %s after %g more", looks, c, got, *r.MoreRequests)
			}
			if got := after(*r.MoreRequests*0.99 - 2); got != Hold {
				t.Errorf("%s %v: %s before", looks, c, got)
			}
		}
	}
}

func TestHeadline(t *testing.T) {
	p := Default()
	for want, in := range map[string]Input{
		"CONTINUE":         {Canary: side(9950, 10000), Baseline: side(9950, 10000)},
		"ROLLBACK-ADVISED": {Canary: side(0, 100), Baseline: side(100, 100)},
		"HOLD: 412 of ~486 canary requests needed; at 3.1 rps about 1 min": {Canary: side(412, 412), Baseline: side(412, 412), Over: 133 * time.Second},
		"HOLD": {Canary: side(math.NaN(), 412), Baseline: side(412, 412)},
	} {
		if got := p.Judge(in).Headline(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The score interval against published values: Newcombe, Statistics in Medicine
// 17 (1998), pages 873-890, table II, the method of Miettinen and Nurminen.
func TestScoreInterval(t *testing.T) {
	for _, c := range []struct {
		canary, baseline Counts
		low, high        float64
	}{
		{Counts{56, 70}, Counts{48, 80}, 0.0528, 0.3382},
		{Counts{9, 10}, Counts{3, 10}, 0.1700, 0.8406},
		{Counts{10, 10}, Counts{0, 20}, 0.7156, 1},
	} {
		got := once(0.05).interval(c.canary, c.baseline)
		if math.Abs(got.Low-c.low) > 1e-4 || math.Abs(got.High-c.high) > 1e-4 {
			t.Errorf("%v %v: got %+.5v, want %g to %g", c.canary, c.baseline, got, c.low, c.high)
		}
	}
}

func TestTheBestPairIsTheBest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		n, m := float64(1+rng.IntN(500)), float64(1+rng.IntN(5000))
		c, b := Counts{math.Floor(n * rng.Float64()), n}, Counts{math.Floor(m * rng.Float64()), m}
		higher := 1.8*rng.Float64() - 0.9
		top := logBest(c, b, higher)
		for q := max(0, -higher); q <= min(1, 1-higher); q += 0.003 {
			if l := logLikelihood(c, q+higher) + logLikelihood(b, q); l > top+1e-6 {
				t.Fatalf("%v %v %+.3f: %g at %g is better than %g", c, b, higher, l, q, top)
			}
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(995.0, 1000.0, 9950.0, 10000.0, 100.0, 90.0, false)
	f.Add(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, true)
	f.Add(1e12, 1e12, 0.5, 1.0, 1e300, 1e-300, true)
	f.Add(math.NaN(), 1.0, math.Inf(1), 2.0, math.NaN(), 1.0, false)
	f.Fuzz(func(t *testing.T, co, ct, bo, bt, cp, bp float64, one bool) {
		p := Default()
		if one {
			p.Looks = OneLook
		}
		in := Input{Canary: side(co, ct), Baseline: side(bo, bt), Over: time.Minute}
		in.Canary.P95, in.Baseline.P95 = &cp, &bp
		if in.Validate() != nil {
			return
		}
		r := p.Judge(in)
		if r.Verdict.gravity() < 0 || len(r.Reasons) == 0 {
			t.Errorf("got %+v", r)
		}
		if r.Verdict == Continue && !(finite(co+ct+bo+bt+cp+bp) && ct >= p.MinRequests && bt >= p.MinRequests && co/ct-bo/bt > p.MinSuccessDelta) {
			t.Errorf("%g/%g against %g/%g continues", co, ct, bo, bt)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}

// What a baseline without traffic lacks is no request of the canary's.
func TestABaselineWithoutTrafficNeedsNoMoreOfTheCanary(t *testing.T) {
	for _, c := range []struct {
		canary float64
		needed bool
	}{{0, true}, {10_000, false}} {
		r := Default().Judge(Input{Canary: side(c.canary, c.canary), Baseline: side(0, 0)})
		if r.Verdict != Hold || (r.NeededRequests != nil) != c.needed || (r.MoreRequests != nil) != c.needed {
			t.Errorf("%g canary requests: got %s, needed %v, more %v", c.canary, r.Verdict, r.NeededRequests, r.MoreRequests)
		}
	}
}

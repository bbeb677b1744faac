package canary

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// File is the policy file of the gate.
const File = "canary.yaml"

// Looks says how often a gate is asked about one canary.
type Looks string

// The schedules.
const (
	AnyLooks Looks = "any"  // as often as one likes: the interval is a confidence sequence
	OneLook  Looks = "once" // once, when it is over: the interval is a score interval, and narrower
)

// Policy is the content of policies/canary.yaml: what a canary must show.
type Policy struct {
	// MinRequests is the least number of requests of either side before a canary
	// may continue. Default: 100.
	MinRequests float64 `yaml:"min_requests"`
	// MinSuccessDelta is the least allowed difference between the canary's success
	// rate and the baseline's: -0.01 is one percentage point lower. Default: -0.01.
	MinSuccessDelta float64 `yaml:"min_success_delta"`
	// MaxP95Regression is by how much the canary's p95 may be above the baseline's:
	// 0.2 is 20 %. 0 leaves it out. Default: 0.2.
	MaxP95Regression float64 `yaml:"max_p95_regression"`
	// MaxP99Regression is the same of p99. Default: 0.5.
	MaxP99Regression float64 `yaml:"max_p99_regression"`
	// Alpha bounds the probability that an interval ever leaves out the truth, and
	// with it that a bad canary continues. Default: 0.05.
	Alpha float64 `yaml:"alpha"`
	// Looks is any or once. Default: any.
	Looks Looks `yaml:"looks"`
	// Analyses are the queries of oncall canary-prom and oncall serve canary.
	Analyses []Analysis `yaml:"analyses"`
}

// Analysis names the queries that measure a canary. In each $window stands for
// the time since the canary began, and $namespace and $name for what is rolled
// out.
type Analysis struct {
	// Name is how it is asked for; lower case, digits and dashes.
	Name string `yaml:"name"`
	// Canary and Baseline are the queries of the two sides.
	Canary   Queries `yaml:"canary"`
	Baseline Queries `yaml:"baseline"`
}

// Queries are PromQL for one side. Each gives one number, a sum since the canary
// began: sum(increase(http_requests_total{track="canary"}[$window])).
type Queries struct {
	// OK counts the requests that went well; write it or Errors.
	OK string `yaml:"ok"`
	// Errors counts the requests that failed.
	Errors string `yaml:"errors"`
	// Total counts all requests.
	Total string `yaml:"total"`
	// Latency is a histogram, classic by le or native:
	// sum by (le) (increase(http_request_duration_seconds_bucket{track="canary"}[$window])).
	Latency string `yaml:"latency"`
	// Samples is read at every step since the canary began, each value being one
	// sample: for latencies that exist only as gauges or summaries.
	Samples string `yaml:"samples"`
}

// Default is the policy of a user who writes nothing.
func Default() Policy {
	return Policy{MinRequests: 100, MinSuccessDelta: -0.01, MaxP95Regression: 0.2, MaxP99Regression: 0.5, Alpha: 0.05, Looks: AnyLooks}
}

// Load reads the policy in force; the defaults when there is no file.
func Load(store *policy.Store) (Policy, error) {
	if store != nil {
		if b, ok := store.File(File); ok {
			return Parse("policies/"+File, b)
		}
	}
	return Default(), nil
}

// Parse reads a policy file.
func Parse(file string, b []byte) (Policy, error) {
	p := Default()
	if err := policy.Decode(file, b, &p); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// Validate checks every field.
func (p *Policy) Validate() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	if !(p.MinRequests >= 0 && p.MinRequests <= 1e9) {
		bad("min_requests", p.MinRequests, "is not between 0 and 1e9", "write 100")
	}
	if !(p.MinSuccessDelta < 0 && p.MinSuccessDelta >= -0.5) {
		fix := "write -0.01"
		switch d := math.Abs(p.MinSuccessDelta); {
		case d > 0.5 && d <= 50: // a percentage
			fix = fmt.Sprintf("write %.6g", -d/100)
		case d > 0 && d <= 0.5:
			fix = fmt.Sprintf("write %.6g", -d)
		}
		bad("min_success_delta", p.MinSuccessDelta, "is not below 0 and at least -0.5", fix)
	}
	for field, r := range map[string]float64{"max_p95_regression": p.MaxP95Regression, "max_p99_regression": p.MaxP99Regression} {
		if !(r >= 0 && r <= 4) {
			fix := "write 0.2"
			if r > 4 && r <= 400 {
				fix = fmt.Sprintf("write %.6g", r/100)
			}
			bad(field, r, "is not between 0 and 4", fix)
		}
	}
	if !(p.Alpha >= 1e-6 && p.Alpha <= 0.2) {
		fix := "write 0.05"
		if p.Alpha >= 0.8 && p.Alpha < 1 {
			fix = fmt.Sprintf("write %.6g: the probability of error, not of being right", 1-p.Alpha)
		}
		bad("alpha", p.Alpha, "is not between 0.000001 and 0.2", fix)
	}
	if p.Looks != AnyLooks && p.Looks != OneLook {
		bad("looks", p.Looks, "is not any or once", "write any")
	}
	seen := map[string]bool{}
	for i, a := range p.Analyses {
		at := fmt.Sprintf("analyses[%d]", i)
		switch {
		case a.Name == "" || event.Token(a.Name) != a.Name:
			bad(at+".name", a.Name, "is not made of letters, digits, - and _", "write name: checkout")
		case seen[a.Name]:
			bad(at+".name", a.Name, "is used twice", "rename one of the analyses")
		}
		seen[a.Name] = true
		a.check(func(side, field string, value any, problem, fix string) {
			bad(strings.TrimSuffix(at+"."+side+"."+field, "."), value, problem, fix)
		})
	}
	return errors.Join(errs...)
}

// Check is what is wrong with an analysis that was not read from a file; name
// turns side and field into what the user wrote.
func (a Analysis) Check(name func(side, field string) string) error {
	var errs []error
	a.check(func(side, field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: name(side, field), Value: value, Problem: problem, Fix: fix})
	})
	return errors.Join(errs...)
}

func (a Analysis) check(bad func(side, field string, value any, problem, fix string)) {
	for _, s := range []struct {
		side    string
		q, them Queries
	}{{"canary", a.Canary, a.Baseline}, {"baseline", a.Baseline, a.Canary}} {
		q := s.q
		if (q.OK != "") == (q.Errors != "") {
			bad(s.side, "ok", nil, "needs one of ok and errors", "write errors: sum(increase(http_requests_total{code=~\"5..\"}[$window]))")
		}
		if q.Total == "" {
			bad(s.side, "total", nil, "is missing", "write total: sum(increase(http_requests_total[$window]))")
		}
		for field, expr := range map[string]string{"ok": q.OK, "errors": q.Errors, "total": q.Total, "latency": q.Latency} {
			if expr != "" && !strings.Contains(expr, "$window") {
				bad(s.side, field, expr, "does not say [$window], the time since the canary began", "write sum(increase(http_requests_total[$window]))")
			}
		}
		if q.Latency != "" && s.them.Latency == "" {
			bad(s.side, "latency", nil, "has nothing to be compared with", "write it for both sides")
		}
		if q.Samples != "" && s.them.Samples == "" {
			bad(s.side, "samples", nil, "has nothing to be compared with", "write it for both sides")
		}
	}
}

// Named is the analysis of a name.
func (p Policy) Named(name string) (Analysis, bool) {
	for _, a := range p.Analyses {
		if a.Name == name {
			return a, true
		}
	}
	return Analysis{}, false
}

// test is the one that the looks ask for.
func (p Policy) test() test {
	if p.Looks == OneLook {
		return once(p.Alpha)
	}
	return anytime(p.Alpha)
}

// regressions are the quantiles that are judged, with what each may grow by.
func (p Policy) regressions() []regression {
	var out []regression
	if p.MaxP95Regression > 0 {
		out = append(out, regression{0.95, p.MaxP95Regression})
	}
	if p.MaxP99Regression > 0 {
		out = append(out, regression{0.99, p.MaxP99Regression})
	}
	return out
}

type regression struct{ quantile, allowed float64 }

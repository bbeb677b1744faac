package canary

import (
	"math"
	"strings"
	"testing"
)

// FuzzParse: a policy of the gate is refused by the name of its file, or a canary
// can be judged by it.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "---", "alpha: 0.95", "alpha: .nan", "min_requests: .inf", "min_success_delta: 1", "looks: twice", "max_p95_regression: 0\nmax_p99_regression: 0",
		"analyses: [{name: a, canary: {errors: 'e[$window]', total: 't[$window]'}, baseline: {ok: 'o[$window]', total: 't[$window]'}}]", "analyses: [{name: a}, {name: a}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse("canary.yaml", b)
		if err != nil {
			if !strings.Contains(err.Error(), "canary.yaml") {
				t.Errorf("%q: %v: does not name the file", b, err)
			}
			return
		}
		for _, a := range p.Analyses {
			if err := a.Check(func(side, field string) string { return side + "." + field }); err != nil {
				t.Errorf("%q: analysis %s is taken with %v", b, a.Name, err)
			}
		}
		for _, x := range []float64{p.Alpha, p.MinRequests, p.MinSuccessDelta, p.MaxP95Regression, p.MaxP99Regression} {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				t.Errorf("%q: %+v", b, p)
			}
		}
	})
}

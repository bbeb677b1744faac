package slo

import (
	"math"
	"strings"
	"testing"
	"time"
)

// FuzzParse: a file of objectives is refused by its name, or every number in it is
// one that can be reckoned with.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "---", "objectives: []", "objectives: [{name: a, target: 99.9}]", "objectives: [{name: a, target: .nan}]", "windows: [{burn: .nan, long: 1h, short: 5m, severity: critical}]",
		"windows: [{burn: .inf, long: 1h, short: 5m, severity: info}]", "objectives: [{name: a, target: 0.9, min_requests: .nan}]", "false_pages_per_week: .nan", "include: [../x.yaml]",
		"objectives: [{name: a, target: 0.9, errors: e, total: t, match: {namespaces: ['[']}}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse("slo.yaml", b)
		if err != nil {
			if !strings.Contains(err.Error(), "slo.yaml") {
				t.Errorf("%q: %v: does not name the file", b, err)
			}
			return
		}
		for _, o := range p.Objectives {
			if !(o.Target > 0 && o.Target < 1) || !finite(o.MinRequests) || o.Period < 24*time.Hour || o.Page == nil || (o.Errors == "") != (o.Total == "") {
				t.Errorf("%q: objective %+v", b, o)
			}
		}
		for _, w := range p.Windows {
			if !finite(w.Burn) || w.Burn == 0 || w.Short < time.Minute || w.Short >= w.Long {
				t.Errorf("%q: window %+v", b, w)
			}
		}
		if len(p.Windows) == 0 || !finite(p.FalsePagesPerWeek) || p.FalsePagesPerWeek == 0 {
			t.Errorf("%q: %d windows, %v pages a week", b, len(p.Windows), p.FalsePagesPerWeek)
		}
		p.For("shop", "web")
	})
}

// finite says whether a number is at least 0 and no infinity.
func finite(x float64) bool { return x >= 0 && !math.IsInf(x, 1) }

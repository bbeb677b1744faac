package remotewrite

import "testing"

// FuzzSelector: a selector that is taken names a metric.
func FuzzSelector(f *testing.F) {
	for _, s := range []string{`up`, `http_requests_total{code=~"5..",namespace!="kube-system"}`, `{__name__="a.b"}`, `{__name__=~"a.*"}`, `a{`, `a}`, `{}`, `a{b=~"("}`, ``} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSelector(text)
		if err != nil {
			return
		}
		if s.metric == "" {
			t.Errorf("%q names no metric", text)
		}
		for _, m := range s.matchers {
			if (m.Op == "=~" || m.Op == "!~") != (m.re != nil) {
				t.Errorf("%q: matcher %s%s%q has expression %v", text, m.Name, m.Op, m.Value, m.re)
			}
		}
	})
}

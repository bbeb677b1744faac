package slo

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

const (
	slothText = `version: "prometheus/v1"
service: shop
slos:
  - name: requests
    objective: 99.9
    sli:
      events:
        error_query: sum(rate(http_requests_total{code=~"5.."}[{{.window}}]))
        total_query: sum(rate(http_requests_total[{{ .window }}]))
    alerting: {page_alert: {disable: true}}
  - name: ratio
    objective: 95
    sli: {raw: {error_ratio_query: "sum(job:bad:ratio5m)"}}
`
	slothKube = `apiVersion: sloth.slok.dev/v1
kind: PrometheusServiceLevel
metadata: {name: shop}
spec:
  service: shop
  slos:
    - name: web
      objective: 99.5
      sli: {events: {errorQuery: "sum(rate(e[{{.window}}]))", totalQuery: "sum(rate(t[{{.window}}]))"}}
`
	pyrraText = `apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: api, namespace: shop}
spec:
  target: "99"
  window: 2w
  indicator:
    ratio:
      errors: {metric: 'http_requests_total{code=~"5.."}'}
      total: {metric: http_requests_total}
      grouping: [namespace, pod]
---
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: fast}
spec:
  target: "95"
  indicator: {latencyNative: {latency: 250ms, total: {metric: http_request_duration_seconds}}}
`
	pyrraBool = `---
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: up}
spec:
  target: "99"
  indicator: {bool_gauge: {metric: 'probe_success{job="x"}', grouping: [instance]}}
---
`
	openWindow = `apiVersion: openslo/v1
kind: SLO
metadata: {name: bad}
spec:
  indicator:
    spec:
      ratioMetric:
        bad: {metricSource: {type: Prometheus, spec: {query: 'sum(rate(e[{{.window}}]))'}}}
        total: {metricSource: {type: Prometheus, spec: {query: 'sum(rate(t[{{ .window }}]))'}}}
  objectives: [{target: 0.99}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: raw}
spec:
  indicator: {spec: {ratioMetric: {rawType: success, raw: {metricSource: {type: Prometheus, spec: {query: 'avg(ok)'}}}}}}
  objectives: [{targetPercent: 99.5}]
`
	openText = `apiVersion: openslo/v1
kind: Service
metadata: {name: shop}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: good}
spec:
  ratioMetric:
    counter: true
    good: {metricSource: {type: Prometheus, spec: {query: 'requests_total{code!~"5.."}'}}}
    total: {metricSource: {type: Prometheus, spec: {query: requests_total}}}
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: shop}
spec:
  indicatorRef: good
  budgetingMethod: Occurrences
  timeWindow: [{duration: 28d, isRolling: true}]
  objectives: [{target: 0.999}]
`
)

func TestObjectivesOfOtherToolsAreRead(t *testing.T) {
	for title, c := range map[string]struct {
		text string
		want []Objective
		page []bool
	}{
		"Sloth's own file": {slothText, []Objective{
			{Name: "shop-requests", Target: 0.999, Errors: `sum(rate(http_requests_total{code=~"5.."}[5m]))`, Total: "sum(rate(http_requests_total[5m]))"},
			{Name: "shop-ratio", Target: 0.95, Errors: "sum(job:bad:ratio5m)", Total: "0 * (sum(job:bad:ratio5m)) + 1"},
		}, []bool{false, true}},
		"Sloth's resource": {slothKube, []Objective{{Name: "shop-web", Target: 0.995, Errors: "sum(rate(e[5m]))", Total: "sum(rate(t[5m]))"}}, []bool{true}},
		"Pyrra": {pyrraText, []Objective{
			{
				Name: "shop-api", Target: 0.99, Period: 14 * 24 * time.Hour, Total: "sum by (namespace, pod)(rate(http_requests_total[5m]))",
				Errors: `sum by (namespace, pod)(rate(http_requests_total{code=~"5.."}[5m])) or 0 * sum by (namespace, pod)(rate(http_requests_total[5m]))`,
			},
			{
				Name: "fast", Target: 0.95, Total: "histogram_count(sum(rate(http_request_duration_seconds[5m])))",
				Errors: "histogram_count(sum(rate(http_request_duration_seconds[5m]))) * (1 - histogram_fraction(0, 0.25, sum(rate(http_request_duration_seconds[5m]))))",
			},
		}, []bool{true, true}},
		"Pyrra's gauge, whose samples are few, between lines of ---": {pyrraBool, []Objective{{
			Name: "up", Target: 0.99, MinRequests: 3, Total: `sum by (instance)(count_over_time(probe_success{job="x"}[5m])) / 300`,
			Errors: `sum by (instance)(count_over_time(probe_success{job="x"}[5m])) / 300 - sum by (instance)(sum_over_time(probe_success{job="x"}[5m])) / 300`,
		}}, []bool{true}},
		"OpenSLO with the window that Sloth writes, and a ratio": {openWindow, []Objective{
			{Name: "bad", Target: 0.99, Errors: "sum(rate(e[5m]))", Total: "sum(rate(t[5m]))"},
			{Name: "raw", Target: 0.995, Errors: "1 - (avg(ok))", Total: "0 * (1 - (avg(ok))) + 1"},
		}, []bool{true, true}},
		"OpenSLO": {openText, []Objective{{
			Name: "shop", Target: 0.999, Period: 28 * 24 * time.Hour, Total: "sum(rate(requests_total[5m]))",
			Errors: `(sum(rate(requests_total[5m]))) - (sum(rate(requests_total{code!~"5.."}[5m])))`,
		}}, []bool{true}},
	} {
		t.Run(title, func(t *testing.T) {
			got, err := ParseForeign("policies/slo/x.yaml", []byte(c.text))
			if err != nil || len(got) != len(c.want) {
				t.Fatalf("got %+v, %v; want %d objectives", got, err, len(c.want))
			}
			for i, w := range c.want {
				if w.Period == 0 {
					w.Period = 720 * time.Hour
				}
				g := got[i]
				if w.MinRequests == 0 {
					w.MinRequests = DefaultMinRequests
				}
				if g.MinRequests != w.MinRequests || g.Name != w.Name || g.Target != w.Target || g.Errors != w.Errors || g.Total != w.Total || g.Period != w.Period || *g.Page != c.page[i] {
					t.Errorf("got %+v (page %v), want %+v", g, *g.Page, w)
				}
			}
		})
	}
}

func TestAForeignObjectiveThatCannotBeKeptIsAnError(t *testing.T) {
	for title, c := range map[string]struct{ text, want string }{
		"another kind of file":          {"kind: Deployment\napiVersion: apps/v1\n", "is no file of Sloth"},
		"a plugin":                      {"version: prometheus/v1\nservice: s\nslos: [{name: a, objective: 99, sli: {plugin: {id: x/y}}}]\n", "plugin x/y is a program"},
		"another template":              {"version: prometheus/v1\nservice: s\nslos: [{name: a, objective: 99, sli: {events: {error_query: 'x{{.y}}', total_query: t}}}]\n", "a template other than"},
		"a target that is no share":     {"version: prometheus/v1\nservice: s\nslos: [{name: a, objective: 100, sli: {events: {error_query: x, total_query: t}}}]\n", "target: 1 is not between"},
		"no queries":                    {"version: prometheus/v1\nservice: s\nslos: [{name: a, objective: 99}]\n", "has no queries"},
		"a year":                        {strings.Replace(pyrraText, "2w", "1Y", 1), "is not between 1d and 90d"},
		"no indicator":                  {"apiVersion: pyrra.dev/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {name: a}\nspec: {target: '99'}\n", "has none of ratio"},
		"another template in OpenSLO":   {strings.Replace(openWindow, "{{.window}}", "{{.x}}", 1), "ratioMetric: a template other than"},
		"a ratio of neither kind":       {strings.Replace(openWindow, "rawType: success, ", "", 1), `ratioMetric.rawType: "" is neither success nor failure`},
		"nothing to count":              {strings.Replace(openWindow, "total:", "tutti:", 1), "ratioMetric: has no total"},
		"slices of time":                {strings.Replace(openText, "Occurrences", "Timeslices", 1), "counts time and not requests"},
		"an indicator that is not here": {strings.Replace(openText, "indicatorRef: good", "indicatorRef: other", 1), "SLI other is not in this file"},
		"another source":                {strings.ReplaceAll(openText, "type: Prometheus", "type: Datadog"), "its source is Datadog"},
	} {
		t.Run(title, func(t *testing.T) {
			if _, err := ParseForeign("policies/slo/x.yaml", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "policies/slo/x.yaml") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAPolicyIncludesFilesByPath(t *testing.T) {
	load := func(text string) (Policy, error) {
		s, err := policy.NewStore(fstest.MapFS{"slo.yaml": {Data: []byte(text)}, "slo/sloth.yaml": {Data: []byte(slothText)}, "slo/pyrra.yaml": {Data: []byte(pyrraText)}})
		if err != nil {
			t.Fatal(err)
		}
		return Load(s)
	}
	p, err := load("objectives: [{name: own, target: 0.9}]\ninclude: [slo/*.yaml, slo/sloth.yaml]\n")
	if err != nil || len(p.Objectives) != 5 || p.Objectives[0].Name != "own" || len(p.Queries()) != 8 {
		t.Errorf("got %+v, %v", p, err)
	}
	for text, want := range map[string]string{
		"include: [slo/none.yaml]": "matches no file",
		"include: [../x/*.yaml]":   "is not the path of a file in a folder below policies/",
		"include: [slo/*.yaml]\nobjectives: [{name: shop-ratio, target: 0.9}]\n": "holds objective shop-ratio, which is there already",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "policies/slo.yaml") {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func FuzzParseForeign(f *testing.F) {
	for _, s := range []string{slothText, slothKube, pyrraText, openText, "", "---\n---\n", "a: &a [*a]", "[1]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParseForeign("x.yaml", b)
		if err != nil {
			return
		}
		for _, o := range all {
			if o.Errors == "" || o.Total == "" || !(o.Target > 0 && o.Target < 1) || o.Name == "" {
				t.Errorf("got %+v", o)
			}
		}
	})
}

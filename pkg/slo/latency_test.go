package slo

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestALatencyIsAskedOfClassicAndNativeHistogramsAlike(t *testing.T) {
	p := parsed(t, `
objectives:
  - {name: web, target: 0.99, latency: {histogram: 'http_request_duration_seconds{service="web"}', threshold: 300ms}}
  - {name: mesh, target: 0.99, latency: {histogram: istio_request_duration_milliseconds_bucket, threshold: 2.5, by: [namespace, destination_workload]}}
`)
	for name, want := range map[string][2]string{
		"web": {
			`sum (rate(http_request_duration_seconds_count{service="web"}[5m])) - sum (rate(http_request_duration_seconds_bucket{service="web", le="0.3"}[5m])) or ` +
				`histogram_count(sum (rate(http_request_duration_seconds{service="web"}[5m]))) * (1 - histogram_fraction(0, 0.3, sum (rate(http_request_duration_seconds{service="web"}[5m]))))`,
			`sum (rate(http_request_duration_seconds_count{service="web"}[5m])) or histogram_count(sum (rate(http_request_duration_seconds{service="web"}[5m])))`,
		},
		"mesh": {
			`sum by (namespace, destination_workload) (rate(istio_request_duration_milliseconds_count[5m])) - sum by (namespace, destination_workload) (rate(istio_request_duration_milliseconds_bucket{le=~"2500|2500\\.0"}[5m])) or ` +
				`histogram_count(sum by (namespace, destination_workload) (rate(istio_request_duration_milliseconds[5m]))) * (1 - histogram_fraction(0, 2500, sum by (namespace, destination_workload) (rate(istio_request_duration_milliseconds[5m]))))`,
			`sum by (namespace, destination_workload) (rate(istio_request_duration_milliseconds_count[5m])) or histogram_count(sum by (namespace, destination_workload) (rate(istio_request_duration_milliseconds[5m])))`,
		},
	} {
		o, _ := p.Named(name)
		if slow, all := o.PromQL(5 * time.Minute); slow != want[0] || all != want[1] || !o.Own() {
			t.Errorf("%s: got\n%s\n%s\nwant\n%s\n%s", name, slow, all, want[0], want[1])
		}
	}
	if _, ok := p.For("shop", "web"); ok {
		t.Error("an objective about latency stands for the share of errors")
	}
	if q := p.Queries(); len(q) != 4 || q[0].Objective != "web" || !strings.Contains(q[0].Expr, "[$window]") {
		t.Errorf("the collector is asked for %+v", q)
	}
	// It is written as it is read.
	text, err := p.Written()
	if err != nil {
		t.Fatal(err)
	}
	again := parsed(t, "objectives:\n"+text)
	for i, o := range p.Objectives {
		if got := again.Objectives[i]; fmt.Sprint(*got.Latency) != fmt.Sprint(*o.Latency) {
			t.Errorf("written and read again: got %+v, want %+v", *got.Latency, *o.Latency)
		}
	}
}

// A bound is a text, which each library writes in its own way.
func TestABoundIsFoundAsItIsWritten(t *testing.T) {
	for bound, want := range map[float64]string{
		0.3: `le="0.3"`, 1: `le=~"1|1\\.0"`, 2.5: `le="2.5"`, 1e6: `le=~"1000000|1000000\\.0|1e\\+06"`,
	} {
		if got := le(bound); got != want {
			t.Errorf("%g: got %s, want %s", bound, got, want)
		}
	}
}

func TestErrorsOfALatencyNameFileFieldValueAndFix(t *testing.T) {
	const head = "objectives:\n  - name: web\n    target: 0.99\n"
	for text, want := range map[string]string{
		"    latency: {histogram: sum(h), threshold: 1}\n":                         "policies/slo.yaml:4: objectives[0].latency.histogram: sum(h) is not a metric with its labels; write http_request_duration_seconds",
		"    latency: {histogram: h_count, threshold: 1}\n":                        "objectives[0].latency.histogram: h_count is a part of a histogram; write h",
		"    latency:\n      histogram: h\n      threshold: soon\n":                `policies/slo.yaml:6: latency.threshold: "soon" is not a time; write 300ms, or 0.3 for seconds`,
		"    latency:\n      histogram: h\n      threshold: -3\n":                  "policies/slo.yaml:6: objectives[0].latency.threshold: -3s is not above 0 and at most 24h; write 300ms",
		"    latency: {histogram: h}\n":                                            "objectives[0].latency.threshold: 0s is not above 0",
		"    latency: {histogram: h, threshold: 1, by: [le]}\n":                    "objectives[0].latency.by[0]: le is not a label to sum by; write namespace",
		"    latency: {histogram: h, threshold: 1, unit: m}\n":                     "objectives[0].latency.unit: m is not s or ms; write s",
		"    latency: {histogram: h, threshold: 1}\n    errors: a\n    total: b\n": "policies/slo.yaml:4: objectives[0].latency: stands beside errors and total; make it an objective of its own",
		"    latency: {metric: h, threshold: 1}\n":                                 "policies/slo.yaml:4: metric: unknown field",
	} {
		if _, err := Parse("policies/slo.yaml", []byte(head+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func TestMatchersAreAdded(t *testing.T) {
	for labels, want := range map[string]string{"": `{le="1"}`, "{}": `{le="1"}`, `{a="b"}`: `{a="b", le="1"}`, `{a="b",}`: `{a="b", le="1"}`} {
		if got := with(labels, `le="1"`); got != want {
			t.Errorf("%q: got %s, want %s", labels, got, want)
		}
	}
}

// FuzzLatency: of what is taken for a histogram queries can be made that do not end
// in the middle of a selector.
func FuzzLatency(f *testing.F) {
	for _, s := range []string{`h`, `h_bucket{a="b"}`, `h{a="}"}`, `{a="b"}`, `h{`, ``, `sum(h)`} {
		f.Add(s, 0.3)
	}
	f.Fuzz(func(t *testing.T, s string, threshold float64) {
		l := Latency{Histogram: s, Threshold: Seconds(threshold)}
		name, labels, ok := l.Metric()
		if ok && (name == "" || labels != "" && !strings.HasPrefix(labels, "{")) {
			t.Errorf("%q: %q %q", s, name, labels)
		}
		// What stands in braces is the user's.
		slow, _ := l.PromQL()
		if labels == "" && ok && strings.Count(slow, "(") != strings.Count(slow, ")") {
			t.Errorf("%q: %s", s, slow)
		}
	})
}

package main

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// Latency objectives that are suggested.
const (
	latencyTarget = 0.99
	// leastSlow is how many requests such an objective allows to be slow at least in
	// the time that was read; of fewer it is not known what is kept.
	leastSlow = 10
)

// usualThresholds are in seconds. A native histogram has bounds that nobody would
// write; of these one is taken.
var usualThresholds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// keptLatency is a latency objective that a workload has kept.
type keptLatency struct {
	Name      string  `json:"name"`
	Namespace string  `json:"namespace"`
	Workload  string  `json:"workload"`
	Family    string  `json:"family"`
	Histogram string  `json:"histogram"` // with the labels of the workload
	Unit      string  `json:"unit,omitempty"`
	Threshold float64 `json:"threshold_s"` // a bucket's bound
	Target    float64 `json:"target"`
	Kept      float64 `json:"kept"` // share of requests that took no longer
	Requests  float64 `json:"requests"`
	Native    bool    `json:"native,omitempty"`
}

// latencyMetric finds the histogram in a family's query of latency.
var latencyMetric = regexp.MustCompile(`by \(([^)]*)\)\s*\(\s*rate\(([a-zA-Z_:][a-zA-Z0-9_:]*)_bucket(\{[^}]*\})?\[\$window\]\)`)

// measured is the histogram of one workload over the time that was read.
type measured struct {
	namespace, workload string
	series              []model.Metric
	counts              map[float64]float64 // requests by bound, cumulative
	all                 float64             // requests
}

// latencies suggests a latency objective for each workload of which a family
// has a histogram: the lowest bound within which its share of requests stayed.
func (r *trafficReader) latencies(ctx context.Context, fam prometheus.Family, since time.Duration, now time.Time) ([]keptLatency, error) {
	i := slices.IndexFunc(fam.Queries, func(q prometheus.Query) bool { return q.Signal == "latency_p99" })
	if i < 0 {
		return nil, nil
	}
	m := latencyMetric.FindStringSubmatch(fam.Queries[i].Expr)
	if m == nil {
		return nil, nil
	}
	var by []string
	for l := range strings.SplitSeq(m[1], ",") {
		if l = strings.TrimSpace(l); l != "le" {
			by = append(by, l)
		}
	}
	metric, selector := m[2], strings.Trim(m[3], "{}")
	perSecond := 1.0
	if fam.Queries[i].Unit == "ms" {
		perSecond = 1000
	}
	all := map[string]*measured{}
	at := func(labels model.Metric) *measured {
		who := r.names.Subject(func(l string) string { return string(labels[model.LabelName(l)]) })
		if who.Workload == "" && who.Pod != "" {
			who.Workload = event.WorkloadOfPod(who.Pod)
		}
		if who.Workload == "" || !slo.Matches(r.namespaces, who.Namespace) {
			return nil
		}
		key := who.Namespace + "\x00" + who.Workload
		if all[key] == nil {
			all[key] = &measured{namespace: who.Namespace, workload: who.Workload, counts: map[float64]float64{}}
		}
		x := all[key]
		labels = labels.Clone()
		delete(labels, "le")
		if !slices.ContainsFunc(x.series, func(o model.Metric) bool { return o.Equal(labels) }) {
			x.series = append(x.series, labels)
		}
		return x
	}
	group := "sum by (" + strings.Join(by, ", ")
	native := false
	for end := now; now.Sub(end) < since; end = end.Add(-24 * time.Hour) {
		span := slo.Span(min(24*time.Hour, since-now.Sub(end)))
		part := func(suffix string) string {
			s := "{" + selector + "}"
			if selector == "" {
				s = ""
			}
			return "(increase(" + metric + suffix + s + "[" + span + "]))"
		}
		v, err := r.client.Instant(ctx, inNamespaces(group+", le) "+part("_bucket"), r.namespaces), end)
		if err != nil {
			return nil, fmt.Errorf("family %s: %w", fam.Family, err)
		}
		for _, s := range v {
			bound, err := strconv.ParseFloat(string(s.Metric["le"]), 64)
			n := float64(s.Value)
			if err != nil || !(n >= 0) || math.IsInf(n, 0) {
				continue
			}
			if x := at(s.Metric); x != nil {
				if math.IsInf(bound, 1) {
					x.all += n
				} else {
					x.counts[bound] += n
				}
			}
		}
		if len(v) > 0 || len(all) > 0 && !native {
			continue
		}
		whole := inNamespaces(group+") "+part(""), r.namespaces)
		counts, err := r.client.Instant(ctx, "histogram_count("+whole+")", end)
		if err != nil {
			return nil, fmt.Errorf("family %s: %w", fam.Family, err)
		}
		if len(counts) == 0 {
			continue
		}
		native = true
		for _, s := range counts {
			if x := at(s.Metric); x != nil && s.Value > 0 {
				x.all += float64(s.Value)
			}
		}
		for _, usual := range usualThresholds {
			bound := usual * perSecond
			within, err := r.client.Instant(ctx, fmt.Sprintf("histogram_count(%[1]s) * histogram_fraction(0, %[2]s, %[1]s)", whole, strconv.FormatFloat(bound, 'g', -1, 64)), end)
			if err != nil {
				return nil, fmt.Errorf("family %s: %w", fam.Family, err)
			}
			for _, s := range within {
				if x := at(s.Metric); x != nil && s.Value > 0 {
					x.counts[bound] += float64(s.Value)
				}
			}
		}
	}
	var out []keptLatency
	for _, key := range sortedNames(all) {
		x := all[key]
		histogram, ok := selecting(metric, selector, by, x, all)
		if !ok || x.all*(1-latencyTarget) < leastSlow || x.all/since.Seconds()*300 < slo.DefaultMinRequests {
			continue
		}
		k := keptLatency{Namespace: x.namespace, Workload: x.workload, Family: fam.Family, Histogram: histogram, Target: latencyTarget, Requests: x.all, Native: native}
		bounds := make([]float64, 0, len(x.counts))
		for b := range x.counts {
			bounds = append(bounds, b)
		}
		slices.Sort(bounds)
		for _, b := range bounds {
			if share := x.counts[b] / x.all; share >= latencyTarget && b > 0 {
				k.Threshold, k.Kept = b/perSecond, min(1, share)
				break
			}
		}
		if k.Threshold == 0 {
			continue // too many took longer than the highest bound
		}
		if l := (slo.Latency{Histogram: histogram}); l.PerSecond() != perSecond {
			k.Unit = fam.Queries[i].Unit
		}
		out = append(out, k)
	}
	return out, nil
}

// selecting is the histogram with the labels that a workload's series have and no
// other's; false where there are none.
func selecting(metric, selector string, by []string, x *measured, all map[string]*measured) (string, bool) {
	type matcher struct {
		label  string
		value  string
		exact  bool
		regexp *regexp.Regexp
	}
	var ms []matcher
	for _, l := range by {
		values := map[string]bool{}
		for _, s := range x.series {
			values[string(s[model.LabelName(l)])] = true
		}
		switch {
		case values[""]: // some have it not
		case len(values) == 1 && l != "pod":
			for v := range values {
				ms = append(ms, matcher{label: l, value: v, exact: true})
			}
		case l == "pod":
			// Pods come and go: of a Deployment, a DaemonSet or a StatefulSet.
			p := regexp.QuoteMeta(x.workload) + "(-[a-z0-9]+)?-[a-z0-9]+"
			ms = append(ms, matcher{label: l, value: p, regexp: regexp.MustCompile("^(?:" + p + ")$")})
		}
	}
	fits := func(s model.Metric) bool {
		return !slices.ContainsFunc(ms, func(m matcher) bool {
			v := string(s[model.LabelName(m.label)])
			return m.exact && v != m.value || !m.exact && !m.regexp.MatchString(v)
		})
	}
	for _, o := range all {
		for _, s := range o.series {
			if fits(s) != (o == x) {
				return "", false
			}
		}
	}
	if len(ms) == 0 {
		return "", false
	}
	var parts []string
	if selector != "" {
		parts = append(parts, selector)
	}
	for _, m := range ms {
		op := "=~"
		if m.exact {
			op = "="
		}
		parts = append(parts, m.label+op+strconv.Quote(m.value))
	}
	return metric + "{" + strings.Join(parts, ", ") + "}", true
}

// lines write a latency objective into a policy file.
func (k keptLatency) lines(since string) string {
	var b strings.Builder
	threshold := slo.Seconds(k.Threshold).String()
	how, unit := "", ""
	if k.Unit != "" {
		unit = ", unit: " + k.Unit
	}
	if k.Native {
		how = ", a native histogram"
	}
	fmt.Fprintf(&b, "  # %s %% of %s requests took at most %s in %s (%s%s)\n", share(k.Kept), render.Count(k.Requests), threshold, since, k.Family, how)
	fmt.Fprintf(&b, "  - name: %s\n    target: %g\n    latency: {histogram: %s, threshold: %s%s}\n", k.Name, k.Target, quoted(k.Histogram), threshold, unit)
	return b.String()
}

// quoted is a text in single quotes of YAML.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

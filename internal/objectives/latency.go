package objectives

import (
	"context"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

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

// Latency is a latency objective that a workload has kept.
type Latency struct {
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

// histogram is that of a family's query of latency, and what it says of each
// workload over the time that is read.
type histogram struct {
	r                *Reader
	family           string
	metric, selector string
	by               []string // labels that the query keeps, without le
	unit             string
	perSecond        float64 // units in a second
	native           bool
	all              map[string]*timed
}

// timed is the histogram of one workload.
type timed struct {
	namespace, workload string
	series              []model.Metric
	counts              map[float64]float64 // requests by bound, cumulative
	all                 float64             // requests
}

// histogramOf is the histogram of a family; nil when it has none.
func (r *Reader) histogramOf(fam prometheus.Family) *histogram {
	i := slices.IndexFunc(fam.Queries, func(q prometheus.Query) bool { return q.Signal == "latency_p99" })
	if i < 0 {
		return nil
	}
	m := latencyMetric.FindStringSubmatch(fam.Queries[i].Expr)
	if m == nil {
		return nil
	}
	h := &histogram{r: r, family: fam.Family, metric: m[2], selector: strings.Trim(m[3], "{}"), unit: fam.Queries[i].Unit, perSecond: 1, all: map[string]*timed{}}
	if h.unit == "ms" {
		h.perSecond = 1000
	}
	for l := range strings.SplitSeq(m[1], ",") {
		if l = strings.TrimSpace(l); l != "le" {
			h.by = append(h.by, l)
		}
	}
	return h
}

// at is the workload that a series speaks of; nil when it speaks of none that is
// read.
func (h *histogram) at(labels model.Metric) *timed {
	namespace, workload := h.r.subject(labels)
	if workload == "" {
		return nil
	}
	key := namespace + "\x00" + workload
	if h.all[key] == nil {
		h.all[key] = &timed{namespace: namespace, workload: workload, counts: map[float64]float64{}}
	}
	x := h.all[key]
	labels = labels.Clone()
	delete(labels, "le")
	if !slices.ContainsFunc(x.series, func(o model.Metric) bool { return o.Equal(labels) }) {
		x.series = append(x.series, labels)
	}
	return x
}

// increase is what was counted in a span, of a metric by its suffix.
func (h *histogram) increase(suffix, span string, more ...string) string {
	selector := ""
	if h.selector != "" {
		selector = "{" + h.selector + "}"
	}
	by := strings.Join(append(slices.Clone(h.by), more...), ", ")
	return inNamespaces(fmt.Sprintf("sum by (%s) (increase(%s%s%s[%s]))", by, h.metric, suffix, selector, span), h.r.namespaces)
}

// readClassic adds what the buckets counted in a span, and says whether there are
// any.
func (h *histogram) readClassic(ctx context.Context, span string, end time.Time) (bool, error) {
	v, err := h.r.client.Instant(ctx, h.increase("_bucket", span, "le"), end)
	if err != nil {
		return false, fmt.Errorf("family %s: %w", h.family, err)
	}
	for _, s := range v {
		bound, err := strconv.ParseFloat(string(s.Metric["le"]), 64)
		n := float64(s.Value)
		if err != nil || !(n >= 0) || math.IsInf(n, 0) {
			continue
		}
		if x := h.at(s.Metric); x != nil {
			if math.IsInf(bound, 1) {
				x.all += n
			} else {
				x.counts[bound] += n
			}
		}
	}
	return len(v) > 0, nil
}

// readNative adds what a native histogram counted in a span.
func (h *histogram) readNative(ctx context.Context, span string, end time.Time) error {
	whole := h.increase("", span)
	ask := func(expr string, add func(*timed, float64)) (int, error) {
		v, err := h.r.client.Instant(ctx, expr, end)
		if err != nil {
			return 0, fmt.Errorf("family %s: %w", h.family, err)
		}
		for _, s := range v {
			if x := h.at(s.Metric); x != nil && s.Value > 0 {
				add(x, float64(s.Value))
			}
		}
		return len(v), nil
	}
	n, err := ask("histogram_count("+whole+")", func(x *timed, v float64) { x.all += v })
	if err != nil || n == 0 {
		return err
	}
	h.native = true
	for _, usual := range usualThresholds {
		bound := usual * h.perSecond
		expr := fmt.Sprintf("histogram_count(%[1]s) * histogram_fraction(0, %[2]s, %[1]s)", whole, strconv.FormatFloat(bound, 'g', -1, 64))
		if _, err := ask(expr, func(x *timed, v float64) { x.counts[bound] += v }); err != nil {
			return err
		}
	}
	return nil
}

// latencies suggests a latency objective for each workload of which a family has a
// histogram: the lowest bound within which its share of requests stayed. It is read
// a day at a time.
func (r *Reader) latencies(ctx context.Context, fam prometheus.Family, since time.Duration, now time.Time) ([]Latency, error) {
	h := r.histogramOf(fam)
	if h == nil {
		return nil, nil
	}
	for end := now; now.Sub(end) < since; end = end.Add(-24 * time.Hour) {
		span := slo.Span(min(24*time.Hour, since-now.Sub(end)))
		counted, err := h.readClassic(ctx, span, end)
		if err != nil {
			return nil, err
		}
		if counted || len(h.all) > 0 && !h.native {
			continue
		}
		if err := h.readNative(ctx, span, end); err != nil {
			return nil, err
		}
	}
	var out []Latency
	for _, key := range slices.Sorted(maps.Keys(h.all)) {
		if k, ok := h.kept(h.all[key], since); ok {
			out = append(out, k)
		}
	}
	return out, nil
}

// kept is the objective that a workload has kept; false when it served too little
// to say, or when too many requests took longer than the highest bound.
func (h *histogram) kept(x *timed, since time.Duration) (Latency, bool) {
	of, ok := h.selecting(x)
	if !ok || x.all*(1-latencyTarget) < leastSlow || x.all/since.Seconds()*300 < slo.DefaultMinRequests {
		return Latency{}, false
	}
	k := Latency{Namespace: x.namespace, Workload: x.workload, Family: h.family, Histogram: of, Target: latencyTarget, Requests: x.all, Native: h.native}
	for _, b := range slices.Sorted(maps.Keys(x.counts)) {
		if share := x.counts[b] / x.all; share >= latencyTarget && b > 0 {
			k.Threshold, k.Kept = b/h.perSecond, min(1, share)
			break
		}
	}
	if l := (slo.Latency{Histogram: of}); l.PerSecond() != h.perSecond {
		k.Unit = h.unit
	}
	return k, k.Threshold > 0
}

// selecting is the histogram with the labels that a workload's series have and no
// other's; false where there are none.
func (h *histogram) selecting(x *timed) (string, bool) {
	type matcher struct {
		label  string
		value  string
		exact  bool
		regexp *regexp.Regexp
	}
	var ms []matcher
	for _, l := range h.by {
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
	for _, o := range h.all {
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
	if h.selector != "" {
		parts = append(parts, h.selector)
	}
	for _, m := range ms {
		op := "=~"
		if m.exact {
			op = "="
		}
		parts = append(parts, m.label+op+strconv.Quote(m.value))
	}
	return h.metric + "{" + strings.Join(parts, ", ") + "}", true
}

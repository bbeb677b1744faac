package slo

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Latency is a promise about how long requests take, measured by a histogram:
// those that take longer than a threshold have failed.
type Latency struct {
	// Histogram is the metric with its labels, classic or native:
	// http_request_duration_seconds{service="web"}.
	Histogram string `yaml:"histogram"`
	// Threshold is the longest that a good request takes: 300ms, or 0.3, which is in
	// seconds. Of a classic histogram it is the bound of a bucket.
	Threshold Seconds `yaml:"threshold"`
	// By are labels that tell apart what has a budget of its own; they say what it
	// is about. Empty: one budget for all.
	By []string `yaml:"by"`
	// Unit is that of the histogram: s or ms. Default: ms where its name ends in
	// _milliseconds or _ms, else s.
	Unit string `yaml:"unit"`
}

// Seconds is a time that is written with its unit, or as a number of seconds.
type Seconds float64

// UnmarshalYAML reads 300ms, 0.3s or 0.3.
func (s *Seconds) UnmarshalYAML(n *yaml.Node) error {
	if d, err := time.ParseDuration(n.Value); err == nil {
		*s = Seconds(d.Seconds())
		return nil
	}
	x, err := strconv.ParseFloat(n.Value, 64)
	if err != nil {
		return fmt.Errorf("line %d: latency.threshold: %q is not a time; write 300ms, or 0.3 for seconds", n.Line, n.Value)
	}
	*s = Seconds(x)
	return nil
}

// String is the time with its unit: 300ms.
func (s Seconds) String() string {
	return time.Duration(math.Round(float64(s) * float64(time.Second))).String()
}

// longest is the longest threshold: what takes longer is a job, and no request.
const longest = Seconds(24 * 3600)

var (
	histogram = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{.*\})?$`)
	label     = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
)

// Metric is the name of the histogram, without _bucket, and its labels in braces;
// false when it is no selector.
func (l Latency) Metric() (name, labels string, ok bool) {
	m := histogram.FindStringSubmatch(strings.TrimSpace(l.Histogram))
	if m == nil {
		return "", "", false
	}
	return strings.TrimSuffix(m[1], "_bucket"), m[2], true
}

// Bound is the threshold in the unit of the histogram.
func (l Latency) Bound() float64 { return float64(l.Threshold) * l.PerSecond() }

// PerSecond is how many units of the histogram a second has.
func (l Latency) PerSecond() float64 {
	name, _, _ := l.Metric()
	if l.Unit == "ms" || l.Unit == "" && (strings.HasSuffix(name, "_milliseconds") || strings.HasSuffix(name, "_ms")) {
		return 1000
	}
	return 1
}

// PromQL are the expressions for requests a second that took longer than the
// threshold, and for all. They take a classic histogram where there is one, else a
// native one, so that nobody has to ask which it is. Where a classic one has no
// bucket of that bound, the first gives nothing, which is not to be taken for none.
func (l Latency) PromQL() (slow, all string) {
	name, labels, _ := l.Metric()
	sum := "sum"
	if len(l.By) > 0 {
		sum = "sum by (" + strings.Join(l.By, ", ") + ")"
	}
	rate := func(selector string) string { return sum + " (rate(" + selector + "[" + windowWord + "]))" }
	count, whole := rate(name+"_count"+labels), rate(name+labels)
	bound := strconv.FormatFloat(l.Bound(), 'g', -1, 64)
	all = count + " or histogram_count(" + whole + ")"
	slow = count + " - " + rate(name+"_bucket"+with(labels, le(l.Bound()))) +
		" or histogram_count(" + whole + ") * (1 - histogram_fraction(0, " + bound + ", " + whole + "))"
	return slow, all
}

// le is the matcher of a bucket's bound, which is a text: 1 is written 1.0 by
// Prometheus 3 and OpenMetrics, and 1 by others.
func le(bound float64) string {
	var written, quoted []string
	for _, format := range []byte{'g', 'f'} {
		x := strconv.FormatFloat(bound, format, -1, 64)
		written = append(written, x)
		if !strings.ContainsAny(x, ".e") {
			written = append(written, x+".0")
		}
	}
	slices.Sort(written)
	written = slices.Compact(written)
	if len(written) == 1 {
		return "le=" + strconv.Quote(written[0])
	}
	for _, x := range written {
		quoted = append(quoted, regexp.QuoteMeta(x))
	}
	return "le=~" + strconv.Quote(strings.Join(quoted, "|"))
}

// with adds a matcher to those of a selector.
func with(labels, matcher string) string {
	inner := strings.TrimRight(strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(labels, "{"), "}")), ",")
	if inner == "" {
		return "{" + matcher + "}"
	}
	return "{" + inner + ", " + matcher + "}"
}

// validate checks the fields; at stands before their names.
func (l Latency) validate(at string, bad func(path string, value any, problem, fix string)) {
	name, labels, ok := l.Metric()
	switch {
	case !ok:
		bad(at+".histogram", l.Histogram, "is not a metric with its labels", `write http_request_duration_seconds{service="web"}`)
	case strings.HasSuffix(name, "_count"), strings.HasSuffix(name, "_sum"):
		bad(at+".histogram", l.Histogram, "is a part of a histogram", "write "+name[:strings.LastIndex(name, "_")]+labels)
	}
	if !(l.Threshold > 0 && l.Threshold <= longest) {
		bad(at+".threshold", l.Threshold, "is not above 0 and at most 24h", "write 300ms, or 0.3 for seconds")
	}
	for i, x := range l.By {
		if !label.MatchString(x) || x == "le" {
			bad(fmt.Sprintf("%s.by[%d]", at, i), x, "is not a label to sum by", "write namespace")
		}
	}
	if l.Unit != "" && l.Unit != "s" && l.Unit != "ms" {
		bad(at+".unit", l.Unit, "is not s or ms", "write s")
	}
}

var _ yaml.Unmarshaler = (*Seconds)(nil)

// FieldOf is the name of a field of an objective's latency as errors name it, with
// the file.
func (p Policy) FieldOf(objective, field string) string {
	i := slices.IndexFunc(p.Objectives, func(o Objective) bool { return o.Name == objective })
	return fmt.Sprintf("policies/%s: objectives[%d].latency.%s", File, i, field)
}

package slo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// rateWindow is over which the rates of objectives from other tools are taken:
// the shortest window that any rule needs.
const rateWindow = "5m"

// ErrNotObjectives is an error of a file that is none of Sloth's, Pyrra's or
// OpenSLO's.
var ErrNotObjectives = errors.New("is no file of Sloth (version: prometheus/v1), Pyrra (pyrra.dev) or OpenSLO (openslo/v1)")

// foreignHead is what tells the formats apart.
type foreignHead struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Version    string `yaml:"version"` // Sloth's own files
	Metadata   struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"metadata"`
}

// maxDocuments bounds the documents of one file.
const maxDocuments = 1000

// ParseForeign reads the objectives of a file of Sloth (its own format or the
// PrometheusServiceLevel resource), Pyrra (ServiceLevelObjective) or OpenSLO
// (openslo/v1 SLO, with the SLI that it refers to in the same file). Other
// OpenSLO kinds are passed over. An objective that cannot be kept as its author
// meant is an error that says why; none is left out silently.
func ParseForeign(file string, b []byte) ([]Objective, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var docs []*yaml.Node
	for {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, policy.Syntax(file, err)
		}
		if blank(&n) {
			continue
		}
		if docs = append(docs, &n); len(docs) > maxDocuments {
			return nil, &policy.Error{File: file, Problems: []policy.Problem{{Text: fmt.Sprintf("has more than %d documents; split it", maxDocuments)}}}
		}
	}
	slis, err := openSLIs(docs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var out []Objective
	for _, n := range docs {
		var h foreignHead
		if n.Decode(&h) != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n.Line, ErrNotObjectives)
		}
		var found []Objective
		var err error
		switch {
		case h.Version == "prometheus/v1":
			found, err = slothFile(n)
		case h.APIVersion == "sloth.slok.dev/v1":
			found, err = slothResource(n)
		case strings.HasPrefix(h.APIVersion, "pyrra.dev/") && h.Kind == "ServiceLevelObjective":
			found, err = pyrra(n, h)
		case h.APIVersion == "openslo/v1" && h.Kind == "SLO":
			found, err = openSLO(n, h, slis)
		case h.APIVersion == "openslo/v1":
		default:
			err = ErrNotObjectives
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, first(n), err)
		}
		out = append(out, found...)
	}
	p := Policy{Objectives: out}
	p.fill()
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p.Objectives, nil
}

// blank tells whether a document has nothing in it: two lines of --- in a row, or one
// at the end.
func blank(n *yaml.Node) bool {
	return len(n.Content) == 0 || len(n.Content) == 1 && n.Content[0].Tag == "!!null"
}

// first is the line in which a document begins.
func first(n *yaml.Node) int {
	if len(n.Content) > 0 {
		return n.Content[0].Line
	}
	return n.Line
}

// slothSLO is an objective of Sloth, in the words of its own files and of its
// Kubernetes resource.
type slothSLO struct {
	Name      string  `yaml:"name"`
	Objective float64 `yaml:"objective"` // percent
	SLI       struct {
		Events *struct {
			Error  string `yaml:"error_query"`
			Total  string `yaml:"total_query"`
			ErrorK string `yaml:"errorQuery"`
			TotalK string `yaml:"totalQuery"`
		} `yaml:"events"`
		Raw *struct {
			Ratio  string `yaml:"error_ratio_query"`
			RatioK string `yaml:"errorRatioQuery"`
		} `yaml:"raw"`
		Plugin *struct {
			ID string `yaml:"id"`
		} `yaml:"plugin"`
	} `yaml:"sli"`
	Alerting struct {
		Page  slothAlert `yaml:"page_alert"`
		PageK slothAlert `yaml:"pageAlert"`
	} `yaml:"alerting"`
}

type slothAlert struct {
	Disable bool `yaml:"disable"`
}

type slothService struct {
	Service string     `yaml:"service"`
	SLOs    []slothSLO `yaml:"slos"`
}

func slothFile(n *yaml.Node) ([]Objective, error) {
	var f slothService
	if err := n.Decode(&f); err != nil {
		return nil, err
	}
	return f.objectives()
}

func slothResource(n *yaml.Node) ([]Objective, error) {
	var f struct {
		Spec slothService `yaml:"spec"`
	}
	if err := n.Decode(&f); err != nil {
		return nil, err
	}
	return f.Spec.objectives()
}

// slothWindow is the template that Sloth puts the window into.
var slothWindow = regexp.MustCompile(`\{\{-?\s*\.window\s*-?\}\}`)

func (f slothService) objectives() ([]Objective, error) {
	var out []Objective
	for _, s := range f.SLOs {
		o := Objective{Name: name(f.Service, s.Name), Target: percent(s.Objective)}
		switch e, r := s.SLI.Events, s.SLI.Raw; {
		case e != nil:
			o.Errors, o.Total = e.Error+e.ErrorK, e.Total+e.TotalK
		case r != nil:
			o.Errors = r.Ratio + r.RatioK
			o.Total = perSecond(o.Errors)
		case s.SLI.Plugin != nil:
			return nil, fmt.Errorf("slos %s: plugin %s is a program of Sloth's; write its queries as events: error_query and total_query", s.Name, s.SLI.Plugin.ID)
		}
		if o.Errors == "" || o.Total == "" {
			return nil, fmt.Errorf("slos %s: has no queries; write sli: {events: {error_query: …, total_query: …}}", s.Name)
		}
		if err := o.window(); err != nil {
			return nil, fmt.Errorf("slos %s: %w", s.Name, err)
		}
		if s.Alerting.Page.Disable || s.Alerting.PageK.Disable {
			o.Page = new(bool)
		}
		out = append(out, o)
	}
	return out, nil
}

// window puts the range of the rates where the template for it is.
func (o *Objective) window() error {
	o.Errors, o.Total = slothWindow.ReplaceAllString(o.Errors, rateWindow), slothWindow.ReplaceAllString(o.Total, rateWindow)
	if strings.Contains(o.Errors+o.Total, "{{") {
		return errors.New("a template other than {{.window}} is in its queries; write its value")
	}
	return nil
}

// perSecond is the total of a ratio, which says nothing of the traffic: it is taken as
// one request a second.
func perSecond(ratio string) string { return "0 * (" + ratio + ") + 1" }

// fewSamples is how many samples of a gauge in a window are enough to judge it by: five
// minutes of a probe have as few as five, each of which is no chance request but the
// state of a minute.
const fewSamples = 3

// pyrra reads a ServiceLevelObjective.
func pyrra(n *yaml.Node, h foreignHead) ([]Objective, error) {
	type metric struct {
		Metric string `yaml:"metric"`
	}
	var f struct {
		Spec struct {
			Target    string `yaml:"target"` // percent
			Window    string `yaml:"window"`
			Indicator struct {
				Ratio *struct {
					Errors, Total metric
					Grouping      []string
				} `yaml:"ratio"`
				Latency *struct {
					Success, Total metric
					Grouping       []string
				} `yaml:"latency"`
				Native *struct {
					Latency  string
					Total    metric
					Grouping []string
				} `yaml:"latencyNative"`
				Bool *struct {
					Metric   string
					Grouping []string
				} `yaml:"bool_gauge"`
			} `yaml:"indicator"`
			Alerting struct {
				Disabled bool `yaml:"disabled"`
			} `yaml:"alerting"`
		} `yaml:"spec"`
	}
	if err := n.Decode(&f); err != nil {
		return nil, err
	}
	target, err := strconv.ParseFloat(strings.TrimSuffix(f.Spec.Target, "%"), 64)
	if err != nil {
		return nil, fmt.Errorf("spec.target: %s is not a number of percent; write \"99.9\"", f.Spec.Target)
	}
	o := Objective{Name: name(h.Metadata.Namespace, h.Metadata.Name), Target: percent(target)}
	if o.Period, err = days(f.Spec.Window); err != nil {
		return nil, fmt.Errorf("spec.window: %w", err)
	}
	by := func(grouping []string) string {
		if len(grouping) == 0 {
			return "sum"
		}
		return "sum by (" + strings.Join(grouping, ", ") + ")"
	}
	in := "[" + rateWindow + "])"
	switch i := f.Spec.Indicator; {
	case i.Ratio != nil && i.Ratio.Errors.Metric != "" && i.Ratio.Total.Metric != "":
		sum := by(i.Ratio.Grouping)
		o.Total = sum + "(rate(" + i.Ratio.Total.Metric + in + ")"
		o.Errors = sum + "(rate(" + i.Ratio.Errors.Metric + in + ") or 0 * " + o.Total
	case i.Latency != nil && i.Latency.Success.Metric != "" && i.Latency.Total.Metric != "":
		sum := by(i.Latency.Grouping)
		o.Total = sum + "(rate(" + i.Latency.Total.Metric + in + ")"
		o.Errors = o.Total + " - " + sum + "(rate(" + i.Latency.Success.Metric + in + ")"
	case i.Native != nil && i.Native.Total.Metric != "":
		limit, err := time.ParseDuration(i.Native.Latency)
		if err != nil || limit <= 0 {
			return nil, fmt.Errorf("spec.indicator.latencyNative.latency: %s is not a time; write 250ms", i.Native.Latency)
		}
		o.Errors, o.Total = native(by(i.Native.Grouping)+"(rate("+i.Native.Total.Metric+in+")", limit)
	case i.Bool != nil && i.Bool.Metric != "":
		// Each sample is a request; in a window of 300 s.
		o.MinRequests = fewSamples
		sum := by(i.Bool.Grouping)
		o.Total = sum + "(count_over_time(" + i.Bool.Metric + in + ") / 300"
		o.Errors = o.Total + " - " + sum + "(sum_over_time(" + i.Bool.Metric + in + ") / 300"
	default:
		return nil, errors.New("spec.indicator: has none of ratio, latency, latencyNative and bool_gauge with its metrics")
	}
	if f.Spec.Alerting.Disabled {
		o.Page = new(bool)
	}
	return []Objective{o}, nil
}

// native are the queries for requests of a native histogram that took longer
// than a limit.
func native(histogram string, limit time.Duration) (failed, total string) {
	total = "histogram_count(" + histogram + ")"
	return fmt.Sprintf("%s * (1 - histogram_fraction(0, %g, %s))", total, limit.Seconds(), histogram), total
}

// percent is a share, exactly as its author wrote it: 99.9 is 0.999.
func percent(p float64) float64 {
	x, err := strconv.ParseFloat(strconv.FormatFloat(p/100, 'g', 12, 64), 64)
	if err != nil {
		return 0
	}
	return x
}

var notName = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)

// name joins the parts of a name that there are.
func name(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p = strings.Trim(notName.ReplaceAllString(p, "-"), "-"); p != "" {
			out = append(out, p)
		}
	}
	return event.Token(strings.Join(out, "-"))
}

var dayRE = regexp.MustCompile(`^(\d{1,4})(h|d|w|M|Q|Y)$`)

// days reads a period: 28d, 4w, 720h, and OpenSLO's M and Q, a month being 30
// days. Empty: the default.
func days(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	m := dayRE.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%s is not a period; write 30d or 4w", s)
	}
	n, _ := strconv.Atoi(m[1])
	const day = 24 * time.Hour
	d := time.Duration(n) * map[string]time.Duration{"h": time.Hour, "d": day, "w": 7 * day, "M": 30 * day, "Q": 90 * day, "Y": 365 * day}[m[2]]
	if d < day || d > 90*day {
		return 0, fmt.Errorf("%s is not between 1d and 90d; write 30d", s)
	}
	return d, nil
}

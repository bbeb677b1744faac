package slo

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// openSource is where a metric of OpenSLO comes from.
type openSource struct {
	Source struct {
		Type string `yaml:"type"`
		Spec struct {
			Query string `yaml:"query"`
		} `yaml:"spec"`
	} `yaml:"metricSource"`
}

// openSLI is a service level indicator of OpenSLO.
type openSLI struct {
	Metadata struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Spec struct {
		Ratio *struct {
			Counter bool        `yaml:"counter"`
			Good    *openSource `yaml:"good"`
			Bad     *openSource `yaml:"bad"`
			Total   *openSource `yaml:"total"`
			Raw     *openSource `yaml:"raw"`
			RawType string      `yaml:"rawType"` // success or failure
		} `yaml:"ratioMetric"`
	} `yaml:"spec"`
}

// openSLIs are the indicators that a file names.
func openSLIs(docs []*yaml.Node) (map[string]openSLI, error) {
	out := map[string]openSLI{}
	for _, n := range docs {
		var h foreignHead
		if n.Decode(&h) != nil || h.APIVersion != "openslo/v1" || h.Kind != "SLI" {
			continue
		}
		var s openSLI
		if err := n.Decode(&s); err != nil {
			return nil, err
		}
		out[s.Metadata.Name] = s
	}
	return out, nil
}

// openSLO reads one SLO: an objective for each of its targets.
func openSLO(n *yaml.Node, h foreignHead, slis map[string]openSLI) ([]Objective, error) {
	var f struct {
		Spec struct {
			Indicator *openSLI `yaml:"indicator"`
			Ref       string   `yaml:"indicatorRef"`
			Method    string   `yaml:"budgetingMethod"`
			Window    []struct {
				Duration string `yaml:"duration"`
			} `yaml:"timeWindow"`
			Objectives []struct {
				Name    string  `yaml:"displayName"`
				Target  float64 `yaml:"target"`
				Percent float64 `yaml:"targetPercent"`
			} `yaml:"objectives"`
		} `yaml:"spec"`
	}
	if err := n.Decode(&f); err != nil {
		return nil, err
	}
	if m := f.Spec.Method; m != "" && m != "Occurrences" {
		return nil, fmt.Errorf("spec.budgetingMethod: %s counts time and not requests; write Occurrences", m)
	}
	sli := f.Spec.Indicator
	if f.Spec.Ref != "" {
		s, ok := slis[f.Spec.Ref]
		if !ok {
			return nil, fmt.Errorf("spec.indicatorRef: SLI %s is not in this file; put it there", f.Spec.Ref)
		}
		sli = &s
	}
	if sli == nil || sli.Spec.Ratio == nil {
		return nil, errors.New("spec.indicator: has no ratioMetric; a thresholdMetric has no requests to count")
	}
	failed, total, err := sli.queries()
	if err != nil {
		return nil, fmt.Errorf("ratioMetric%w", err)
	}
	var out []Objective
	for i, x := range f.Spec.Objectives {
		o := Objective{Name: name(h.Metadata.Name), Target: x.Target, Errors: failed, Total: total}
		if len(f.Spec.Objectives) > 1 {
			o.Name = name(h.Metadata.Name, fmt.Sprint(i+1))
		}
		if x.Target == 0 {
			o.Target = percent(x.Percent)
		}
		if len(f.Spec.Window) > 0 {
			if o.Period, err = days(f.Spec.Window[0].Duration); err != nil {
				return nil, fmt.Errorf("spec.timeWindow: %w", err)
			}
		}
		if err := o.window(); err != nil {
			return nil, fmt.Errorf("ratioMetric: %w", err)
		}
		out = append(out, o)
	}
	return out, nil
}

// queries are those for failed and for all requests. An error begins with the field,
// below ratioMetric.
func (s openSLI) queries() (failed, total string, err error) {
	r := s.Spec.Ratio
	if r.Raw != nil {
		ratio, err := r.Raw.query(false)
		if err != nil {
			return "", "", fmt.Errorf(".raw: %w", err)
		}
		switch r.RawType {
		case "failure":
		case "success":
			ratio = "1 - (" + ratio + ")"
		default:
			return "", "", fmt.Errorf(".rawType: %q is neither success nor failure", r.RawType)
		}
		return ratio, perSecond(ratio), nil
	}
	if r.Total == nil {
		return "", "", errors.New(": has no total; write total and good or bad, or raw and rawType")
	}
	if total, err = r.Total.query(r.Counter); err != nil {
		return "", "", fmt.Errorf(".total: %w", err)
	}
	switch {
	case r.Bad != nil:
		if failed, err = r.Bad.query(r.Counter); err != nil {
			return "", "", fmt.Errorf(".bad: %w", err)
		}
		return failed, total, nil
	case r.Good != nil:
		if failed, err = r.Good.query(r.Counter); err != nil {
			return "", "", fmt.Errorf(".good: %w", err)
		}
		return "(" + total + ") - (" + failed + ")", total, nil
	}
	return "", "", errors.New(": has neither good nor bad")
}

// selector is a metric with its labels, and nothing around it.
var selector = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*\s*(\{[^{}]*\})?$`)

// query is PromQL for a rate. What OpenSLO calls a counter only grows, so that a
// plain one is made a rate.
func (s openSource) query(counter bool) (string, error) {
	q := strings.TrimSpace(s.Source.Spec.Query)
	switch {
	case q == "":
		return "", errors.New("has no metricSource.spec.query")
	case s.Source.Type != "" && !strings.EqualFold(s.Source.Type, "prometheus"):
		return "", fmt.Errorf("its source is %s; only Prometheus is read", s.Source.Type)
	case !counter || strings.Contains(q, "rate(") || strings.Contains(q, "increase("):
		return q, nil
	case selector.MatchString(q):
		return "sum(rate(" + q + "[" + rateWindow + "]))", nil
	}
	return "", fmt.Errorf("%s is no rate; write sum(rate(…[%s]))", q, rateWindow)
}

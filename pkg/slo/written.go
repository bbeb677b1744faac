package slo

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// writtenObjective is an objective in the order in which people write its fields,
// without those that are as they are by themselves.
type writtenObjective struct {
	Name        string          `yaml:"name"`
	Target      float64         `yaml:"target"`
	Period      string          `yaml:"period,omitempty"`
	Match       *writtenMatch   `yaml:"match,omitempty,flow"`
	Errors      string          `yaml:"errors,omitempty"`
	Total       string          `yaml:"total,omitempty"`
	Latency     *writtenLatency `yaml:"latency,omitempty,flow"`
	MinRequests float64         `yaml:"min_requests,omitempty"`
	Page        *bool           `yaml:"page,omitempty"`
}

type writtenMatch struct {
	Namespaces []string `yaml:"namespaces,omitempty"`
	Workloads  []string `yaml:"workloads,omitempty"`
}

type writtenLatency struct {
	Histogram string   `yaml:"histogram"`
	Threshold string   `yaml:"threshold"`
	By        []string `yaml:"by,omitempty"`
	Unit      string   `yaml:"unit,omitempty"`
}

type writtenWindow struct {
	Burn     float64 `yaml:"burn"`
	Long     string  `yaml:"long"`
	Short    string  `yaml:"short"`
	Severity string  `yaml:"severity"`
}

func (o Objective) written() writtenObjective {
	w := writtenObjective{Name: o.Name, Target: o.Target, Errors: o.Errors, Total: o.Total}
	if o.Period != defaultPeriod {
		w.Period = Span(o.Period)
	}
	if o.MinRequests != DefaultMinRequests {
		w.MinRequests = o.MinRequests
	}
	if !*o.Page {
		w.Page = o.Page
	}
	if len(o.Match.Namespaces)+len(o.Match.Workloads) > 0 {
		w.Match = &writtenMatch{o.Match.Namespaces, o.Match.Workloads}
	}
	if l := o.Latency; l != nil {
		w.Latency = &writtenLatency{l.Histogram, l.Threshold.String(), l.By, l.Unit}
	}
	return w
}

// Written is the policy as it goes on in a file after other objectives: the items
// of its list of objectives, and the fields after that. What was included stands
// in the files that it was included from.
func (p Policy) Written() (string, error) {
	var list struct {
		Objectives []writtenObjective `yaml:"objectives,omitempty"`
	}
	for _, o := range p.Objectives {
		if !o.included {
			list.Objectives = append(list.Objectives, o.written())
		}
	}
	var rest struct {
		FalsePagesPerWeek float64     `yaml:"false_pages_per_week"`
		Include           []string    `yaml:"include,omitempty"`
		Windows           []yaml.Node `yaml:"windows"`
	}
	rest.FalsePagesPerWeek, rest.Include = p.FalsePagesPerWeek, p.Include
	for _, w := range p.Windows {
		var n yaml.Node
		if err := n.Encode(writtenWindow{w.Burn, Span(w.Long), Span(w.Short), string(w.Severity)}); err != nil {
			return "", err
		}
		n.Style = yaml.FlowStyle // a window is a line
		rest.Windows = append(rest.Windows, n)
	}
	items := ""
	if list.Objectives != nil {
		text, err := encoded(list)
		if err != nil {
			return "", err
		}
		items = strings.TrimPrefix(text, "objectives:\n")
	}
	text, err := encoded(rest)
	return items + text, err
}

func encoded(v any) (string, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err := enc.Encode(v)
	return b.String(), err
}

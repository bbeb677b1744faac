package slo

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Written is the policy as it goes on in a file after other objectives: the items
// of its list of objectives, and the fields after that. What was included stands
// in the files that it was included from.
func (p Policy) Written() (string, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	type written struct {
		Objectives []map[string]any `yaml:"objectives"`
	}
	var list written
	for _, o := range p.Objectives {
		if o.included {
			continue
		}
		m := map[string]any{"name": o.Name, "target": o.Target, "period": o.Period.String(), "min_requests": o.MinRequests, "page": *o.Page}
		if o.Errors != "" {
			m["errors"], m["total"] = o.Errors, o.Total
		}
		if len(o.Match.Namespaces)+len(o.Match.Workloads) > 0 {
			m["match"] = o.Match
		}
		list.Objectives = append(list.Objectives, m)
	}
	if list.Objectives != nil {
		if err := enc.Encode(list); err != nil {
			return "", err
		}
	}
	items := strings.TrimPrefix(b.String(), "objectives:\n")
	b.Reset()
	rest := map[string]any{"false_pages_per_week": p.FalsePagesPerWeek}
	if len(p.Include) > 0 {
		rest["include"] = p.Include
	}
	var windows []map[string]any
	for _, w := range p.Windows {
		windows = append(windows, map[string]any{"burn": w.Burn, "long": Span(w.Long), "short": Span(w.Short), "severity": string(w.Severity)})
	}
	rest["windows"] = windows
	enc = yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(rest); err != nil {
		return "", err
	}
	return items + b.String(), nil
}

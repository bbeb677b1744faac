package reasoner

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/criterion"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// queries are the PromQL of policies/queries and policies/slo.yaml, by family and
// signal: what a
// person has to ask to see the series behind an anomaly, whose own name is
// ours and means nothing to a Prometheus.
type queries map[string]string

// shownRange stands for $window in what a person is shown.
const shownRange = 5 * time.Minute

// loadQueries reads policies/queries as far as it is needed here; what else is
// in it, the collector checks.
func loadQueries(s *policy.Store) (queries, error) {
	out := queries{}
	shown := slo.Span(shownRange)
	for _, name := range s.Glob("queries", ".yaml") {
		b, _ := s.File(name)
		var f struct {
			Family  string
			Queries []struct {
				Signal, Expr string
				Ratio        []string
			}
		}
		if err := yaml.Unmarshal(b, &f); err != nil {
			return nil, fmt.Errorf("policies/%s: %w", name, err)
		}
		for _, q := range f.Queries {
			expr := strings.ReplaceAll(strings.TrimSpace(q.Expr), "$window", shown)
			if len(q.Ratio) == 2 {
				expr = fmt.Sprintf("(%s) / (%s)", out[f.Family+"/"+q.Ratio[0]], out[f.Family+"/"+q.Ratio[1]])
			}
			out[f.Family+"/"+q.Signal] = expr
		}
	}
	declared, err := criterion.Load(s)
	if err != nil {
		return nil, err
	}
	for _, c := range declared {
		out[c.Name+"/"+c.Name] = strings.ReplaceAll(strings.TrimSpace(c.Expr), "$window", shown)
	}
	promised, err := slo.Load(s)
	if err != nil {
		return nil, err
	}
	for _, o := range promised.Objectives {
		if o.Own() {
			failed, total := o.PromQL(shownRange)
			ratio := fmt.Sprintf("(%s) / (%s)", failed, total)
			out["slo_"+o.Name+"/"+slo.SignalErrors], out["slo_"+o.Name+"/"+slo.SignalTotal] = ratio, ratio
		}
	}
	return out, nil
}

var byRE = regexp.MustCompile(`\bby\s*\(([^)]*)\)`)

// written is the incident with evidence that a Prometheus understands.
func (q queries) written(inc event.Incident) event.Incident {
	inc.Anomalies = slices.Clone(inc.Anomalies)
	for i := range inc.Anomalies {
		a := &inc.Anomalies[i]
		expr, ok := q[a.Labels[event.LabelFamily]+"/"+a.Labels[event.LabelName]]
		if !ok {
			continue
		}
		a.Evidence = slices.Clone(a.Evidence)
		for j, e := range a.Evidence {
			if e.Source == "prometheus" {
				a.Evidence[j].Query = upstream.InjectPromQL(expr, narrowed(expr, a.Entity))
			}
		}
	}
	return inc
}

// labelled are the kinds whose lower-case name is the label that names one of them.
// A Job is none: the label job names what was scraped.
var labelled = []string{"Deployment", "StatefulSet", "DaemonSet", "Pod", "Node", "PersistentVolumeClaim"}

// narrowed is the matchers that narrow an expression to an entity, by the labels
// that it groups by.
func narrowed(expr string, e event.Entity) string {
	var lists [][]string
	for _, m := range byRE.FindAllStringSubmatch(expr, -1) {
		lists = append(lists, strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }))
	}
	everywhere := func(label string) bool {
		return len(lists) > 0 && !slices.ContainsFunc(lists, func(l []string) bool { return !slices.Contains(l, label) })
	}
	var out []string
	add := func(label, op, value string) { out = append(out, fmt.Sprintf("%s%s%q", label, op, value)) }
	if e.Namespace != "" {
		for _, l := range []string{"namespace", "destination_workload_namespace", "exported_namespace"} {
			if everywhere(l) {
				add(l, "=", e.Namespace)
				break
			}
		}
	}
	switch label := strings.ToLower(e.Kind); {
	case slices.Contains(labelled, e.Kind) && everywhere(label):
		add(label, "=", e.Name)
	case e.Namespace != "" && everywhere("destination_workload"):
		add("destination_workload", "=", e.Name)
	case e.Namespace != "" && everywhere("pod") && e.Kind != "Namespace":
		add("pod", "=~", regexp.QuoteMeta(e.Name)+"-.*")
	}
	return strings.Join(out, ",")
}

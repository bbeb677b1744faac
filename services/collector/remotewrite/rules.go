package remotewrite

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// Rules is policies/pushed.yaml: which pushed metrics are taken, and the golden
// signals that are made of them. What no rule matches is dropped before it is
// stored.
type Rules struct {
	// Signals are made in this order.
	Signals []Rule `yaml:"signals"`
}

// Rule makes one signal.
type Rule struct {
	// Signal is its name, the same as in policies/queries: request_rate.
	Signal string `yaml:"signal"`
	// Family tells equal signals of several metrics apart: http_requests_total.
	Family string `yaml:"family"`
	// Match is a selector that names the metric: container_cpu_usage_seconds_total{container!=""}.
	Match string `yaml:"match"`
	// Or is another selector, for what goes by two names.
	Or string `yaml:"or"`
	// As says how a series becomes a value: rate (of a counter, each second),
	// increase (of a counter over the window), value (the last of a gauge) or
	// quantile (of a histogram's buckets).
	As string `yaml:"as"`
	// Quantile of a histogram, between 0 and 1.
	Quantile float64 `yaml:"quantile"`
	// Ratio names two signals of the family instead of Match: this one is the
	// first over the second.
	Ratio []string `yaml:"ratio"`
	// Zero names a signal of the family: what has that one and not this one has
	// 0 of this one. For errors, which have no series until the first of them.
	Zero string `yaml:"zero"`
	// Hidden signals are only for ratios.
	Hidden bool `yaml:"hidden"`
	// Entity is what each value speaks of: workload, pod, node, pvc or namespace.
	Entity string `yaml:"entity"`
	// Aggregate joins the series of an entity: sum, max, min or avg.
	Aggregate string `yaml:"aggregate"`
	// Unit is written as in UCUM: s, By, 1, {request}/s.
	Unit string `yaml:"unit"`
	// Class is symptom, saturation, cause or ambient.
	Class event.SignalClass `yaml:"class"`
	// Detectors are asked for by name. Default: the default set.
	Detectors []string `yaml:"detectors"`

	selectors []selector
}

// selector is Match or Or, read.
type selector struct {
	metric   string
	matchers []matcher
}

// matcher is a matcher with its expression compiled.
type matcher struct {
	upstream.Matcher
	re *regexp.Regexp
}

func (m matcher) matches(value string) bool {
	if m.re == nil {
		return m.Matcher.Matches(value)
	}
	return m.re.MatchString(value) == (m.Op == "=~")
}

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Validate checks the rules and reads their selectors.
func (r *Rules) Validate() error {
	var errs []error
	for i := range r.Signals {
		errs = append(errs, r.check(i)...)
	}
	return errors.Join(errs...)
}

func (r *Rules) check(i int) (errs []error) {
	q := &r.Signals[i]
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("signals[%d].%s", i, field), Value: value, Problem: problem, Fix: fix})
	}
	if !nameRE.MatchString(q.Signal) {
		bad("signal", q.Signal, "is not a name of lower-case letters, digits and _", "write request_rate")
	}
	if !nameRE.MatchString(q.Family) {
		bad("family", q.Family, "is not a name of lower-case letters, digits and _", "write the metric's exporter: cadvisor")
	}
	if slices.ContainsFunc(r.Signals[:i], func(o Rule) bool { return o.Family == q.Family && o.Signal == q.Signal }) {
		bad("signal", q.Signal, "stands before in the same family", "join the two matchers")
	}
	before := func(signal string) bool {
		return slices.ContainsFunc(r.Signals[:i], func(o Rule) bool { return o.Family == q.Family && o.Signal == signal && o.Entity == q.Entity })
	}
	switch {
	case (q.Match == "") == (q.Ratio == nil):
		bad("match", nil, "and ratio exclude each other, and one is needed", "write the metric's name")
	case q.Ratio != nil && (len(q.Ratio) != 2 || !before(q.Ratio[0]) || !before(q.Ratio[1])):
		bad("ratio", q.Ratio, "does not name two signals of its family and entity that stand before it", "write [error_rate, request_rate]")
	case q.Match != "":
		q.selectors = nil
		for _, f := range []struct{ field, text string }{{"match", q.Match}, {"or", q.Or}} {
			if f.text == "" {
				continue
			}
			sel, err := parseSelector(f.text)
			if err != nil {
				bad(f.field, f.text, err.Error(), `write http_requests_total{code=~"5.."}`)
			}
			q.selectors = append(q.selectors, sel)
		}
		if !slices.Contains([]string{"rate", "increase", "value", "quantile"}, q.As) {
			bad("as", q.As, "is not rate, increase, value or quantile", "write rate for a counter, value for a gauge")
		}
		if !slices.Contains([]string{"sum", "max", "min", "avg"}, q.Aggregate) && q.As != "quantile" {
			bad("aggregate", q.Aggregate, "is not sum, max, min or avg", "write sum")
		}
	}
	if (q.As == "quantile") != (q.Quantile > 0 && q.Quantile < 1) {
		bad("quantile", q.Quantile, "is not between 0 and 1, or as is not quantile", "write 0.99")
	}
	if q.Zero != "" && !before(q.Zero) {
		bad("zero", q.Zero, "is no signal of its family and entity that stands before it", "write request_rate")
	}
	if !slices.Contains([]string{"workload", "pod", "node", "pvc", "namespace"}, q.Entity) {
		bad("entity", q.Entity, "is not workload, pod, node, pvc or namespace", "write workload")
	}
	if !slices.Contains([]event.SignalClass{event.ClassSymptom, event.ClassSaturation, event.ClassCause, event.ClassAmbient}, q.Class) && !q.Hidden {
		bad("class", q.Class, "is not symptom, saturation, cause or ambient", "write ambient")
	}
	return errs
}

// parseSelector reads metric{matchers}.
func parseSelector(text string) (selector, error) {
	name, rest, braces := strings.Cut(strings.TrimSpace(text), "{")
	s := selector{metric: strings.TrimSpace(name)}
	if braces {
		inner, ok := strings.CutSuffix(rest, "}")
		if !ok {
			return s, errors.New("has no closing brace")
		}
		ms, err := upstream.ParseMatchers(inner)
		if err != nil {
			return s, err
		}
		for _, m := range ms {
			if m.Name == event.LabelName && m.Op == "=" && s.metric == "" {
				s.metric = m.Value // a name that PromQL cannot write before the brace
				continue
			}
			c := matcher{Matcher: m}
			if strings.HasSuffix(m.Op, "~") {
				if c.re, err = regexp.Compile("^(?s:" + m.Value + ")$"); err != nil {
					return s, err
				}
			}
			s.matchers = append(s.matchers, c)
		}
	}
	if s.metric == "" {
		return s, errors.New("names no metric")
	}
	return s, nil
}

// takes says whether a series is one of the rule's.
func (q *Rule) takes(get func(string) string) bool {
	return slices.ContainsFunc(q.selectors, func(s selector) bool {
		return s.metric == get(event.LabelName) && !slices.ContainsFunc(s.matchers, func(m matcher) bool { return !m.matches(get(m.Name)) })
	})
}

// hash names the rule in the ids of batches.
func (q *Rule) hash() string {
	return event.SeriesHash(event.HashStrings("pushed", q.Family, q.Signal, q.Match, q.Or, q.As, fmt.Sprint(math.Float64bits(q.Quantile)), strings.Join(q.Ratio, "/"), q.Zero,
		q.Entity, q.Aggregate, q.Unit, string(q.Class), strings.Join(q.Detectors, ",")))[:8]
}

// LoadRules reads policies/pushed.yaml.
func LoadRules(store *policy.Store) (*Rules, error) {
	r := &Rules{}
	b, _ := store.File("pushed.yaml")
	if err := policy.Decode("policies/pushed.yaml", b, r); err != nil {
		return nil, err
	}
	return r, nil
}

// allowed is what may pass: the rules by the metric they take, and the labels
// that are kept because a rule looks at them.
type allowed struct {
	rules map[string][]int
	keep  map[string]bool
}

func (r *Rules) allowed() allowed {
	a := allowed{rules: map[string][]int{}, keep: map[string]bool{event.LabelName: true, bucketLabel: true}}
	for i := range r.Signals {
		for _, s := range r.Signals[i].selectors {
			if !slices.Contains(a.rules[s.metric], i) {
				a.rules[s.metric] = append(a.rules[s.metric], i)
			}
			for _, m := range s.matchers {
				a.keep[m.Name] = true
			}
		}
	}
	return a
}

// bucketLabel holds the upper bound of a histogram's bucket.
const bucketLabel = "le"

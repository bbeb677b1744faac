// Package owner says who answers for a thing in the cluster, and by which
// rule: a label of the workload, a rule of policies/ownership.yaml, a label of
// its namespace, the namespace's name, or the default.
package owner

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// File is the policy's name below policies/.
const File = "ownership.yaml"

// Policy is policies/ownership.yaml.
type Policy struct {
	// Labels are labels and annotations that name the team, first one first: of
	// the workload, and where no rule matches it, of its namespace.
	Labels []string `yaml:"labels"`
	// Rules match namespace/kind/name with * and ?; the first that matches wins.
	Rules []Rule `yaml:"rules"`
	// Namespaces name the team of a namespace.
	Namespaces map[string]string `yaml:"namespaces"`
	// Default is the team of everything else; empty for none.
	Default string `yaml:"default"`
	// Contacts say how a team is addressed, by name of channel.
	Contacts map[string]map[string]string `yaml:"contacts"`
}

// Rule gives a team what matches.
type Rule struct {
	Match string `yaml:"match"`
	Team  string `yaml:"team"`

	line int
}

// UnmarshalYAML keeps the line, which is part of the answer.
func (r *Rule) UnmarshalYAML(n *yaml.Node) error {
	type plain Rule
	if err := n.Decode((*plain)(r)); err != nil {
		return err
	}
	r.line = n.Line
	return nil
}

// Validate checks the fields.
func (p *Policy) Validate() error {
	var errs []error
	for i, r := range p.Rules {
		if _, err := path.Match(strings.ToLower(r.Match), "x/y/z"); err != nil || r.Match == "" {
			errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("rules[%d].match", i), Value: r.Match, Problem: "is not a pattern", Fix: "write shop/deployment/pay-*"})
		}
		if r.Team == "" {
			errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("rules[%d].team", i), Problem: "is missing", Fix: "name the team"})
		}
	}
	return errors.Join(errs...)
}

// Load reads the policy in force.
func Load(s *policy.Store) (Policy, error) {
	var p Policy
	b, ok := s.File(File)
	if !ok {
		return p, nil
	}
	err := policy.Decode("policies/"+File, b, &p)
	return p, err
}

// Labels are labels and annotations of a thing in the cluster.
type Labels struct {
	Own       map[string]string // of the thing itself
	Namespace map[string]string // of the namespace that it is in
}

// Of says who answers for an entity with the given labels and annotations.
func (p *Policy) Of(e event.Entity, labels Labels) event.Owner {
	o := p.of(e, labels)
	if o.Team != "" {
		o.Contact = maps.Clone(p.Contacts[o.Team])
	}
	return o
}

func (p *Policy) of(e event.Entity, labels Labels) event.Owner {
	if o, ok := p.label(e, labels.Own); ok {
		return o
	}
	i := slices.IndexFunc(p.Rules, func(r Rule) bool {
		ok, _ := path.Match(strings.ToLower(r.Match), e.String())
		return ok
	})
	if i >= 0 {
		return event.Owner{Team: p.Rules[i].Team, Rule: fmt.Sprintf("policies/%s:%d: %s", File, p.Rules[i].line, p.Rules[i].Match)}
	}
	ns := e.Namespace
	if e.Kind == "Namespace" {
		ns = e.Name
	}
	if o, ok := p.label(event.Entity{Kind: "Namespace", Name: ns}, labels.Namespace); ok {
		return o
	}
	if t := p.Namespaces[ns]; t != "" {
		return event.Owner{Team: t, Rule: fmt.Sprintf("policies/%s: namespaces.%s", File, ns)}
	}
	if p.Default != "" {
		return event.Owner{Team: p.Default, Rule: "policies/" + File + ": default"}
	}
	return event.Owner{Rule: "no rule matches"}
}

// label is the team that a label names, and on what.
func (p *Policy) label(on event.Entity, labels map[string]string) (event.Owner, bool) {
	for _, l := range p.Labels {
		if t := labels[l]; t != "" {
			return event.Owner{Team: t, Rule: fmt.Sprintf("label %s on %s", l, on)}, true
		}
	}
	return event.Owner{}, false
}

// Package slo holds service level objectives and the arithmetic of their
// error budgets: burn rates over several windows, what is left, and when it is
// gone. It takes no context, clock or I/O.
package slo

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// File is the policy file with the objectives.
const File = "slo.yaml"

// Objective is one promise: which share of requests is to be good over a
// period.
type Objective struct {
	// Name identifies the objective; lower case, digits and dashes.
	Name string `yaml:"name"`
	// Target is the share of good requests, above 0 and below 1: 0.999.
	Target float64 `yaml:"target"`
	// Period is the time over which the target holds. Default: 720h (30 days).
	Period time.Duration `yaml:"period"`
	// Match says which workloads it is for, by glob: namespaces and workloads.
	// Empty: all. The first objective that matches a workload is the one for it.
	Match Match `yaml:"match"`
	// Errors and Total are PromQL for failed and all requests a second, where
	// the golden signals are not what is promised. The collector evaluates
	// them; their labels say what entity they speak of.
	// $window stands for the range of their rates.
	Errors string `yaml:"errors"`
	Total  string `yaml:"total"`
	// Latency promises how long requests take, in place of Errors and Total.
	Latency *Latency `yaml:"latency"`
	// MinRequests is the least number of requests in the short window for a
	// burn to count; with less traffic a few failures say nothing. Default: 30.
	MinRequests float64 `yaml:"min_requests"`
	// Page is whether a fast burn is worth a page (critical). Default: true.
	Page *bool `yaml:"page"`

	included bool // from a file of another tool
}

// DefaultMinRequests is how many requests in the short window make a burn count.
const DefaultMinRequests = 30

const defaultPeriod = 30 * 24 * time.Hour

// Match selects workloads.
type Match struct {
	Namespaces []string `yaml:"namespaces"`
	Workloads  []string `yaml:"workloads"`
}

// Policy is the content of policies/slo.yaml.
type Policy struct {
	// Objectives in the order in which they are tried.
	Objectives []Objective `yaml:"objectives"`
	// Include are files of Sloth, Pyrra or OpenSLO, by their path below policies/;
	// a * stands for any part of a name. What they promise comes after Objectives.
	Include []string `yaml:"include"`
	// FalsePagesPerWeek is how many incidents that are only odd may be told as tickets
	// in a week: no SLO burns, no errors or latency, no alert fires, and Kubernetes
	// states nothing. The rest is in the digest. At most 50. Default: 1.
	FalsePagesPerWeek float64 `yaml:"false_pages_per_week"`
	// Windows are the burn rates that count. Default: those of the Site
	// Reliability Workbook, chapter 5.
	Windows []Window `yaml:"windows"`
}

// Window is one rule: the budget burns Burn times as fast as it may, both over
// the long window and over the short one, which ends the alarm soon after the
// burn has ended.
type Window struct {
	Burn     float64        `yaml:"burn"`     // multiples of the allowed rate
	Long     time.Duration  `yaml:"long"`     // at most 72h
	Short    time.Duration  `yaml:"short"`    // at least 1m
	Severity event.Severity `yaml:"severity"` // critical, warning or info
}

// DefaultWindows are those of the workbook.
func DefaultWindows() []Window {
	return []Window{
		{Burn: 14.4, Long: time.Hour, Short: 5 * time.Minute, Severity: event.Critical},
		{Burn: 6, Long: 6 * time.Hour, Short: 30 * time.Minute, Severity: event.Critical},
		{Burn: 3, Long: 24 * time.Hour, Short: 2 * time.Hour, Severity: event.Warning},
		{Burn: 1, Long: 72 * time.Hour, Short: 6 * time.Hour, Severity: event.Info},
	}
}

// Default is one objective for everything that serves requests, mild enough
// not to page for what nobody promised.
func Default() Policy {
	return Policy{Objectives: []Objective{{Name: "default", Target: 0.995}}, Windows: DefaultWindows()}
}

// Load reads the objectives in force; the defaults when there is no file.
func Load(store *policy.Store) (Policy, error) {
	if store != nil {
		if b, ok := store.File(File); ok {
			p, err := Parse("policies/"+File, b)
			if err == nil {
				err = p.include(store)
			}
			return p, err
		}
	}
	p := Default()
	p.fill()
	return p, nil
}

// Parse reads a policy file.
func Parse(file string, b []byte) (Policy, error) {
	var p Policy
	if err := policy.Decode(file, b, &p); err != nil {
		return Policy{}, err
	}
	p.fill()
	return p, nil
}

// include adds the objectives of files of other tools.
func (p *Policy) include(store *policy.Store) error {
	bad := func(i int, problem, fix string) error {
		return fmt.Errorf("policies/%s: %w", File, &policy.FieldError{Path: fmt.Sprintf("include[%d]", i), Value: p.Include[i], Problem: problem, Fix: fix})
	}
	read := map[string]bool{}
	for i, glob := range p.Include {
		var found bool
		for _, name := range store.Glob(path.Dir(glob), ".yaml") {
			ok, _ := path.Match(glob, name)
			if !ok || read[name] {
				found = found || ok
				continue
			}
			found, read[name] = true, true
			b, _ := store.File(name)
			all, err := ParseForeign("policies/"+name, b)
			if err != nil {
				return err
			}
			for _, o := range all {
				if _, twice := p.Named(o.Name); twice {
					return bad(i, fmt.Sprintf("holds objective %s, which is there already", o.Name), "rename one of the two")
				}
				o.included = true
				p.Objectives = append(p.Objectives, o)
			}
		}
		if !found {
			return bad(i, "matches no file below policies/", "write slo/*.yaml, and put the files into policies/slo")
		}
	}
	return nil
}

func (p *Policy) fill() {
	if len(p.Windows) == 0 {
		p.Windows = DefaultWindows()
	}
	if p.FalsePagesPerWeek == 0 {
		p.FalsePagesPerWeek = 1
	}
	for i := range p.Objectives {
		o := &p.Objectives[i]
		if o.Period == 0 {
			o.Period = defaultPeriod
		}
		if o.MinRequests == 0 {
			o.MinRequests = DefaultMinRequests
		}
		if o.Page == nil {
			yes := true
			o.Page = &yes
		}
	}
}

// Validate checks every field.
func (p *Policy) Validate() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	seen := map[string]bool{}
	for i, o := range p.Objectives {
		at := fmt.Sprintf("objectives[%d]", i)
		switch {
		case o.Name == "" || event.Token(o.Name) != o.Name:
			bad(at+".name", o.Name, "is not made of letters, digits, - and _", "write name: checkout-availability")
		case seen[o.Name]:
			bad(at+".name", o.Name, "is used twice", "rename one of the objectives")
		}
		seen[o.Name] = true
		if !(o.Target > 0 && o.Target < 1) {
			fix := "write 0.999"
			if o.Target > 1 && o.Target < 100 {
				fix = fmt.Sprintf("write %.6g", o.Target/100)
			}
			bad(at+".target", o.Target, "is not between 0 and 1", fix)
		}
		if o.Period < 0 || o.Period != 0 && (o.Period < 24*time.Hour || o.Period > 90*24*time.Hour) {
			bad(at+".period", o.Period, "is not between 24h and 2160h", "write 720h")
		}
		if (o.Errors == "") != (o.Total == "") {
			bad(at, nil, "has one of errors and total only", "write both, or none to use the golden signals")
		}
		if o.Latency != nil {
			if o.Errors != "" || o.Total != "" {
				bad(at+".latency", nil, "stands beside errors and total", "make it an objective of its own")
			}
			o.Latency.validate(at+".latency", bad)
		}
		if !(o.MinRequests >= 0 && o.MinRequests <= 1e9) {
			bad(at+".min_requests", o.MinRequests, "is not between 0 and 1e9", "write 30")
		}
		for _, g := range append(append([]string{}, o.Match.Namespaces...), o.Match.Workloads...) {
			if _, err := path.Match(g, ""); err != nil {
				bad(at+".match", g, "is not a glob", "write shop-*")
			}
		}
	}
	if b := p.FalsePagesPerWeek; b != 0 && !(b >= 0.01 && b <= 50) {
		bad("false_pages_per_week", b, "is not between 0.01 and 50", "write 1")
	}
	for i, g := range p.Include {
		if _, err := path.Match(g, ""); err != nil || path.Dir(g) == "." || path.Clean(g) != g || g[0] == '/' || g[0] == '.' {
			bad(fmt.Sprintf("include[%d]", i), g, "is not the path of a file in a folder below policies/", "write slo/*.yaml")
		}
	}
	for i, w := range p.Windows {
		at := fmt.Sprintf("windows[%d]", i)
		if !(w.Burn > 0 && w.Burn <= 1e6) {
			bad(at+".burn", w.Burn, "is not above 0 and at most 1e6", "write 14.4")
		}
		if w.Short < time.Minute || w.Long > 72*time.Hour || w.Short >= w.Long {
			bad(at, fmt.Sprintf("short %s, long %s", w.Short, w.Long), "is not 1m <= short < long <= 72h", "write short: 5m, long: 1h")
		}
		if w.Severity.Number() == 0 {
			bad(at+".severity", w.Severity, "is not info, warning or critical", "write critical")
		}
	}
	return errors.Join(errs...)
}

// For is the objective of a workload by the golden signals: the first that
// matches and has no queries of its own.
func (p Policy) For(namespace, workload string) (Objective, bool) {
	for _, o := range p.Objectives {
		if !o.Own() && Matches(o.Match.Namespaces, namespace) && Matches(o.Match.Workloads, workload) {
			return o, true
		}
	}
	return Objective{}, false
}

// Named is the objective of a name.
func (p Policy) Named(name string) (Objective, bool) {
	for _, o := range p.Objectives {
		if o.Name == name {
			return o, true
		}
	}
	return Objective{}, false
}

// Matches says whether one of some globs is that of a name; none is that of any.
func Matches(globs []string, s string) bool {
	for _, g := range globs {
		if ok, _ := path.Match(g, s); ok {
			return true
		}
	}
	return len(globs) == 0
}

// windowWord stands for the range of rates in queries.
const windowWord = "$window"

// Own says whether an objective has queries of its own, and is not measured by the
// golden signals.
func (o Objective) Own() bool { return o.Errors != "" || o.Latency != nil }

// PromQL are the objective's own queries for failed and for all requests a second,
// with rates over a window; empty when it has none.
func (o Objective) PromQL(window time.Duration) (failed, total string) {
	failed, total = o.queries()
	fill := func(expr string) string { return strings.ReplaceAll(expr, windowWord, Span(window)) }
	return fill(failed), fill(total)
}

func (o Objective) queries() (failed, total string) {
	if o.Latency != nil {
		return o.Latency.PromQL()
	}
	return o.Errors, o.Total
}

// Query is one PromQL expression that the collector evaluates for an
// objective, and the signal under which it is published, with the label
// [event.LabelSLO] naming the objective. In it $window stands for the range of
// rates.
type Query struct {
	Signal    string // SignalErrors or SignalTotal
	Objective string
	Expr      string
}

// The signals of objectives with queries of their own, per second.
const (
	SignalErrors = "slo_errors"
	SignalTotal  = "slo_requests"
)

// Queries are the expressions the policy asks the collector for.
func (p Policy) Queries() []Query {
	var out []Query
	for _, o := range p.Objectives {
		if o.Own() {
			failed, total := o.queries()
			out = append(out, Query{SignalErrors, o.Name, failed}, Query{SignalTotal, o.Name, total})
		}
	}
	return out
}

package prometheus

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Family is one file of policies/queries: the golden signals that one exporter
// can give, asked for only where its metrics are.
type Family struct {
	// Family is the name, which the series carry as oncall_family.
	Family string `yaml:"family"`
	// Doc says in a sentence where the metrics come from.
	Doc string `yaml:"doc"`
	// Guard is a metric that is there if and only if the exporter is.
	Guard string `yaml:"guard"`
	// Unless names families that measure the same better: what one of them says
	// of a workload, this one does not say too.
	Unless []string `yaml:"unless"`
	// Queries are the signals.
	Queries []Query `yaml:"queries"`
}

// Query is one signal.
type Query struct {
	// Signal is its name, the same over all families: request_rate, cpu_usage.
	Signal string `yaml:"signal"`
	// Expr is PromQL. $window is the rate window.
	Expr string `yaml:"expr"`
	// Ratio names two signals of the family instead of an Expr: this one is the
	// first over the second, for each entity, after pods were joined.
	Ratio []string `yaml:"ratio"`
	// Entity is what each series speaks of: workload, pod, node, pvc, namespace
	// or cluster.
	Entity string `yaml:"entity"`
	// Aggregate joins the pods of a workload: sum, max, min or avg.
	Aggregate string `yaml:"aggregate"`
	// Unit is written as in UCUM: s, By, 1, {request}/s.
	Unit string `yaml:"unit"`
	// Class is symptom, saturation, cause or ambient.
	Class event.SignalClass `yaml:"class"`
	// Detectors are asked for by name. Default: the default set.
	Detectors []string `yaml:"detectors"`

	promise promise // the zero value: a golden signal
}

// Entities of queries whose answers say what they are about, if at all.
const (
	anything = "anything" // of an objective
	whatever = "whatever" // of a detector of policies/detectors
)

// Validate checks the fields.
func (f *Family) Validate() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	if !tokenRE.MatchString(f.Family) {
		bad("family", f.Family, "is not a name of lower-case letters, digits and _", "write istio")
	}
	if !metricRE.MatchString(f.Guard) {
		bad("guard", f.Guard, "is not the name of a metric", "write the metric that shows that the exporter is there")
	}
	for i, q := range f.Queries {
		path := fmt.Sprintf("queries[%d].", i)
		if !tokenRE.MatchString(q.Signal) {
			bad(path+"signal", q.Signal, "is not a name of lower-case letters, digits and _", "write request_rate")
		}
		switch {
		case (q.Expr == "") == (q.Ratio == nil):
			bad(path+"expr", nil, "and ratio exclude each other, and one is needed", "write PromQL")
		case q.Ratio != nil && (len(q.Ratio) != 2 || !f.has(q.Ratio[0], i) || !f.has(q.Ratio[1], i)):
			bad(path+"ratio", q.Ratio, "does not name two signals that stand before it", "write [error_rate, request_rate]")
		}
		if !slices.Contains([]string{"workload", "pod", "node", "pvc", "namespace", "cluster"}, q.Entity) {
			bad(path+"entity", q.Entity, "is not workload, pod, node, pvc, namespace or cluster", "write workload")
		}
		if !slices.Contains([]string{"", "sum", "max", "min", "avg"}, q.Aggregate) {
			bad(path+"aggregate", q.Aggregate, "is not sum, max, min or avg", "write sum")
		}
		if q.Entity == "workload" && q.Aggregate == "" && q.Ratio == nil {
			bad(path+"aggregate", nil, "is missing", "say how pods are joined to their workload: sum, max, min or avg")
		}
		if !slices.Contains([]event.SignalClass{event.ClassSymptom, event.ClassSaturation, event.ClassCause, event.ClassAmbient}, q.Class) {
			bad(path+"class", q.Class, "is not symptom, saturation, cause or ambient", "write ambient")
		}
	}
	return errors.Join(errs...)
}

// has says whether a signal stands before the n-th query.
func (f *Family) has(signal string, n int) bool {
	return slices.ContainsFunc(f.Queries[:n], func(q Query) bool { return q.Signal == signal })
}

var (
	tokenRE  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	metricRE = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
)

// MaxQueries is the most queries that one step may send, whatever is there.
const MaxQueries = 60

// LoadFamilies reads policies/queries.
func LoadFamilies(store *policy.Store) ([]Family, error) {
	var out []Family
	var errs []error
	for _, name := range store.Glob("queries", ".yaml") {
		b, _ := store.File(name)
		var f Family
		if err := policy.Decode("policies/"+name, b, &f); err != nil {
			errs = append(errs, err)
			continue
		}
		if slices.ContainsFunc(out, func(o Family) bool { return o.Family == f.Family }) {
			errs = append(errs, &policy.Error{File: "policies/" + name, Problems: []policy.Problem{{Text: "family: " + f.Family + " stands in another file too; rename it"}}})
			continue
		}
		out = append(out, f)
	}
	for _, f := range out {
		for _, u := range f.Unless {
			if !slices.ContainsFunc(out, func(o Family) bool { return o.Family == u }) {
				errs = append(errs, &policy.Error{File: "policies/queries", Problems: []policy.Problem{{Text: "unless: of " + f.Family + " names " + u + ", which is no family; take it out"}}})
			}
		}
	}
	return out, errors.Join(errs...)
}

// active are the queries of the families whose guard metric is there, or that
// have none.
func active(families []Family, present map[string]bool) []boundQuery {
	var out []boundQuery
	for _, f := range families {
		if f.Guard != "" && !present[f.Guard] {
			continue
		}
		for _, q := range f.Queries {
			out = append(out, boundQuery{family: f.Family, unless: f.Unless, Query: q})
		}
	}
	return out
}

// within leaves out the queries after the most that may be sent. A ratio sends
// nothing, but is nothing without its parts.
func within(queries []boundQuery, most int) (kept []boundQuery, left int) {
	sent := 0
	for i, q := range queries {
		if q.Ratio == nil {
			sent++
		}
		if sent > most {
			return queries[:i], len(queries) - i
		}
	}
	return queries, 0
}

// boundQuery is a query of a family.
type boundQuery struct {
	family string
	unless []string
	Query
}

func (q boundQuery) name() string { return q.family + "/" + q.Signal }

// text is the PromQL with its window filled in.
func (q boundQuery) text(window time.Duration) string {
	return strings.TrimSpace(strings.ReplaceAll(q.Expr, "$window", promDuration(window)))
}

// hash names the query in batch ids.
func (q boundQuery) hash(window time.Duration) string {
	return event.SeriesHash(event.HashStrings(q.family, q.Signal, q.text(window), q.Entity, q.Aggregate, q.Unit, string(q.Class), strings.Join(q.Detectors, ","), strings.Join(q.Ratio, "/")))[:8]
}

func promDuration(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

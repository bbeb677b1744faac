// Package objectives reads what workloads have served from Prometheus' history, and
// suggests the objectives that they have kept: what `oncall slo suggest` writes, and
// what `oncall slo-prom` judges where it is given no queries.
package objectives

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// maxSeries bounds an answer: a day of each is 288 points.
const maxSeries = 5000

// Traffic is what was asked of a workload, by one family of metrics.
type Traffic struct {
	Namespace, Workload string
	Family              string // of policies/queries, which counts it

	served map[int64]*slo.Served
}

// Steps are what was served, in the order of time.
func (t *Traffic) Steps() []slo.Served {
	out := make([]slo.Served, 0, len(t.served))
	for _, at := range slices.Sorted(maps.Keys(t.served)) {
		out = append(out, *t.served[at])
	}
	return out
}

// Reader reads the requests that the families of policies/queries count.
type Reader struct {
	client     *promql.Client
	step       time.Duration // of the reading, and the range of the rates
	namespaces []string      // globs; empty: all

	families []prometheus.Family
	names    *entities.Map
}

// NewReader prepares the reading of some namespaces, globs, or of all. The step is
// the distance of two readings and the range of the rates, at least twice the time
// between two scrapes.
func NewReader(client *promql.Client, store *policy.Store, step time.Duration, namespaces []string) (*Reader, error) {
	r := &Reader{client: client, step: step, namespaces: namespaces}
	var err error
	if r.families, err = prometheus.LoadFamilies(store); err != nil {
		return nil, err
	}
	r.names, err = entities.Load(store)
	return r, err
}

// Read is the traffic of each workload from a time to another, a day at a time,
// sorted by name; of several families the one that the others yield to.
func (r *Reader) Read(ctx context.Context, from, to time.Time) ([]*Traffic, error) {
	var guards []string
	for _, fam := range r.families {
		guards = append(guards, fam.Guard)
	}
	present, err := r.present(ctx, guards, from, to)
	if err != nil {
		return nil, err
	}
	all := map[string]*Traffic{}
	for _, fam := range r.families {
		requests, failed := r.expression(fam, "request_rate"), r.expression(fam, "error_rate")
		if !present[fam.Guard] || requests == "" || failed == "" {
			continue
		}
		for day := from; !day.After(to); day = day.Add(24 * time.Hour) {
			end := day.Add(24*time.Hour - r.step)
			if end.After(to) {
				end = to
			}
			for _, q := range []struct {
				expr string
				add  func(*slo.Served, float64)
			}{{requests, func(s *slo.Served, x float64) { s.Requests += x }}, {failed, func(s *slo.Served, x float64) { s.Failed += x }}} {
				m, err := r.client.Range(ctx, q.expr, day, end, r.step)
				if err != nil {
					return nil, fmt.Errorf("family %s: %w", fam.Family, err)
				}
				if len(m) > maxSeries {
					return nil, fmt.Errorf("family %s: %w", fam.Family, &promql.Mismatch{Problem: fmt.Sprintf("%d series, more than the %d that are read", len(m), maxSeries), Fix: "choose a namespace: -n NS, match: {namespaces: [NS]}, or extra_matchers of the source"})
				}
				r.book(all, fam.Family, m, q.add)
			}
		}
	}
	return r.best(all), nil
}

// present says which metrics have a series at the end or on a day before: what serves
// nothing at this moment may have served for weeks.
func (r *Reader) present(ctx context.Context, metrics []string, from, to time.Time) (map[string]bool, error) {
	out := map[string]bool{}
	for at := to; !at.Before(from) && len(metrics) > 0; at = at.Add(-24 * time.Hour) {
		found, err := r.client.Has(ctx, metrics, at)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, found)
		metrics = slices.DeleteFunc(metrics, func(m string) bool { return out[m] })
	}
	return out, nil
}

// expression is the query of a signal, asked of the namespaces alone where its
// series say theirs.
func (r *Reader) expression(fam prometheus.Family, signal string) string {
	for _, q := range fam.Queries {
		if q.Signal == signal {
			return inNamespaces(strings.TrimSpace(strings.ReplaceAll(q.Expr, "$window", slo.Span(r.step))), r.namespaces)
		}
	}
	return ""
}

var summedBy = regexp.MustCompile(`\bby\s*\(([^)]*)\)`)

// inNamespaces asks an expression of some namespaces alone, where it sums by namespace
// everywhere.
func inNamespaces(expr string, namespaces []string) string {
	lists := summedBy.FindAllStringSubmatch(expr, -1)
	if len(namespaces) == 0 || lists == nil {
		return expr
	}
	for _, m := range lists {
		if !slices.Contains(strings.FieldsFunc(m[1], func(c rune) bool { return c == ',' || c == ' ' || c == '\n' }), "namespace") {
			return expr
		}
	}
	var patterns []string
	for _, glob := range namespaces {
		if strings.ContainsAny(glob, `[\`) {
			return expr
		}
		patterns = append(patterns, strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(glob)))
	}
	return upstream.InjectPromQL(expr, fmt.Sprintf("namespace=~%q", strings.Join(patterns, "|")))
}

// subject is the workload that a series speaks of; "" when it is none that is read.
func (r *Reader) subject(m model.Metric) (namespace, workload string) {
	who := r.names.Subject(func(l string) string { return string(m[model.LabelName(l)]) })
	if who.Workload == "" && who.Pod != "" {
		who.Workload = event.WorkloadOfPod(who.Pod)
	}
	if !slo.Matches(r.namespaces, who.Namespace) {
		return "", ""
	}
	return who.Namespace, who.Workload
}

// book adds an answer to the workloads that its series speak of.
func (r *Reader) book(all map[string]*Traffic, family string, m model.Matrix, add func(*slo.Served, float64)) {
	for _, s := range m {
		namespace, workload := r.subject(s.Metric)
		if workload == "" {
			continue
		}
		key := family + "\x00" + namespace + "\x00" + workload
		t := all[key]
		if t == nil {
			t = &Traffic{namespace, workload, family, map[int64]*slo.Served{}}
			all[key] = t
		}
		for _, v := range s.Values {
			x := float64(v.Value) * r.step.Seconds()
			if !(x >= 0 && x < 1e15) {
				continue
			}
			at := int64(v.Timestamp)
			if t.served[at] == nil {
				t.served[at] = &slo.Served{Time: v.Timestamp.Time().UTC()}
			}
			add(t.served[at], x)
		}
	}
}

// best leaves out what another family tells better of the same workload.
func (r *Reader) best(all map[string]*Traffic) []*Traffic {
	var out []*Traffic
	for _, key := range slices.Sorted(maps.Keys(all)) {
		t := all[key]
		i := slices.IndexFunc(r.families, func(fam prometheus.Family) bool { return fam.Family == t.Family })
		better := slices.ContainsFunc(r.families[i].Unless, func(other string) bool {
			return all[other+"\x00"+t.Namespace+"\x00"+t.Workload] != nil
		})
		if !better && !slices.ContainsFunc(out, func(o *Traffic) bool { return o.Namespace == t.Namespace && o.Workload == t.Workload }) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *Traffic) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Workload, b.Workload))
	})
	return out
}

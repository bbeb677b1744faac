package triage

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// Want is what somebody named; empty fields are left open.
type Want struct{ Namespace, Kind, Name string }

// String writes it as it may be named.
func (w Want) String() string {
	return strings.Join(slices.DeleteFunc([]string{w.Namespace, strings.ToLower(w.Kind), w.Name}, func(s string) bool { return s == "" }), "/")
}

// workloadKinds are the kinds that can be triaged, and how a person may write
// them.
var workloadKinds = []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicaSet", "Rollout", "Pod"}

// kindOf is a kind that can be triaged, by any of its names.
func kindOf(word string) (string, bool) {
	e, ok := event.ParseEntity(strings.TrimSuffix(strings.ToLower(word), "s") + "/x")
	if ok && slices.Contains(workloadKinds, e.Kind) {
		return e.Kind, true
	}
	e, ok = event.ParseEntity(strings.ToLower(word) + "/x") // sts, ds, rs
	return e.Kind, ok && slices.Contains(workloadKinds, e.Kind)
}

// ParseName reads checkout, shop/checkout, deploy/checkout or
// shop/deploy/checkout. With a namespace, the first part of two is a kind; with
// a kind, such as Pod, no other may be named.
func ParseName(s, namespace, kind string) (Want, error) {
	w := Want{Namespace: namespace, Kind: kind}
	parts := strings.Split(s, "/")
	if slices.Contains(parts, "") || len(parts) > 3 {
		return w, fmt.Errorf("%q is not a name; write shop/checkout, shop/deploy/checkout or -n shop checkout", s)
	}
	w.Name = parts[len(parts)-1]
	named := ""
	switch len(parts) {
	case 2:
		if k, ok := kindOf(parts[0]); ok {
			named = k
		} else if namespace == "" {
			w.Namespace = parts[0]
		} else if parts[0] != namespace {
			return w, fmt.Errorf("%q: %s is neither the namespace %s nor a kind; the kinds are %s", s, parts[0], namespace, kindList())
		}
	case 3:
		k, ok := kindOf(parts[1])
		if !ok {
			return w, fmt.Errorf("%q: %s is not a kind that can be triaged; the kinds are %s", s, parts[1], kindList())
		}
		if named = k; namespace != "" && parts[0] != namespace {
			return w, fmt.Errorf("%q is in namespace %s, and --namespace says %s; leave one out", s, parts[0], namespace)
		}
		w.Namespace = parts[0]
	}
	if kind != "" && named != "" && named != kind {
		return w, fmt.Errorf("%q names a %s, not a %s", s, strings.ToLower(named), strings.ToLower(kind))
	}
	w.Kind = cmp.Or(named, kind)
	return w, nil
}

func kindList() string { return strings.ToLower(strings.Join(workloadKinds, ", ")) }

// NameError says that a name means nothing in the cluster, or too much.
type NameError struct {
	Want Want
	// Near are what may have been meant; Several says that each of them is.
	Near    []event.Entity
	Several bool
}

// Error says so in a line.
func (e *NameError) Error() string {
	names := make([]string, 0, len(e.Near))
	for _, n := range e.Near {
		names = append(names, check.Name(n))
	}
	what := cmp.Or(strings.ToLower(e.Want.Kind), "workload")
	where := "the cluster"
	if e.Want.Namespace != "" {
		where = "namespace " + e.Want.Namespace
	}
	switch {
	case e.Several:
		return fmt.Sprintf("%s is %d things: %s", e.Want.Name, len(names), strings.Join(names, ", "))
	case len(names) == 0:
		return fmt.Sprintf("%s has no %s %s, nor one of a similar name", where, what, e.Want.Name)
	}
	return fmt.Sprintf("%s has no %s %s; there is %s", where, what, e.Want.Name, strings.Join(names, ", "))
}

// Resolve says which of the things that there are is meant.
func Resolve(w Want, all []event.Entity) (event.Entity, error) {
	var hits []event.Entity
	for _, e := range all {
		if e.Name == w.Name && (w.Kind == "" || e.Kind == w.Kind) && (w.Namespace == "" || e.Namespace == w.Namespace) {
			hits = append(hits, e)
		}
	}
	// A pod or Job of the same name as what it belongs to is not meant.
	if w.Kind == "" && len(hits) > 1 {
		if top := slices.DeleteFunc(slices.Clone(hits), func(e event.Entity) bool { return e.Kind == "Pod" || e.Kind == "ReplicaSet" }); len(top) > 0 {
			hits = top
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return event.Entity{}, &NameError{Want: w, Near: near(w, all)}
	}
	slices.SortFunc(hits, event.Entity.Compare)
	return event.Entity{}, &NameError{Want: w, Near: hits, Several: true}
}

// maxNear is how many similar names are offered.
const maxNear = 4

// near are the things whose names are like the one wanted, the likest first.
func near(w Want, all []event.Entity) []event.Entity {
	type hit struct {
		e event.Entity
		d int
	}
	var hits []hit
	for _, e := range all {
		if w.Kind != "" && e.Kind != w.Kind {
			continue
		}
		d := distance(w.Name, e.Name)
		switch {
		case e.Name == w.Name:
			d = 0 // in another namespace
		case strings.Contains(e.Name, w.Name) || strings.Contains(w.Name, e.Name):
			d = min(d, 1)
		case d > max(2, len(w.Name)/3):
			continue
		}
		if w.Namespace != "" && e.Namespace != w.Namespace {
			d += 2
		}
		hits = append(hits, hit{e, d})
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(a.d-b.d, a.e.Compare(b.e)) })
	var out []event.Entity
	for _, h := range hits[:min(maxNear, len(hits))] {
		out = append(out, h.e)
	}
	return out
}

// distance counts the letters to change between two words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, last+1)
		}
	}
	return row[len(b)]
}

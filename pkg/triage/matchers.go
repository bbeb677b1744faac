package triage

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// ParseMatchers reads what Alertmanager's amtool and API take: a list of
// name=value, name!=value, name=~regexp and name!~regexp, with or without
// braces, values with or without double quotes.
func ParseMatchers(s string) ([]upstream.Matcher, error) {
	rest := strings.TrimSpace(s)
	if strings.HasPrefix(rest, "{") != strings.HasSuffix(rest, "}") {
		return nil, fmt.Errorf("%q: a brace has no other", s)
	}
	rest = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(rest, "{"), "}"))
	var out []upstream.Matcher
	for rest != "" {
		g := operator.FindStringSubmatch(rest)
		if g == nil {
			return nil, fmt.Errorf("%q is not a matcher; write alertname=\"KubePodCrashLooping\"", clip(rest, 60))
		}
		m := upstream.Matcher{Name: g[1], Op: g[2]}
		rest = rest[len(g[0]):]
		if strings.HasPrefix(rest, `"`) {
			q, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("value of %s: the quote is not closed, or an escape is unknown", m.Name)
			}
			if m.Value, err = strconv.Unquote(q); err != nil {
				return nil, fmt.Errorf("value of %s: %w", m.Name, err)
			}
			rest = rest[len(q):]
		} else {
			value, _, _ := strings.Cut(rest, ",")
			rest = rest[len(value):]
			if m.Value = strings.TrimSpace(value); strings.ContainsAny(m.Value, `"{}`) {
				return nil, fmt.Errorf("value of %s: %q needs double quotes", m.Name, clip(m.Value, 60))
			}
		}
		if strings.HasSuffix(m.Op, "~") {
			if _, err := regexp.Compile("^(?s:" + m.Value + ")$"); err != nil {
				return nil, fmt.Errorf("value of %s: %q is not a regular expression", m.Name, clip(m.Value, 60))
			}
		}
		out = append(out, m)
		rest = strings.TrimSpace(rest)
		if rest == "" {
			break
		}
		if !strings.HasPrefix(rest, ",") {
			return nil, fmt.Errorf("no comma after %s", m)
		}
		rest = strings.TrimSpace(rest[1:])
	}
	if len(out) == 0 {
		return nil, errors.New("no matcher; write alertname=\"KubePodCrashLooping\",namespace=\"shop\"")
	}
	return out, nil
}

var operator = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*`)

// Labels are the labels whose values matchers state exactly.
func Labels(ms []upstream.Matcher) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		if m.Op == "=" {
			out[m.Name] = m.Value
		}
	}
	return out
}

// objectLabels are the labels by which alerts name what they are about, the
// closest first. An alert about kube-state-metrics' metrics may carry the pod of
// the exporter, and the real one as exported_pod.
var objectLabels = []struct{ label, kind string }{
	{"exported_pod", "Pod"},
	{"pod", "Pod"},
	{"deployment", "Deployment"},
	{"statefulset", "StatefulSet"},
	{"daemonset", "DaemonSet"},
	{"rollout", "Rollout"},
	{"cronjob", "CronJob"},
	{"job_name", "Job"},
	{"workload", ""},
	{"app", ""},
	{"service", ""},
	{"container", ""},
}

// namespaceLabels name the namespace of an alert.
var namespaceLabels = []string{"exported_namespace", "namespace"}

// NamespaceOf is the namespace that the labels of an alert name, or "".
func NamespaceOf(labels map[string]string) string {
	for _, l := range namespaceLabels {
		if labels[l] != "" {
			return labels[l]
		}
	}
	return ""
}

// About says what an alert is about: its labels name it, and where they do not,
// the matchers choose among the things that there are.
func About(labels map[string]string, ms []upstream.Matcher, all []event.Entity) (event.Entity, error) {
	namespace := NamespaceOf(labels)
	var first error
	for _, l := range objectLabels {
		name := labels[l.label]
		if name == "" {
			continue
		}
		w := Want{Namespace: namespace, Kind: l.kind, Name: name}
		e, err := Resolve(w, all)
		if err == nil {
			return e, nil
		}
		if l.kind == "Pod" { // it may be gone, and its workload not
			if e, err := Resolve(Want{Namespace: namespace, Name: event.WorkloadOfPod(name)}, all); err == nil {
				return e, nil
			}
		}
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return event.Entity{}, first
	}
	return chosen(ms, all)
}

// chosen is the one thing that all matchers about objects match.
func chosen(ms []upstream.Matcher, all []event.Entity) (event.Entity, error) {
	var hits []event.Entity
	spoke := false
	for _, l := range objectLabels {
		var of []upstream.Matcher
		for _, m := range ms {
			if m.Name == l.label && m.Op != "!=" && m.Op != "!~" {
				of = append(of, m)
			}
		}
		if len(of) == 0 {
			continue
		}
		spoke = true
		for _, e := range all {
			if (l.kind == "" && e.Kind != "Pod" || e.Kind == l.kind) && matches(of, l.label, e.Name) && matchesNamespace(ms, e.Namespace) {
				hits = append(hits, e)
			}
		}
		break
	}
	switch {
	case !spoke:
		return event.Entity{}, errors.New("nothing in it names a pod or workload: no label pod, deployment, statefulset, daemonset, job_name or workload")
	case len(hits) == 1:
		return hits[0], nil
	case len(hits) == 0:
		return event.Entity{}, errors.New("no pod or workload in the cluster matches it")
	}
	// Several pods of one workload are the workload's.
	names := map[event.Entity]bool{}
	for _, e := range hits {
		if w := (event.Entity{Namespace: e.Namespace, Kind: e.Kind, Name: e.Name}); e.Kind == "Pod" {
			w.Kind, w.Name = "", event.WorkloadOfPod(e.Name)
			names[w] = true
		} else {
			names[w] = true
		}
	}
	if len(names) == 1 {
		for w := range names {
			if e, err := Resolve(Want{Namespace: w.Namespace, Kind: w.Kind, Name: w.Name}, all); err == nil {
				return e, nil
			}
		}
		return hits[0], nil
	}
	return event.Entity{}, &NameError{Want: Want{Name: "what the alert matches"}, Near: hits[:min(len(hits), 8)], Several: true}
}

func matches(ms []upstream.Matcher, label, value string) bool {
	for _, m := range ms {
		if m.Name == label && !m.Matches(value) {
			return false
		}
	}
	return true
}

func matchesNamespace(ms []upstream.Matcher, namespace string) bool {
	for _, l := range namespaceLabels {
		if !matches(ms, l, namespace) {
			return false
		}
	}
	return true
}

func clip(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

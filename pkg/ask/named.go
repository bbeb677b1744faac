package ask

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/triage"
)

// maxNamed bounds how many things a question is about.
const maxNamed = 3

// Named says which of the things that there are a question names, and to which
// namespaces it thereby confines itself: those of the things, else those that it
// names by themselves. None means all.
func Named(question string, things []event.Entity) (about []event.Entity, namespaces []string) {
	words := strings.FieldsFunc(strings.ToLower(question), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '/'
	})
	known := map[string]bool{}
	for _, e := range things {
		known[e.Namespace] = true
	}
	var spaces []string
	for _, w := range words {
		w = strings.Trim(w, ".-/")
		if known[w] && !slices.Contains(spaces, w) {
			spaces = append(spaces, w)
		}
	}
	for _, w := range words {
		w = strings.Trim(w, ".-/")
		if w == "" {
			continue
		}
		want, err := triage.ParseName(w, "", "")
		if err != nil {
			continue
		}
		for _, e := range best(want, things) {
			if len(spaces) > 0 && want.Namespace == "" && !slices.Contains(spaces, e.Namespace) {
				continue // "cart in shop" is that of shop
			}
			if len(about) < maxNamed && !slices.Contains(about, e) {
				about = append(about, e)
			}
		}
	}
	for _, e := range about {
		if !slices.Contains(namespaces, e.Namespace) {
			namespaces = append(namespaces, e.Namespace)
		}
	}
	if len(about) == 0 {
		namespaces = spaces
	}
	return about, namespaces
}

// best are the things that a name means: of what belongs together, the top.
func best(want triage.Want, things []event.Entity) []event.Entity {
	var hits []event.Entity
	for _, e := range things {
		if e.Name == want.Name && (want.Kind == "" || e.Kind == want.Kind) && (want.Namespace == "" || e.Namespace == want.Namespace) {
			hits = append(hits, e)
		}
	}
	if want.Kind == "" && len(hits) > 1 {
		if top := slices.DeleteFunc(slices.Clone(hits), func(e event.Entity) bool { return e.Kind == "Pod" || e.Kind == "ReplicaSet" }); len(top) > 0 {
			return top
		}
	}
	return hits
}

// topics are the signals that words of a question ask about.
var topics = []struct {
	words   []string
	signals []string
}{
	{[]string{"slow", "latency", "lag", "timeout", "hang"}, []string{"latency_p99", "request_rate", "cpu_throttling_ratio"}},
	{[]string{"error", "fail", "500", "5xx", "broken"}, []string{"error_ratio", "request_rate"}},
	{[]string{"memory", "oom", "leak"}, []string{"memory_usage", "memory_limit_ratio", "restarts"}},
	{[]string{"cpu", "throttl", "load"}, []string{"cpu_usage", "cpu_throttling_ratio"}},
	{[]string{"restart", "crash"}, []string{"restarts"}},
	{[]string{"traffic", "request"}, []string{"request_rate"}},
}

// Verdict is what the rules answer to a question about one thing: how it is,
// why, what changed, and what it measures of what the question asks about.
func Verdict(question string, r *triage.Result) []string {
	name := check.Name(r.Entity)
	out := []string{name + " " + r.Status}
	v := r.Verdict
	switch {
	case v.Confidence != "":
		out = append(out, strings.TrimSpace(fmt.Sprintf("likely (%s): %s %s", v.Confidence, v.Text, v.Detail)))
	default:
		out = append(out, v.Text)
	}
	for _, s := range v.Besides {
		out = append(out, fmt.Sprintf("beside that (%s): %s", s.Confidence, s.Text))
	}
	low := strings.ToLower(question)
	told := map[string]bool{}
	missing := ""
	for _, t := range topics {
		if !slices.ContainsFunc(t.words, func(w string) bool { return strings.Contains(low, w) }) {
			continue
		}
		for i, s := range t.signals {
			at := slices.IndexFunc(r.Metrics, func(m triage.Metric) bool { return m.Signal == s })
			switch {
			case at >= 0 && !told[s]:
				told[s] = true
				out = append(out, measured(r.Metrics[at]))
			case at < 0 && i == 0:
				missing = s
			}
		}
	}
	if missing != "" {
		out = append(out, "there is no metric "+missing+" of it: what the question asks about is not measured, or could not be read")
	}
	if len(told) == 0 && missing == "" {
		for _, m := range r.Metrics[:min(len(r.Metrics), 3)] {
			out = append(out, measured(m))
		}
	}
	if len(r.Changes) > 0 && !r.Changes[0].First {
		c := r.Changes[0]
		out = append(out, fmt.Sprintf("newest change %s revision %s: %s", c.Time.UTC().Format("15:04:05"), c.Revision, c.Summary))
	}
	if p := r.Logs.Patterns; len(p) > 0 && p[0].Trouble {
		out = append(out, fmt.Sprintf("log x%d until %s: %s", p[0].Count, p[0].Last.UTC().Format("15:04:05"), p[0].Example))
	}
	for _, n := range r.Neighbours[:min(len(r.Neighbours), 3)] {
		out = append(out, fmt.Sprintf("also in trouble: %s %s", check.Name(n.Entity), n.Status))
	}
	return out
}

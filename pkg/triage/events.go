package triage

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// decode reads decoded JSON into a type; what does not fit is left out.
func decode[T any](items []any) []T {
	var out []T
	for _, i := range items {
		body, err := json.Marshal(i)
		if err != nil {
			continue
		}
		var v T
		if json.Unmarshal(body, &v) == nil {
			out = append(out, v)
		}
	}
	return out
}

// first is when an event was first seen.
func first(e event.KubeEvent) time.Time {
	if t := e.FirstTimestamp; !t.IsZero() && t.Before(e.Time()) {
		return t
	}
	return e.Time()
}

// groupEvents joins events that say the same of several objects, or with other
// numbers in it. Those that failed probes wrote are [Probe]s and left out.
func groupEvents(events []event.KubeEvent) []EventGroup {
	type key struct {
		typ, reason, kind string
		template          uint64
	}
	m := logpattern.New(logpattern.Config{MaxTemplates: 500})
	templates := make([]uint64, len(events))
	for i, e := range events {
		templates[i] = m.AddContent(e.Message, logpattern.Unknown).ID
	}
	at := map[key]int{}
	objects := map[key]map[string]bool{}
	var out []EventGroup
	for i, e := range events {
		if e.Reason == "Unhealthy" {
			continue
		}
		k := key{e.Type, e.Reason, e.InvolvedObject.Kind, m.Resolve(templates[i])}
		n, ok := at[k]
		if !ok {
			n = len(out)
			at[k], objects[k] = n, map[string]bool{}
			out = append(out, EventGroup{Type: cmp.Or(e.Type, "Normal"), Reason: e.Reason, First: first(e)})
		}
		g := &out[n]
		g.Count += e.Occurrences()
		if f := first(e); f.Before(g.First) {
			g.First = f
		}
		if t := e.Time(); !t.Before(g.Last) {
			g.Last, g.Message, g.About = t, e.Message, strings.ToLower(e.InvolvedObject.Kind)+"/"+e.InvolvedObject.Name
		}
		objects[k][e.InvolvedObject.Name] = true
		g.Objects = len(objects[k])
	}
	slices.SortStableFunc(out, func(a, b EventGroup) int { return cmp.Or(a.Last.Compare(b.Last), strings.Compare(a.Reason, b.Reason)) })
	return out
}

// probes are the failures of each kind of probe, newest last.
func probes(events []event.KubeEvent, pod string) []Probe {
	at := map[string]int{}
	pods := map[string]map[string]bool{}
	var out []Probe
	for _, e := range events {
		if e.Reason != "Unhealthy" || pod != "" && e.InvolvedObject.Name != pod {
			continue
		}
		kind, message, ok := strings.Cut(e.Message, " probe ")
		if !ok {
			kind, message = "Probe", e.Message
		}
		message = strings.TrimPrefix(strings.TrimPrefix(message, "failed: "), "errored: ")
		n, seen := at[kind]
		if !seen {
			n = len(out)
			at[kind], pods[kind] = n, map[string]bool{}
			out = append(out, Probe{Kind: kind, First: first(e)})
		}
		p := &out[n]
		p.Count += e.Occurrences()
		if f := first(e); f.Before(p.First) {
			p.First = f
		}
		if t := e.Time(); !t.Before(p.Last) {
			p.Last, p.Message = t, message
		}
		pods[kind][e.InvolvedObject.Name] = true
		p.Pods = len(pods[kind])
	}
	slices.SortStableFunc(out, func(a, b Probe) int { return a.Last.Compare(b.Last) })
	return out
}

package triage

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// likePatterns finds, for each pattern that looks like trouble, the one of an incident
// of before that it is like most; of those that are as like the newest.
func likePatterns(all []event.Incident, patterns []Pattern, now time.Time, cite func(event.Evidence) string, line func(string) string) {
	for k := range patterns {
		p := &patterns[k]
		if !p.Trouble {
			continue
		}
		likeness, best := logpattern.NewLikeness(p.Template), logpattern.AtLeastLike
		var of *event.Incident
		template := ""
		for i := range all {
			for _, a := range all[i].Anomalies {
				t := a.Labels["template"]
				if t == "" {
					continue
				}
				ratio := likeness.To(t)
				if ratio < best || ratio == best && of != nil && !all[i].Onset.After(of.Onset) {
					continue
				}
				best, of, template = ratio, &all[i], t
			}
		}
		if of == nil {
			continue
		}
		p.Like = &PatternLike{Ratio: best, Template: line(template), Incident: event.ShortID(of.ID), Onset: of.Onset.UTC()}
		p.Like.Evidence = cite(evidence.New(evidence.Query{Source: "incidents", Expr: "incident " + of.ID, End: now, Entity: of.Entity}, []string{fmt.Sprintf("%s since %s: %s", p.Like.Incident, p.Like.Onset.Format(time.RFC3339), p.Like.Template)}, nil))
	}
}

// maxSimilar is how many incidents of before are told.
const maxSimilar = 3

// similar are incidents that hit the same thing, that the same thing was
// suspected of, or that hit one of its name elsewhere; the closest first, then
// the newest.
func similar(all []event.Incident, e event.Entity, now time.Time, cite func(event.Evidence) string, line func(string) string) []Similar {
	type hit struct {
		i    event.Incident
		rank int
		why  string
	}
	var hits []hit
	for _, i := range all {
		own := i.Entity
		own.Cluster = ""
		switch {
		case own == e:
			hits = append(hits, hit{i, 0, "it hit the same workload"})
		case slices.ContainsFunc(i.Suspects, func(s event.Suspect) bool { s.Entity.Cluster = ""; return s.Entity == e }):
			hits = append(hits, hit{i, 1, "this workload was suspected of it"})
		case own.Kind == e.Kind && own.Name == e.Name:
			hits = append(hits, hit{i, 2, "it hit the workload of this name in " + own.Namespace})
		}
	}
	slices.SortStableFunc(hits, func(a, b hit) int {
		return cmp.Or(a.rank-b.rank, b.i.Onset.Compare(a.i.Onset), cmp.Compare(a.i.ID, b.i.ID))
	})
	var out []Similar
	for _, h := range hits[:min(len(hits), maxSimilar)] {
		s := Similar{ID: event.ShortID(h.i.ID), Priority: h.i.Priority, State: h.i.State, Onset: h.i.Onset.UTC(), Title: line(h.i.Title), Why: h.why}
		if at := h.i.ResolvedAt; at != nil {
			s.Lasted = age(at.Sub(h.i.Onset))
		}
		if len(h.i.Suspects) > 0 {
			s.Cause = line(h.i.Suspects[0].Why)
		}
		lasted := "open since then"
		if s.Lasted != "" {
			lasted = "lasted " + s.Lasted
		}
		s.Evidence = []string{cite(evidence.New(evidence.Query{Source: "incidents", Expr: "incident " + h.i.ID, End: now, Entity: h.i.Entity}, []string{fmt.Sprintf("%s %s %s since %s, %s: %s", s.ID, s.Priority, s.State, s.Onset.Format(time.RFC3339), lasted, s.Title)}, nil))}
		out = append(out, s)
	}
	return out
}

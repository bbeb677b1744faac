package backtest

import (
	"cmp"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// harvest is what came of the windows so far. It is part of the state.
type harvest struct {
	Incidents map[string]*tracked  `json:"incidents"`
	Watched   map[string]*watched  `json:"watched"` // by place
	Odd       map[string]*oddity   `json:"odd"`     // anomalies, by key
	Firings   []Firing             `json:"firings"`
	Open      map[string]int       `json:"open"` // firings that go on, by their labels
	Deployed  *prometheus.Deployed `json:"deployed"`
	Gaps      []period             `json:"gaps"` // of which there are no metrics at all
	Notes     []Missing            `json:"notes"`
	Read      Read                 `json:"read"`
}

func newHarvest() *harvest {
	return &harvest{
		Incidents: map[string]*tracked{}, Watched: map[string]*watched{}, Odd: map[string]*oddity{}, Open: map[string]int{}, Deployed: &prometheus.Deployed{},
	}
}

// tracked is an incident as it has become.
type tracked struct {
	Incident Incident       `json:"incident"`
	Related  []event.Entity `json:"related"`
	Held     string         `json:"held,omitempty"`
	Source   bool           `json:"source,omitempty"` // it is about a source that could not be read
	Merged   bool           `json:"merged,omitempty"` // into another
	Paging   bool           `json:"paging,omitempty"`
	Curves   []curveRef     `json:"curves,omitempty"`
}

// watched is what is seen of one place.
type watched struct {
	First   time.Time           `json:"first"`
	Last    time.Time           `json:"last"`
	Signals map[string]curveRef `json:"signals"`
}

// oddity is an anomaly, shortened.
type oddity struct {
	Place   string    `json:"place"`
	Signal  string    `json:"signal"`
	Summary string    `json:"summary"`
	Onset   time.Time `json:"onset"`
	Last    time.Time `json:"last"`
}

// period is a time from one moment to another.
type period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Bounds of what is remembered.
const (
	maxOdd     = 50_000
	maxFirings = 50_000
	maxCurves  = 2
)

// watch notes the series of a window. When one was last seen need not be known to
// the minute.
func (h *harvest) watch(at time.Time, step time.Duration, series []event.Series, known map[uint64]int) {
	tenth := at.Sub(at.Truncate(10*time.Minute)) < step
	for _, s := range series {
		h.Read.Samples += int64(len(s.Points))
		if _, ok := known[s.ID]; ok && !tenth {
			continue
		}
		e := s.Labels.Entity()
		where := placeOf(e).String()
		w := h.Watched[where]
		if w == nil {
			w = &watched{First: at, Signals: map[string]curveRef{}}
			h.Watched[where] = w
		}
		w.Last = at
		signal := s.Labels.Get(event.LabelName)
		if _, ok := w.Signals[signal]; !ok {
			w.Signals[signal] = curveRef{
				Family: s.Labels.Get(event.LabelFamily), Signal: signal, Series: event.SeriesHash(s.ID), Entity: e, Unit: s.Labels.Get(event.LabelUnit),
			}
		}
	}
}

// hear takes in what detectors and the correlator say.
func (h *harvest) hear(o event.Outgoing) {
	switch v := o.Data().(type) {
	case event.Anomaly:
		if v.Detector == "change" {
			return
		}
		at := v.WindowEnd
		if v.Ended != nil {
			at = *v.Ended
		}
		if old := h.Odd[v.Key]; old != nil {
			old.Last = at
			return
		}
		if len(h.Odd) < maxOdd {
			h.Odd[v.Key] = &oddity{placeOf(v.Entity).String(), v.Signal, v.Summary, v.Onset, at}
		}
	case event.Incident:
		h.incident(v)
	}
}

// incident takes in a revision. An incident pages when it first has a priority
// that does, and again when it comes back after it was over: as the notifier
// tells it.
func (h *harvest) incident(v event.Incident) {
	t := h.Incidents[v.ID]
	if t == nil {
		t = &tracked{Incident: Incident{ID: v.ID, Priority: event.P4, Onset: v.Onset, Firings: []int{}}, Source: v.Entity.Kind == "Source"}
		h.Incidents[v.ID] = t
	}
	i := &t.Incident
	for _, e := range append(slices.Clone(v.Related), v.Entity) {
		if !slices.Contains(t.Related, e) {
			t.Related = append(t.Related, e)
		}
	}
	i.Resolved = nil
	if v.State == event.Resolved {
		t.Paging = false
		i.Resolved = v.ResolvedAt
		t.Merged = t.Merged || v.Reason != "resolved"
		if len(i.Paged) > 0 || i.Title != "" {
			return // what it was at its worst says more than its end
		}
	}
	if v.Onset.Before(i.Onset) {
		i.Onset = v.Onset
	}
	pages := v.State == event.Open && v.Priority.Pages() && v.Held == ""
	if pages && !t.Paging {
		t.Paging = true
		i.Paged = append(i.Paged, v.Updated)
	}
	if v.Priority.Worse(i.Priority) || i.Title == "" || v.Priority == i.Priority && len(v.Suspects) > 0 && i.Cause == "" {
		t.describe(v)
	}
	if v.Priority.Worse(i.Priority) {
		i.Priority = v.Priority
	}
	t.Held = v.Held
}

// describe takes over what a revision says.
func (t *tracked) describe(v event.Incident) {
	i := &t.Incident
	i.Entity, i.Title, i.Symptom, i.Team = v.Entity, v.Title, v.Symptom, v.Owner.Team
	i.Changes = v.Changes[:min(len(v.Changes), 5)]
	if len(v.Suspects) > 0 && v.Suspects[0].Confidence != "" {
		i.Cause, i.Confidence = v.Suspects[0].Why, v.Suspects[0].Confidence
		if c := v.Suspects[0].Change; c != nil {
			i.Cause = string(c.Kind) + " of " + c.Entity.String() + " at " + c.Time.UTC().Format("15:04") + ": " + c.Summary
		}
	}
	t.Curves = t.Curves[:0]
	for _, a := range v.Anomalies {
		family, signal := a.Labels[event.LabelFamily], a.Labels[event.LabelName]
		if family == "" || len(t.Curves) == maxCurves || slices.ContainsFunc(t.Curves, func(c curveRef) bool {
			return c.Family == family && c.Signal == signal && placeOf(c.Entity) == placeOf(a.Entity)
		}) {
			continue
		}
		t.Curves = append(t.Curves, curveRef{
			Family: family, Signal: signal, Series: event.SeriesHash(event.LabelsOf(a.Labels).Hash()), Entity: a.Entity, Unit: a.Unit, Expected: a.Expected, Onset: a.Onset,
		})
	}
}

// empty notes a window of which there are no metrics.
func (h *harvest) empty(at time.Time, step time.Duration) {
	if n := len(h.Gaps); n > 0 && !h.Gaps[n-1].To.Before(at.Add(-step)) {
		h.Gaps[n-1].To = at
		return
	}
	h.Gaps = append(h.Gaps, period{at.Add(-step), at})
}

// note keeps what is to be said of missing history, once.
func (h *harvest) note(m Missing) {
	if !slices.Contains(h.Notes, m) && len(h.Notes) < 50 {
		h.Notes = append(h.Notes, m)
	}
}

// sorted are the incidents by the time at which they would have paged, else
// began.
func (h *harvest) sorted() []*tracked {
	var out []*tracked
	for _, t := range h.Incidents {
		if !t.Source && (!t.Merged || len(t.Incident.Paged) > 0) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *tracked) int {
		return cmp.Or(a.begin().Compare(b.begin()), cmp.Compare(a.Incident.ID, b.Incident.ID))
	})
	return out
}

// begin is when it would have paged, else when it began.
func (t *tracked) begin() time.Time {
	if len(t.Incident.Paged) > 0 {
		return t.Incident.Paged[0]
	}
	return t.Incident.Onset
}

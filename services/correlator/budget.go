package correlator

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// week is what the page budget is counted in.
const week = 7 * 24 * time.Hour

// What is remembered of incidents that had no symptom.
const (
	oddHistory = 4 * week
	maxOdd     = 256 // the strangest; the bound needs no others
)

// odd is an incident without a symptom behind it: what the page budget counts.
type odd struct {
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`  // when it opened
	Score float64   `json:"score"` // the highest that it had
	Told  time.Time `json:"told,omitzero"`
}

// budget holds an incident without a symptom, or lets it be a ticket; it returns
// why it is held, "" when it is not.
//
// Two bounds keep the budget of B such incidents a week. The first is on the
// score: among the strangest of the user's own history an incident that is one of
// k+1 in t weeks comes (k+1)/t times a week, by the same rank as of third
// parties' claims (see trust), and passes when that is at most B. Before there
// is history enough for that, the bound is the score that chance passes B times
// a week, were every hypothesis independent. The second is on the count: of any
// week at most B are told (of a budget below one a week: one in 1/B weeks),
// whatever the scores. What was told once stays told.
//
// A symptom is no odd thing, and whatever gets one leaves the history.
func (f *fold) budget(inc *incident, score float64, now time.Time) (held string) {
	f.forgetOdd(now)
	s := &f.State
	id := inc.Published.ID
	i := slices.IndexFunc(s.Odd, func(o odd) bool { return o.ID == id })
	if i < 0 {
		i = len(s.Odd)
		s.Odd = append(s.Odd, odd{ID: id, Time: inc.Opened.UTC()})
	}
	me := &s.Odd[i]
	me.Score = max(me.Score, score)
	if !me.Told.IsZero() {
		return ""
	}
	b := f.policy.FalsePagesPerWeek
	if bound, by := f.bound(id, now); score < bound {
		return fmt.Sprintf("no symptom, and score %.1f is below the bound %.1f of %g false pages a week, %s", score, bound, b, by)
	}
	every, most := budgetOf(b)
	var told []string
	for _, o := range s.Odd {
		if !o.Told.IsZero() && now.Sub(o.Told) < every {
			told = append(told, o.ID)
		}
	}
	if len(told) >= most {
		slices.Sort(told)
		return fmt.Sprintf("no symptom, and the budget of %g false pages a week is spent on %s", b, strings.Join(told[:min(len(told), 3)], ", "))
	}
	me.Told = now
	return ""
}

// budgetOf is how many may be told in what time.
func budgetOf(perWeek float64) (every time.Duration, most int) {
	if perWeek < 1 {
		return time.Duration(float64(week) / perWeek), 1
	}
	return week, int(perWeek)
}

// unodd takes an incident out of the history: it has a symptom, or became part of
// another.
func (f *fold) unodd(id string) {
	f.State.Odd = slices.DeleteFunc(f.State.Odd, func(o odd) bool { return o.ID == id })
}

// forgetOdd keeps the strangest of the last weeks, and those that were told as
// long as the budget counts them.
func (f *fold) forgetOdd(now time.Time) {
	s := &f.State
	every, _ := budgetOf(f.policy.FalsePagesPerWeek)
	s.Odd = slices.DeleteFunc(s.Odd, func(o odd) bool {
		return now.Sub(o.Time) > oddHistory && (o.Told.IsZero() || now.Sub(o.Told) >= every) && s.Incidents[o.ID] == nil
	})
	if len(s.Odd) <= maxOdd {
		return
	}
	slices.SortStableFunc(s.Odd, func(a, b odd) int {
		return cmp.Or(btoi(a.Told.IsZero())-btoi(b.Told.IsZero()), cmp.Compare(b.Score, a.Score), a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID))
	})
	s.Odd = s.Odd[:maxOdd]
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// bound is the score from which on an incident is told, and whence it is.
func (f *fold) bound(id string, now time.Time) (score float64, by string) {
	t := now.Sub(f.State.Tests.Since)
	weeks := float64(min(t, oddHistory)) / float64(week)
	// Of those in the history at most so many may be as strange.
	k := int(f.policy.FalsePagesPerWeek*weeks+1e-9) - 1
	if k < 0 || t < 3*24*time.Hour {
		return round(math.Log(f.tests(now) / f.policy.FalsePagesPerWeek)), "by chance alone"
	}
	var scores []float64
	from := now.Add(-oddHistory)
	for _, o := range f.State.Odd {
		if o.ID != id && !o.Time.Before(from) {
			scores = append(scores, o.Score)
		}
	}
	by = "by " + days(min(t, oddHistory)) + " of history"
	if len(scores) <= k {
		return 0, by
	}
	slices.SortFunc(scores, func(a, b float64) int { return cmp.Compare(b, a) })
	return round(scores[k] + 0.01), by // equal scores count as as strange
}

// tests is how many hypotheses a week tests, at least 1. Until an hour has been
// counted, a week is taken to hold what a prior says.
func (f *fold) tests(now time.Time) float64 {
	const prior = 1e4 // tests a week before anything is known
	weekly := prior
	if seen := now.Sub(f.State.Tests.Since); seen >= time.Hour && f.State.Tests.Count > 0 {
		weekly = max(prior, float64(f.State.Tests.Count)*float64(week)/float64(seen))
	}
	// A hypothesis is tested at every step, and neighbouring steps are one
	// event: an hour's tests of one series count once.
	const stepsPerHour = 120
	return max(1, weekly/stepsPerHour)
}

// stated are the detectors that repeat what Kubernetes states: that a container was
// killed for its memory is a fact, and no budget of false ones can be spent on it.
var stated = []string{"event_surge", "availability"}

// symptomless says whether the budget counts an incident: nothing in it is felt by
// users, nothing is stated by Kubernetes, and no alert fires that asks for somebody.
func symptomless(n *event.Incident, symptoms []event.Anomaly) bool {
	return len(symptoms) == 0 && n.Priority == event.P3 && !slices.ContainsFunc(n.Anomalies, func(a event.Anomaly) bool {
		if a.Alert != "" {
			return a.Severity != event.Info && a.Ended == nil
		}
		// A surge of a reason that is in no catalogue is ambient: odd, and no fact.
		return a.Class == event.ClassCause && a.Severity != event.Info && slices.Contains(stated, a.Detector)
	})
}

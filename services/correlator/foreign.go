package correlator

import (
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// What is remembered of a trusted third party's detector.
const (
	foreignHistory = 4 * week // the time that its anomalies are ranked in
	maxClaims      = 1000     // anomalies; of a detector that says more, the time is shorter
)

// record is what a third party's detector has claimed.
type record struct {
	Since  time.Time `json:"since"`  // from when on every claim is in Claims
	Claims []claim   `json:"claims"` // one an anomaly, oldest first
}

// claim is the strangest that was said of one anomaly.
type claim struct {
	Key  string    `json:"key"`
	Time time.Time `json:"time"`
	P    float64   `json:"p"`
}

// trust lets an anomaly of a third party's detector that the policy lists
// weigh like one of our own, by a tail probability that its detector has
// earned.
//
// What a third party calls a probability need not be one: it may say 1e-9 at
// every step. So of what it says only the order is believed. An anomaly that
// is one of k+1 in a time t that were said to be at least as strange has the
// tail probability
//
//	p = (k+1) / (tests in t)
//
// where the tests are those that the bound of the page budget counts: H·p is
// then how many such anomalies the detector has a week, and it passes that
// bound alone only when they are within the budget, whatever it claims. The +1
// is the anomaly itself; without it, p is too small and can be zero (Phipson
// and Smyth, Permutation P-values Should Never Be Zero, 2010; as the p-value
// of a conformal predictor: Vovk, Gammerman and Shafer, Algorithmic Learning
// in a Random World, 2005, section 2.2). Equal claims count as at least as
// strange. No anomaly becomes stranger than its detector says it is.
//
// A detector counts from its first anomaly on, which therefore weighs nothing:
// before it, nobody knows whether it ran.
func (f *fold) trust(a event.Anomaly, now time.Time) event.Anomaly {
	if !a.Foreign || !slices.Contains(f.policy.TrustedDetectors, a.Detector) {
		return a
	}
	a.Foreign = false
	if f.State.Claims == nil {
		f.State.Claims = map[string]*record{}
	}
	r := f.State.Claims[a.Detector]
	if r == nil {
		r = &record{Since: now}
		f.State.Claims[a.Detector] = r
	}
	r.take(a, now)
	k := 0
	for _, c := range r.Claims {
		if c.Key != a.Key && c.P <= a.TailProb {
			k++
		}
	}
	span := now.Sub(r.Since)
	p := 1.0
	if tests := f.tests(now) * float64(span) / float64(week); tests > float64(k+1) {
		p = float64(k+1) / tests
	}
	if p <= a.TailProb {
		return a
	}
	said := fmt.Sprintf("its detector says p %.2g; %d of its %d anomalies in %s were as strange", a.TailProb, k+1, max(len(r.Claims), k+1), days(span))
	if a.Explanation != "" {
		said = a.Explanation + "; " + said
	}
	a.TailProb, a.Explanation = p, said
	return a
}

// take remembers what is said of an anomaly that goes on.
func (r *record) take(a event.Anomaly, now time.Time) {
	if from := now.Add(-foreignHistory); r.Since.Before(from) {
		r.Since = from
		r.Claims = slices.DeleteFunc(r.Claims, func(c claim) bool { return c.Time.Before(from) })
	}
	if i := slices.IndexFunc(r.Claims, func(c claim) bool { return c.Key == a.Key }); i >= 0 {
		r.Claims[i].P = min(r.Claims[i].P, a.TailProb)
		return
	}
	if a.Ended != nil {
		return
	}
	r.Claims = append(r.Claims, claim{a.Key, now, a.TailProb})
	if n := len(r.Claims) - maxClaims; n > 0 {
		r.Since = r.Claims[n-1].Time
		r.Claims = slices.Delete(r.Claims, 0, n)
	}
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return short(d)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

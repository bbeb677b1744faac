package kubernetes

import (
	"reflect"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// The API server keeps events for an hour. At a first start those of the last minutes
// are news to us and may be of pods that are long gone: of a rollout that somebody has
// rolled back. Those are marked. A process that follows another marks nothing: what
// came and went while none watched is to be told.

const (
	// listingAge is how old a list may be that the API server answers from its cache,
	// so that what is younger may be missing in it.
	listingAge = 10 * time.Second
	// steady is how long a pod is ready before what crashed it, or kept it from being
	// ready, counts as past: a kubelet waits five minutes at most between two starts.
	steady = 5 * time.Minute
)

// passes are the reasons of events whose pod is past them once it is steadily ready.
var passes = map[string]bool{"BackOff": true, "Failed": true, "Unhealthy": true, "ProbeError": true, "FailedPostStartHook": true}

// wasListed keeps what a first list held.
func (w *world) wasListed(plural, scope string, keys map[string]bool) {
	if w.listed[plural] == nil {
		w.listed[plural] = map[string]bool{}
	}
	for k := range keys {
		w.listed[plural][k] = true
	}
	w.listed[plural]["scope "+scope] = true
}

// markPast marks the events of the first listing that are not so any more.
func (w *world) markPast() {
	for i, e := range w.events {
		if e.ReportingController != ours && e.Time().Before(w.firstAt.Add(-listingAge)) && w.over(e) {
			w.events[i].Past = true
		}
	}
}

// over says whether the object of an event is known to be gone, or past what the event
// says. Of kinds that are not watched, or may not be read, nothing is known.
func (w *world) over(e event.KubeEvent) bool {
	o := e.InvolvedObject
	for _, r := range resources {
		if reflect.TypeOf(r.object).Elem().Name() != o.Kind || o.APIVersion != "" && o.APIVersion != r.gv.String() {
			continue
		}
		namespace := o.Namespace
		if !r.namespaced {
			namespace = ""
		}
		was := w.listed[r.plural]
		if !was["scope "] && !was["scope "+namespace] {
			return false
		}
		if r.plural != "pods" {
			return !was[namespace+"/"+o.Name]
		}
		p := w.pods[namespace+"/"+o.Name]
		switch {
		case p == nil, ofAPI(o.UID) && o.UID != p.uid: // gone, or come again by the same name
			return true
		case p.standing.Outlived(e):
			return true
		}
		return passes[e.Reason] && !p.leaving && p.standing.Ready.After(e.Time()) && w.firstAt.Sub(p.standing.Ready) >= steady
	}
	return false
}

// ofAPI says whether a uid is one that the API server gave: the kubelet gives others to
// its static pods, whose mirrors have ones of the API server.
func ofAPI(uid string) bool { return strings.Count(uid, "-") == 4 }

package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// TestAFirstStartMarksEventsThatAreNotSoAnyMore is of what the API server lists at a
// start: events of the last minutes, and the pods that there are.
func TestAFirstStartMarksEventsThatAreNotSoAnyMore(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) string { return now.Add(-d).UTC().Format(time.RFC3339) }
	const web, gone = "checkout-bbbb-x2x8q", "checkout-cccc-tttt7"
	about := func(kind, apiVersion, name, uid, reason string, at time.Duration) object {
		e := kubeEvent("ev-1", name, reason, now.Add(-at))
		e["involvedObject"] = object{"kind": kind, "apiVersion": apiVersion, "namespace": "shop", "name": name, "uid": uid}
		return e
	}
	running := func(since time.Duration) object {
		return object{"containerStatuses": []any{object{"name": "app", "state": object{"running": object{"startedAt": ago(since)}}}}}
	}
	ready := func(since time.Duration) object {
		return object{"conditions": []any{object{"type": "Ready", "status": "True", "lastTransitionTime": ago(since)}}}
	}
	waiting := object{"conditions": []any{object{"type": "Ready", "status": "False"}}, "containerStatuses": []any{object{"name": "app", "state": object{"waiting": object{"reason": "CrashLoopBackOff"}}}}}
	for name, c := range map[string]struct {
		event  object
		status object // of the pod that there is
		denied string // resource that may not be read
		want   bool
	}{
		"a pod that is gone, as after a roll-back":         {about("Pod", "v1", gone, "", "BackOff", 4*time.Minute), nil, "", true},
		"a pod that is gone, where pods cannot be read":    {about("Pod", "v1", gone, "", "BackOff", 4*time.Minute), nil, "pods", false},
		"a pod that a list may be too old for":             {about("Pod", "v1", gone, "", "BackOff", 2*time.Second), nil, "", false},
		"a pod that waits":                                 {about("Pod", "v1", web, "", "BackOff", 4*time.Minute), waiting, "", false},
		"a pod that came again by the same name":           {about("Pod", "v1", web, "0e7a3c1e-1111-4222-8333-944455556666", "BackOff", 4*time.Minute), waiting, "", true},
		"a static pod by the kubelet's own uid":            {about("Pod", "v1", web, "2c6f0a3b9d8e4c7f2c6f0a3b9d8e4c7f", "BackOff", 4*time.Minute), waiting, "", false},
		"a pod that crashed, and is ready for six minutes": {about("Pod", "v1", web, "", "BackOff", 8*time.Minute), ready(6 * time.Minute), "", true},
		"a pod that crashed, and is ready for a minute":    {about("Pod", "v1", web, "", "BackOff", 8*time.Minute), ready(time.Minute), "", false},
		"a pod that was ready before it crashed":           {about("Pod", "v1", web, "", "BackOff", 2*time.Minute), ready(6 * time.Minute), "", false},
		"a pod that was killed, and is ready again":        {about("Pod", "v1", web, "", "OOMKilled", 8*time.Minute), ready(6 * time.Minute), "", false},
		"a pod that waited for a node and has one":         {about("Pod", "v1", web, "", "FailedScheduling", 4*time.Minute), waiting, "", true},
		"a pod whose volume was late and that runs":        {about("Pod", "v1", web, "", "FailedMount", 4*time.Minute), running(3 * time.Minute), "", true},
		"a pod whose volume is missing since it ran":       {about("Pod", "v1", web, "", "FailedMount", 4*time.Minute), running(30 * time.Minute), "", false},
		"a Deployment that is gone":                        {about("Deployment", "apps/v1", "carts", "", "ReplicaSetCreateError", 4*time.Minute), nil, "", true},
		"a Deployment that is there":                       {about("Deployment", "apps/v1", "checkout", "", "ReplicaSetCreateError", 4*time.Minute), nil, "", false},
		"a ReplicaSet that is there":                       {about("ReplicaSet", "apps/v1", "checkout-aaaa", "", "FailedCreate", 4*time.Minute), nil, "", false},
		"a kind that is not watched":                       {about("PersistentVolumeClaim", "v1", "data", "", "ProvisioningFailed", 4*time.Minute), nil, "", false},
		"another kind of the same name":                    {about("Deployment", "example.com/v1", "carts", "", "Broken", 4*time.Minute), nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			shop(s)
			s.drop("events", "shop/ev-old")
			p := podOf(web, "checkout-bbbb", "ReplicaSet", "node-1", now.Add(-10*time.Minute))
			if c.status != nil {
				p["status"] = c.status
			}
			s.put("pods", p)
			s.put("events", c.event)
			s.forbidden[c.denied] = true
			r := start(t, s, nil)
			r.until("the first closing", closed)
			got := data[event.KubeEvent](r.emissions())
			if len(got) != 1 || got[0].Past != c.want {
				t.Errorf("%+v, want one event that is past: %v", got, c.want)
			}
		})
	}
}

// What came and went between two processes is told as what it was.
func TestARestartMarksNoEventAsPast(t *testing.T) {
	s := newAPIServer(t)
	shop(s)
	r := start(t, s, nil)
	r.until("a cursor that knows the events", func(got []collector.Emission) bool {
		past, err := decodeCursor(cursorOf(got))
		return err == nil && past.EventVersion > 0
	})
	r.stop()
	s.put("events", kubeEvent("ev-2", "checkout-cccc-tttt7", "BackOff", time.Now().Add(-time.Minute)))
	again := start(t, s, cursorOf(r.emissions()))
	again.until("the event of meanwhile", func(got []collector.Emission) bool { return len(data[event.KubeEvent](got)) > 0 })
	if got := data[event.KubeEvent](again.emissions()); got[0].Metadata.Name != "ev-2" || got[0].Past {
		t.Errorf("%+v, want ev-2, and not as past", got)
	}
}

// A recording says which events were past, so that a replay is told the same.
func TestARecordedEventIsPastWhenItWas(t *testing.T) {
	at := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	var raw []json.RawMessage
	for i, past := range []bool{true, false} {
		raw = append(raw, fmt.Appendf(nil, `{"metadata":{"namespace":"shop","name":"e%d","uid":"u%d","resourceVersion":"%d"},"involvedObject":{"kind":"Pod","namespace":"shop","name":"web-1"},
"reason":"BackOff","type":"Warning","lastTimestamp":%q,"oncallPast":%v}`, i, i, i+1, at.Format(time.RFC3339), past))
	}
	r, err := NewRecorded("kubernetes", Recording{Events: raw, Start: at, End: at.Add(time.Minute)}, collector.Env{Redact: mask{}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	err = r.Run(t.Context(), nil, func(_ context.Context, e collector.Emission) error {
		for _, o := range data[event.KubeEvent]([]collector.Emission{e}) {
			got[o.Metadata.Name] = o.Past
		}
		return nil
	})
	if want := map[string]bool{"e0": true, "e1": false}; err != nil || !maps.Equal(got, want) {
		t.Errorf("past: %v, %v; want %v", got, err, want)
	}
}

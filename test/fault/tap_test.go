//go:build e2e

package fault

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/schemas"
)

// tap listens to everything that is published, and knows of each message
// whether it is what the contracts say.
type tap struct {
	mu   sync.Mutex
	seen map[string]int // by type
	bad  []string
}

func newTap(t *testing.T, r *rig) *tap {
	t.Helper()
	p := &tap{seen: map[string]int{}}
	sub, err := r.bus.Conn().Subscribe(">", p.check)
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	return p
}

// ours says whether a stream of the table of kinds holds a subject. Requests,
// acknowledgements, buckets and the server's own notices are not events.
func ours(subject string) bool {
	for _, s := range event.Streams() {
		for _, f := range s.Subjects {
			if s != event.Advisories && event.MatchSubject(f, subject) {
				return true
			}
		}
	}
	return false
}

func (p *tap) check(m *nats.Msg) {
	if !ours(m.Subject) || strings.HasSuffix(m.Subject, ".poison") {
		return
	}
	e, err := bus.FromMsg(m)
	if err == nil {
		a := event.Attributes{ID: e.ID(), Type: e.Type(), Source: e.Source(), About: e.Subject(), Subject: m.Subject, Time: e.Time(), Extensions: map[string]string{}}
		for k, v := range e.Extensions() {
			a.Extensions[k] = fmt.Sprint(v)
		}
		err = schemas.Validate(a, e.Data())
		if k, ok := event.Lookup(a.Type); ok && err == nil && e.DataSchema() != event.SchemaURL(k.Schema) {
			err = fmt.Errorf("dataschema %q is not that of %s", e.DataSchema(), a.Type)
		}
		if id := m.Header.Get(nats.MsgIdHdr); err == nil && id != e.ID() {
			err = fmt.Errorf("%s is %q and ce-id %q", nats.MsgIdHdr, id, e.ID())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && len(p.bad) < 20 {
		p.bad = append(p.bad, fmt.Sprintf("%s: %v", m.Subject, err))
	}
	if err == nil {
		p.seen[e.Type()]++
	}
}

// TestEveryMessageOfAFullRunIsValidAndEveryKindIsSeen fails for a kind that is
// declared and that nothing in a run with every input gives.
func TestEveryMessageOfAFullRunIsValidAndEveryKindIsSeen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := newTap(t, r)
	// A channel that gives up at once, for the deliveries that fail.
	deaf := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer deaf.Close()
	r.channels = fmt.Sprintf("    deaf: {type: webhook, url: %q}\n", deaf.URL)
	r.startAll()

	// What Kubernetes, Alertmanager and a Remote-Write client would have given, of
	// the minute in which the shop breaks.
	at := workloads[[2]string{"shop", "web"}].from
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	out := []event.Outgoing{
		event.KubeEventSeen.Out(event.KubeEvent{
			Metadata:       event.KubeMeta{UID: "u1", ResourceVersion: "7", Namespace: "shop"},
			InvolvedObject: event.KubeRef{Kind: "Pod", Namespace: "shop", Name: "web-7d4b9c6f5-x2x8q"},
			Reason:         "BackOff", Type: "Warning", Message: "Back-off restarting failed container", Count: 9, LastTimestamp: at,
		}),
		event.ChangeSeen.Out(event.Change{Kind: event.Rollout, Entity: web, Time: at.Add(-time.Minute), Summary: "image v1 -> v2", Revision: "2"}),
		event.TopologySeen.Out(event.Topology{Entity: web, Version: "1", Time: at.Add(-time.Hour), Pods: []event.Placement{{Pod: "web-7d4b9c6f5-x2x8q", Node: "n1"}}}),
		event.AlertSeen.Out(event.Alert{Status: "firing", Labels: map[string]string{"alertname": "Errors", "namespace": "shop", "deployment": "web", "severity": "warning"}, StartsAt: at, Fingerprint: "f1", Source: "am"}),
		event.MetricsPushed.Out(event.MetricBatch{Source: "push", Query: "q", Step: at, Series: []event.Series{{
			Labels: event.Labels{{Name: "__name__", Value: "up"}, {Name: "namespace", Value: "shop"}}, Points: []event.Point{{T: at.UnixMilli(), V: 1}},
		}}}),
	}
	for _, w := range []time.Time{at.Add(-2 * time.Minute), at.Add(time.Minute)} {
		out = append(out, event.EventsTick.Out(event.Tick{Watermark: w}))
	}
	if err := r.bus.Publish(t.Context(), out...); err != nil {
		t.Fatal(err)
	}
	r.feed(bus.Raw{Subject: "telemetry.metrics.00.poison", Header: map[string][]string{"Nats-Msg-Id": {"poison"}}, Payload: []byte("junk")})

	missing := func() []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		var out []string
		for _, k := range event.Kinds() {
			if p.seen[k.Type] == 0 {
				out = append(out, k.Type)
			}
		}
		return out
	}
	// Which kinds are missing is said below.
	_ = within(t, 2*time.Minute, func() bool { return len(missing()) == 0 })
	r.stopAll()
	for _, typ := range missing() {
		t.Errorf("%s is declared, and the run had none", typ)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.bad {
		t.Error(b)
	}
	for typ := range p.seen {
		if _, ok := event.Lookup(typ); !ok {
			t.Errorf("%s is not declared", typ)
		}
	}
}

package loki

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// The lines that exporters write of one event.
const (
	coreEvent = `{"metadata":{"name":"web-x.17","namespace":"shop","uid":"u-1","resourceVersion":"345","creationTimestamp":"2026-11-24T12:00:00Z","managedFields":[]},"reason":"BackOff","message":"Back-off restarting, token=abcdefabcdef123456","source":{"component":"kubelet","host":"n1"},"firstTimestamp":"2026-11-24T11:50:00Z","lastTimestamp":"2026-11-24T12:00:00Z","count":3,"type":"Warning","eventTime":null,"reportingComponent":"kubelet","reportingInstance":"n1","action":"","involvedObject":{"kind":"Pod","namespace":"shop","name":"web-7d4b9c6f5-x2x8q","uid":"p-1","apiVersion":"v1","resourceVersion":"300","labels":{"app":"web"}}}`
	newEvent  = `{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"web-x.17","namespace":"shop","uid":"u-1","resourceVersion":"345"},"reason":"BackOff","note":"Back-off restarting","type":"Warning","regarding":{"kind":"Pod","namespace":"shop","name":"web-7d4b9c6f5-x2x8q"},"deprecatedCount":3,"deprecatedLastTimestamp":"2026-11-24T12:00:00Z","deprecatedSource":{"component":"kubelet"},"reportingController":"kubelet","eventTime":null}`
	alloyFmt  = `name=web-7d4b9c6f5-x2x8q kind=Pod objectAPIversion=v1 objectRV=300 eventRV=345 reportingcontroller=kubelet sourcecomponent=kubelet sourcehost=n1 reason=BackOff type=Warning count=3 msg="Back-off \"restarting\" x=y"`
	alloyJSON = `{"name":"web-7d4b9c6f5-x2x8q","kind":"Pod","objectAPIversion":"v1","eventRV":"345","reason":"BackOff","type":"Warning","count":3,"sourcecomponent":"kubelet","msg":"Back-off restarting"}`
)

func otel() map[string]string {
	return map[string]string{
		"k8s_namespace_name": "shop", "k8s_object_kind": "Pod", "k8s_object_name": "web-7d4b9c6f5-x2x8q", "k8s_event_reason": "BackOff", "k8s_event_uid": "u-1",
		"k8s_event_count": "3", "severity_text": "Warning", "k8s_node_name": "n1",
	}
}

var lineAt = time.Date(2026, 11, 24, 12, 0, 1, 0, time.UTC)

func TestEveryExportersLineIsTheSameEvent(t *testing.T) {
	for name, tc := range map[string]struct {
		labels   map[string]string
		line     string
		uid, rev string
	}{
		"kubernetes-event-exporter": {nil, coreEvent, "u-1", "345"},
		"events.k8s.io":             {nil, newEvent, "u-1", "345"},
		"OpenTelemetry k8sobjects":  {nil, `{"object":` + coreEvent + `,"type":"ADDED"}`, "u-1", "345"},
		"eventrouter":               {nil, `{"verb":"UPDATED","event":` + newEvent + `}`, "u-1", "345"},
		"Alloy, logfmt":             {map[string]string{"namespace": "shop"}, alloyFmt, "", "345"},
		"Alloy, JSON":               {map[string]string{"namespace": "shop"}, alloyJSON, "", "345"},
		"OpenTelemetry k8s_events":  {otel(), "Back-off restarting", "u-1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, ok := parseEvent(tc.labels, tc.line, lineAt)
			if !ok {
				t.Fatal("not an event")
			}
			if e.Metadata.UID != tc.uid || e.Metadata.ResourceVersion != tc.rev {
				t.Errorf("identity %s/%s, want %s/%s", e.Metadata.UID, e.Metadata.ResourceVersion, tc.uid, tc.rev)
			}
			if got := e.Entity(); got != (event.Entity{Namespace: "shop", Kind: "Pod", Name: "web-7d4b9c6f5-x2x8q"}) {
				t.Errorf("entity %v", got)
			}
			if e.Reason != "BackOff" || e.Type != "Warning" || e.Occurrences() != 3 || !strings.HasPrefix(e.Message, "Back-off") {
				t.Errorf("event %+v", e)
			}
			if d := lineAt.Sub(e.Time()); d < 0 || d > time.Second {
				t.Errorf("time %v", e.Time())
			}
		})
	}
}

func TestWhatIsNoEventIsLeftOut(t *testing.T) {
	for _, line := range []string{
		"", "level=info msg=started", "{", `{"kind":"Pod"}`, `{"message":"hello"}`, `[]`, `{"involvedObject":{"kind":"Pod"},"count":"many"}`, `kind=Pod name=x`, `{"object":"text"}`,
	} {
		if e, ok := parseEvent(nil, line, lineAt); ok {
			t.Errorf("%q is read as %+v", line, e)
		}
	}
}

func TestEventsOfAnExporterHaveTheIDsOfTheAPI(t *testing.T) {
	entry := func(labels map[string]string, line string) stream {
		return stream{Labels: labels, Values: [][2]string{{"1795521601000000000", line}}}
	}
	in := []stream{
		entry(nil, coreEvent), entry(nil, newEvent), entry(map[string]string{"namespace": "shop"}, alloyFmt), entry(otel(), "Back-off restarting"), entry(nil, "level=info"),
	}
	from, to := lineAt.Add(-time.Hour), lineAt.Add(time.Hour)
	s := newTestSource(t, "http://loki", func(c *Config) { c.KubernetesEvents.Selector = `{app="exporter"}` }).events()
	if s.Name() != "loki-events" {
		t.Errorf("name %s", s.Name())
	}
	out := s.make(in, from, to)
	if len(out) != 2 || out[0].ID != "e:u-1:345" || out[1].ID != "e:u-1:345" {
		t.Errorf("published %+v", out)
	}
	if m := out[0].Data().(event.KubeEvent).Message; strings.Contains(m, "abcdefabcdef123456") {
		t.Errorf("message %q is not redacted", m)
	}
	if n := testutil.ToFloat64(s.parsed.WithLabelValues("no_identity")); n != 2 {
		t.Errorf("%v without an identity, want 2", n)
	}
	s.cfg.KubernetesEvents.Alone = true
	first, again := s.make(in, from, to), s.make(in, from, to)
	if len(first) != 4 {
		t.Fatalf("alone: %d events, want 4", len(first))
	}
	for i := range first {
		if first[i].ID != again[i].ID {
			t.Errorf("ids differ: %s, %s", first[i].ID, again[i].ID)
		}
	}
}

func TestALineCannotSayWhoseAnEventIs(t *testing.T) {
	s := newTestSource(t, "http://loki", func(c *Config) { c.KubernetesEvents.Selector = `{app="exporter"}` }).events()
	spoofed := strings.Replace(coreEvent, `{"metadata"`, `{"oncallWorkload":{"namespace":"bank","kind":"Deployment","name":"core"},"metadata"`, 1)
	out := s.make([]stream{{Values: [][2]string{{"1795521601000000000", spoofed}}}}, lineAt.Add(-time.Hour), lineAt.Add(time.Hour))
	if e := out[0].Data().(event.KubeEvent); e.Root().Namespace != "shop" {
		t.Errorf("root %v", e.Root())
	}
}

func FuzzParseEvent(f *testing.F) {
	for _, line := range []string{coreEvent, newEvent, alloyFmt, alloyJSON, `a="b\"`, `{"event":{"event":{}}}`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parseEvent(map[string]string{"namespace": "shop"}, line, lineAt)
		if ok && (e.Time().IsZero() || e.InvolvedObject.Name == "" || e.Reason == "") {
			t.Errorf("incomplete event %+v", e)
		}
	})
}

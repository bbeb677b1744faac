package loki

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// events is a source that reads the same Loki's lines of an event exporter. An
// event that says its uid and resource version has the id of the one that the
// Kubernetes API gives, so that it counts once.
func (s *Source) events() *Source {
	e := *s
	e.name = s.name + "-events"
	e.query = upstream.InjectLogQL(s.cfg.KubernetesEvents.Selector, s.cfg.ExtraMatchers)
	e.hash = event.SeriesHash(event.HashStrings(e.query, s.cfg.Window.String()))[:8]
	e.stream = event.KubeEvents
	e.bell = nil
	e.make = e.kubeEvents
	return &e
}

// kubeEvents makes events of a window's lines, in the order of their times and
// contents.
func (s *Source) kubeEvents(streams []stream, start, end time.Time) []event.Outgoing {
	var found []event.KubeEvent
	for _, st := range streams {
		for _, v := range st.Values {
			at, text, ok := value(v)
			if !ok || at.Before(start) || !at.Before(end) {
				continue
			}
			e, ok := parseEvent(st.Labels, text, at)
			switch {
			case !ok || slices.Contains(s.cfg.ExcludeNamespaces, e.InvolvedObject.Namespace):
				s.parsed.WithLabelValues("no_event").Inc()
			case (e.Metadata.UID == "" || e.Metadata.ResourceVersion == "") && !s.cfg.KubernetesEvents.Alone:
				s.parsed.WithLabelValues("no_identity").Inc()
			default:
				s.parsed.WithLabelValues("event").Inc()
				found = append(found, s.identified(e, at))
			}
		}
	}
	slices.SortStableFunc(found, func(a, b event.KubeEvent) int {
		return cmp.Or(a.Time().Compare(b.Time()), cmp.Compare(a.Metadata.UID, b.Metadata.UID), cmp.Compare(a.Metadata.ResourceVersion, b.Metadata.ResourceVersion))
	})
	out := make([]event.Outgoing, len(found))
	for i, e := range found {
		out[i] = event.KubeEventSeen.Out(e)
	}
	return out
}

// identified gives an event without an identity one that follows from what it
// says, and bounds and redacts its text.
func (s *Source) identified(e event.KubeEvent, at time.Time) event.KubeEvent {
	if e.Metadata.UID == "" {
		o := e.InvolvedObject
		e.Metadata.UID = "x" + event.SeriesHash(event.HashStrings(o.Namespace, o.Kind, o.Name, e.Reason, e.Message, e.Source.Component, e.Metadata.Name))
	}
	if e.Metadata.ResourceVersion == "" {
		// The count tells the repeats of one event apart, else the time.
		e.Metadata.ResourceVersion = "n" + strconv.Itoa(e.Count)
		if e.Count == 0 {
			e.Metadata.ResourceVersion = "t" + strconv.FormatInt(at.UnixMilli(), 10)
		}
	}
	if e.Time().IsZero() {
		e.LastTimestamp = at
	}
	e.Workload = event.Entity{} // it is the collector's word, not a line's
	for _, p := range []*string{
		&e.Metadata.UID, &e.Metadata.ResourceVersion, &e.Metadata.Name, &e.Metadata.Namespace, &e.Reason, &e.Type, &e.Action, &e.ReportingController, &e.ReportingInstance,
		&e.Source.Component, &e.Source.Host, &e.InvolvedObject.Kind, &e.InvolvedObject.Namespace, &e.InvolvedObject.Name, &e.InvolvedObject.UID,
		&e.InvolvedObject.APIVersion, &e.InvolvedObject.FieldPath,
	} {
		*p = clip(*p, 256)
	}
	e.Message = clip(s.env.Redact.On(e.Time()).Line(e.Message), 1024)
	return e
}

func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

// parseEvent reads a line of an event exporter. The labels are those of its
// stream, with its structured metadata, as Loki gives them.
func parseEvent(labels map[string]string, line string, at time.Time) (event.KubeEvent, bool) {
	var e event.KubeEvent
	ok := true
	switch trimmed := strings.TrimSpace(line); {
	case labels["k8s_event_reason"] != "":
		e = otelEvent(labels, line)
	case strings.HasPrefix(trimmed, "{"):
		e, ok = jsonEvent([]byte(trimmed))
	default:
		fields := logfmt(trimmed)
		e, ok = alloyEvent(func(k string) string { return fields[k] })
	}
	if e.InvolvedObject.Namespace == "" && e.InvolvedObject.Kind != "Node" {
		e.InvolvedObject.Namespace = cmp.Or(labels["namespace"], labels["k8s_namespace_name"])
	}
	if e.Time().IsZero() {
		e.LastTimestamp = at
	}
	return e, ok && e.InvolvedObject.Kind != "" && e.InvolvedObject.Name != "" && e.Reason != ""
}

// jsonEvent reads JSON: a core/v1 or events.k8s.io event, alone or wrapped as
// eventrouter and k8sobjects do it, or the fields of Alloy.
func jsonEvent(line []byte) (event.KubeEvent, bool) {
	var w struct {
		Object json.RawMessage `json:"object"` // k8sobjects, in watch mode
		Event  json.RawMessage `json:"event"`  // eventrouter
		// events.k8s.io
		Regarding  *event.KubeRef   `json:"regarding"`
		Note       string           `json:"note"`
		Controller string           `json:"reportingController"`
		Source     event.KubeSource `json:"deprecatedSource"`
		First      time.Time        `json:"deprecatedFirstTimestamp"`
		Last       time.Time        `json:"deprecatedLastTimestamp"`
		Count      int              `json:"deprecatedCount"`
	}
	if json.Unmarshal(line, &w) != nil {
		return event.KubeEvent{}, false
	}
	for _, inner := range []json.RawMessage{w.Object, w.Event} {
		if bytes.HasPrefix(bytes.TrimSpace(inner), []byte("{")) {
			line = inner
			w.Regarding = nil
			if json.Unmarshal(line, &w) != nil {
				return event.KubeEvent{}, false
			}
			break
		}
	}
	var e event.KubeEvent
	if json.Unmarshal(line, &e) == nil && (e.InvolvedObject.Kind != "" || w.Regarding != nil) {
		if w.Regarding != nil {
			e.InvolvedObject, e.Message, e.Source = *w.Regarding, w.Note, w.Source
			e.ReportingController = cmp.Or(e.ReportingController, w.Controller)
			e.FirstTimestamp, e.LastTimestamp, e.Count = w.First, w.Last, w.Count
		}
		return e, true
	}
	var flat map[string]any
	if json.Unmarshal(line, &flat) != nil {
		return event.KubeEvent{}, false
	}
	return alloyEvent(func(k string) string {
		switch v := flat[k].(type) {
		case string:
			return v
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
		return ""
	})
}

// alloyEvent reads the fields of Alloy's loki.source.kubernetes_events, which
// say the resource version but not the uid.
func alloyEvent(get func(string) string) (event.KubeEvent, bool) {
	count, _ := strconv.Atoi(get("count")) // absent for events that happened once
	e := event.KubeEvent{
		InvolvedObject: event.KubeRef{APIVersion: get("objectAPIversion"), Kind: get("kind"), Name: get("name")},
		Reason:         get("reason"), Message: get("msg"), Type: get("type"), Action: get("action"), Count: count,
		Source:              event.KubeSource{Component: get("sourcecomponent"), Host: get("sourcehost")},
		ReportingController: get("reportingcontroller"), ReportingInstance: get("reportinginstance"),
	}
	e.Metadata.ResourceVersion = get("eventRV")
	return e, e.InvolvedObject.Kind != ""
}

// otelEvent reads the attributes of OpenTelemetry's k8s_events receiver; the
// line is the message. It says the event's uid but not its resource version.
func otelEvent(l map[string]string, line string) event.KubeEvent {
	count, _ := strconv.Atoi(l["k8s_event_count"]) // absent for events that happened once
	e := event.KubeEvent{
		InvolvedObject: event.KubeRef{
			APIVersion: l["k8s_object_api_version"], Kind: l["k8s_object_kind"], Name: l["k8s_object_name"], UID: l["k8s_object_uid"], FieldPath: l["k8s_object_fieldpath"],
			Namespace: l["k8s_namespace_name"],
		},
		Reason: l["k8s_event_reason"], Message: line, Action: l["k8s_event_action"], Count: count, Type: "Normal",
		Source: event.KubeSource{Host: l["k8s_node_name"]},
	}
	if strings.HasPrefix(strings.ToLower(cmp.Or(l["severity_text"], l["detected_level"], l["level"])), "warn") {
		e.Type = "Warning"
	}
	e.Metadata.UID, e.Metadata.Name = l["k8s_event_uid"], l["k8s_event_name"]
	return e
}

// logfmt reads key=value pairs; a value in quotes is unquoted as Go has it.
func logfmt(s string) map[string]string {
	out := map[string]string{}
	for s = strings.TrimLeft(s, " "); s != ""; s = strings.TrimLeft(s, " ") {
		n := strings.IndexAny(s, "= ")
		if n < 0 {
			break
		}
		key := s[:n]
		if s[n] == ' ' {
			s = s[n:]
			continue
		}
		s = s[n+1:]
		value, rest, _ := strings.Cut(s, " ")
		if strings.HasPrefix(s, `"`) {
			q, err := strconv.QuotedPrefix(s)
			if err != nil {
				break
			}
			if value, err = strconv.Unquote(q); err != nil {
				break
			}
			rest = s[len(q):]
		}
		if _, ok := out[key]; !ok && key != "" {
			out[key] = value
		}
		s = rest
	}
	return out
}

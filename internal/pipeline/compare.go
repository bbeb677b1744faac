package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// Comparison is what a replay found beside what the recorded run had found.
type Comparison struct {
	Incidents int // that the recorded run had found
	// Comparable says that the bundle holds what the recorded run found, from its
	// beginning; Why says why not.
	Comparable bool
	Why        string
	Fidelity   Fidelity
	Span       Span // that was compared; zero: all of it
	// Difference is the first one, in a sentence; "" when there is none.
	Difference string
}

// String says it in a line.
func (c Comparison) String() string {
	noun := "incidents"
	if c.Incidents == 1 {
		noun = "incident"
	}
	noun += c.Span.String()
	switch {
	case !c.Comparable:
		return "not compared with the recorded run: " + c.Why
	case c.Difference != "":
		return "differs from the recording: " + c.Difference
	case c.Fidelity.State == bundle.Warm:
		return fmt.Sprintf("replayed %d %s from the recorded checkpoints: equal to the recording", c.Incidents, noun)
	}
	return fmt.Sprintf("replayed %d %s: equal to the recording", c.Incidents, noun)
}

// Compare compares what is on the bus after the replay has run with what the bundle's run
// had found: the same anomalies, the same revisions of the same incidents, and
// every report of the run. Reports of revisions that were overtaken in the run
// are new in a replay and are no difference.
//
// Of a part of a recording, that is so for what was found in it. Of a warm bundle, that is so between its Since and its Judged; of a bundle of
// one incident, for that incident.
func (r *Replay) Compare(ctx context.Context) (Comparison, error) {
	b, now, from := r.Bundle, r.Host.Bus, r.From
	c := Comparison{Fidelity: r.fidelity}
	span, err := r.Judged(ctx)
	if err != nil {
		return c, err
	}
	c.Span = span
	streams := []*event.Stream{event.Anomalies, event.Incidents, event.Reports}
	if from == FromAnomalies {
		streams = streams[1:]
	}
	recorded := map[string]map[string]any{}
	incidents := map[string]bool{}
	for _, s := range streams {
		if !slices.Contains(b.Streams(), s.Name) {
			c.Why = "the bundle holds no streams/" + s.Name
			return c, nil
		}
		for r, err := range b.Records(s.Name) {
			if err != nil {
				return c, err
			}
			key, ok := keyOf(first(r.Header["ce-type"]), first(r.Header["ce-id"]))
			if at, timed := eventTime(r.Header); !timed || !ok || !span.Holds(at) || !known(b.Manifest, key, at) {
				continue
			}
			if recorded[key], err = plain(r.Payload); err != nil {
				return c, fmt.Errorf("bundle %s: %s %d: %w", b.Manifest.Name, s.Name, r.Sequence, err)
			}
			if id, ok := recorded[key]["id"].(string); ok && s == event.Incidents {
				incidents[id] = true
			}
		}
	}
	c.Incidents = len(incidents)
	if r.fidelity.State == bundle.Cold {
		c.Why = r.fidelity.Why
		return c, nil
	}
	c.Comparable = true
	found := map[string]map[string]any{}
	for _, s := range streams {
		err := now.Read(ctx, s, bus.ReadOptions{}, func(m bus.Message) error {
			key, ok := keyOf(m.Type, m.ID)
			if !ok || !span.Holds(m.Time) || !known(b.Manifest, key, m.Time) {
				return nil
			}
			v, err := plain(m.Payload)
			found[key] = v
			return err
		})
		if err != nil {
			return c, err
		}
	}
	c.Difference = difference(recorded, found)
	return c, nil
}

// known says whether the recording would hold an event if the run had it.
func known(m bundle.Manifest, key string, at time.Time) bool {
	if !m.Judged.IsZero() && at.After(m.Judged) {
		return false
	}
	kind, id, _ := strings.Cut(key, " ")
	if kind == "anomaly" {
		return true
	}
	if !m.Since.IsZero() && !at.After(m.Since) {
		return false
	}
	parts := strings.Split(id, ":")
	return m.Incident == "" || len(parts) > 1 && parts[1] == m.Incident
}

// order is the order in which differences are told: what comes first causes
// what comes after.
var order = []string{"anomaly", "incident", "report"}

// keyOf names an event that is compared; false for one that is not.
func keyOf(typ, id string) (string, bool) {
	switch typ {
	case event.AnomalyDetected.Type, event.AnomalyEnded.Type:
		// The id holds the hash of the detector's configuration and version.
		parts := strings.Split(id, ":")
		if len(parts) > 2 {
			parts = slices.Delete(parts, 2, 3)
		}
		return "anomaly " + strings.Join(parts, ":"), true
	case event.IncidentOpened.Type, event.IncidentUpdated.Type, event.IncidentResolved.Type:
		return "incident " + id, true
	case event.ReportDrafted.Type:
		return "report " + id, true
	}
	return "", false
}

func plain(payload []byte) (map[string]any, error) {
	var v map[string]any
	if err := json.Unmarshal(payload, &v); err != nil {
		return nil, err
	}
	drop(v)
	return v, nil
}

func difference(recorded, found map[string]map[string]any) string {
	for _, kind := range order {
		for _, key := range slices.Sorted(maps.Keys(recorded)) {
			if !strings.HasPrefix(key, kind+" ") {
				continue
			}
			now, ok := found[key]
			if !ok {
				return key + " is missing" + about(recorded[key])
			}
			if path, was, is := differs("", recorded[key], now); path != "" {
				return fmt.Sprintf("%s: %s was %s and is %s%s", key, path, was, is, about(now))
			}
		}
		for _, key := range slices.Sorted(maps.Keys(found)) {
			if _, ok := recorded[key]; !ok && strings.HasPrefix(key, kind+" ") && kind != "report" {
				return key + " is new" + about(found[key])
			}
		}
	}
	return ""
}

// about says what an event speaks of.
func about(v map[string]any) string {
	for _, k := range []string{"summary", "title", "headline"} {
		if s, ok := v[k].(string); ok && s != "" {
			return " (" + s + ")"
		}
	}
	return ""
}

// differs finds the first place in which two JSON values differ.
func differs(path string, a, b any) (where, was, is string) {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		keys := map[string]bool{}
		for k := range a {
			keys[k] = true
		}
		for k := range b {
			keys[k] = true
		}
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			if where, was, is = differs(strings.TrimPrefix(path+"."+k, "."), a[k], b[k]); where != "" {
				return where, was, is
			}
		}
		return "", "", ""
	case []any:
		b, ok := b.([]any)
		if !ok {
			break
		}
		for i := range min(len(a), len(b)) {
			if where, was, is = differs(fmt.Sprintf("%s[%d]", path, i), a[i], b[i]); where != "" {
				return where, was, is
			}
		}
		if len(a) != len(b) {
			return path, fmt.Sprintf("%d long", len(a)), fmt.Sprintf("%d long", len(b))
		}
		return "", "", ""
	}
	if reflect.DeepEqual(a, b) {
		return "", "", ""
	}
	return path, brief(a), brief(b)
}

func brief(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if s := []rune(string(b)); len(s) > 80 {
		return string(s[:79]) + "…"
	}
	return string(b)
}

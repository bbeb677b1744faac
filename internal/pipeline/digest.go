package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// volatile are fields that say by whom and by what version something was
// found, and not what.
var volatile = []string{"config_hash", "policy_hash"}

// Digest is what a run has found: a hash of every anomaly, incident and report
// on the bus as canonical JSON, sorted, without what differs between runs of
// other versions. Two runs over the same telemetry have the same digest,
// whatever befell them.
func Digest(ctx context.Context, b *bus.Bus) (string, error) { return digest(ctx, b, Span{}) }

// digest is Digest of what was found in a span.
func digest(ctx context.Context, b *bus.Bus, span Span) (string, error) {
	var lines []string
	for _, s := range []*event.Stream{event.Anomalies, event.Incidents, event.Reports} {
		var o bus.ReadOptions
		if s == event.Anomalies { // watermarks outnumber them by far
			o.Filters = []string{event.AnomalyDetected.Filter()}
		}
		err := b.Read(ctx, s, o, func(m bus.Message) error {
			if !span.Holds(m.Time) {
				return nil
			}
			switch m.Data.(type) {
			case event.Anomaly, event.Incident, event.Report:
				line, err := canonical(m.Payload)
				if err != nil {
					return fmt.Errorf("digest %s: %w", m.ID, err)
				}
				lines = append(lines, m.Type+" "+line)
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	slices.Sort(lines)
	// A message that was stored twice, outside the server's window, is one.
	lines = slices.Compact(lines)
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l))
		h.Write([]byte{'\n'})
	}
	return fmt.Sprintf("%d %s", len(lines), hex.EncodeToString(h.Sum(nil))), nil
}

func canonical(payload []byte) (string, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		return "", err
	}
	drop(v)
	b, err := json.Marshal(v) // sorts keys
	return string(b), err
}

func drop(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range volatile {
			delete(v, k)
		}
		for _, c := range v {
			drop(c)
		}
	case []any:
		for _, c := range v {
			drop(c)
		}
	}
}

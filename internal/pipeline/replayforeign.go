package pipeline

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/correlator"
)

// foreign are the recorded anomalies of third parties' detectors: what found
// them is not here to find them again. With each goes when the recorded run came
// to it, in event time: a third party writes beside the watermarks, so that its
// place among them says what had been judged without it.
//
// What the correlator's state has already, and what is fed in its recorded place
// anyway, is not among them.
func (r *Replay) foreign(cfg correlator.Config) ([]bus.Raw, map[string]time.Time, error) {
	if r.From == FromAnomalies || !slices.Contains(r.Bundle.Streams(), event.Anomalies.Name) {
		return nil, nil, nil
	}
	clock, err := correlator.NewClock(cfg, r.begins)
	if err != nil {
		return nil, nil, err
	}
	there, err := r.hasForeign()
	if err != nil || !there {
		return nil, nil, err
	}
	var found []bus.Raw
	heard := map[string]time.Time{}
	for rec, err := range r.Bundle.Records(event.Anomalies.Name) {
		if err != nil {
			return nil, nil, err
		}
		if rec.Sequence <= r.after {
			continue
		}
		if first(rec.Header["ce-type"]) == event.WatermarkPassed.Type {
			var w event.Watermark
			if err := json.Unmarshal(rec.Payload, &w); err != nil {
				return nil, nil, fmt.Errorf("bundle %s: %s %d: %w", r.Bundle.Manifest.Name, event.Anomalies.Name, rec.Sequence, err)
			}
			clock.Pass(w)
			continue
		}
		if !isForeign(rec) {
			continue
		}
		if at, ok := eventTime(rec.Header); ok && !r.Span.To.IsZero() && at.After(r.Span.To) {
			continue
		}
		found = append(found, bus.Raw{Sequence: rec.Sequence, Received: rec.Received, Subject: rec.Subject, Header: rec.Header, Payload: rec.Payload})
		if at := clock.Next(); !at.IsZero() {
			heard[first(rec.Header["ce-id"])] = at
		}
	}
	return found, heard, nil
}

// hasForeign says whether there is any at all: to know when they were come to
// takes a while.
func (r *Replay) hasForeign() (bool, error) {
	for rec, err := range r.Bundle.Records(event.Anomalies.Name) {
		if err != nil {
			return false, err
		}
		if isForeign(rec) {
			return true, nil
		}
	}
	return false, nil
}

func isForeign(rec bundle.Record) bool {
	switch first(rec.Header["ce-type"]) {
	case event.AnomalyDetected.Type, event.AnomalyEnded.Type:
		var a struct {
			Foreign bool `json:"foreign"`
		}
		return json.Unmarshal(rec.Payload, &a) == nil && a.Foreign
	}
	return false
}

// eventTime is the event time of a recorded message.
func eventTime(header map[string][]string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, first(header["ce-time"]))
	return at, err == nil
}

package alertmanager

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// mention is how often an alert that goes on is said again: later than any
// repeat of its id is dropped, and sooner than the detector takes it for over.
const mention = 4*time.Hour + 30*time.Minute

// maxFiring bounds the alerts that are followed, and with them the cursor.
const maxFiring = 5000

// firing is what has been told of the alerts that fire: a fold over polls,
// which is the source's cursor.
type firing struct {
	Alerts map[string]*followed `json:"alerts"` // by fingerprint
}

// followed is one alert that was told to fire.
type followed struct {
	Alert   event.Alert `json:"alert"`            // without annotations
	Said    time.Time   `json:"said"`             // the poll at which it was told last
	Missing time.Time   `json:"missing,omitzero"` // the first poll that did not have it
}

// step takes in the alerts of one poll and returns what is to be told, in a
// fixed order; changed says that the cursor is to be written. left is how many
// alerts are beyond the bound.
func (f *firing) step(at time.Time, now map[string]event.Alert, settle time.Duration) (tell []event.Alert, changed bool, left int) {
	for _, key := range slices.Sorted(maps.Keys(now)) {
		a := now[key]
		known, ok := f.Alerts[key]
		switch {
		case !ok && len(f.Alerts) >= maxFiring:
			left++
			continue
		case !ok, !known.Alert.StartsAt.Equal(a.StartsAt):
		case known.Alert.Silenced != a.Silenced:
			a.Toggled = known.Alert.Toggled + 1
		case at.Sub(known.Said) >= mention:
			a.Toggled = known.Alert.Toggled
		default:
			if !known.Missing.IsZero() {
				known.Missing, changed = time.Time{}, true
			}
			continue
		}
		tell, changed = append(tell, a), true
		a.Annotations, a.GeneratorURL = nil, ""
		f.Alerts[key] = &followed{Alert: a, Said: at}
	}
	for _, key := range slices.Sorted(maps.Keys(f.Alerts)) {
		known := f.Alerts[key]
		if _, ok := now[key]; ok {
			continue
		}
		if known.Missing.IsZero() {
			known.Missing, changed = at, true
		}
		if at.Sub(known.Missing) < settle {
			continue
		}
		a := known.Alert
		a.Status, a.EndsAt = "resolved", known.Missing
		tell, changed = append(tell, a), true
		delete(f.Alerts, key)
	}
	slices.SortStableFunc(tell, func(a, b event.Alert) int {
		return cmp.Or(a.Time().Compare(b.Time()), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return tell, changed, left
}

// encode writes the cursor; labels repeat, so it is compressed.
func (f *firing) encode() ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("cursor: %w", err)
	}
	return s2.EncodeBetter(nil, b), nil
}

// maxCursor bounds what a cursor may grow to when it is unpacked.
const maxCursor = 64 << 20

func decodeFiring(raw []byte) (*firing, error) {
	f := &firing{Alerts: map[string]*followed{}}
	if raw == nil {
		return f, nil
	}
	n, err := s2.DecodedLen(raw)
	if err == nil && n > maxCursor {
		err = fmt.Errorf("grows to %d bytes", n)
	}
	var b []byte
	if err == nil {
		b, err = s2.Decode(nil, raw)
	}
	var in firing
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		return f, fmt.Errorf("cursor: %w", err)
	}
	for key, known := range in.Alerts {
		if known != nil {
			f.Alerts[key] = known
		}
	}
	return f, nil
}

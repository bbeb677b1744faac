package detectors

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/services/detector"
)

// AlertConfig is the `detector.alert:` section of the configuration file.
type AlertConfig struct {
	// Page are the values of the severity label that mean a page; such an alert
	// is a symptom. Default: [page, critical].
	Page []string `yaml:"page"`
	// Warning are the values that mean a warning. Default: [warning, ticket].
	Warning []string `yaml:"warning"`
	// Ignore are alert names that are no trouble. Default: [Watchdog, InfoInhibitor].
	Ignore []string `yaml:"ignore"`
	// Silent is how long an alert that is no longer mentioned counts as firing,
	// since its end may have been lost. Default: 6h.
	Silent time.Duration `yaml:"silent"`
}

// Validate checks that the two lists do not contradict each other.
func (c AlertConfig) Validate() error {
	var errs []error
	for _, s := range c.Page {
		if slices.Contains(c.Warning, s) {
			errs = append(errs, &policy.FieldError{Path: "page", Value: s, Problem: "is in warning too", Fix: "take it out of one of them"})
		}
	}
	return errors.Join(append(errs, between("silent", c.Silent.Minutes(), 5, 7*24*60, 360))...)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "alert", Input: detector.Events, Class: event.ClassAmbient, Hold: 5 * time.Minute,
			Doc: "An alert of the user's own Alertmanager; a symptom when its severity label means a page.",
		},
		AlertConfig{Page: []string{"page", "critical"}, Warning: []string{"warning", "ticket"}, Ignore: []string{"Watchdog", "InfoInhibitor"}, Silent: 6 * time.Hour},
		func(c AlertConfig, _ detector.Settings) (detector.Detector, error) {
			return &alert{cfg: c, firing: map[uint64]firing{}}, nil
		}))
}

type alert struct {
	cfg    AlertConfig
	firing map[uint64]firing
}

type firing struct {
	alert event.Alert
	seen  int64 // watermark of the window it was mentioned in, milliseconds
}

// maxAlerts bounds the firing alerts of a partition.
const maxAlerts = 10_000

// Observe is detector.Detector's.
func (d *alert) Observe(b event.Batch) (found []event.Anomaly) {
	now := b.Watermark.UnixMilli()
	for _, a := range b.Alerts {
		if slices.Contains(d.cfg.Ignore, a.Labels["alertname"]) {
			continue
		}
		key := event.HashStrings("alert", a.Source, a.Fingerprint, event.LabelsOf(a.Labels).String())
		if a.Firing() {
			if _, ok := d.firing[key]; ok || len(d.firing) < maxAlerts {
				d.firing[key] = firing{a, now}
			}
			continue
		}
		if f, ok := d.firing[key]; ok && a.StartsAt.Before(f.alert.StartsAt) {
			continue // the end of an earlier firing, come late
		}
		delete(d.firing, key)
		end := d.observation(key, a, b.Watermark)
		at := a.Time()
		end.Ended = &at
		found = append(found, end)
	}
	for _, key := range sortedKeys(d.firing) {
		f := d.firing[key]
		if now-f.seen > d.cfg.Silent.Milliseconds() {
			delete(d.firing, key)
			continue
		}
		found = append(found, d.observation(key, f.alert, b.Watermark))
	}
	return found
}

// Tested is detector.Tester's: somebody else's test.
func (d *alert) Tested() int64 { return 0 }

func (d *alert) observation(key uint64, al event.Alert, at time.Time) event.Anomaly {
	name := cmp.Or(al.Labels["alertname"], "alert")
	a := event.Anomaly{
		Series: event.SeriesHash(key), Entity: al.Entity(), Signal: name, Class: event.ClassAmbient, Severity: event.Info,
		Onset: al.StartsAt, Observed: 1, TailProb: 1e-6, Labels: al.Labels, Alert: name, RunbookURL: al.Annotations["runbook_url"],
		Summary: clip(cmp.Or(al.Annotations["summary"], al.Annotations["message"], al.Annotations["description"], name), 300),
	}
	severity := al.Labels["severity"]
	switch {
	case slices.Contains(d.cfg.Page, severity):
		a.Class, a.Severity = event.ClassSymptom, event.Critical
	case slices.Contains(d.cfg.Warning, severity):
		a.Severity = event.Warning
	}
	a.Explanation = fmt.Sprintf("Alertmanager's own alert %s with severity %q", name, severity)
	if al.Silenced {
		// The user has said that they do not want to hear of it.
		a.Class, a.Severity = event.ClassAmbient, event.Info
		a.Explanation += ", silenced or inhibited there"
	}
	a.Evidence = []event.EvidenceRef{{Source: "alertmanager", Query: event.LabelsOf(al.Labels).String(), Start: al.StartsAt, End: at}}
	return a
}

// MarshalBinary writes the state.
func (d *alert) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Uint(uint64(len(d.firing)))
	for _, key := range sortedKeys(d.firing) {
		f := d.firing[key]
		b, err := json.Marshal(f.alert)
		if err != nil {
			return nil, fmt.Errorf("write alert %s: %w", f.alert.Fingerprint, err)
		}
		w.Fixed(key)
		w.Int(f.seen)
		w.Bytes(b)
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *alert) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.firing = map[uint64]firing{}
	for range r.Len() {
		key := r.Fixed()
		f := firing{seen: r.Int()}
		if err := json.Unmarshal(r.Bytes(), &f.alert); err != nil {
			r.Fail("alert: " + err.Error())
			return r.Err()
		}
		d.firing[key] = f
	}
	return r.Close()
}

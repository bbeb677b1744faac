package alertmanager

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// read is an alert as the API and the webhook both write it.
type read struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	UpdatedAt    time.Time         `json:"updatedAt"`
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
	Status       status            `json:"status"`
}

// Bounds of an alert, whose text anybody may have written.
const (
	maxLabels      = 64
	maxLabel       = 1 << 10 // bytes of a value
	maxAnnotations = 32
	maxAnnotation  = 2 << 10
)

// ours says whether an alert is one of ours that has come back, by the labels
// that the notifier's channel gives it.
func (r *read) ours() bool {
	return r.Labels["alertname"] == "OncallIncident" || r.Labels["oncall_incident"] != ""
}

// noTrouble are alerts that say that alerting works, or that feed inhibitions.
var noTrouble = map[string]bool{"Watchdog": true, "DeadMansSwitch": true, "InfoInhibitor": true}

// watchdog says whether the alert is the one that always fires.
func (r *read) watchdog() bool {
	name := r.Labels["alertname"]
	return name == "Watchdog" || name == "DeadMansSwitch"
}

// wanted says whether an alert is about something that may be wrong.
func (r *read) wanted() bool {
	return len(r.Labels) > 0 && !r.StartsAt.IsZero() && !r.ours() && !noTrouble[r.Labels["alertname"]] && r.Labels["severity"] != "none"
}

// event is the alert as it is published: bounded and redacted.
func (s *Source) event(r *read) event.Alert {
	mask := s.env.Redact.On(r.StartsAt) // an alert that fires for days is one
	// What is cut first may no longer look like a secret.
	labels := bounded(mask.Labels(event.LabelsOf(r.Labels)).Map(), maxLabels, maxLabel)
	a := event.Alert{
		Status: "firing", Labels: labels, StartsAt: r.StartsAt.UTC().Truncate(time.Millisecond), Source: s.cfg.Name,
		Fingerprint: fingerprint(r), Object: s.names.Object(labels), GeneratorURL: clip(mask.Line(r.GeneratorURL), maxAnnotation),
	}
	if len(r.Annotations) > 0 {
		masked := make(map[string]string, len(r.Annotations))
		for k, v := range r.Annotations {
			masked[k] = mask.Line(v)
		}
		a.Annotations = bounded(masked, maxAnnotations, maxAnnotation)
	}
	return a
}

// fingerprint is Alertmanager's own, or a hash of the labels for a sender that
// gives none.
func fingerprint(r *read) string {
	if f := r.Fingerprint; f != "" && len(f) <= 64 && event.Token(f) == f {
		return f
	}
	return event.SeriesHash(event.LabelsOf(r.Labels).Hash())
}

// bounded keeps the first so many entries by name, each clipped.
func bounded(m map[string]string, most, bytes int) map[string]string {
	out := make(map[string]string, min(len(m), most))
	for _, l := range event.LabelsOf(m) {
		if len(out) == most {
			break
		}
		out[clip(l.Name, 128)] = clip(l.Value, bytes)
	}
	return out
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

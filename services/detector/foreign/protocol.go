// Package foreign runs a detector that is written in any language: a child
// process that reads windows of telemetry as JSON lines on its standard input
// and answers each with one JSON line of anomalies on its standard output.
//
// The bus, ids, order, repeats, the life of anomalies, checkpoints and
// restarts are taken care of here; the child keeps what it has learnt in its
// memory, and is shown the recent past again, muted, when it is started.
//
// # Protocol
//
// One line in, one line out, in UTF-8 without line breaks inside. A line in:
//
//	{"watermark":"2026-03-01T10:00:00Z","partition":7,"learn":false,"blind":false,
//	 "series":[{"labels":{"__name__":"request_rate","namespace":"shop",…},"points":[[1772359200.0,41.5]]}],
//	 "lines":[{"labels":{…},"time":1772359199.2,"text":"…"}],
//	 "events":[{…core/v1 JSON…}],"changes":[{…}],"alerts":[{…}]}
//
// Only what Select matches is in it, and absent parts are left out. Learn says
// that the answer will be ignored: the past, shown to warm the child up. Blind
// says that a source could not be read, so that absence means nothing. All
// text is untrusted.
//
// A line out is an array of what is odd in the window, often empty:
//
//	[{"labels":{…of the series…},"observed":97.1,"expected":{"low":30,"high":60},
//	  "tail_prob":0.0001,"severity":"warning","summary":"97 requests/s, expected 30 to 60"}]
//
// Needed are observed and summary, and labels or entity ("shop/deployment/web")
// to say what it is about. Severity is info when absent, signal the __name__ of
// the labels, tail_prob 0.001, class ambient, series a hash of the labels.
// Anything the child writes to standard error is logged.
package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

// window is a line in.
type window struct {
	Watermark time.Time         `json:"watermark"`
	Partition int               `json:"partition"`
	Learn     bool              `json:"learn"`
	Blind     bool              `json:"blind"`
	Series    []series          `json:"series,omitempty"`
	Lines     []line            `json:"lines,omitempty"`
	Events    []event.KubeEvent `json:"events,omitempty"`
	Changes   []event.Change    `json:"changes,omitempty"`
	Alerts    []event.Alert     `json:"alerts,omitempty"`
}

type series struct {
	Labels map[string]string `json:"labels"`
	Points [][2]float64      `json:"points"` // seconds since the epoch, value
}

type line struct {
	Labels map[string]string `json:"labels"`
	Time   float64           `json:"time"`
	Text   string            `json:"text"`
}

// finding is one element of a line out.
type finding struct {
	Entity      string            `json:"entity"`
	Labels      map[string]string `json:"labels"`
	Series      string            `json:"series"`
	Signal      string            `json:"signal"`
	Class       event.SignalClass `json:"class"`
	Severity    event.Severity    `json:"severity"`
	Onset       time.Time         `json:"onset"`
	Observed    *float64          `json:"observed"`
	Expected    *event.Interval   `json:"expected"`
	Unit        string            `json:"unit"`
	TailProb    float64           `json:"tail_prob"`
	Summary     string            `json:"summary"`
	Explanation string            `json:"explanation"`
	Evidence    string            `json:"evidence"` // a query; default: the selector of the labels
	Ended       *time.Time        `json:"ended"`
}

// Limits of what a child may answer.
const (
	maxAnswer   = 4 << 20 // bytes of a line
	maxFindings = 1000    // of a window
	maxText     = 500     // bytes of a summary
)

// parse reads a line out. The error says what is wrong with which element, so
// that the author of the child can mend it.
func parse(answer []byte, name string, w window) ([]event.Anomaly, error) {
	answer = bytes.TrimSpace(answer)
	if len(answer) > 0 && answer[0] == '{' {
		answer = append(append([]byte{'['}, answer...), ']')
	}
	dec := json.NewDecoder(bytes.NewReader(answer))
	dec.DisallowUnknownFields()
	var all []finding
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("the answer is not a JSON array of anomalies in one line: %w; got %.120q", err, answer)
	}
	if dec.More() {
		return nil, fmt.Errorf("the answer goes on after its array; got %.120q", answer)
	}
	if len(all) > maxFindings {
		return nil, fmt.Errorf("the answer has %d anomalies, more than %d", len(all), maxFindings)
	}
	out := make([]event.Anomaly, 0, len(all))
	var errs []error
	for i, f := range all {
		a, err := f.anomaly(name, w)
		if err != nil {
			errs = append(errs, fmt.Errorf("anomaly %d: %w", i, err))
			continue
		}
		out = append(out, a)
	}
	return out, errors.Join(errs...)
}

func (f finding) anomaly(name string, w window) (event.Anomaly, error) {
	labels := event.LabelsOf(f.Labels)
	a := event.Anomaly{
		Detector: name, Series: f.Series, Entity: labels.Entity(), Signal: f.Signal, Class: f.Class, Severity: f.Severity, Onset: f.Onset,
		Expected: f.Expected, Unit: f.Unit, TailProb: f.TailProb, Summary: clip(f.Summary), Explanation: clip(f.Explanation),
		Labels: f.Labels, Foreign: true, Ended: f.Ended,
	}
	if f.Entity != "" {
		e, ok := event.ParseEntity(f.Entity)
		if !ok {
			return a, fmt.Errorf("entity %q is not namespace/kind/name or kind/name", f.Entity)
		}
		a.Entity = e
	} else if len(f.Labels) == 0 {
		return a, errors.New("has neither entity nor labels")
	}
	if f.Observed == nil || math.IsNaN(*f.Observed) || math.IsInf(*f.Observed, 0) {
		return a, errors.New("observed is missing or not a finite number")
	}
	a.Observed = *f.Observed
	if a.Signal == "" {
		a.Signal = labels.Get(event.LabelName)
	}
	if a.Signal == "" {
		a.Signal = name
	}
	if a.Severity == "" {
		a.Severity = event.Info
	}
	switch a.Class {
	case "":
		a.Class = event.ClassAmbient
	case event.ClassSymptom, event.ClassSaturation, event.ClassCause, event.ClassAmbient:
	default:
		return a, fmt.Errorf("class %q is not symptom, saturation, cause or ambient", a.Class)
	}
	if a.TailProb == 0 {
		a.TailProb = 1e-3
	}
	if a.Onset.After(w.Watermark) {
		return a, fmt.Errorf("onset %s is after the window's end", a.Onset.Format(time.RFC3339))
	}
	if len(a.Series) != 16 {
		a.Series = event.SeriesHash(event.HashStrings(name, a.Entity.String(), a.Signal, a.Series, labels.String()))
	}
	query := f.Evidence
	if query == "" {
		query = a.Signal + labels.String()
	}
	a.Evidence = []event.EvidenceRef{{Source: "prometheus", Query: clip(query), Start: w.Watermark.Add(-30 * time.Minute), End: w.Watermark}}
	return a, detector.Valid(a)
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

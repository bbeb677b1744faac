package event

import (
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Interval is a closed range of expected values, in the unit of the signal.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// SignalClass says what sort of evidence an anomaly is, which decides how
// much it may weigh: only a symptom can page.
type SignalClass string

// The classes of signals.
const (
	ClassSymptom    SignalClass = "symptom"    // what users feel: burn of an error budget, a page-severity alert, a workload below its minimum
	ClassSaturation SignalClass = "saturation" // a resource that runs out: CPU, memory, disk, quota
	ClassCause      SignalClass = "cause"      // what usually explains symptoms: OOM kills, failed pulls, a new error in logs
	ClassAmbient    SignalClass = "ambient"    // odd, and by itself nothing more
)

// Anomaly is one departure from normal of one signal of one entity, as one
// detector saw it. It is published when it starts, when its severity changes,
// every five minutes while it lasts, and when it ends; Key is the same in all
// of them.
type Anomaly struct {
	Detector   string      `json:"detector"`    // registered name
	ConfigHash string      `json:"config_hash"` // detector version and configuration, 8 hex digits
	Series     string      `json:"series"`      // 16 hex digits: the series, template or reason it was seen on
	Key        string      `json:"key"`         // hash of detector, series and onset
	Entity     Entity      `json:"entity"`
	Signal     string      `json:"signal"` // name of the metric, log pattern or event reason
	Class      SignalClass `json:"class"`
	Severity   Severity    `json:"severity"`
	Onset      time.Time   `json:"onset"`           // estimate of when the departure began
	WindowEnd  time.Time   `json:"window_end"`      // event time of this observation
	Ended      *time.Time  `json:"ended,omitempty"` // set in anomaly.ended: when it was normal again
	Observed   float64     `json:"observed"`
	Expected   *Interval   `json:"expected,omitempty"`
	Unit       string      `json:"unit,omitempty"`
	// TailProb is the probability of a value at least this extreme under the
	// detector's model of normal; 0 < TailProb <= 1. Smaller is stranger. A
	// detector of facts (a change, a firing alert) states 1e-6 by convention.
	TailProb float64 `json:"tail_prob"`
	// Summary says in one redacted line what is odd: "p99 latency 2.4 s, expected 0.2-0.4 s".
	Summary string `json:"summary"`
	// Explanation is how the detector came to it, for a reader who doubts.
	Explanation string            `json:"explanation,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"` // redacted labels of the series
	Evidence    []EvidenceRef     `json:"evidence,omitempty"`
	// Check is what to look at first, where the detector knows; it only reads.
	Check *Check `json:"check,omitempty"`
	// Foreign marks an anomaly of a third party's detector: context, unless a
	// policy lists the detector.
	Foreign bool `json:"foreign,omitempty"`
	// Alert and runbook of an anomaly that is an alert of Alertmanager.
	Alert      string `json:"alert,omitempty"`
	RunbookURL string `json:"runbook_url,omitempty"`
}

// EvidenceRef is a query that shows what a finding rests on, or a short
// redacted excerpt.
type EvidenceRef struct {
	Source  string    `json:"source"` // prometheus, loki, kubernetes or alertmanager
	Query   string    `json:"query"`  // PromQL, LogQL or kubectl-like path
	Start   time.Time `json:"start,omitzero"`
	End     time.Time `json:"end,omitzero"`
	Excerpt []string  `json:"excerpt,omitempty"`
}

// AnomalyKey is the identity of an anomaly from its start to its end.
func AnomalyKey(detector, series string, onset time.Time) string {
	return fmt.Sprintf("%016x", xxhash.Sum64String(fmt.Sprintf("%s\xff%s\xff%d", detector, series, onset.UnixMilli())))
}

// SeriesHash is how an Anomaly names what it was seen on.
func SeriesHash(id uint64) string { return fmt.Sprintf("%016x", id) }

// HashStrings is a stable 64-bit hash of the parts, for identities that are
// made of several strings.
func HashStrings(parts ...string) uint64 {
	var d xxhash.Digest
	d.Reset()
	for _, p := range parts {
		_, _ = d.WriteString(p)
		_, _ = d.Write([]byte{separator})
	}
	return d.Sum64()
}

// Watermark says that a detector group has published every anomaly of a
// partition up to its time.
type Watermark struct {
	Group     string    `json:"group"`
	Partition int       `json:"partition"`
	Time      time.Time `json:"time"`
	// HypothesesTested counts the tests done since the watermark before, which
	// is what a page budget has to be divided by.
	HypothesesTested int64       `json:"hypotheses_tested"`
	Blind            []Blindness `json:"blind,omitempty"`
	// Signals are those of the tick: the groups of which watermarks come.
	Signals []string `json:"signals,omitempty"`
}

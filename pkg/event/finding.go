package event

import (
	"fmt"
	"strings"
	"time"
)

// Evidence is the answer to one look-up: the only thing a finding may cite,
// and what a replay answers look-ups from.
type Evidence struct {
	ID        string    `json:"id"`                 // "E" and a number inside one report; the digest elsewhere
	Incident  string    `json:"incident,omitempty"` // what it was looked up for; "" for the CLI
	Source    string    `json:"source"`             // prometheus, loki, kubernetes, alertmanager or anomaly
	Instance  string    `json:"instance,omitempty"` // configured name of the source
	Query     string    `json:"query"`
	QueryHash string    `json:"query_hash"` // 16 hex digits over source, query, start, end, step and limit
	Start     time.Time `json:"start,omitzero"`
	End       time.Time `json:"end,omitzero"`
	Entity    Entity    `json:"entity,omitzero"`
	// Excerpt is the bounded, redacted answer, a line each.
	Excerpt []string `json:"excerpt,omitempty"`
	// Values are numbers and strings that rules read: the last value of a
	// query, the exit code of a container.
	Values    map[string]any `json:"values,omitempty"`
	Truncated bool           `json:"truncated,omitempty"` // the answer was longer
	// Failed is why there is no answer. "no access" is not "absent": a rule
	// must not conclude anything from evidence that failed.
	Failed string `json:"failed,omitempty"`
	Digest string `json:"digest"` // SHA-256 of excerpt and values, hex
}

// Urgency sorts findings for a reader: broken now, soon, or merely untidy.
type Urgency string

// The urgencies.
const (
	Broken  Urgency = "broken"
	Soon    Urgency = "soon"
	Hygiene Urgency = "hygiene"
)

// Confidence is how far a finding or cause may be relied upon.
type Confidence string

// The confidences. A cause below Low is not stated at all.
const (
	High   Confidence = "high"
	Medium Confidence = "medium"
	Low    Confidence = "low"
)

// Finding is what a check, a rule, an anomaly or a model says about an
// entity, with the evidence it rests on. The commands of the CLI and the
// reports share it.
type Finding struct {
	ID         string     `json:"id"`   // stable: hash of rule and entity
	Rule       string     `json:"rule"` // name of the rule or check
	Entity     Entity     `json:"entity"`
	Urgency    Urgency    `json:"urgency"`
	Severity   Severity   `json:"severity"`
	Title      string     `json:"title"` // one line
	Detail     string     `json:"detail,omitempty"`
	Since      time.Time  `json:"since,omitzero"`
	Confidence Confidence `json:"confidence"`
	Evidence   []string   `json:"evidence"` // ids of Evidence in the same report; never empty
	Checks     []Check    `json:"next_checks,omitempty"`
	Rollback   []Check    `json:"rollback,omitempty"` // needs a human
	Runbooks   []string   `json:"runbooks,omitempty"`
	// Cause says that the finding explains the incident, and does not just
	// accompany it.
	Cause bool `json:"cause,omitempty"`
	// Model marks a finding that a language model worded.
	Model bool `json:"model,omitempty"`
}

// FindingID is the stable id of a finding.
func FindingID(rule string, e Entity) string {
	return fmt.Sprintf("%016x", HashStrings(rule, e.String()))[:8]
}

// Check is one command a person may copy. Checks only read; the commands in
// Rollback change something and are printed, never run.
type Check struct {
	Why     string `json:"why"`
	Command string `json:"command"`
}

// Undoes says whether the command returns to the revision before: of kubectl's
// own rollouts, or of Argo's.
func (c Check) Undoes() bool {
	return strings.Contains(c.Command, " undo ")
}

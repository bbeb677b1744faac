package event

import (
	"fmt"
	"time"
)

// Report is what the on-call engineer reads. It has a revision of its own,
// since a model's answer revises the report without a change of the incident.
type Report struct {
	Incident         string        `json:"incident"`
	Revision         int           `json:"revision"`
	IncidentRevision int           `json:"incident_revision"`
	State            IncidentState `json:"state"`
	Priority         Priority      `json:"priority"`
	Cluster          string        `json:"cluster,omitempty"`
	Entity           Entity        `json:"entity"`
	Owner            Owner         `json:"owner"`
	Onset            time.Time     `json:"onset"`
	Time             time.Time     `json:"time"` // event time of the incident revision
	ResolvedAt       *time.Time    `json:"resolved_at,omitempty"`
	// Headline carries severity, cluster, entity, symptom and since in at most
	// 120 characters: all that a phone's lock screen shows.
	Headline string          `json:"headline"`
	TLDR     string          `json:"tldr"` // at most three sentences
	Symptom  string          `json:"symptom"`
	Findings []Finding       `json:"findings"`
	Causes   []Cause         `json:"causes"`            // best first; empty means: no cause stands out
	Checked  []string        `json:"checked,omitempty"` // what was looked at and is normal
	Unknown  []string        `json:"unknown,omitempty"` // what could not be looked at, and why
	Checks   []Check         `json:"next_checks"`
	Rollback []Check         `json:"rollback,omitempty"` // needs a human
	Status   string          `json:"status_draft"`       // for stakeholders: no internal names, no guesses
	Alerts   []string        `json:"alerts,omitempty"`   // alerts of Alertmanager in the incident: "KubePodCrashLooping x6"
	Firing   bool            `json:"firing,omitempty"`   // at least one of Alerts is firing
	Links    []Link          `json:"links,omitempty"`
	Runbooks []Runbook       `json:"runbooks,omitempty"`
	Evidence []Evidence      `json:"evidence"`
	Timeline []TimelineEntry `json:"timeline,omitempty"`
	Score    float64         `json:"score"`
	Held     string          `json:"held,omitempty"`
	Reason   string          `json:"reason"` // of the incident revision: opened, severity, cause, anomalies, resolved, model
	Model    *ModelUse       `json:"model,omitempty"`
	// PolicyHash is the hash of the policies the incident was judged by.
	PolicyHash string `json:"policy_hash,omitempty"`
}

// Cause is a likely cause as stated to a reader.
type Cause struct {
	Text       string     `json:"text"`
	Entity     Entity     `json:"entity"`
	Confidence Confidence `json:"confidence"`
	Evidence   []string   `json:"evidence"` // ids in Report.Evidence
	Score      float64    `json:"score"`
}

// Link leads to a page outside, by its configured external URL.
type Link struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

// Runbook is a retrieved runbook section.
type Runbook struct {
	Title   string  `json:"title"`
	Path    string  `json:"path"` // file below policies/runbooks, or the alert's own URL
	Excerpt string  `json:"excerpt,omitempty"`
	Score   float64 `json:"score,omitempty"`
}

// ModelUse says what a language model had to do with a report.
type ModelUse struct {
	Name    string   `json:"name"`
	Tokens  int      `json:"tokens"`
	Dropped []string `json:"dropped,omitempty"` // claims removed because they cite nothing in the evidence
	Failed  string   `json:"failed,omitempty"`  // why the report is by rules alone
}

// Outcome is what became of a report on one route.
type Outcome string

// The outcomes.
const (
	Sent        Outcome = "sent"
	HeldBack    Outcome = "held"
	Silenced    Outcome = "silenced"
	Maintenance Outcome = "maintenance"
	Shadow      Outcome = "shadow"
)

// Decision says for one (incident, report revision, route) what was sent or
// not, and by which rule: the answer to "why was I (not) paged?".
type Decision struct {
	Incident   string    `json:"incident"`
	Revision   int       `json:"revision"` // of the report
	Route      string    `json:"route"`    // name of the route in the configuration
	Channel    string    `json:"channel"`
	Outcome    Outcome   `json:"outcome"`
	Priority   Priority  `json:"priority"`
	Team       string    `json:"team,omitempty"`
	Entity     Entity    `json:"entity"`
	Headline   string    `json:"headline"`
	Rule       string    `json:"rule"` // what decided: "notify.mode=shadow", "route payments: priority P2 below P1"
	PolicyHash string    `json:"policy_hash,omitempty"`
	Time       time.Time `json:"time"` // event time of the report
}

// Notification asks one channel to deliver one report revision.
type Notification struct {
	Incident string `json:"incident"`
	Revision int    `json:"revision"`
	Channel  string `json:"channel"`
	Route    string `json:"route"`
	Update   string `json:"update"` // why it is sent: opened, severity, cause, updated, quiet, resolved, digest
	// After is the revision that the channel was given before this one and that
	// is to be delivered first; 0 when this is the first.
	After  int    `json:"after,omitempty"`
	Report Report `json:"report"`
}

// Delivery is the outcome of sending one notification.
type Delivery struct {
	Incident string    `json:"incident"`
	Revision int       `json:"revision"`
	Channel  string    `json:"channel"`
	Attempts int       `json:"attempts"`
	Ref      string    `json:"ref,omitempty"`   // the channel's own id of the message or thread
	Error    string    `json:"error,omitempty"` // redacted; set when it was given up
	Time     time.Time `json:"time"`            // event time of the report
}

// NotificationID is the idempotency key of a delivery: incident, report
// revision and channel.
func NotificationID(incident string, revision int, channel string) string {
	return fmt.Sprintf("n:%s:%d:%s", incident, revision, channel)
}

// Audit records one call to a source: who asked, what, how much came back,
// and how long it took.
type Audit struct {
	Service string `json:"service"`
	// Command, User and Context are of a person at the command line: what was
	// typed, as whom the system knows them, and the kubeconfig's context.
	Command string `json:"command,omitempty"`
	User    string `json:"user,omitempty"`
	Context string `json:"context,omitempty"`

	Source     string    `json:"source"`
	Instance   string    `json:"instance,omitempty"`
	Target     string    `json:"target,omitempty"` // host and port that were asked
	Operation  string    `json:"operation"`        // query, query_range, get, list, watch, create
	Query      string    `json:"query"`            // redacted: PromQL, LogQL, or a path of the API
	Incident   string    `json:"incident,omitempty"`
	Time       time.Time `json:"time"` // wall clock: an audit is about when it happened
	DurationMS int64     `json:"duration_ms"`
	Bytes      int64     `json:"bytes"`
	Items      int       `json:"items"`
	Status     int       `json:"status,omitempty"` // of HTTP; 0 without an answer
	Error      string    `json:"error,omitempty"`
}

// DeadLetter wraps a message that could not be processed. The original
// headers travel as they were; the payload is kept byte for byte.
type DeadLetter struct {
	Stream     string              `json:"stream"`
	Consumer   string              `json:"consumer"`
	Sequence   uint64              `json:"sequence"`
	Subject    string              `json:"subject"`
	Reason     string              `json:"reason"` // redacted
	Deliveries int                 `json:"deliveries,omitempty"`
	Headers    map[string][]string `json:"headers,omitempty"`
	Payload    []byte              `json:"payload"` // base64 in JSON
	Time       time.Time           `json:"time"`    // of the message in its stream
}

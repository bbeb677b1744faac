package event

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// IncidentState is where an incident is in its life.
type IncidentState string

// The states. An incident opens once, is updated as it develops, and is
// resolved when everything in it has ended and stayed so.
const (
	Open     IncidentState = "open"
	Resolved IncidentState = "resolved"
)

// Incident is a group of anomalies and changes that belong together, with
// ranked suspects. Revision counts up with every published state.
type Incident struct {
	ID         string        `json:"id"` // 13 characters of base32: hash of root and onset
	Revision   int           `json:"revision"`
	State      IncidentState `json:"state"`
	Priority   Priority      `json:"priority"`
	Cluster    string        `json:"cluster,omitempty"`
	Entity     Entity        `json:"entity"`  // what is affected most
	Title      string        `json:"title"`   // one redacted line: the symptom
	Symptom    string        `json:"symptom"` // why it may page; "" when nothing in it is a symptom
	Owner      Owner         `json:"owner"`
	Onset      time.Time     `json:"onset"`
	Opened     time.Time     `json:"opened"`
	Updated    time.Time     `json:"updated"` // event time of this revision
	ResolvedAt *time.Time    `json:"resolved_at,omitempty"`
	// Score is the composite score in natural units of surprise (-ln p,
	// corrected for the number of tests). Contributions add up to it.
	Score         float64        `json:"score"`
	Contributions []Contribution `json:"contributions,omitempty"`
	Suspects      []Suspect      `json:"suspects,omitempty"` // best first
	Anomalies     []Anomaly      `json:"anomalies"`          // latest state of each, worst first
	// Dropped counts anomalies that belong here but were left out of Anomalies
	// to keep the message small.
	Dropped  int             `json:"dropped,omitempty"`
	Changes  []Change        `json:"changes,omitempty"` // recent changes of related entities, newest first
	Related  []Entity        `json:"related,omitempty"` // every entity touched
	Timeline []TimelineEntry `json:"timeline,omitempty"`
	Blind    []Blindness     `json:"blind,omitempty"` // sources that could not be read meanwhile
	// Held is why an incident that looks urgent is kept from paging: the page
	// budget, flap control. "" when it is not held.
	Held       string `json:"held,omitempty"`
	Flaps      int    `json:"flaps,omitempty"` // how often it reopened
	PolicyHash string `json:"policy_hash"`
	// What changed against the revision before, for notifications: opened,
	// severity, cause, anomalies, resolved.
	Reason string `json:"reason"`
}

// Owner is who answers for an entity, and by which rule.
type Owner struct {
	Team string `json:"team,omitempty"`
	// Rule says where the team comes from: "label team on shop/deployment/checkout",
	// "policies/ownership.yaml:12", "default".
	Rule    string            `json:"rule,omitempty"`
	Contact map[string]string `json:"contact,omitempty"` // channel name to address, from policies/ownership.yaml
}

// Suspect is a possible cause: an entity, or a change to one, with the score
// that ranks it and what the score is made of.
type Suspect struct {
	Entity        Entity         `json:"entity"`
	Change        *Change        `json:"change,omitempty"`
	Score         float64        `json:"score"`
	Confidence    Confidence     `json:"confidence,omitempty"`
	Why           string         `json:"why"`
	Contributions []Contribution `json:"contributions"` // add up to Score
}

// Contribution is one reason for a score.
type Contribution struct {
	Scorer string  `json:"scorer"`
	Weight float64 `json:"weight"`
	Why    string  `json:"why"`
}

// TimelineEntry is one line of an incident's history.
type TimelineEntry struct {
	Time   time.Time `json:"time"`
	Entity Entity    `json:"entity,omitzero"`
	What   string    `json:"what"`
	Ref    string    `json:"ref,omitempty"` // anomaly key or change revision
}

// IncidentID is the id of an incident: 13 characters of lower-case base32 over
// the root entity, the detector and the onset of the anomaly that opened it.
func IncidentID(root Entity, detector string, onset time.Time) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], HashStrings(root.String(), detector, fmt.Sprint(onset.UnixMilli())))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// ShortID is the form of an incident id that people type: its first five
// characters in upper case.
func ShortID(id string) string { return strings.ToUpper(id[:min(5, len(id))]) }

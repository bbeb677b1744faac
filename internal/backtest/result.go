package backtest

import (
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Result is what would have paged, beside what did. It is a contract: fields are
// added, never changed.
type Result struct {
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace,omitempty"`
	// Headline is the outcome in a sentence.
	Headline string `json:"headline"`
	// Asked is how far back was asked for. Both sides are judged from Since to
	// Until; what is before, from Read.From on, was learnt from only.
	Asked string    `json:"asked"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Step is the time between two readings of metrics.
	Step  string `json:"step"`
	Yours Yours  `json:"yours"`
	Ours  Ours   `json:"ours"`
	// Same is the trouble that both sides paged for.
	Same Same `json:"same"`
	// Incidents are those of ours that would have paged, oldest first.
	Incidents []Incident `json:"incidents"`
	// Firings are the user's own pages, oldest first.
	Firings []Firing `json:"firings"`
	// Missing is the history that there is none of, and what is not known for it.
	Missing []Missing `json:"missing"`
	Read    Read      `json:"read"`
	Seconds float64   `json:"seconds"`
}

// Yours counts the user's own side.
type Yours struct {
	// Pages are firings of alerts whose severity pages.
	Pages   int     `json:"pages"`
	PerWeek float64 `json:"pages_per_week"`
	// Groups are how many notifications they are, where Alertmanager groups by
	// alertname and namespace and what begins within five minutes is one.
	Groups int `json:"groups"`
	// Severities are the values of the label that page.
	Severities []string `json:"severities"`
	// Others are firings of alerts that page nobody.
	Others int `json:"others"`
	// Only are pages of which there is none of ours, by why.
	Only    int         `json:"only"`
	OnlyWhy map[Why]int `json:"only_why"`
}

// Ours counts what would have been told.
type Ours struct {
	// Pages are incidents that would have paged, each once and again whenever it
	// came back after it was over.
	Pages     int     `json:"pages"`
	PerWeek   float64 `json:"pages_per_week"`
	P1        int     `json:"p1"`
	P2        int     `json:"p2"`
	Incidents int     `json:"incidents"` // that paged
	Only      int     `json:"only"`      // of them, those without a page of the user's
	Tickets   int     `json:"tickets"`   // incidents that were P3 at most
	Digest    int     `json:"digest"`    // and those that were a line in a digest
	Held      int     `json:"held"`      // of those, by the page budget or for flapping
	// Budget is false_pages_per_week of policies/slo.yaml: what has no symptom
	// behind it is told so often at most. Symptoms are never held.
	Budget float64 `json:"budget_per_week"`
}

// Same counts the trouble that both sides paged for.
type Same struct {
	Firings   int `json:"firings"`
	Incidents int `json:"incidents"`
	// LeadSeconds is how much earlier ours would have paged, the median over its
	// incidents; negative is later. Null where there is none.
	LeadSeconds *float64 `json:"lead_seconds"`
}

// Incident is one of ours that would have paged.
type Incident struct {
	ID       string         `json:"id"`
	Priority event.Priority `json:"priority"` // the worst that it had
	Entity   event.Entity   `json:"entity"`
	Title    string         `json:"title"`
	Symptom  string         `json:"symptom"`
	Team     string         `json:"team,omitempty"`
	Onset    time.Time      `json:"onset"`
	// Paged are the times at which it would have paged: the first, and each return
	// after it was over.
	Paged    []time.Time `json:"paged"`
	Resolved *time.Time  `json:"resolved"` // null: it goes on
	// Cause is the first suspect when it was worst; "" when none stood out.
	Cause      string           `json:"cause,omitempty"`
	Confidence event.Confidence `json:"confidence,omitempty"`
	Changes    []event.Change   `json:"changes,omitempty"`
	// Firings are the numbers in Firings, from 0, of the user's pages for it.
	Firings []int `json:"firings"`
	// LeadSeconds is how much earlier it would have paged than the first of them.
	LeadSeconds *float64 `json:"lead_seconds"`
	// Beside is what else of the user's fired for it, and paged nobody.
	Beside []string `json:"beside,omitempty"`

	curves []curveRef
}

// Firing is one alert of the user's from its beginning to its end.
type Firing struct {
	Alert    string            `json:"alert"`
	Severity string            `json:"severity"`
	Entity   event.Entity      `json:"entity,omitzero"`
	Labels   map[string]string `json:"labels"` // redacted
	Start    time.Time         `json:"start"`
	End      *time.Time        `json:"end"` // null: it goes on
	// Incident is ours of the same trouble, whether or not it paged.
	Incident string `json:"incident,omitempty"`
	// Same says by what it is the same: thing, namespace.
	Same string `json:"same,omitempty"`
	// Why ours did not page for it, and Because, in words; "" when it did.
	Why     Why    `json:"why,omitempty"`
	Because string `json:"because,omitempty"`

	curves []curveRef
}

// Why says why there is a page of the user's and none of ours.
type Why string

// The reasons.
const (
	HeldByBudget   Why = "held_by_budget"  // seen, without a symptom, and the budget was spent or not reached
	BelowPage      Why = "below_page"      // seen, and a ticket or a line in the digest, for nobody felt it
	BelowThreshold Why = "below_threshold" // watched, and nothing odd enough for an incident
	NotWatched     Why = "not_watched"     // no query of policies/queries gave a series of it
	HistoryMissing Why = "history_missing" // what it would have been seen by was not there to read
	PagedBefore    Why = "paged_before"    // ours had paged in the time that is learnt from, and went on
	NamesNothing   Why = "names_nothing"   // its labels name nothing that it could be compared by
)

// Missing is history that is not there.
type Missing struct {
	What string `json:"what"`
	Why  string `json:"why"`
	Fix  string `json:"fix,omitempty"`
}

// Read is how much was read.
type Read struct {
	From     time.Time `json:"from"` // with what was learnt from only
	Series   int       `json:"series"`
	Samples  int64     `json:"samples"`
	Lines    int64     `json:"log_lines"`
	Events   int       `json:"events"`
	Changes  int       `json:"changes"`
	Requests int64     `json:"requests"`
}

// curveRef names a series that shows an episode.
type curveRef struct {
	Family   string          `json:"family"`
	Signal   string          `json:"signal"`
	Series   string          `json:"series"` // hash of its labels
	Entity   event.Entity    `json:"entity"`
	Unit     string          `json:"unit,omitempty"`
	Expected *event.Interval `json:"expected,omitempty"`
	Onset    time.Time       `json:"onset,omitzero"`
}

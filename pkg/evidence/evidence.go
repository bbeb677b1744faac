// Package evidence is read-only look-up: the questions a rule, a command or a
// model may ask of Prometheus, Loki and Kubernetes, and the bounded, redacted
// answers that findings cite.
//
// In the cluster only the collector holds credentials: it answers on
// [event.QuerySubject] and publishes each answer to the EVIDENCE stream. The
// CLI calls the same retrievers in process.
package evidence

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// The sources a query can name.
const (
	Prometheus = "prometheus"
	Loki       = "loki"
	Kubernetes = "kubernetes"
)

// Query is one read-only question.
//
// Expr is PromQL for Prometheus (an instant query at End when Step is zero,
// else a range query), LogQL for Loki (a log query gives lines, newest last; a
// metric query gives values) or history and a [Told] as JSON (what statements of a
// program did from Start on, for at most [HistoryRange]), and for Kubernetes one of
//
//	object KIND NAMESPACE/NAME          the object, reduced (KIND NAME for what has no namespace)
//	pods NAMESPACE KIND/NAME            the pods of a workload, reduced
//	events NAMESPACE KIND/NAME          events about the object and what it owns, newest last
//	logs NAMESPACE/POD CONTAINER [previous]   last lines of a container
//
// "reduced" means: metadata without managedFields, spec without environment
// values and without anything of Secrets, status whole; all text redacted. The
// reduced object is in Values["object"], a list in Values["items"], so that
// rules read Kubernetes' own field names. A PromQL or metric LogQL query
// leaves its series in Values["series"] as a list of {labels, value, min, max,
// first, last}.
type Query struct {
	Source   string        `json:"source"`
	Instance string        `json:"instance,omitempty"` // configured name; "" for the first of its kind
	Expr     string        `json:"expr"`
	Start    time.Time     `json:"start,omitzero"`
	End      time.Time     `json:"end,omitzero"`
	Step     time.Duration `json:"step,omitempty"`
	Limit    int           `json:"limit,omitempty"`    // lines, series or items; 0 means 50
	Incident string        `json:"incident,omitempty"` // what it is asked for; part of the audit
	Entity   event.Entity  `json:"entity,omitzero"`
}

// Hash identifies the question, whoever asks it.
func (q Query) Hash() string {
	return fmt.Sprintf("%016x", event.HashStrings(q.Source, q.Instance, q.Expr,
		strconv.FormatInt(q.Start.UnixMilli(), 10), strconv.FormatInt(q.End.UnixMilli(), 10),
		q.Step.String(), strconv.Itoa(cmp.Or(q.Limit, 50))))
}

// Retriever answers queries. A source that cannot answer gives Evidence with
// Failed set and a nil error: "no access" is an answer a report has to state.
// The error is for a query that is itself wrong, and for a done context.
type Retriever interface {
	Retrieve(ctx context.Context, q Query) (event.Evidence, error)
}

// ParseQuery reads a query as it travels on the bus, and checks it.
func ParseQuery(body []byte) (Query, error) {
	var q Query
	if err := json.Unmarshal(body, &q); err != nil {
		return q, fmt.Errorf("query: %w", err)
	}
	return q, q.Check()
}

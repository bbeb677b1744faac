package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Redactor takes secrets and personal data out of what an answer quotes.
type Redactor interface {
	Line(string) string
	Labels(event.Labels) event.Labels
}

// Bounds of a query and of its answer.
const (
	DefaultLimit = 50  // lines, series or items when a query says 0
	MaxLimit     = 500 // the most a query may ask for

	maxExpr      = 8 << 10
	maxRange     = 31 * 24 * time.Hour
	maxPoints    = 11000
	maxLine      = 2 << 10
	maxExcerpt   = 64 << 10
	maxValues    = 256 << 10
	askTimeout   = 15 * time.Second
	maxLogBytes  = 1 << 20
	maxItemsRead = 2000
)

// Check says what is wrong with a query before it is sent anywhere.
func (q Query) Check() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	if known := []string{Prometheus, Loki, Kubernetes}; !slices.Contains(known, q.Source) {
		bad("source", fmt.Sprintf("%q", q.Source), "is not one of "+strings.Join(known, ", "), "")
	}
	switch {
	case strings.TrimSpace(q.Expr) == "":
		bad("expr", nil, "is empty", "")
	case len(q.Expr) > maxExpr:
		bad("expr", nil, fmt.Sprintf("has %d bytes, more than %d", len(q.Expr), maxExpr), "")
	case !utf8.ValidString(q.Expr) || strings.ContainsFunc(q.Expr, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		bad("expr", nil, "holds control characters or invalid UTF-8", "")
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		bad("limit", q.Limit, fmt.Sprintf("is not between 0 and %d", MaxLimit), "")
	}
	switch span := q.End.Sub(q.Start); {
	case q.Start.IsZero():
		if q.Step != 0 {
			bad("start", nil, "is missing, but step asks for a range", "")
		}
	case span < 0:
		bad("end", q.End.Format(time.RFC3339), "is before start", "")
	case span > maxRange:
		bad("start", q.Start.Format(time.RFC3339), fmt.Sprintf("is more than %v before end", maxRange), "")
	case q.Step < 0 || q.Step > 0 && span/q.Step > maxPoints:
		bad("step", q.Step, fmt.Sprintf("gives more than %d points", maxPoints), "")
	}
	return errors.Join(errs...)
}

func (q Query) limit() int {
	if q.Limit == 0 {
		return DefaultLimit
	}
	return q.Limit
}

// newAnswer is the frame of an answer to q.
func newAnswer(q Query) event.Evidence {
	return event.Evidence{
		Incident: q.Incident, Source: q.Source, Instance: q.Instance, Query: q.Expr, QueryHash: q.Hash(), Start: q.Start.UTC(), End: q.End.UTC(), Entity: q.Entity,
	}
}

// New is the evidence that answers a query: bounded, with its digest. A query's
// limit bounds the lines.
func New(q Query, excerpt []string, values map[string]any) event.Evidence {
	e := newAnswer(q)
	e.Excerpt, e.Values = excerpt, values
	if n := q.limit(); len(excerpt) > n {
		e.Excerpt, e.Truncated = excerpt[:n], true
	}
	return seal(e)
}

// Around is the window shown around an instant: an hour before, up to it.
func Around(at time.Time) (start, end time.Time) { return at.Add(-time.Hour), at }

// Failed is the answer to a query that gave none, with why.
func Failed(q Query, why string) event.Evidence {
	e := newAnswer(q)
	e.Failed = clip(why, 500)
	return seal(e)
}

// newest drops the oldest lines of a log that is longer than an answer may be:
// what was written last says most.
func newest(e event.Evidence) event.Evidence {
	total := 0
	for i := len(e.Excerpt) - 1; i >= 0; i-- {
		if total += min(len(e.Excerpt[i]), maxLine+len("…")); total > maxExcerpt {
			e.Excerpt, e.Truncated = e.Excerpt[i+1:], true
			break
		}
	}
	return e
}

// seal bounds an answer and gives it its digest.
func seal(e event.Evidence) event.Evidence {
	total := 0
	for i, line := range e.Excerpt {
		if len(line) > maxLine {
			e.Excerpt[i], e.Truncated = clip(line, maxLine), true
		}
		if total += len(e.Excerpt[i]); total > maxExcerpt {
			e.Excerpt, e.Truncated = e.Excerpt[:i], true
			break
		}
	}
	body, err := json.Marshal(struct {
		Excerpt []string       `json:"excerpt"`
		Values  map[string]any `json:"values"`
		Failed  string         `json:"failed"`
	}{e.Excerpt, e.Values, e.Failed})
	if err != nil {
		// Values hold only what came out of JSON, but for numbers JSON has no word for.
		e.Values, e.Failed = nil, "answer cannot be written as JSON: "+err.Error()
		body = []byte(e.Failed)
	}
	sum := sha256.Sum256(body)
	e.Digest = hex.EncodeToString(sum[:])
	e.ID = e.Digest
	return e
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

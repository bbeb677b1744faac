package evidence

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// Limits of one answer, whatever was asked for.
const (
	defaultLimit = 50
	maxLimit     = 500
	maxExcerpt   = 64 << 10 // bytes
	maxRange     = 31 * 24 * time.Hour
)

// Redactor takes secrets and personal data out of text.
type Redactor interface {
	Line(string) string
	Labels(event.Labels) event.Labels
}

// Mux routes queries to the retriever of their source and instance.
type Mux struct {
	order []string // source/instance, as added
	by    map[string]Retriever
}

// NewMux makes an empty Mux.
func NewMux() *Mux { return &Mux{by: map[string]Retriever{}} }

// Add adds the retriever of one instance of a source.
func (m *Mux) Add(source, instance string, r Retriever) {
	key := source + "/" + instance
	if _, ok := m.by[key]; !ok {
		m.order = append(m.order, key)
	}
	m.by[key] = r
}

// Retrieve asks the named instance, or the first of the source.
func (m *Mux) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	if err := q.Check(); err != nil {
		return event.Evidence{}, err
	}
	for _, key := range m.order {
		source, instance, _ := strings.Cut(key, "/")
		if source == q.Source && (q.Instance == "" || q.Instance == instance) {
			q.Instance = cmp.Or(q.Instance, instance)
			return m.by[key].Retrieve(ctx, q)
		}
	}
	return Failed(q, "no "+strings.TrimSuffix(q.Source+" "+q.Instance, " ")+" is configured"), nil
}

// Check says what is wrong with a query before anybody is asked.
func (q Query) Check() error {
	switch {
	case q.Source != Prometheus && q.Source != Loki && q.Source != Kubernetes:
		return fmt.Errorf("query: source %q is not %s, %s or %s", q.Source, Prometheus, Loki, Kubernetes)
	case strings.TrimSpace(q.Expr) == "":
		return errors.New("query: expr is empty")
	case len(q.Expr) > 16<<10:
		return errors.New("query: expr is longer than 16 KiB")
	case q.Limit < 0 || q.Limit > maxLimit:
		return fmt.Errorf("query: limit %d is not between 0 and %d", q.Limit, maxLimit)
	case q.End.Before(q.Start) && !q.End.IsZero():
		return errors.New("query: end lies before start")
	case !q.Start.IsZero() && q.End.Sub(q.Start) > maxRange:
		return fmt.Errorf("query: range is longer than %v", maxRange)
	}
	return nil
}

func (q Query) limit() int { return cmp.Or(q.Limit, defaultLimit) }

// New is the evidence that answers a query: bounded, with its digest.
func New(q Query, excerpt []string, values map[string]any) event.Evidence {
	e := base(q)
	size := 0
	for _, line := range excerpt {
		if size += len(line); len(e.Excerpt) >= q.limit() || size > maxExcerpt {
			e.Truncated = true
			break
		}
		e.Excerpt = append(e.Excerpt, line)
	}
	e.Values = values
	return seal(e)
}

// Failed is the evidence of a query that got no answer.
func Failed(q Query, why string) event.Evidence {
	e := base(q)
	e.Failed = why
	return seal(e)
}

func base(q Query) event.Evidence {
	return event.Evidence{
		Incident: q.Incident, Source: q.Source, Instance: q.Instance, Query: q.Expr, QueryHash: q.Hash(),
		Start: q.Start.UTC(), End: q.End.UTC(), Entity: q.Entity,
	}
}

// seal computes the digest, which is the evidence's id until a report numbers
// it.
func seal(e event.Evidence) event.Evidence {
	h := sha256.New()
	// Maps are written with sorted keys, so that equal answers have equal digests.
	_ = json.NewEncoder(h).Encode([]any{e.Excerpt, e.Values, e.Failed})
	e.Digest = hex.EncodeToString(h.Sum(nil))
	e.ID = e.Digest[:12]
	return e
}

// Remote asks the collector over the bus.
type Remote struct {
	bus     *bus.Bus
	timeout time.Duration
}

// NewRemote makes a retriever that asks over the bus and waits at most timeout
// for each answer.
func NewRemote(b *bus.Bus, timeout time.Duration) *Remote { return &Remote{b, timeout} }

// Retrieve asks the collector. Nobody answering is evidence that failed.
func (r *Remote) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	if err := q.Check(); err != nil {
		return event.Evidence{}, err
	}
	asked, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var e event.Evidence
	if err := r.bus.Request(asked, event.QuerySubject, q, &e); err != nil {
		if ctx.Err() != nil {
			return event.Evidence{}, ctx.Err()
		}
		return Failed(q, "look-up not answered: "+err.Error()), nil
	}
	return e, nil
}

// Recorded answers from evidence that was recorded, for replays.
type Recorded struct{ by map[string]event.Evidence }

// NewRecorded makes a retriever of recorded answers. Of several answers to one
// question the last counts.
func NewRecorded(all []event.Evidence) *Recorded {
	r := &Recorded{by: map[string]event.Evidence{}}
	for _, e := range all {
		r.by[e.QueryHash] = e
		r.by[loose(e.Source, e.Query)] = e
	}
	return r
}

// loose finds an answer to the same question at another time: a replay that
// judges differently than the recorded run may ask a little earlier or later.
func loose(source, expr string) string { return source + "\x00" + expr }

// Retrieve answers from the record.
func (r *Recorded) Retrieve(_ context.Context, q Query) (event.Evidence, error) {
	for _, key := range []string{q.Hash(), loose(q.Source, q.Expr)} {
		if e, ok := r.by[key]; ok {
			e.Incident, e.QueryHash, e.Start, e.End, e.Entity = q.Incident, q.Hash(), q.Start.UTC(), q.End.UTC(), q.Entity
			return e, nil
		}
	}
	return Failed(q, "not recorded"), nil
}

package evidence

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Mux sends a query to the retriever of its source and instance.
type Mux struct{ routes []route }

type route struct {
	source, instance string
	r                Retriever
}

// NewMux makes a Mux that knows no source yet.
func NewMux() *Mux { return &Mux{} }

// Add adds the retriever of one source. The first of a source answers queries
// that name no instance. Add is not safe beside Retrieve.
func (m *Mux) Add(source, instance string, r Retriever) {
	m.routes = append(m.routes, route{source, instance, r})
}

// Retrieve checks and answers a query. A source that is not configured is a
// failed answer, as one that cannot be reached is.
func (m *Mux) Retrieve(ctx context.Context, q Query) (event.Evidence, error) {
	if err := q.Check(); err != nil {
		return event.Evidence{}, err
	}
	var names []string
	for _, r := range m.routes {
		if r.source != q.Source {
			continue
		}
		if q.Instance == "" || q.Instance == r.instance {
			e, err := r.r.Retrieve(ctx, q)
			e.Instance = r.instance // the hash stays that of the question as it was asked
			return e, err
		}
		names = append(names, r.instance)
	}
	if names != nil {
		slices.Sort(names)
		return Failed(q, fmt.Sprintf("no %s is called %s; there is %s", q.Source, q.Instance, strings.Join(names, ", "))), nil
	}
	return Failed(q, "no "+q.Source+" is configured"), nil
}

// Sources lists what can be asked, as source/instance.
func (m *Mux) Sources() []string {
	var out []string
	for _, r := range m.routes {
		out = append(out, r.source+"/"+r.instance)
	}
	return out
}

// Recorded answers from evidence that was gathered before: for replays.
type Recorded struct {
	byQuery map[string]event.Evidence
	byExpr  map[string][]event.Evidence // the same question at other times
}

// NewRecorded makes a retriever of recorded evidence. Of several answers to
// one question the one recorded for the asking incident counts, else the last.
// The same question about another time is answered too, when the exact one is
// not there, by the answer nearest in time: a replay that judges differently
// than the recorded run asks a little earlier or later.
func NewRecorded(recorded []event.Evidence) *Recorded {
	r := &Recorded{byQuery: map[string]event.Evidence{}, byExpr: map[string][]event.Evidence{}}
	for _, e := range recorded {
		r.byQuery[e.QueryHash] = e
		r.byQuery[e.QueryHash+"\x00"+e.Incident] = e
		key := loose(e.Source, e.Query)
		r.byExpr[key] = append(r.byExpr[key], e)
	}
	return r
}

func loose(source, expr string) string { return source + "\x00" + expr }

// Retrieve answers from the record; what is not in it is a failed answer.
func (r *Recorded) Retrieve(_ context.Context, q Query) (event.Evidence, error) {
	e, ok := r.byQuery[q.Hash()+"\x00"+q.Incident]
	if !ok {
		e, ok = r.byQuery[q.Hash()]
	}
	for _, o := range r.byExpr[loose(q.Source, q.Expr)] {
		if !ok || e.QueryHash != q.Hash() && o.End.Sub(q.End).Abs() < e.End.Sub(q.End).Abs() {
			e, ok = o, true
		}
	}
	if !ok {
		return Failed(q, "not recorded"), nil
	}
	e.Incident, e.Entity, e.QueryHash, e.Start, e.End = q.Incident, q.Entity, q.Hash(), q.Start.UTC(), q.End.UTC()
	return e, nil
}

var (
	_ Retriever = (*Mux)(nil)
	_ Retriever = (*Recorded)(nil)
)

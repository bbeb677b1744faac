package collector

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// lookups answers the read-only questions of services that have no rights of
// their own, and publishes every answer: a replay reads it instead of asking.
type lookups struct {
	mux   evidence.Retriever
	env   service.Env
	audit func(event.Audit)

	mu    sync.Mutex
	asked map[string]int // questions by incident
}

const (
	lookupTimeout = 20 * time.Second
	// maxPerIncident bounds what one incident may ask in this process's life.
	maxPerIncident = 400
	// maxIncidents bounds how many incidents are counted.
	maxIncidents = 4096
)

func (l *lookups) serve(ctx context.Context) error {
	err := l.env.Bus.Serve(ctx, event.QuerySubject, "collector", l.answer)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // stopped, which is no error
	}
	return err
}

func (l *lookups) answer(ctx context.Context, body []byte) (any, error) {
	var q evidence.Query
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	if err := q.Check(); err != nil {
		return nil, err
	}
	if !l.admit(q.Incident) {
		return evidence.Failed(q, fmt.Sprintf("budget of %d look-ups for this incident is used up", maxPerIncident)), nil
	}
	askCtx, cancel := context.WithTimeoutCause(ctx, lookupTimeout, fmt.Errorf("no answer in %v", lookupTimeout))
	defer cancel()
	started := time.Now()
	e, err := l.mux.Retrieve(askCtx, q)
	a := event.Audit{
		Service: "collector", Source: q.Source, Instance: q.Instance, Operation: "look-up", Query: q.Expr, Incident: q.Incident,
		Time: started.UTC(), DurationMS: time.Since(started).Milliseconds(), Items: len(e.Excerpt), Error: e.Failed,
	}
	if err != nil {
		a.Error = err.Error()
	}
	l.audit(a)
	if err != nil {
		return nil, err
	}
	if err := l.env.Bus.Publish(ctx, event.EvidenceFound.Out(e)); err != nil {
		return nil, err
	}
	return e, nil
}

// admit counts a question against its incident's budget.
func (l *lookups) admit(incident string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil || len(l.asked) > maxIncidents {
		l.asked = map[string]int{}
	}
	l.asked[incident]++
	return l.asked[incident] <= maxPerIncident
}

package reasoner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

// SourceModel is the source of evidence that is a model's answer: recorded like
// any other, so that drafting again, after a crash or in a replay, reads it
// instead of asking again.
const SourceModel = "model"

// The outcomes of asking a model about a report.
const (
	askedAdopted  = "adopted"  // the report has gained something
	askedNothing  = "nothing"  // an answer, of which nothing was kept
	askedInvalid  = "invalid"  // an answer that is not of the schema
	askedFailed   = "failed"   // no answer
	askedRefused  = "refused"  // the model would not answer
	askedBudget   = "budget"   // the day's tokens are used up
	askedOpen     = "open"     // the endpoint is down; not asked
	askedRecorded = "recorded" // answered from the record
	askedMissing  = "missing"  // not in the record, in a replay
)

var askedOutcomes = []string{askedAdopted, askedNothing, askedInvalid, askedFailed, askedRefused, askedBudget, askedOpen, askedRecorded, askedMissing}

// record keeps answers, by incident and hash of the prompt.
type record interface {
	// Find returns the recorded answer to a prompt; false when there is none.
	Find(ctx context.Context, incident, hash string) (event.Evidence, bool, error)
	// Keep records an answer.
	Keep(ctx context.Context, e event.Evidence) error
	// Spent is how many tokens the answers recorded since a time have cost.
	Spent(ctx context.Context, since time.Time) (int, error)
}

// advisor asks a model about reports that stand already.
type advisor struct {
	cfg    ModelConfig
	model  Model // nil in a replay, which reads the record
	record record
	redact func(string) string
	now    func() time.Time

	claims *prometheus.CounterVec
	asked  *prometheus.CounterVec
	tokens prometheus.Counter
	opened prometheus.Gauge

	mu       sync.Mutex
	day      string // UTC day that spent is about
	spent    int
	failures int
	closedAt time.Time // when a broken endpoint may be tried again
}

func newAdvisor(cfg ModelConfig, m Model, rec record, redact func(string) string, now func() time.Time) *advisor {
	a := &advisor{
		cfg: cfg, model: m, record: rec, redact: redact, now: now,
		claims: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_reasoner_claims_total", Help: "Claims of a model, by what became of them."}, []string{"outcome"}),
		asked:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_reasoner_model_requests_total", Help: "Reports that a model was to be asked about, by outcome."}, []string{"outcome"}),
		tokens: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_reasoner_model_tokens_total", Help: "Tokens of questions to a model and of its answers."}),
		opened: prometheus.NewGauge(prometheus.GaugeOpts{Name: "oncall_reasoner_model_open", Help: "1 while the model's endpoint is taken to be down and is not asked."}),
	}
	for _, o := range claimOutcomes() {
		a.claims.WithLabelValues(o)
	}
	for _, o := range askedOutcomes {
		a.asked.WithLabelValues(o)
	}
	return a
}

// collectors are what an advisor counts.
func (a *advisor) collectors() []prometheus.Collector {
	return []prometheus.Collector{a.claims, a.asked, a.tokens, a.opened}
}

// wants says whether a report is one to ask about: the rules' own, of an
// incident that is urgent enough. A replay takes whatever was recorded.
func (a *advisor) wants(r event.Report) bool {
	if r.Model != nil || r.Revision%modelRevisions != 1 || r.Entity.Kind == "Source" {
		return false
	}
	return a.cfg.Recorded || !a.cfg.Least.Worse(r.Priority)
}

// advise asks about a report of the rules and returns the revision that the
// answer makes of it; false when it adds nothing. Whatever fails, the rules'
// report stands: the error is one of our own record, to be tried again.
func (a *advisor) advise(ctx context.Context, r event.Report) (event.Report, bool, error) {
	p, err := newPrompt(r, a.cfg.MaxTokens, a.redact)
	if err != nil {
		return r, false, err
	}
	e, ok, err := a.record.Find(ctx, r.Incident, p.Hash)
	if err != nil {
		return r, false, fmt.Errorf("recorded answers of %s: %w", r.Incident, err)
	}
	switch {
	case ok:
		a.asked.WithLabelValues(askedRecorded).Inc()
	case a.model == nil:
		a.asked.WithLabelValues(askedMissing).Inc()
		return r, false, nil
	default:
		c, outcome, err := a.ask(ctx, p)
		if ctx.Err() != nil {
			return r, false, ctx.Err()
		}
		if outcome != "" {
			a.asked.WithLabelValues(outcome).Inc()
			return r, false, noted{err}
		}
		e = answered(r, p, a.model.Name(), a.redact(c.Text), c.Tokens)
		if err := a.record.Keep(ctx, e); err != nil {
			return r, false, fmt.Errorf("record the answer about %s: %w", r.Incident, err)
		}
	}
	text, _ := e.Values["answer"].(string)
	name, _ := e.Values["model"].(string)
	tokens, _ := e.Values["tokens"].(float64)
	parsed, err := parseAnswer(text)
	if err != nil {
		a.asked.WithLabelValues(askedInvalid).Inc()
		return r, false, noted{err}
	}
	r.Model = &event.ModelUse{Name: name, Tokens: int(tokens)}
	out, gained := adopt(r, parsed, func(o string) { a.claims.WithLabelValues(o).Inc() })
	if !gained {
		a.asked.WithLabelValues(askedNothing).Inc()
		return r, false, nil
	}
	a.asked.WithLabelValues(askedAdopted).Inc()
	out.Revision++ // the model's own, of the same revision of the incident
	out.Reason = "model"
	return out, true, nil
}

// noted is why a model added nothing; it is logged, and nothing is tried again.
type noted struct{ error }

func (n noted) Unwrap() error { return n.error }

// answered is a model's answer as evidence.
func answered(r event.Report, p Prompt, name, text string, tokens int) event.Evidence {
	text = strings.ToValidUTF8(text, "")
	if len(text) > maxAnswer {
		text = text[:maxAnswer]
	}
	return evidence.New(evidence.Query{Source: SourceModel, Expr: chat(p.Hash), End: r.Time, Incident: r.Incident, Entity: r.Entity}, nil,
		map[string]any{"answer": text, "model": name, "tokens": float64(tokens)})
}

// chat is what a recorded answer is found by.
func chat(hash string) string { return "chat " + hash }

// The circuit breaker: after so many failures in a row the endpoint is left
// alone, longer each time.
const (
	breakAfter = 3
	breakFirst = time.Minute
	breakMost  = 15 * time.Minute
)

// ask asks the model, within the day's budget and while its endpoint works. The
// outcome says why there is no answer; "" when there is one.
func (a *advisor) ask(ctx context.Context, p Prompt) (c Completion, outcome string, err error) {
	if outcome, err := a.admit(ctx, estimate(p.System+p.User)+p.MaxTokens); outcome != "" {
		return c, outcome, err
	}
	askCtx, cancel := context.WithTimeoutCause(ctx, a.cfg.Timeout, fmt.Errorf("no answer in %s", a.cfg.Timeout))
	defer cancel()
	c, err = a.model.Complete(askCtx, p)
	if err != nil && ctx.Err() == nil && askCtx.Err() != nil {
		err = context.Cause(askCtx)
	}
	a.settle(estimate(p.System+p.User)+p.MaxTokens, c.Tokens, err)
	switch {
	case errors.Is(err, errRefused):
		return c, askedRefused, err
	case err != nil:
		return c, askedFailed, fmt.Errorf("%s", a.redact(err.Error()))
	}
	return c, "", nil
}

// admit reserves tokens; what a day has left is read from the record, so that a
// restart does not renew it.
func (a *advisor) admit(ctx context.Context, tokens int) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now().UTC()
	if now.Before(a.closedAt) {
		return askedOpen, fmt.Errorf("the endpoint failed %d times in a row; asked again from %s", a.failures, a.closedAt.Format("15:04:05"))
	}
	if day := now.Format(time.DateOnly); day != a.day {
		spent, err := a.record.Spent(ctx, now.Truncate(24*time.Hour))
		if err != nil {
			return askedFailed, fmt.Errorf("tokens spent today: %w", err)
		}
		a.day, a.spent = day, spent
	}
	if a.spent+tokens > a.cfg.DailyTokens {
		return askedBudget, fmt.Errorf("%d of %d tokens of the day are used, and the question may take %d", a.spent, a.cfg.DailyTokens, tokens)
	}
	a.spent += tokens
	return "", nil
}

// settle corrects what was reserved, and counts failures in a row.
func (a *advisor) settle(reserved, used int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spent += used - reserved
	a.tokens.Add(float64(used))
	if err == nil || errors.Is(err, errRefused) {
		a.failures, a.closedAt = 0, time.Time{}
		a.opened.Set(0)
		return
	}
	if errors.Is(err, context.Canceled) {
		return // we are stopping
	}
	if a.failures++; a.failures >= breakAfter {
		wait := breakFirst << min(a.failures-breakAfter, 8)
		a.closedAt = a.now().UTC().Add(min(wait, breakMost))
		a.opened.Set(1)
	}
}

// sameAnswer says whether evidence is the recorded answer to a prompt.
func sameAnswer(e event.Evidence, hash string) bool {
	return e.Source == SourceModel && e.Query == chat(hash)
}

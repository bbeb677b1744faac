package reasoner

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// With is a Reasoner with the same rules and runbooks, which take a while to
// compile and to index.
func (r *Reasoner) With(cfg Config, ask evidence.Retriever) *Reasoner {
	w := &Reasoner{cfg: cfg, ask: ask}
	w.force.Store(r.force.Load())
	return w
}

// Advisor is an advisor with a record in memory.
type Advisor struct {
	*advisor
	*memory
}

// NewAdvisor makes one; a nil model reads the record alone.
func NewAdvisor(cfg ModelConfig, m Model, kept []event.Evidence, now func() time.Time) *Advisor {
	mem := &memory{kept: kept}
	return &Advisor{newAdvisor(cfg, m, mem, redact.New(redact.Options{}).Line, now), mem}
}

// Advise asks about a report.
func (a *Advisor) Advise(ctx context.Context, r event.Report) (event.Report, bool, error) {
	return a.advise(ctx, r)
}

// Wants says whether a report is one to ask about.
func (a *Advisor) Wants(r event.Report) bool { return a.wants(r) }

// Kept are the recorded answers.
func (a *Advisor) Kept() []event.Evidence { return a.kept }

// Claims and Asked are the counters.
func (a *Advisor) Claims() map[string]float64 { return counted(a.claims) }

// Asked counts by outcome.
func (a *Advisor) Asked() map[string]float64 { return counted(a.asked) }

// NewPrompt is the question about a report.
func NewPrompt(r event.Report) (Prompt, error) {
	return newPrompt(r, 1000, redact.New(redact.Options{}).Line)
}

// Template is what a model sees of a line.
func Template(line string) string { return template(line, nil) }

// ParseAnswer and Adopt are what becomes of an answer.
func ParseAnswer(text string) error {
	_, err := parseAnswer(text)
	return err
}

// Adopt applies an answer to a report.
func Adopt(r event.Report, text string) (event.Report, bool, error) {
	a, err := parseAnswer(text)
	if err != nil {
		return r, false, err
	}
	out, gained := adopt(r, a, func(string) {})
	return out, gained, nil
}

// memory is a record that lasts as long as its process.
type memory struct {
	mu   sync.Mutex
	kept []event.Evidence
}

var _ record = (*memory)(nil)

func (m *memory) Find(_ context.Context, incident, hash string) (event.Evidence, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.kept, func(e event.Evidence) bool { return e.Incident == incident && sameAnswer(e, hash) })
	if i < 0 {
		return event.Evidence{}, false, nil
	}
	return m.kept[i], true, nil
}

func (m *memory) Keep(_ context.Context, e event.Evidence) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = append(m.kept, e)
	return nil
}

func (m *memory) Spent(context.Context, time.Time) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := 0.0
	for _, e := range m.kept {
		n, _ := e.Values["tokens"].(float64)
		total += n
	}
	return int(total), nil
}

func counted(v *prometheus.CounterVec) map[string]float64 {
	ch := make(chan prometheus.Metric, 100)
	v.Collect(ch)
	close(ch)
	out := map[string]float64{}
	for m := range ch {
		var d dto.Metric
		if err := m.Write(&d); err == nil && d.GetCounter().GetValue() > 0 {
			out[d.GetLabel()[0].GetValue()] = d.GetCounter().GetValue()
		}
	}
	return out
}

// Package reasoner turns an incident into a report: it gathers evidence,
// applies the rules, finds runbooks, and drafts what the on-call engineer
// reads. Every claim of a report cites evidence that is in it.
package reasoner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/runbook"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Spec is the service.
var Spec = service.Define("reasoner", DefaultConfig, New)

// Reasoner drafts reports. Its methods are safe for concurrent use.
type Reasoner struct {
	cfg   Config
	ask   evidence.Retriever
	force atomic.Pointer[policies] // in force
}

// policies are what a report is judged by.
type policies struct {
	hash  string
	rules *rule.Engine
	books *runbook.Shelf
	asked queries
}

// load reads rules and runbooks; all that is wrong with them is the error.
func load(s *policy.Store) (*policies, error) {
	p := &policies{hash: s.Hash()}
	var rulesErr, booksErr, askedErr error
	p.rules, rulesErr = rule.Load(s)
	p.books, booksErr = runbook.Load(s)
	p.asked, askedErr = loadQueries(s)
	if err := errors.Join(rulesErr, booksErr, askedErr); err != nil {
		return nil, err
	}
	return p, nil
}

// NewReasoner makes a Reasoner that asks the given retriever, and judges by the
// rules and runbooks of the store.
func NewReasoner(cfg Config, ask evidence.Retriever, s *policy.Store) (*Reasoner, error) {
	p, err := load(s)
	if err != nil {
		return nil, err
	}
	r := &Reasoner{cfg: cfg, ask: ask}
	r.force.Store(p)
	return r, nil
}

// Reload takes over the rules and runbooks of the store when they have changed,
// and says whether. When they are wrong, those before stay in force.
func (r *Reasoner) Reload(s *policy.Store) (bool, error) {
	if s.Hash() == r.force.Load().hash {
		return false, nil
	}
	p, err := load(s)
	if err != nil {
		return false, err
	}
	r.force.Store(p)
	return true, nil
}

// New makes the service.
func New(cfg Config, env service.Env) (service.Runner, error) {
	r, err := NewReasoner(cfg, evidence.NewRemote(env.Bus, cfg.LookupTimeout), env.Policies)
	if err != nil {
		return nil, err
	}
	s := &server{
		reasoner: r, env: env,
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_reasoner_reports_total", Help: "Reports drafted, by state of the incident."}, []string{"state"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "oncall_reasoner_draft_duration_seconds", Help: "Time to gather evidence and draft a report.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12)}),
		loaded:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "oncall_reasoner_policies_loaded", Help: "1 when the rules and runbooks in force are those on disk, 0 when those on disk are wrong."}),
	}
	env.Metrics.MustRegister(s.reports, s.seconds, s.loaded)
	if cfg.Model.On() {
		var m Model
		if !cfg.Model.Recorded {
			m = NewOpenAI(cfg.Model)
		}
		// What is in a report was redacted by the collector; this is a second look,
		// without pseudonyms, so that the same report gives the same question.
		mask, err := redact.Unkeyed(env.Policies)
		if err != nil {
			return nil, err
		}
		s.advisor = newAdvisor(cfg.Model, m, busRecord{env.Bus}, mask.Line, env.Bus.Now)
		env.Metrics.MustRegister(s.advisor.collectors()...)
	}
	s.loaded.Set(1)
	for _, st := range []event.IncidentState{event.Open, event.Resolved} {
		s.reports.WithLabelValues(string(st))
	}
	return s, nil
}

type server struct {
	reasoner *Reasoner
	env      service.Env
	reports  *prometheus.CounterVec
	seconds  prometheus.Histogram
	loaded   prometheus.Gauge
	wrong    string // hash of the policies that were refused last
	reload   sync.Mutex
	advisor  *advisor // nil when no model is configured
}

// follow takes over policies that have changed. It is asked before each draft,
// so that nothing has to run beside the work.
func (s *server) follow() {
	s.reload.Lock()
	defer s.reload.Unlock()
	hash := s.env.Policies.Hash()
	if hash == s.wrong {
		return // said before
	}
	changed, err := s.reasoner.Reload(s.env.Policies)
	switch {
	case err != nil:
		s.wrong = hash
		s.loaded.Set(0)
		s.env.Log.Warn("rules or runbooks are wrong; those before stay in force", "policies", hash, "err", err)
	case changed:
		s.wrong = ""
		s.loaded.Set(1)
		s.env.Log.Info("rules and runbooks taken over", "policies", hash)
	case s.wrong != "":
		s.wrong = ""
		s.loaded.Set(1)
	}
}

// Run drafts a report for every revision of every incident until ctx is done.
// A revision that has been overtaken is left out, unless it opened or resolved
// the incident: nobody needs the report of a minute ago. A model is asked about
// reports that are published already, so that none waits for it.
func (s *server) Run(ctx context.Context) error {
	kv, err := s.env.Bus.KV(ctx, bus.BucketIncident)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		c := bus.ConsumerConfig{Durable: "reasoner", Workers: 4}
		return s.env.Bus.ConsumeAny(ctx, event.Incidents, event.Incidents.Subjects, c, func(ctx context.Context, m bus.Message) error {
			inc, ok := m.Data.(event.Incident)
			if !ok {
				return nil
			}
			if m.Type == event.IncidentUpdated.Type && !s.reasoner.cfg.EveryRevision && overtaken(ctx, kv, inc.ID, inc.Revision) {
				return nil
			}
			return s.draft(ctx, inc)
		})
	})
	if s.advisor != nil {
		g.Go(func() error {
			c := bus.ConsumerConfig{Durable: ModelConsumer, Workers: 2}
			return bus.Consume(ctx, s.env.Bus, event.ReportDrafted, c, func(ctx context.Context, e event.Event[event.Report]) error {
				return s.advise(ctx, kv, e.Data)
			})
		})
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// ModelConsumer is the durable by which reports are read that a model is asked
// about; it is there when one is configured.
const ModelConsumer = "reasoner-model"

func (s *server) draft(ctx context.Context, inc event.Incident) error {
	s.follow()
	started := s.env.Bus.Now()
	r, err := s.reasoner.Draft(ctx, inc)
	if err != nil {
		return fmt.Errorf("draft report of %s revision %d: %w", inc.ID, inc.Revision, err)
	}
	s.seconds.Observe(s.env.Bus.Now().Sub(started).Seconds())
	s.reports.WithLabelValues(string(r.State)).Inc()
	return bus.Publish(ctx, s.env.Bus, event.ReportDrafted, r)
}

// advise publishes what a model adds to a report of the rules.
func (s *server) advise(ctx context.Context, kv bus.KV, r event.Report) error {
	if !s.advisor.wants(r) || !s.advisor.cfg.Recorded && overtaken(ctx, kv, r.Incident, r.IncidentRevision) {
		return nil
	}
	out, gained, err := s.advisor.advise(ctx, r)
	var why noted
	switch {
	case errors.As(err, &why):
		s.env.Log.Warn("the model adds nothing; the report by rules stands", "incident", r.Incident, "err", why.error)
		return nil
	case err != nil || !gained:
		return err
	}
	return bus.Publish(ctx, s.env.Bus, event.ReportDrafted, out)
}

// overtaken says whether a later revision of the incident is known.
func overtaken(ctx context.Context, kv bus.KV, incident string, revision int) bool {
	raw, _, err := kv.Get(ctx, incident)
	if err != nil {
		return false
	}
	var now event.Incident
	return json.Unmarshal(raw, &now) == nil && now.Revision > revision
}

// modelRevisions is how many revisions a report may have for one revision of
// its incident: the rules' first, then what a model adds. The report's revision
// follows from the incident's, so that drafting again gives the same id.
const modelRevisions = 2

// Draft writes the report of one revision of an incident, by rules alone. The
// same incident and the same answers give the same report.
func (r *Reasoner) Draft(ctx context.Context, inc event.Incident) (event.Report, error) {
	in := r.force.Load()
	inc = in.asked.written(inc)
	d := &draft{r: r, in: in, inc: inc, report: event.Report{
		Incident: inc.ID, Revision: (inc.Revision-1)*modelRevisions + 1, IncidentRevision: inc.Revision, State: inc.State, Priority: inc.Priority,
		Cluster: inc.Cluster, Entity: inc.Entity, Owner: inc.Owner, Onset: inc.Onset, Time: inc.Updated, ResolvedAt: inc.ResolvedAt,
		Symptom: inc.Symptom, Score: inc.Score, Held: inc.Held, Reason: inc.Reason, Timeline: inc.Timeline, PolicyHash: inc.PolicyHash,
		Findings: []event.Finding{}, Causes: []event.Cause{}, Checks: []event.Check{}, Evidence: []event.Evidence{},
	}}
	gathered, cancel := context.WithTimeout(ctx, r.cfg.Deadline)
	defer cancel()
	answers := d.gather(gathered)
	if ctx.Err() != nil {
		return event.Report{}, ctx.Err()
	}
	if err := d.judge(ctx, answers); err != nil {
		return event.Report{}, err
	}
	if err := d.write(); err != nil {
		return event.Report{}, err
	}
	return d.report, nil
}

// Package reasoner turns an incident into a report: it gathers evidence,
// applies the rules, finds runbooks, and drafts what the on-call engineer
// reads. Every claim of a report cites evidence that is in it.
package reasoner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
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
	rules *rule.Engine
	books *runbook.Shelf
}

// NewReasoner makes a Reasoner that asks the given retriever.
func NewReasoner(cfg Config, ask evidence.Retriever, rules *rule.Engine, books *runbook.Shelf) *Reasoner {
	return &Reasoner{cfg: cfg, ask: ask, rules: rules, books: books}
}

// New makes the service.
func New(cfg Config, env service.Env) (service.Runner, error) {
	rules, err := rule.Load(env.Policies)
	if err != nil {
		return nil, err
	}
	books, err := runbook.Load(env.Policies)
	if err != nil {
		return nil, err
	}
	var ask evidence.Retriever = evidence.NewRemote(env.Bus, cfg.LookupTimeout)
	s := &server{
		reasoner: NewReasoner(cfg, ask, rules, books), env: env,
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "oncall_reasoner_reports_total", Help: "Reports drafted, by state of the incident."}, []string{"state"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "oncall_reasoner_draft_duration_seconds", Help: "Time to gather evidence and draft a report.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12)}),
	}
	env.Metrics.MustRegister(s.reports, s.seconds)
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
}

// Run drafts a report for every revision of every incident until ctx is done.
// A revision that has been overtaken is left out, unless it opened or resolved
// the incident: nobody needs the report of a minute ago.
func (s *server) Run(ctx context.Context) error {
	kv, err := s.env.Bus.KV(ctx, bus.BucketIncident)
	if err != nil {
		return err
	}
	c := bus.ConsumerConfig{Durable: "reasoner", Workers: 4}
	err = s.env.Bus.ConsumeAny(ctx, event.Incidents, event.Incidents.Subjects, c, func(ctx context.Context, m bus.Message) error {
		inc, ok := m.Data.(event.Incident)
		if !ok {
			return nil
		}
		if m.Type == event.IncidentUpdated.Type && !s.reasoner.cfg.EveryRevision && overtaken(ctx, kv, inc) {
			return nil
		}
		started := s.env.Bus.Now()
		r, err := s.reasoner.Draft(ctx, inc)
		if err != nil {
			return fmt.Errorf("draft report of %s revision %d: %w", inc.ID, inc.Revision, err)
		}
		s.seconds.Observe(s.env.Bus.Now().Sub(started).Seconds())
		s.reports.WithLabelValues(string(r.State)).Inc()
		return bus.Publish(ctx, s.env.Bus, event.ReportDrafted, r)
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// overtaken says whether a later revision of the incident is known.
func overtaken(ctx context.Context, kv bus.KV, inc event.Incident) bool {
	raw, _, err := kv.Get(ctx, inc.ID)
	if err != nil {
		return false
	}
	var now event.Incident
	return json.Unmarshal(raw, &now) == nil && now.Revision > inc.Revision
}

// modelRevisions is how many revisions a report may have for one revision of
// its incident: the rules' first, then what a model adds. The report's revision
// follows from the incident's, so that drafting again gives the same id.
const modelRevisions = 2

// Draft writes the report of one revision of an incident, by rules alone. The
// same incident and the same answers give the same report.
func (r *Reasoner) Draft(ctx context.Context, inc event.Incident) (event.Report, error) {
	d := &draft{r: r, inc: inc, report: event.Report{
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
	d.write()
	return d.report, nil
}

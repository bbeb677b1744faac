package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/triage"
)

// The verdicts on an incident that is looked at again.
const (
	goesOn  = "goes on"
	isOver  = "is over"
	unknown = "cannot be told"
)

// again is an incident looked at again.
type again struct {
	Incident  string              `json:"incident"`
	Recorded  event.IncidentState `json:"recorded_state"`
	Reported  time.Time           `json:"reported,omitzero"` // of the last report
	Verdict   string              `json:"verdict"`           // goes on, is over, cannot be told
	Why       []string            `json:"why"`
	New       []string            `json:"new"`  // findings that the last report has not
	Gone      []string            `json:"gone"` // findings of the last report that hold no more
	Changes   []event.Change      `json:"changes_since"`
	Report    event.Report        `json:"report"` // drafted now, with fresh evidence
	NotLooked []check.Unchecked   `json:"not_looked_at"`
	Seconds   float64             `json:"seconds"`
}

// againIncident drafts the report of a recorded incident again, with what the
// sources say now.
func againIncident(ctx context.Context, o *options, f *agentFlags, notes io.Writer) error {
	began := time.Now()
	inc, last, err := f.recorded(ctx, o)
	if err != nil {
		return err
	}
	cfg, err := o.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("not everything was read in %s", f.timeout))
	defer cancel()
	p := &pass{o: o}
	stop, err := p.sources(ctx, &f.upFlags, cfg, notes)
	defer stop()
	if err != nil {
		return err
	}
	l, err := p.lookupsOf(cfg)
	if err != nil {
		return err
	}
	draft, err := l.drafter()
	if err != nil {
		return err
	}
	x := again{Incident: inc.ID, Recorded: inc.State, Why: []string{}, New: []string{}, Gone: []string{}, Changes: []event.Change{}, NotLooked: append(p.dead[:len(p.dead):len(p.dead)], p.absent...)}
	now := inc
	now.Updated, now.Revision = began.UTC().Truncate(time.Second), inc.Revision+1
	if x.Report, err = draft.Draft(ctx, now); err != nil {
		return err
	}
	if last != nil {
		x.Reported = last.Time
		x.New, x.Gone = compare(*last, x.Report)
	}
	var health *check.Result
	if l.kube != nil {
		if health, err = l.examine(ctx, inc.Entity.Namespace); err != nil {
			x.NotLooked = append(x.NotLooked, check.NotRead("the cluster's objects", err))
		}
	}
	x.judge(ctx, l, inc, health)
	x.changes(ctx, o, l, inc)
	x.Seconds = time.Since(began).Seconds()
	if err := x.print(o); err != nil {
		return err
	}
	if len(p.dead) > 0 {
		return hint(fmt.Errorf("not everything could be looked at: %s: %s", p.dead[0].What, p.dead[0].Why), service.ExitUnreachable, "oncall doctor says what to do about it")
	}
	return nil
}

// recorded reads the incident, and its last report if it has one, from a bundle
// or from the bus.
func (f *agentFlags) recorded(ctx context.Context, o *options) (event.Incident, *event.Report, error) {
	if f.bundle == "" {
		h, err := o.open(ctx)
		if err != nil {
			return event.Incident{}, nil, err
		}
		defer func() { _ = h.Close() }()
		inc, err := find(ctx, h, f.incident)
		if err != nil {
			return inc, nil, err
		}
		last, err := latestReport(ctx, h.Bus, inc.ID)
		return inc, last, err
	}
	b, err := bundle.Open(f.bundle)
	if err != nil {
		return event.Incident{}, nil, &service.UsageError{Err: err}
	}
	var hits []event.Incident
	var ids []string
	for r, err := range b.Records(event.Incidents.Name) {
		if err != nil {
			return event.Incident{}, nil, &service.UsageError{Err: err}
		}
		var i event.Incident
		if json.Unmarshal(r.Payload, &i) != nil || i.ID == "" {
			continue
		}
		if id := event.ShortID(i.ID); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		if !strings.HasPrefix(i.ID, strings.ToLower(f.incident)) {
			continue
		}
		at := slices.IndexFunc(hits, func(o event.Incident) bool { return o.ID == i.ID })
		switch {
		case at < 0:
			hits = append(hits, i)
		case i.Revision >= hits[at].Revision:
			hits[at] = i
		}
	}
	if len(hits) != 1 {
		return event.Incident{}, nil, hint(&service.UsageError{Err: fmt.Errorf("--incident %s: %d incidents of %s begin with it", f.incident, len(hits), f.bundle)}, service.ExitUsage, "it holds: %s", orDash(strings.Join(ids, " ")))
	}
	var last *event.Report
	for r, err := range b.Records(event.Reports.Name) {
		var rep event.Report
		if err != nil {
			return event.Incident{}, nil, &service.UsageError{Err: err}
		}
		if json.Unmarshal(r.Payload, &rep) == nil && rep.Incident == hits[0].ID && (last == nil || rep.Revision >= last.Revision) {
			last = &rep
		}
	}
	return hits[0], last, nil
}

// compare says which findings are new and which are gone.
func compare(old, now event.Report) (fresh, gone []string) {
	has := func(r event.Report, f event.Finding) bool {
		return slices.ContainsFunc(r.Findings, func(o event.Finding) bool { return o.ID == f.ID })
	}
	fresh, gone = []string{}, []string{}
	for _, f := range now.Findings {
		if !has(old, f) {
			fresh = append(fresh, f.Title)
		}
	}
	for _, f := range old.Findings {
		if !has(now, f) && !f.Model {
			gone = append(gone, f.Title)
		}
	}
	return fresh, gone
}

// maxMeasured bounds how many symptoms are measured again.
const maxMeasured = 6

// judge says whether the incident goes on: by what its symptoms measure now, and
// by how what it hit is.
func (x *again) judge(ctx context.Context, l *lookups, inc event.Incident, health *check.Result) {
	usual, abnormal, well := 0, 0, false
	say := func(format string, args ...any) { x.Why = append(x.Why, fmt.Sprintf(format, args...)) }
	measured := 0
	for _, a := range inc.Anomalies {
		if a.Class != event.ClassSymptom && a.Class != event.ClassSaturation || a.Ended != nil || measured == maxMeasured {
			continue
		}
		measured++
		value, ok := x.now(ctx, l, a)
		if !ok || a.Expected == nil {
			continue
		}
		text := fmt.Sprintf("%s of %s is %.4g %s now, was %.4g", a.Signal, check.Name(a.Entity), value, a.Unit, a.Observed)
		if low, high := a.Expected.Low, a.Expected.High; value >= low && (value <= high || high == 0 && value == 0) {
			usual++
			say("%s: as usual (%.4g to %.4g)", text, low, high)
		} else {
			abnormal++
			say("%s: usual is %.4g to %.4g", text, low, high)
		}
	}
	if health != nil {
		sick := false
		for _, r := range health.Roots {
			e := r.Entity
			hit := e.Namespace == inc.Entity.Namespace && e.Name == inc.Entity.Name || slices.ContainsFunc(inc.Related, func(o event.Entity) bool { o.Cluster = ""; return o == e })
			if r.Urgency == event.Broken && hit {
				sick = true
				say("%s is %s", check.Name(e), r.Line(x.Report.Time))
			}
		}
		if sick {
			abnormal++
		} else {
			well = true
			say("the objects of %s show nothing broken", check.Name(inc.Entity))
		}
	}
	open := 0
	for _, a := range inc.Anomalies {
		if a.Ended == nil {
			open++
		}
	}
	switch {
	case abnormal > 0:
		x.Verdict = goesOn
	case usual == measured && (usual > 0 || well), inc.State == event.Resolved && usual+btoi(well) > 0:
		x.Verdict = isOver
	default:
		x.Verdict = unknown
		if n := measured - usual; n > 0 {
			say("%s of it could not be measured again", counted(n, "symptom"))
		}
	}
	if inc.State == event.Resolved && inc.ResolvedAt != nil {
		say("the pipeline closed it at %s", inc.ResolvedAt.UTC().Format(time.RFC3339))
	} else {
		say("the pipeline had %d anomalies of it open at %s", open, inc.Updated.UTC().Format(time.RFC3339))
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// changes are those of the workload since the last report.
func (x *again) changes(ctx context.Context, o *options, l *lookups, inc event.Incident) {
	if l.kube == nil || !slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet", "Rollout"}, inc.Entity.Kind) {
		return
	}
	s, err := o.triageSources(nil)
	if err != nil {
		return // the policies were read already
	}
	s.Kube, s.Ask, s.Context = l.kube, evidence.NewKubernetes(l.kube, l.mask), l.context()
	e := inc.Entity
	e.Cluster = ""
	r, err := triage.Run(ctx, s, e, nil, triage.Options{Lines: 1, Since: time.Hour, Now: x.Report.Time})
	if err != nil {
		x.NotLooked = append(x.NotLooked, check.Unchecked{What: "changes of " + check.Name(e), Why: kube.Reason(err)})
		return
	}
	for _, c := range r.Changes {
		if since := cmp.Or(x.Reported, inc.Updated); c.Time.After(since) {
			x.Changes = append(x.Changes, c.Change)
		}
	}
}

// now is what an anomaly's query gives now: the value that is farthest from what
// is usual.
func (x *again) now(ctx context.Context, l *lookups, a event.Anomaly) (float64, bool) {
	i := slices.IndexFunc(x.Report.Evidence, func(e event.Evidence) bool {
		return e.Source == evidence.Prometheus && e.Entity == a.Entity && e.Values["detector"] == a.Detector
	})
	if i < 0 {
		return 0, false
	}
	e, err := l.mux.Retrieve(ctx, evidence.Query{Source: evidence.Prometheus, Expr: x.Report.Evidence[i].Query, End: x.Report.Time, Entity: a.Entity})
	if err != nil || e.Failed != "" {
		why := e.Failed
		if err != nil {
			why = firstLine(err)
		}
		x.NotLooked = append(x.NotLooked, check.Unchecked{What: a.Signal + " of " + check.Name(a.Entity), Why: why})
		return 0, false
	}
	v, ok := e.Values["value"].(float64)
	return v, ok
}

func (x *again) print(o *options) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), x)
	}
	p := &page{now: x.Report.Time, o: o.terminal(), md: o.format() == render.MD}
	p.text(fmt.Sprintf("Incident %s %s, looked at again at %s (%.1f s).", event.ShortID(x.Incident), x.Verdict, x.Report.Time.UTC().Format("15:04:05"), x.Seconds))
	for _, w := range x.Why {
		p.item(w, nil)
	}
	if !x.Reported.IsZero() {
		p.head("Since the report of "+x.Reported.UTC().Format("01-02 15:04"), "")
		for _, t := range x.New {
			p.item("new: "+t, nil)
		}
		for _, t := range x.Gone {
			p.item("holds no more: "+t, nil)
		}
		for _, c := range x.Changes {
			p.item(fmt.Sprintf("changed: %s %s %s: %s", c.Time.UTC().Format("15:04:05"), c.Kind, check.Name(c.Entity), c.Summary), nil)
		}
		if len(x.New)+len(x.Gone) == 0 {
			p.item("the findings are the same", nil)
		}
	}
	for _, u := range x.NotLooked {
		p.text("not looked at: " + u.What + ": " + u.Why)
	}
	p.b.WriteString("\n")
	if _, err := io.WriteString(o.out, p.b.String()); err != nil {
		return err
	}
	return render.Report(o.out, o.format(), x.Report, o.terminal())
}

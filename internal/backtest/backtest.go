// Package backtest answers what would have paged: it reads a user's own history
// from Prometheus and Loki with the collector's queries, puts it through the folds
// of the detectors and the correlator that the services run, and lays what would
// have paged beside the alerts that did.
package backtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectors"
)

// Options say what is read, and by which rules it is judged.
type Options struct {
	Prometheus prometheus.Config
	Loki       *loki.Config // nil: no logs
	Detector   detector.Config
	Correlator correlator.Config
	Alerts     detectors.AlertConfig // which severities page
	Policies   *policy.Store
	Cluster    string
	Namespace  string // that the sources' matchers choose; "" for all
	// RedactionKey is a file with the key of pseudonyms; "" for one of its own.
	RedactionKey string
	Audit        func(event.Audit)
	Log          *slog.Logger
	Now          time.Time // by this machine's clock
	Since        time.Duration
	Learn        time.Duration // before that, which is learnt from only
	// Dir is where it is kept how far the run is, so that the next goes on there.
	Dir string
	// Patience is how long a source that does not answer is waited for.
	Patience time.Duration
	// Slice is how much is read before it is kept how far the run is; 0 means 12h.
	Slice time.Duration
	// Progress is told of event time that was read; nil for nobody.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	From, At, Until time.Time
	Resumed         bool // it goes on from another's state
}

// slice is how much is read at a time, as a rule. Every slice is read as if it
// were the first, so that a run that goes on from one reads the same as one that
// was never stopped.
const slice = 12 * time.Hour

// aligned is what slices begin at multiples of.
const aligned = time.Minute

// run is one backtest at work.
type run struct {
	o        *Options
	hash     string
	plan     plan
	done     time.Time // everything up to here is folded
	h        *harvest
	folds    *folds
	names    *entities.Map
	env      collector.Env
	source   *prometheus.Source // for what is asked beside the steps
	requests atomic.Int64
	began    time.Time
}

// Backtest is a run that has ended.
type Backtest struct {
	Result Result
	run    *run
}

// Run reads the history and judges it. When ctx is done, or a source does not
// answer, the state in Dir is what the next run goes on from.
func Run(ctx context.Context, o Options) (*Backtest, error) {
	o.Prometheus.Fill()
	// The past changes no more: what is there is looked for once in a while.
	o.Prometheus.Reprobe = 2 * time.Hour
	if o.Loki != nil {
		l := *o.Loki
		l.Fill()
		l.Window, l.KubernetesEvents.Alone = max(l.Window, time.Minute), true
		o.Loki = &l
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	mask, err := o.redactor()
	if err != nil {
		return nil, err
	}
	r := &run{o: &o, h: newHarvest(), hash: identity(&o), began: time.Now()}
	r.env = collector.Env{
		Log: o.Log, Policies: o.Policies, Now: time.Now, Redact: mask, Cluster: o.Cluster,
		Audit: func(a event.Audit) {
			r.requests.Add(1)
			if o.Audit != nil {
				o.Audit(a)
			}
		},
	}
	if r.names, err = entities.Load(o.Policies); err != nil {
		return nil, err
	}
	if r.folds, err = newFolds(&o); err != nil {
		return nil, err
	}
	if r.source, err = r.newSource(); err != nil {
		return nil, err
	}
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	x := &Backtest{run: r}
	if x.Result, err = r.result(); err != nil {
		return nil, err
	}
	r.forget()
	return x, nil
}

// newSource makes a Prometheus source that has seen nothing yet.
func (r *run) newSource() (*prometheus.Source, error) {
	env := r.env
	env.Metrics = prom.NewRegistry()
	return prometheus.New(r.o.Prometheus, env)
}

// identity names everything that a state depends on.
func identity(o *Options) string {
	parts := []string{
		o.Prometheus.URL, o.Prometheus.ExtraMatchers, o.Prometheus.Tenant, o.Prometheus.Step.String(), o.Prometheus.Window.String(), o.Cluster, o.Since.String(), o.Learn.String(), o.Slice.String(),
		o.Policies.Hash(), fmt.Sprint(o.Detector.Disabled, o.Detector.MaxSeries, o.Alerts),
	}
	for _, info := range detector.Builtin.All() {
		cfg, err := o.Detector.Section(info)
		parts = append(parts, fmt.Sprintf("%s %+v %v", info.Name, cfg, err))
	}
	if o.Loki != nil {
		parts = append(parts, o.Loki.URL, o.Loki.ExtraMatchers, o.Loki.Tenant, o.Loki.Selector, o.Loki.KubernetesEvents.Selector)
	}
	return event.SeriesHash(event.HashStrings(parts...))
}

func (r *run) read(ctx context.Context) error {
	resumed, err := r.load()
	if err != nil {
		return err
	}
	if !resumed {
		if r.plan, err = r.inspect(ctx); err != nil {
			return err
		}
		r.done, r.h.Read.From = r.plan.From, r.plan.From
	}
	said := func(at time.Time) {
		if r.o.Progress != nil {
			r.o.Progress(Progress{From: r.plan.From, At: at, Until: r.plan.Until, Resumed: resumed})
		}
	}
	said(r.done)
	for r.done.Before(r.plan.Until) {
		to := r.done.Add(cmp.Or(r.o.Slice, slice)).Truncate(aligned)
		if to.After(r.plan.Until) {
			to = r.plan.Until
		}
		before := r.requests.Load()
		if err := r.slice(ctx, r.done, to, said); err != nil {
			return err
		}
		r.done = to
		r.h.Read.Requests += r.requests.Load() - before
		r.h.Read.Series = len(r.folds.place)
		if err := r.save(); err != nil {
			return err
		}
		said(to)
	}
	return nil
}

// result makes what is told.
func (r *run) result() (Result, error) {
	b, err := budget(r.o.Policies)
	if err != nil {
		return Result{}, err
	}
	m := &matcher{h: r.h, since: r.plan.Since, until: r.plan.Until, pages: r.pages}
	x := Result{
		Cluster: r.o.Cluster, Namespace: r.o.Namespace, Asked: Span(r.o.Since), Since: r.plan.Since, Until: r.plan.Until,
		Step: r.o.Prometheus.Step.String(), Missing: r.plan.Missing, Read: r.h.Read,
	}
	if !r.plan.Alerts && len(r.h.Firings) == 0 {
		x.Missing = append([]Missing{noAlerts}, x.Missing...)
	}
	x.Incidents, x.Firings, x.Ours, x.Yours, x.Same = m.both(r.h.settle(r.plan.Until))
	x.Missing = append(x.Missing, r.unpaged(&x)...)
	x.Ours.Budget, x.Yours.Severities = b, r.o.Alerts.Page
	for _, g := range r.h.Gaps {
		x.Missing = append(x.Missing, Missing{What: "metrics", Why: fmt.Sprintf("there are none from %s to %s", g.From.UTC().Format("2006-01-02 15:04"), g.To.UTC().Format("2006-01-02 15:04 MST"))})
	}
	x.Missing = append(x.Missing, r.h.Notes...)
	x.Headline = x.headline()
	x.Seconds = time.Since(r.began).Seconds()
	return x, nil
}

// unpaged says that nothing of the user's pages, which is more likely a matter of
// what their severities are called.
func (r *run) unpaged(x *Result) []Missing {
	if x.Yours.Pages > 0 || x.Yours.Others == 0 {
		return nil
	}
	count := map[string]int{}
	for _, f := range r.h.Firings {
		count[cmp.Or(f.Severity, "none")]++
	}
	var seen []string
	for _, s := range slices.Sorted(maps.Keys(count)) {
		seen = append(seen, fmt.Sprintf("%s x%d", s, count[s]))
	}
	return []Missing{{
		What: "your pages", Why: fmt.Sprintf("of %d firings none has the severity %s; there are %s", x.Yours.Others, strings.Join(r.o.Alerts.Page, " or "), strings.Join(seen[:min(len(seen), 6)], ", ")),
		Fix: "detector.alert.page in the configuration",
	}}
}

// headline is the outcome in a sentence.
func (x *Result) headline() string {
	n := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	s := fmt.Sprintf("In %s: %s of ours, %d of yours.", Span(x.Until.Sub(x.Since)), n(x.Ours.Pages, "page"), x.Yours.Pages)
	if x.Same.Incidents > 0 {
		s += fmt.Sprintf(" Same trouble: %s of yours in %s of ours, %s.", n(x.Same.Firings, "page"), n(x.Same.Incidents, "incident"), Lead(*x.Same.LeadSeconds))
	}
	return s
}

// Lead is how much earlier ours was, in words.
func Lead(seconds float64) string {
	d := (time.Duration(seconds) * time.Second).Round(time.Minute)
	switch {
	case d > 0:
		return Span(d) + " earlier"
	case d < 0:
		return Span(-d) + " later"
	}
	return "at the same time"
}

// errStopped ends the reading of one source when another has failed.
var errStopped = errors.New("the reading was stopped")

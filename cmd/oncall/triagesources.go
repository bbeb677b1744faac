package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/internal/signals"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// outside are the sources beside the cluster: those that flags or the
// configuration file name, or that are found in the cluster.
type outside struct {
	o       *options
	cluster clusterFlags
	flags   sourceFlags
	kinds   []string // that are read
	search  bool     // the cluster, for what is neither named nor configured
	notes   io.Writer

	prometheus   *promql.Client
	loki         *upstream.Client
	history      *loghistory.Reader // of loki
	alertmanager *upstream.Client
	bus          bool
	families     []prometheus.Family
	missing      []check.Unchecked
	noted        int // of missing, when the sources were found
	finder       *finder
	err          error // of a flag
}

// searchTime bounds the search for sources in the cluster: triage goes on without.
const searchTime = 8 * time.Second

// once finds the sources at the first look; each look notes for itself what an
// Alertmanager did not say.
func (x *outside) once(ctx context.Context) {
	if x.finder == nil && x.err == nil {
		x.find(ctx)
		x.noted = len(x.missing)
	}
	x.missing = x.missing[:x.noted]
}

// find opens what there is, and notes why the rest is not asked.
func (x *outside) find(ctx context.Context) {
	note := func(what, why string) { x.missing = append(x.missing, check.Unchecked{What: what, Why: why}) }
	store, cfg, err := x.o.store()
	if err != nil {
		note("metrics, logs in Loki", firstLine(err))
		return
	}
	if x.families, err = prometheus.LoadFamilies(store); err != nil {
		note("metrics", firstLine(err))
	}
	if x.bus = x.o.recorded(cfg.Bus.URL); !x.bus {
		note("past incidents", "not asked: nothing has been recorded in "+x.o.data+"; oncall up does (--data, --nats)")
	}
	section := cfg.Section(collector.Spec.Name).(collector.Config)
	searching, cancel := context.WithTimeoutCause(ctx, searchTime, fmt.Errorf("not found in %s", searchTime))
	defer cancel()
	x.finder = &finder{o: x.o, cluster: x.cluster, flags: x.flags, kinds: x.kinds, instead: true, beside: true, say: func(format string, args ...any) {
		fmt.Fprintf(x.notes, "oncall: "+format+"\n", args...)
	}}
	find := x.finder.named
	if x.search {
		find = x.finder.find
	}
	if err = find(searching, &section); err != nil {
		if usage := (*service.UsageError)(nil); errors.As(err, &usage) || len(x.flags.via) > 0 && x.finder.reached == 0 {
			x.err = err // what somebody asked for is not done without
			return
		}
		note("the search for Prometheus, Loki and Alertmanager", firstLine(err))
	}
	first := map[string]upstream.Config{}
	section.Each(func(kind string, src any) {
		var c upstream.Config
		switch src := src.(type) {
		case prometheus.Config:
			c = src.Config
		case loki.Config:
			c = src.Config
		case alertmanager.Config:
			if c = src.Config; c.URL == "" && len(src.URLs) > 0 {
				c.URL = src.URLs[0]
			}
		}
		if _, ok := first[kind]; !ok && c.URL != "" {
			first[kind] = c
		}
	})
	open := func(kind string) *upstream.Client {
		c, ok := first[kind]
		if !ok {
			return nil
		}
		up, err := x.o.sourceClient(kind, c)
		if err != nil {
			note(kind, firstLine(err))
			return nil
		}
		return up
	}
	if up := open("prometheus"); up != nil {
		x.prometheus = promql.New(up)
	} else {
		note("metrics", "not asked: no Prometheus is configured or found; name it with --prometheus URL")
	}
	if x.loki = open("loki"); x.loki == nil {
		note("logs of pods that are gone", "not asked: no Loki is configured or found; name it with --loki URL")
	}
	x.alertmanager = open("alertmanager")
}

func (x *outside) close() {
	if x.finder != nil {
		x.finder.stop()
	}
}

// judge reads the signals that health reads, of one namespace. A source that is
// not there is told already.
func (x *outside) judge(ctx context.Context, namespace string) triage.Judge {
	w, err := newSignals(x.o, namespace, *x)
	if err != nil {
		return func(context.Context, *check.Cluster, event.Entity) (*check.Signals, []check.Unchecked) {
			return nil, []check.Unchecked{check.NotRead(signals.OfMetrics+", "+signals.OfLogs, err)}
		}
	}
	return w.ask(ctx).Judge
}

// into hands what was found to triage.
func (x *outside) into(s *triage.Sources) {
	s.NotAsked = x.missing
	if x.loki != nil {
		s.Loki = evidence.NewLoki(x.loki, s.Redact)
		if x.history == nil {
			x.history = loghistory.New(x.loki, s.Redact.Line)
		}
		s.History = x.history.Read
	}
	if x.prometheus != nil {
		s.Measure = func(ctx context.Context, of triage.Measured) ([]triage.Series, error) {
			return signals.Series(ctx, x.prometheus, x.families, of)
		}
	}
	if x.prometheus != nil || x.loki != nil {
		s.Signals = x.judge
	}
	if x.bus {
		s.Incidents = x.o.incidentsOfBefore
	}
}

// firing is an alert as Alertmanager's API has it.
type firing struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
}

// alert asks the Alertmanager for the alert that the matchers mean, and fills in
// what it has. Without one the labels of the matchers are all that is known.
func (x *outside) alert(ctx context.Context, a *triage.Alert, ms []upstream.Matcher) error {
	if x.alertmanager == nil {
		x.missing = append(x.missing, check.Unchecked{What: "the alert", Why: "not asked: no Alertmanager (--alertmanager URL, or --find); its labels are those of --alert"})
		return nil
	}
	params := url.Values{"active": {"true"}, "silenced": {"true"}, "inhibited": {"true"}, "unprocessed": {"true"}}
	for _, m := range ms {
		params.Add("filter", m.String())
	}
	body, err := x.alertmanager.Get(ctx, "/api/v2/alerts", params, upstream.Query{Operation: "alerts"})
	if upstream.KindOf(err) == upstream.BadQuery {
		return fmt.Errorf("alertmanager: %w", err)
	}
	var all []firing
	if err == nil {
		err = json.Unmarshal(body, &all)
	}
	if err != nil {
		x.missing = append(x.missing, check.Unchecked{What: "the alert", Why: firstLine(err) + "; its labels are those of --alert"})
		return nil
	}
	if len(all) == 0 {
		x.missing = append(x.missing, check.Unchecked{What: "the alert", Why: "the Alertmanager has none that matches now; its labels are those of --alert"})
		return nil
	}
	slices.SortStableFunc(all, func(a, b firing) int { return a.StartsAt.Compare(b.StartsAt) })
	store, _, err := x.o.store()
	if err != nil {
		return err
	}
	mask, err := x.o.mask(store)
	if err != nil {
		return err
	}
	one := all[0] // it has fired longest
	a.Firing, a.Others, a.Since = true, len(all)-1, one.StartsAt.UTC()
	a.Labels = mask.Labels(event.LabelsOf(one.Labels)).Map()
	for _, name := range []string{"summary", "description", "message"} {
		if a.Summary == "" {
			a.Summary = mask.Line(one.Annotations[name])
		}
	}
	return nil
}

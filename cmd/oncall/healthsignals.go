package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// watchedSignals read for health what no object shows: latency, errors, name
// look-ups, space and [check.Measures] from Prometheus, statements from Loki. The
// queries of what may be odd are those of policies/queries, and what is odd is said
// by the detectors of the pipeline.
//
// What is asked is bounded: of Prometheus at most [maxRanges] ranges, a query for
// every [measuresAtOnce] measures and the question what there is, of Loki at most 2 + 2 × [maxSuspects] queries, each all
// at the same time, so that a source far away costs a few round trips.
type watchedSignals struct {
	outside
	store     *policy.Store
	entities  *entities.Map
	mask      *redact.Redactor
	namespace string
	only      event.Entity // whose statements alone are counted; zero for all
}

// Times of the signals.
const (
	signalHistory = 4 * time.Hour // is read; as much as level shifts and trends need, twice
	signalStep    = time.Minute
	signalTime    = 10 * time.Second // at most, once the sources are found
)

// newSignals prepares the reading. Nothing is asked yet.
func newSignals(o *options, namespace string, x outside) (*watchedSignals, error) {
	store, _, err := o.store()
	if err != nil {
		return nil, err
	}
	s := &watchedSignals{outside: x, store: store, mask: redact.New(redact.Options{}), namespace: namespace}
	s.entities, err = entities.Load(store)
	return s, err
}

// reading is what was read, before it is known whose pods are whose.
type reading struct {
	at       time.Time // by the clock of Prometheus
	ranges   []ranged
	measured []bounds
	lines    *recentLines
	missing  []check.Unchecked
}

// What no source tells is told by these names.
const (
	ofMetrics = "latency, errors, DNS, space, limits and kubelets"
	ofLogs    = "new statements in logs"
)

// read asks the sources that there are.
func (s *watchedSignals) read(ctx context.Context) *reading {
	s.once(ctx)
	r := s.readFrom(ctx)
	switch {
	case s.prometheus == nil && s.loki == nil:
		r.missing = append(r.missing, check.Unchecked{What: ofMetrics + ", " + ofLogs, Why: s.why("prometheus", "loki")})
	case s.prometheus == nil:
		r.missing = append([]check.Unchecked{{What: ofMetrics, Why: s.why("prometheus")}}, r.missing...)
	case s.loki == nil:
		r.missing = append(r.missing, check.Unchecked{What: ofLogs, Why: s.why("loki")})
	}
	return r
}

// readFrom asks those sources that were found.
func (s *watchedSignals) readFrom(ctx context.Context) *reading {
	r := &reading{at: time.Now()}
	ctx, cancel := context.WithTimeoutCause(ctx, signalTime, fmt.Errorf("no answer in %s", signalTime))
	defer cancel()
	var wg sync.WaitGroup
	var unmeasured, unlogged *check.Unchecked
	if s.prometheus != nil {
		wg.Go(func() { unmeasured = s.measureAll(ctx, r) })
	}
	if s.loki != nil {
		wg.Go(func() { unlogged = s.readLines(ctx, r) })
	}
	wg.Wait()
	for _, u := range []*check.Unchecked{unmeasured, unlogged} {
		if u != nil {
			r.missing = append(r.missing, *u)
		}
	}
	return r
}

// why says why there is no source of these kinds.
func (s *watchedSignals) why(kinds ...string) string {
	var none, flags []string
	for _, k := range kinds {
		if *s.flags.address(k) == nowhere {
			none = append(none, "--"+k+" none")
		}
		flags = append(flags, "--"+k+" URL")
	}
	if len(none) == len(kinds) {
		return "not asked: " + strings.Join(none, ", ")
	}
	for _, u := range s.missing {
		if strings.HasPrefix(u.What, "the search") || slices.Contains(kinds, u.What) {
			return u.Why + "; name it: " + strings.Join(flags, ", ")
		}
	}
	return "none is configured or found: " + strings.Join(flags, ", ")
}

// signals says what is odd in what was read, now that the workloads are known.
func (s *watchedSignals) signals(ctx context.Context, r *reading, c *check.Cluster) (*check.Signals, []check.Unchecked) {
	missing := r.missing
	out := &check.Signals{}
	s.beyond(r, c, out)
	if len(r.ranges) > 0 {
		if err := s.judge(r, c, out); err != nil {
			missing = append(missing, check.Unchecked{What: ofMetrics, Why: firstLine(err)})
		}
	}
	if r.lines != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, signalTime, fmt.Errorf("no answer in %s", signalTime))
		defer cancel()
		if err := s.statements(ctx, r.lines, c, out); err != nil {
			missing = append(missing, check.Unchecked{What: ofLogs, Why: firstLine(err)})
		}
	}
	return out, missing
}

// whose is the workload that labels of a source speak of.
func (s *watchedSignals) whose(c *check.Cluster, get func(string) string) (event.Entity, bool) {
	sub := s.entities.Subject(get)
	if sub.Pod != "" {
		return c.Owner(sub.Namespace, sub.Pod)
	}
	if sub.Workload == "" {
		return event.Entity{}, false
	}
	if e, ok := c.Named(sub.Namespace, sub.Workload); ok {
		return e, true
	}
	return event.Entity{Namespace: sub.Namespace, Kind: cmp.Or(sub.Kind, "Workload"), Name: sub.Workload}, sub.Namespace != ""
}

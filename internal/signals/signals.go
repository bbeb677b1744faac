// Package signals reads once what no object of a cluster shows: latency, errors,
// name look-ups, space and [check.Measures] from Prometheus, statements from Loki.
// The queries of what may be odd are those of policies/queries, and what is odd is
// said by the detectors of the pipeline. It is what `oncall health` and `oncall
// triage` know besides objects.
package signals

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/loghistory"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/detector"
)

// Reader asks the sources.
//
// What is asked is bounded: of Prometheus at most [maxRanges] ranges, a query for
// every [measuresAtOnce] measures and the question what there is, of Loki at most
// 2 + 3 × [maxSuspects] queries, each all at the same time, so that a source far
// away costs a few round trips.
type Reader struct {
	Prometheus *promql.Client      // nil when there is none
	Loki       *upstream.Client    // nil when there is none
	Families   []prometheus.Family // of policies/queries
	Entities   *entities.Map
	Policies   *policy.Store   // of the detectors
	Detectors  detector.Config // their settings
	Redact     *redact.Redactor
	Namespace  string // the only one that is read; "" for all

	history   *loghistory.Reader
	historyOf *upstream.Client
}

// Times of the signals.
const (
	signalHistory = 4 * time.Hour // is read; as much as level shifts and trends need, twice
	signalStep    = time.Minute
	signalTime    = 10 * time.Second // at most
)

// What cannot be told without a source goes by these names.
const (
	OfMetrics = "latency, errors, DNS, space, limits and kubelets"
	OfLogs    = "new statements in logs"
)

// Reading is what was read, before it is known whose pods are whose.
type Reading struct {
	// Missing is what could not be read.
	Missing []check.Unchecked

	from     *Reader
	at       time.Time // by the clock of Prometheus
	ranges   []ranged
	measured []bounds
	lines    *recentLines
}

// Read asks the sources that there are, for at most ten seconds.
func (s *Reader) Read(ctx context.Context) *Reading {
	r := &Reading{from: s, at: time.Now()}
	ctx, cancel := context.WithTimeoutCause(ctx, signalTime, fmt.Errorf("no answer in %s", signalTime))
	defer cancel()
	var wg sync.WaitGroup
	var unmeasured, unlogged *check.Unchecked
	if s.Prometheus != nil {
		wg.Go(func() { unmeasured = s.measureAll(ctx, r) })
	}
	if s.Loki != nil {
		if s.historyOf != s.Loki { // it remembers whether there are patterns
			s.history, s.historyOf = loghistory.New(s.Loki, s.Redact.Line), s.Loki
		}
		wg.Go(func() { unlogged = s.readLines(ctx, r) })
	}
	wg.Wait()
	for _, u := range []*check.Unchecked{unmeasured, unlogged} {
		if u != nil {
			r.Missing = append(r.Missing, *u)
		}
	}
	return r
}

// Judge says what is odd in what was read, now that the workloads are known, and
// what could not be judged. Statements are counted of the workload only, or of all
// when that is zero.
func (r *Reading) Judge(ctx context.Context, c *check.Cluster, only event.Entity) (*check.Signals, []check.Unchecked) {
	missing := r.Missing
	out := &check.Signals{}
	r.from.beyond(r, c, out)
	if len(r.ranges) > 0 {
		if err := r.from.judge(r, c, out); err != nil {
			missing = append(missing, check.NotRead(OfMetrics, err))
		}
	}
	if r.lines != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, signalTime, fmt.Errorf("no answer in %s", signalTime))
		defer cancel()
		if err := r.from.statements(ctx, r.lines, c, only, out); err != nil {
			missing = append(missing, check.NotRead(OfLogs, err))
		}
	}
	return out, missing
}

func notRead(what string, err error) *check.Unchecked {
	u := check.NotRead(what, err)
	return &u
}

// whose is the workload that labels of a source speak of.
func (s *Reader) whose(c *check.Cluster, get func(string) string) (event.Entity, bool) {
	sub := s.Entities.Subject(get)
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

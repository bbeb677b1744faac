package detectors

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/slab"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/services/detector"
)

// BurnRateConfig is the `detector.burn_rate:` section of the configuration file.
// The objectives are in policies/slo.yaml.
type BurnRateConfig struct {
	// Errors are the signals that hold the share of failed requests, 0 to 1.
	// Default: [error_ratio].
	Errors []string `yaml:"errors"`
	// Requests are the signals that hold requests a second. Default: [request_rate].
	Requests []string `yaml:"requests"`
	// Ledgers is of how many workloads, and of how many objectives with queries of
	// their own, requests are counted, 0.9 KB each once thirty days are known: in all
	// partitions together, in each an equal part of them. Who came first stays, and
	// what is left out is told. Default: 20000.
	Ledgers int `yaml:"ledgers"`
}

// Validate checks that there is something to read, and the range.
func (c BurnRateConfig) Validate() error {
	return errors.Join(
		between("errors", float64(len(c.Errors)), 1, 100, 1),
		between("requests", float64(len(c.Requests)), 1, 100, 1),
		between("ledgers", float64(c.Ledgers), event.Partitions, 1_000_000, 20_000),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "burn_rate", Input: detector.Metrics, Class: event.ClassSymptom, Always: true, Hold: 3 * time.Minute, Reads: []string{"request_rate", "error_ratio"}, Policies: []string{slo.File}, Portable: true,
			Doc: "An error budget of policies/slo.yaml that burns too fast, over a long and a short window (14.4x, 6x, 3x, 1x).",
		},
		BurnRateConfig{Errors: []string{"error_ratio"}, Requests: []string{"request_rate"}, Ledgers: 20_000},
		func(c BurnRateConfig, set detector.Settings) (detector.Detector, error) {
			p, err := slo.Load(set.Policies)
			if err != nil {
				return nil, err
			}
			return &burnRate{cfg: c, policy: p, most: c.Ledgers / event.Partitions}, nil
		}))
}

var _ detector.Rationer = (*burnRate)(nil)

type burnRate struct {
	cfg    BurnRateConfig
	policy slo.Policy
	most   int // ledgers
	table[burnState, *burnState]
	tested int64
	passed int64 // ledgers for which there was no room, since Rationed was asked
	// places are those of the series that came lately, which their labels alone
	// decide: no state.
	places slab.Table[place]
	placed int64 // hour in which they were last forgotten
}

// place is where a series belongs: the ledger of an objective, and its part in it.
type place struct {
	key       uint64
	objective int32 // of the policy; where the role is none, to none
	role      burnRole
}

// burnState is the ledger of one objective of one entity in one family of
// queries, and the parts of it that came with this window.
type burnState struct {
	ledger slo.Ledger
	seen   uint32 // when any part of it came last, seconds
	lastT  int64  // of the requests
}

// Last is when a part of the objective came last, in milliseconds.
func (s *burnState) Last() int64 { return int64(s.seen) * 1000 }

// Write writes the state.
func (s *burnState) Write(w *snapshot.Writer) {
	s.ledger.Write(w)
	w.Int(s.lastT)
	w.Uint(uint64(s.seen))
}

// Read reads the state.
func (s *burnState) Read(r *snapshot.Reader) {
	s.ledger.Read(r)
	s.lastT, s.seen = r.Int(), uint32(r.Uint())
}

type burnRole uint8

const (
	roleNone     burnRole = iota
	roleRatio             // share of failed requests
	roleRequests          // requests a second
	roleErrors            // failed requests a second
)

func (d *burnRate) role(ls event.Labels) burnRole {
	name := ls.Get(event.LabelName)
	switch name {
	case slo.SignalErrors:
		return roleErrors
	case slo.SignalTotal:
		return roleRequests
	}
	for _, s := range d.cfg.Errors {
		if s == name {
			return roleRatio
		}
	}
	for _, s := range d.cfg.Requests {
		if s == name {
			return roleRequests
		}
	}
	return roleNone
}

// Selects is detector.Selector's.
func (d *burnRate) Selects(ls event.Labels) bool {
	_, ok := d.objective(ls)
	return ok && d.role(ls) != roleNone
}

func (d *burnRate) objective(ls event.Labels) (slo.Objective, bool) {
	if name := ls.Get(event.LabelSLO); name != "" {
		return d.policy.Named(name)
	}
	e := ls.Entity()
	return d.policy.For(e.Namespace, e.Name)
}

// Tested is detector.Tester's.
func (d *burnRate) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Rationed is detector.Rationer's.
func (d *burnRate) Rationed() int64 {
	n := d.passed
	d.passed = 0
	return n
}

// place finds where a series belongs.
func (d *burnRate) place(s event.Series) place {
	p, ok := d.places.At(s.ID)
	if ok {
		return *p
	}
	if o, ok := d.objective(s.Labels); ok {
		if p.role = d.role(s.Labels); p.role != roleNone {
			p.objective = int32(slices.IndexFunc(d.policy.Objectives, func(other slo.Objective) bool { return other.Name == o.Name })) //nolint:gosec // of as many as a person writes
			id := []string{"burn_rate", o.Name, s.Labels.Entity().String(), s.Labels.Get(event.LabelFamily), s.Labels.Get(event.LabelSource)}
			p.key = event.HashStrings(append(id, apart(s.Labels)...)...)
		}
	}
	return *p
}

// joined is what belongs together: the series of one objective of one entity.
type joined struct {
	key       uint64
	objective *slo.Objective
	labels    event.Labels // of the errors, else of the requests
	errors    event.Series // share or rate
	ratio     bool
	requests  []event.Point
}

// Observe is detector.Detector's.
func (d *burnRate) Observe(b event.Batch) (found []event.Anomaly) {
	without := 0
	for _, j := range d.join(b) {
		if d.rows.Len() >= d.most && d.rows.Find(j.key) == nil {
			without++
			continue
		}
		st, _ := d.at(j.key)
		st.seen = uint32(max(0, min(b.Watermark.Unix(), math.MaxUint32))) //nolint:gosec // clipped
		if len(j.requests) > 0 {
			st.book(j)
		}
		d.tested += int64(len(d.policy.Windows))
		burn := j.objective.Evaluate(&st.ledger, d.policy.Windows, b.Watermark.UnixMilli())
		if !burn.Fired {
			continue
		}
		began := st.ledger.Began(b.Watermark.UnixMilli(), 1-j.objective.Target)
		found = append(found, d.anomaly(j, burn, began, b.Watermark, st.ledger.Since(burn.Window.Long)))
	}
	if without > 0 {
		d.passed += int64(without)
		found = append(found, d.crowded(without))
	}
	d.sweep(b.Watermark)
	if d.placed != d.swept {
		d.placed, d.places = d.swept, slab.Table[place]{}
	}
	return found
}

// crowded is the notice that requests are not counted, for want of room.
func (d *burnRate) crowded(n int) event.Anomaly {
	return event.Anomaly{
		Series: event.SeriesHash(event.HashStrings("burn_rate", "ledgers")), Entity: event.Entity{Kind: "Cluster", Name: "cluster"}, Signal: "series",
		Class: event.ClassAmbient, Severity: event.Info, Observed: float64(n), TailProb: 1, Unit: "{workload}",
		Summary:     fmt.Sprintf("the requests of %d workloads and objectives are not counted: one partition of %d has room for %d", n, event.Partitions, d.most),
		Explanation: fmt.Sprintf("detector.burn_rate.ledgers is %d, for all partitions; one more is 0.9 KB. Those that came first are judged as ever, and a day after the last request of one another takes its place", d.cfg.Ledgers),
	}
}

// join brings the requests and the failures of one objective of one thing together,
// in the order of their first series.
func (d *burnRate) join(b event.Batch) []*joined {
	var order []*joined
	byKey := map[uint64]*joined{}
	series(b, func(s event.Series) {
		p := d.place(s)
		if p.role == roleNone {
			return
		}
		j, ok := byKey[p.key]
		if !ok {
			j = &joined{key: p.key, objective: &d.policy.Objectives[p.objective], labels: s.Labels}
			byKey[p.key] = j
			order = append(order, j)
		}
		if p.role == roleRequests {
			j.requests = s.Points
			return
		}
		j.errors, j.ratio, j.labels = s, p.role == roleRatio, s.Labels
	})
	return order
}

// apart are the labels of the source that tell series of one entity apart: the
// clusters of a proxy. Requests and failures of one have them alike.
func apart(ls event.Labels) (out []string) {
	for _, l := range ls {
		switch {
		case strings.HasPrefix(l.Name, "oncall_"), l.Name == event.LabelName, l.Name == event.LabelNamespace, l.Name == event.LabelWorkload, l.Name == event.LabelKind:
		default:
			out = append(out, l.Name, l.Value)
		}
	}
	return out
}

// book enters the requests since the last entry. A value stands for the time
// since the one before, at most five minutes of it. A missing share of errors
// is none: many systems have no series for what never failed. How many requests took
// too long is told with how many there were, so that to miss that is not to know it.
func (s *burnState) book(j *joined) {
	bad := map[int64]float64{}
	for _, p := range j.errors.Points {
		bad[p.T] = p.V
	}
	for _, p := range j.requests {
		if !finite(p.V) || p.V < 0 || p.T <= s.lastT {
			continue
		}
		seconds := 15.0
		if s.lastT > 0 {
			seconds = min(float64(p.T-s.lastT)/1000, 300)
		}
		s.lastT = p.T
		all := p.V * seconds
		e, told := bad[p.T]
		if !told && j.objective.Latency != nil {
			continue
		}
		if !finite(e) {
			e = 0
		}
		if j.ratio {
			e *= all
		} else {
			e *= seconds
		}
		s.ledger.Add(p.T, max(0, min(e, all)), all)
	}
}

func (d *burnRate) anomaly(j *joined, burn slo.Burn, began, at time.Time, known time.Duration) event.Anomaly {
	name := j.labels.Get(event.LabelName)
	allowed := 1 - j.objective.Target
	a := event.Anomaly{
		Series: event.SeriesHash(j.key), Entity: j.labels.Entity(), Signal: name, Class: event.ClassSymptom,
		Severity: burn.Window.Severity, Observed: burn.Ratio, Expected: &event.Interval{Low: 0, High: allowed}, Unit: "1",
		TailProb: burn.TailProb, Labels: j.labels.Map(), Evidence: []event.EvidenceRef{promQL(j.labels, at)},
	}
	left := "budget of the period is spent"
	if burn.Remaining > 0 {
		left = fmt.Sprintf("%.0f %% of the budget left, gone in %s at this rate", 100*burn.Remaining, span(burn.Exhausted.Seconds()))
	}
	rate := fmt.Sprintf("%.1fx (%s) %.1fx (%s)", burn.Long, short(burn.Window.Long), burn.Short, short(burn.Window.Short))
	switch {
	case known < burn.Window.Short:
		rate = fmt.Sprintf("%.1fx (%s, all that is known)", burn.Short, short(known))
	case known < burn.Window.Long:
		rate = fmt.Sprintf("%.1fx (%s, all that is known) %.1fx (%s)", burn.Long, short(known), burn.Short, short(burn.Window.Short))
	}
	what := "fail"
	if l := j.objective.Latency; l != nil {
		what = "take longer than " + l.Threshold.String()
	}
	a.Summary = fmt.Sprintf("%.3g %% of requests %s; SLO %s %g: burn %s; %s", 100*burn.Ratio, what, j.objective.Name, j.objective.Target, rate, left)
	a.Explanation = fmt.Sprintf("burn of at least %gx over %s and over %s; at most %.3g %% may fail", burn.Window.Burn, short(burn.Window.Long), short(burn.Window.Short), 100*allowed)
	// Windows say that it burns, minutes since when.
	a.Onset = began
	if a.Onset.IsZero() {
		a.Onset = at.Add(-burn.Window.Short)
	}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	a.Labels["slo"] = j.objective.Name
	return a
}

// short writes a window as people do: 5m, 1h, 3d.
func short(d time.Duration) string {
	switch {
	case d >= 48*time.Hour && d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/stat"
)

// Signals are what was measured of a cluster over the last hours, for what no
// object shows. Who reads them says in [Result.NotChecked] what there was none of.
type Signals struct {
	Departures []Departure // what the detectors call odd now
	Failing    []Failing   // how much fails of what is served
	Shares     []Share     // how full things are
	Measured   []Measured  // what is beyond the bounds of [Measures]
	Statements []Statement // what logs say that speaks of trouble
}

// Departure is an anomaly that goes on.
type Departure struct {
	event.Anomaly
	Requests float64 // in the last ten minutes; negative when nobody counts them
}

// Failing is how many requests of a workload fail.
type Failing struct {
	Entity      event.Entity
	Query       string        // PromQL of the ratio
	Failed, All float64       // in the last five minutes
	Usual       float64       // ratio before
	Known       time.Duration // how long that was seen
	Since       time.Time     // of the first minute of those that go on failing
}

// Share is how much of something is in use, a ratio.
type Share struct {
	Entity event.Entity
	Signal string
	Query  string
	Value  float64
}

// Statement is a statement of a program, by the lines that it wrote.
type Statement struct {
	Entity   event.Entity
	Template string
	Example  string
	Query    string            // LogQL of its lines
	Lines    float64           // in the last ten minutes
	Before   stat.GammaPoisson // by ten minutes, up to half an hour ago
	Known    time.Duration     // how long the workload's logs go back
	First    time.Time         // of the lines of now
	Last     time.Time
}

// Told says whether there are enough lines to be told: of a statement that was not
// made before, or far more than of what was. One that is not told would not be told
// either if it had been made more often before.
func (s Statement) Told() bool {
	if s.Before.Sum == 0 {
		return s.Lines >= leastNew
	}
	return s.Lines >= leastSurge && s.Lines >= surgeTimes*s.Before.Mean() && s.Before.Tail(s.Lines) <= surgeProb
}

var signalChecks = []Info{
	{
		Name: "error_shift",
		Doc:  "Workloads of which requests fail: an error budget of policies/slo.yaml that burns too fast, or so many failures in the last five minutes (lower bound 5 %) as never before (three times the usual share). From Prometheus. Not: fewer than 100 requests or 10 failures in five minutes; a workload known for less than half an hour; a share of failures that is usual.",
		Run:  errorShift,
	},
	{
		Name: "latency_shift",
		Doc:  "Workloads whose 99th percentile of latency left its usual level, by the detectors of the pipeline, for five minutes and by at least half of it and 20 ms. From Prometheus. Not: fewer than 200 requests in ten minutes; less than an hour of history; pods that came within the last ten minutes, which warm up; an improvement.",
		Run:  latencyShift,
	},
	{
		Name: "dns_shift",
		Doc:  "Cluster DNS that answers at least one question in twenty with SERVFAIL or REFUSED, and did not before. From Prometheus, of CoreDNS. Not: NXDOMAIN, which search lists cause all day.",
		Run:  dnsShift,
	},
	{
		Name: "volume_space",
		Doc:  "Volumes (space and inodes) and file systems of nodes that will be full within three days by their trend, with the time to full and its interval, or that are over 95 % full. From Prometheus. Not: less than half full; a trend seen for less than half an hour, one that a single jump made, or that has ended; use that stays.",
		Run:  volumeSpace,
	},
	{
		Name: "log_statements",
		Doc:  "Statements in logs that speak of trouble and that a workload did not make until half an hour ago, or far oftener than it did. From Loki. Not: fewer than 5 lines (30 of one that is known) in ten minutes, or none in the last five; a workload whose logs go back less than an hour; lines of a pod's first two minutes.",
		Run:  logStatements,
	},
}

// closely is the next check of what was measured of a workload.
func closely(e event.Entity, why string) event.Check {
	return event.Check{Why: why, Command: "oncall triage --workload " + Name(e)}
}

// Bounds of [errorShift].
const (
	leastRequests = 100
	leastFailed   = 10
	leastShare    = 0.05
	gravely       = 0.2 // of requests that fail
	leastKnown    = 30 * time.Minute
)

func errorShift(c *Cluster, found func(Problem)) {
	if c.Signals == nil {
		return
	}
	told := map[event.Entity]bool{}
	for _, d := range c.Signals.Departures {
		if d.Detector != "burn_rate" || d.Severity == event.Info {
			continue
		}
		told[d.Entity] = true
		p := shown(d.Anomaly, Problem{
			State: true, Urgency: event.Soon, Title: fmt.Sprintf("%.3g %% of requests fail", 100*d.Observed), Brief: brief(d.Summary),
			Next: []event.Check{closely(d.Entity, "since when, what changed, and what its logs say")},
		})
		if d.Severity == event.Critical {
			p.Urgency = event.Broken
		}
		found(p)
	}
	for _, f := range c.Signals.Failing {
		low, _ := stat.Wilson(f.Failed, f.All, 2.58)
		if told[f.Entity] || f.All < leastRequests || f.Failed < leastFailed || f.Known < leastKnown || low < leastShare || low < 3*f.Usual {
			continue
		}
		p := Problem{
			Entity: f.Entity, State: true, Urgency: event.Soon, Since: f.Since, Title: fmt.Sprintf("%.3g %% of requests fail", 100*f.Failed/f.All),
			Brief: fmt.Sprintf("usual is %.2g %%", 100*f.Usual),
			Seen: []string{
				fmt.Sprintf("%.0f of %.0f requests in five minutes failed, at least %.2g %%; usual over %s before is %.2g %%", f.Failed, f.All, 100*low, span(f.Known), 100*f.Usual),
			},
			Source: evidence.Prometheus, Query: f.Query,
			Next: []event.Check{closely(f.Entity, "since when, what changed, and what its logs say")},
		}
		if low >= gravely {
			p.Urgency = event.Broken
		}
		found(p)
	}
}

// brief is the part of a burn's summary that says what was promised.
func brief(summary string) string {
	_, s, ok := strings.Cut(summary, "; ")
	if !ok {
		return ""
	}
	return s
}

// shown is a problem with the evidence of an anomaly.
func shown(a event.Anomaly, p Problem) Problem {
	p.Entity, p.Since = a.Entity, a.Onset
	p.Seen = []string{a.Summary, a.Detector + ": " + a.Explanation}
	if len(a.Evidence) > 0 {
		p.Source, p.Query = a.Evidence[0].Source, a.Evidence[0].Query
	}
	return p
}

// Bounds of [latencyShift].
const (
	leastServed = 200
	leastHeld   = 5 * time.Minute
	warmUp      = 10 * time.Minute
	leastSlower = 0.02 // s
)

func latencyShift(c *Cluster, found func(Problem)) {
	if c.Signals == nil {
		return
	}
	told := map[event.Entity]bool{}
	for _, d := range c.Signals.Departures {
		if d.Signal != "latency_p99" || d.Expected == nil || told[d.Entity] {
			continue
		}
		usual := max(0, d.Expected.High)
		slower := d.Observed - usual
		if d.Requests < leastServed || slower < leastSlower || d.Observed < 1.5*usual || c.Now.Sub(d.Onset) < leastHeld || c.young(d.Entity) {
			continue
		}
		told[d.Entity] = true
		p := shown(d.Anomaly, Problem{
			State: true, Urgency: event.Soon, Title: "99th percentile of latency is " + seconds(d.Observed), Brief: "usual is up to " + seconds(usual),
			Next: []event.Check{closely(d.Entity, "since when, what changed, and whether CPU or memory is short")},
		})
		if d.Observed >= 1 && d.Observed >= 4*usual {
			p.Urgency, p.Severity = event.Broken, event.Warning
		}
		found(p)
	}
}

// young says whether a pod of a workload came so short a time ago that it warms
// up.
func (c *Cluster) young(e event.Entity) bool {
	return slices.ContainsFunc(c.pods[e], func(p *corev1.Pod) bool { return c.Now.Sub(begun(p)) < warmUp })
}

// begun is when a pod was started; its creation while it was not.
func begun(p *corev1.Pod) time.Time {
	if p.Status.StartTime != nil {
		return p.Status.StartTime.Time
	}
	return p.CreationTimestamp.Time
}

// seconds is a latency for people.
func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.3g ms", 1000*s)
	}
	return fmt.Sprintf("%.3g s", s)
}

func dnsShift(c *Cluster, found func(Problem)) {
	if c.Signals == nil {
		return
	}
	told := map[event.Entity]bool{}
	for _, d := range c.Signals.Departures {
		if d.Signal != "dns_error_ratio" || d.Expected == nil || told[d.Entity] || d.Observed < leastShare || d.Observed < 3*d.Expected.High {
			continue
		}
		told[d.Entity] = true
		p := shown(d.Anomaly, Problem{
			State: true, Urgency: event.Soon, Title: fmt.Sprintf("%.3g %% of name look-ups fail", 100*d.Observed),
			Next: []event.Check{{Why: "what CoreDNS says of its upstreams", Command: kubectl(d.Entity.Namespace, "logs %s/%s --tail=50", strings.ToLower(d.Entity.Kind), d.Entity.Name)}},
		})
		if d.Observed >= gravely {
			p.Urgency = event.Broken
		}
		found(p)
	}
}

// nearlyFull is the share from which on a thing is nearly full, whatever its
// trend.
const nearlyFull = 0.95

// filling are the signals of what fills up, and what to look at.
var filling = map[string]string{"pvc_used_ratio": "volume", "pvc_inodes_ratio": "volume's inodes", "node_disk_ratio": "file system"}

func volumeSpace(c *Cluster, found func(Problem)) {
	if c.Signals == nil {
		return
	}
	type place struct {
		event.Entity
		signal string
	}
	told := map[place]bool{}
	next := func(e event.Entity) []event.Check {
		if e.Kind == "Node" {
			return []event.Check{{Why: "what the kubelet says of its disk, and its pods", Command: kubectl("", "describe node %s", e.Name)}}
		}
		return []event.Check{{Why: "its size, its class and who mounts it", Command: kubectl(e.Namespace, "describe persistentvolumeclaim %s", e.Name)}}
	}
	for _, d := range c.Signals.Departures {
		what, ok := filling[d.Signal]
		if d.Detector != "forecast" || !ok || told[place{d.Entity, d.Signal}] {
			continue
		}
		told[place{d.Entity, d.Signal}] = true
		_, when, _ := strings.Cut(d.Summary, ", ")
		p := shown(d.Anomaly, Problem{Urgency: event.Soon, Title: fmt.Sprintf("%s is %.1f %% full, %s", what, 100*d.Observed, when), Next: next(d.Entity)})
		if d.Severity == event.Critical {
			p.Severity = event.Critical
		}
		found(p)
	}
	for _, s := range c.Signals.Shares {
		what, ok := filling[s.Signal]
		if !ok || s.Value < nearlyFull || told[place{s.Entity, s.Signal}] {
			continue
		}
		p := Problem{
			Entity: s.Entity, Urgency: event.Soon, Title: fmt.Sprintf("%s is %.1f %% full", what, 100*s.Value), Detail: "its use has no clear trend",
			Seen: []string{fmt.Sprintf("%s %.4f", s.Signal, s.Value)}, Source: evidence.Prometheus, Query: s.Query, Next: next(s.Entity),
		}
		if s.Value >= 0.995 {
			p.Urgency = event.Broken
		}
		found(p)
	}
}

// Bounds of [logStatements].
const (
	leastNew      = 5
	leastSurge    = 30
	surgeTimes    = 5
	surgeProb     = 1e-6
	leastLogged   = time.Hour
	stillSpeaks   = 5 * time.Minute
	maxStatements = 2 // of one workload: one trouble is written in many ways
)

func logStatements(c *Cluster, found func(Problem)) {
	if c.Signals == nil {
		return
	}
	all := slices.Clone(c.Signals.Statements)
	slices.SortStableFunc(all, func(a, b Statement) int { return cmp.Compare(b.Lines, a.Lines) })
	told := map[event.Entity]int{}
	for _, s := range all {
		if s.Known < leastLogged || c.Now.Sub(s.Last) > stillSpeaks || told[s.Entity] == maxStatements {
			continue
		}
		p := Problem{
			Entity: s.Entity, Urgency: event.Soon, Confidence: event.Medium, Since: s.First, Source: evidence.Loki, Query: s.Query,
			Next: []event.Check{closely(s.Entity, "the other lines, and what changed before")},
		}
		mean := s.Before.Mean()
		switch {
		case !s.Told():
			continue
		case s.Before.Sum == 0:
			p.Title = fmt.Sprintf("new in its logs, %.0f lines: %s", s.Lines, clip(s.Example, 160))
			p.Seen = []string{fmt.Sprintf("%.0f lines in ten minutes, none up to half an hour ago in %s of logs: %s", s.Lines, span(s.Known), s.Template)}
		default:
			p.Title = fmt.Sprintf("%.0f times as many in its logs, %.0f lines: %s", s.Lines/mean, s.Lines, clip(s.Example, 160))
			p.Seen = []string{fmt.Sprintf("%.0f lines in ten minutes, usually %.2g, tail probability %.1e: %s", s.Lines, mean, s.Before.Tail(s.Lines), s.Template)}
		}
		told[s.Entity]++
		p.Seen = append(p.Seen, s.Example)
		found(p)
	}
}

// clip cuts a text to at most n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + " …"
}

// Owner is the workload of a pod, also of one that is gone: then by its name.
func (c *Cluster) Owner(namespace, pod string) (event.Entity, bool) {
	list := c.byNamespace[namespace] // in order of names
	if i, ok := slices.BinarySearchFunc(list, pod, func(p *corev1.Pod, name string) int { return strings.Compare(p.Name, name) }); ok {
		return c.root(list[i]), true
	}
	return c.Named(namespace, event.WorkloadOfPod(pod))
}

// Named is the workload of a name, of whatever kind it is.
func (c *Cluster) Named(namespace, name string) (event.Entity, bool) {
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
		e := event.Entity{Namespace: namespace, Kind: kind, Name: name}
		if o, _ := c.Workload(e); o != nil {
			return c.rootOf(e), true
		}
	}
	return event.Entity{}, false
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// coverageWindow is how much telemetry --coverage reads: enough for each
// workload that speaks at all to be heard.
const coverageWindow = 5 * time.Minute

// coverage is what we see of a cluster, and what that costs.
type coverage struct {
	Cluster   string      `json:"cluster"`
	Workloads int         `json:"workloads"`
	Pods      int         `json:"pods"`
	Signals   []coveredBy `json:"signals"`
	Load      load        `json:"load"`
	History   []history   `json:"history"`
}

// coveredBy is one row: which workloads are seen by it, and from where.
type coveredBy struct {
	Name    string         `json:"name"`
	Covered int            `json:"covered"`
	From    map[string]int `json:"from"`        // workloads by what sees them
	Missing []string       `json:"not_covered"` // names, sorted
	Do      string         `json:"do,omitempty"`
}

// load is what we ask of the sources.
type load struct {
	QueriesPerStep float64       `json:"queries_per_step"`
	Step           time.Duration `json:"step_ns"`
	QueryShare     float64       `json:"query_time_share"` // of the time, that a query of ours is under way
	LogBytesPerDay int64         `json:"log_bytes_per_day"`
	OwnDisk        int64         `json:"own_disk_bytes"`
}

// history is how far back a source can be asked.
type history struct {
	Source string `json:"source"`
	Keeps  string `json:"keeps"`
}

func showCoverage(ctx context.Context, o *options, f *upFlags, notes io.Writer) error {
	p, err := newPass(ctx, o, f, window{since: coverageWindow}, notes)
	if err != nil {
		return err
	}
	defer p.close()
	if len(p.dead) > 0 {
		return hint(fmt.Errorf("%s: %s", p.dead[0].What, p.dead[0].Why), service.ExitUnreachable, "oncall doctor says what to do about it")
	}
	fmt.Fprintf(notes, "oncall: reading %s of telemetry, to see who is in it\n", span(coverageWindow))
	if err := p.run(ctx, 3*time.Minute, notes); err != nil {
		return err
	}
	c, err := p.coverage(ctx)
	if err != nil {
		return err
	}
	c.Load.OwnDisk = diskOf(o.data)
	return c.print(o)
}

// seen collects which workloads are seen by what. Workloads are named
// namespace/name: metrics do not know every kind.
type seen struct {
	workloads map[string]map[string]string // ownership labels
	// namespaces holds the ownership labels of namespaces.
	namespaces map[string]map[string]string
	pods       map[string]int // by workload
	nodes      int
	by         map[string]map[string]map[string]bool // signal, from, workload
	logBytes   int64
	audits     []event.Audit
	topology   bool
	firstKube  time.Time
}

func (s *seen) mark(signal, from, namespace, workload string) {
	if workload == "" || namespace == "" {
		return
	}
	name := namespace + "/" + workload
	if _, ok := s.workloads[name]; !ok && !s.topology {
		s.workloads[name] = nil
	}
	if s.by[signal] == nil {
		s.by[signal] = map[string]map[string]bool{}
	}
	if s.by[signal][from] == nil {
		s.by[signal][from] = map[string]bool{}
	}
	s.by[signal][from][name] = true
}

// ofRequests says whether a signal is one of requests.
func ofRequests(signal string) bool {
	return slices.Contains([]string{"request_rate", "error_rate", "error_ratio"}, signal) || strings.HasPrefix(signal, "latency")
}

// look reads from the bus what has been seen: everything, or what was stored
// since a time, beside the topology of the cluster, which is told when it
// changes.
func look(ctx context.Context, b *bus.Bus, since time.Time) (*seen, error) {
	s := &seen{workloads: map[string]map[string]string{}, pods: map[string]int{}, namespaces: map[string]map[string]string{}, by: map[string]map[string]map[string]bool{}}
	// Topology first: where there is one, it says what the workloads are.
	for _, st := range []*event.Stream{event.KubeEvents, event.Metrics, event.Logs, event.Audits} {
		o := bus.ReadOptions{StartTime: since}
		if st == event.KubeEvents && !since.IsZero() {
			o = bus.ReadOptions{Filters: []string{"telemetry.topology.>"}}
		}
		nodes := map[string]bool{}
		err := b.Read(ctx, st, o, func(m bus.Message) error {
			switch v := m.Data.(type) {
			case event.Topology:
				if v.Entity.Kind == "Node" {
					nodes[v.Entity.Name] = !v.Deleted
				}
				if v.Entity.Kind == "Namespace" {
					s.namespaces[v.Entity.Name] = v.Labels
				}
				if v.Entity.Namespace == "" || v.Entity.Kind == "Pod" {
					return nil
				}
				s.topology = true
				name := v.Entity.Namespace + "/" + v.Entity.Name
				if v.Deleted {
					delete(s.workloads, name)
					delete(s.pods, name)
					return nil
				}
				s.pods[name] = len(v.Pods)
				labels := maps.Clone(v.Labels)
				if labels == nil {
					labels = map[string]string{}
				}
				labels["\x00kind"] = v.Entity.Kind
				s.workloads[name] = labels
			case event.KubeEvent:
				if t := v.Time(); s.firstKube.IsZero() || t.Before(s.firstKube) {
					s.firstKube = t
				}
			case event.MetricBatch:
				for _, series := range v.Series {
					ls := series.Labels
					from, ns, w := ls.Get(event.LabelFamily), ls.Get(event.LabelNamespace), ls.Workload()
					if from == ls.Get(event.LabelName) {
						continue // of a detector in policies/detectors, which has one signal
					}
					kind := "resources"
					switch name := ls.Get(event.LabelSLO); {
					case name != "":
						kind, from = "SLO", name
					case ofRequests(ls.Get(event.LabelName)):
						kind = "traffic"
					}
					s.mark(kind, from, ns, w)
				}
			case event.LogBatch:
				for _, stream := range v.Streams {
					s.mark("logs", stream.Labels.Get(event.LabelSource), stream.Labels.Get(event.LabelNamespace), stream.Labels.Workload())
					for _, l := range stream.Lines {
						s.logBytes += int64(len(l.Text))
					}
				}
			case event.Audit:
				s.audits = append(s.audits, v)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, there := range nodes {
			if there {
				s.nodes++
			}
		}
	}
	return s, nil
}

func (s *seen) allPods() (n int) {
	for _, of := range s.pods {
		n += of
	}
	return n
}

func (p *pass) coverage(ctx context.Context) (*coverage, error) {
	s, err := look(ctx, p.host.Bus, time.Time{})
	if err != nil {
		return nil, err
	}
	c := &coverage{Cluster: p.host.Config.Cluster, Workloads: len(s.workloads), Pods: s.allPods()}
	if c.Signals, err = s.signals(p.host.Policies); err != nil {
		return nil, err
	}
	c.Load = p.load(s)
	c.History = p.history(ctx, s)
	return c, nil
}

// signals are the rows: which workloads are seen by each, have an objective, and
// have an owner.
func (s *seen) signals(store *policy.Store) ([]coveredBy, error) {
	var out []coveredBy
	for _, name := range []string{"traffic", "resources", "logs"} {
		out = append(out, s.row(name))
	}
	objectives, err := slo.Load(store)
	if err != nil {
		return nil, err
	}
	owners, err := owner.Load(store)
	if err != nil {
		return nil, err
	}
	for _, name := range sortedNames(s.workloads) {
		ns, w, _ := strings.Cut(name, "/")
		if s.sees("traffic", name) {
			if o, ok := objectives.For(ns, w); ok {
				s.mark("SLO", o.Name, ns, w)
			}
		}
		labels := s.workloads[name]
		if o := owners.Of(event.Entity{Namespace: ns, Kind: labels["\x00kind"], Name: w}, owner.Labels{Own: labels, Namespace: s.namespaces[ns]}); o.Team != "" {
			from, _, _ := strings.Cut(o.Rule, " on ")
			s.mark("owner", from, ns, w)
		}
	}
	row := s.row("SLO")
	if row.Covered < out[0].Covered {
		row.Do = "policies/slo.yaml: objectives for what has traffic"
	}
	out = append(out, row)
	row = s.row("owner")
	if len(row.Missing) > 0 {
		row.Do = "a team label on the workload, or policies/ownership.yaml; oncall owner ls --none lists them"
	}
	return append(out, row), nil
}

// sees says whether a signal has a workload.
func (s *seen) sees(signal, workload string) bool {
	for _, set := range s.by[signal] {
		if set[workload] {
			return true
		}
	}
	return false
}

func (s *seen) row(name string) coveredBy {
	out := coveredBy{Name: name, From: map[string]int{}, Missing: []string{}}
	for _, w := range sortedNames(s.workloads) {
		if s.sees(name, w) {
			out.Covered++
		} else {
			out.Missing = append(out.Missing, w)
		}
	}
	for from, set := range s.by[name] {
		n := 0
		for w := range set {
			if _, ok := s.workloads[w]; ok {
				n++
			}
		}
		if n > 0 {
			out.From[from] = n
		}
	}
	return out
}

// load is what this pass asked of the sources, scaled to what oncall up asks.
func (p *pass) load(s *seen) load {
	l := load{Step: 30 * time.Second}
	window := p.until.Sub(p.since)
	c := p.host.Config.Section(collector.Spec.Name).(collector.Config)
	c.Each(func(_ string, src any) {
		if cfg, ok := src.(prometheus.Config); ok {
			l.Step = cfg.Step
		}
	})
	l.ask(s.audits, window)
	l.LogBytesPerDay = int64(float64(s.logBytes) * (24 * time.Hour).Seconds() / window.Seconds())
	return l
}

// ask counts what Prometheus was asked while a window was read. A range is a query
// of every step of oncall up, read for many of them at once, which takes no less
// time than one of them.
func (l *load) ask(audits []event.Audit, window time.Duration) {
	steps := float64(window) / float64(l.Step)
	if steps <= 0 {
		return
	}
	ranges := map[string][]int64{}
	for _, a := range audits {
		switch {
		case a.Source != "prometheus":
		case a.Operation == "query_range":
			ranges[a.Query] = append(ranges[a.Query], a.DurationMS)
		default:
			l.QueriesPerStep += 1 / steps
			l.QueryShare += float64(a.DurationMS) / float64(window.Milliseconds())
		}
	}
	for _, took := range ranges {
		l.QueriesPerStep++
		l.QueryShare += float64(slices.Max(took)) / float64(l.Step.Milliseconds())
	}
}

var lokiRetention = regexp.MustCompile(`(?m)^\s*retention_period:\s*(\S+)`)

// history asks the sources how long they keep what they have.
func (p *pass) history(ctx context.Context, s *seen) []history {
	var out []history
	c := p.host.Config.Section(collector.Spec.Name).(collector.Config)
	c.Each(func(kind string, src any) {
		h := history{Source: sourceName(kind, src), Keeps: "does not say"}
		switch cfg := src.(type) {
		case prometheus.Config:
			if b, err := get(ctx, p.o, cfg.Config, kind, "/api/v1/status/runtimeinfo"); err == nil {
				var info struct {
					Data struct {
						StorageRetention string `json:"storageRetention"`
					} `json:"data"`
				}
				if json.Unmarshal(b, &info) == nil && info.Data.StorageRetention != "" {
					h.Keeps = info.Data.StorageRetention
				}
			}
		case loki.Config:
			if b, err := get(ctx, p.o, cfg.Config, kind, "/config"); err == nil {
				if m := lokiRetention.FindSubmatch(b); m != nil {
					h.Keeps = string(m[1])
					if h.Keeps == "0s" {
						h.Keeps = "for ever"
					}
				}
			}
		default:
			return
		}
		out = append(out, h)
	})
	if !s.firstKube.IsZero() {
		out = append(out, history{Source: "events", Keeps: "the oldest is " + span(time.Since(s.firstKube).Truncate(time.Minute)) + " old"})
	}
	return out
}

func get(ctx context.Context, o *options, cfg upstream.Config, kind, path string) ([]byte, error) {
	up, err := o.sourceClient(kind, cfg)
	if err != nil {
		return nil, err
	}
	return up.Get(ctx, path, nil, upstream.Query{Operation: "status"})
}

// diskOf is the size of the files below a directory.
func diskOf(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // what cannot be seen does not count
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

func (c *coverage) print(o *options) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), c)
	}
	fmt.Fprintf(o.out, "cluster %s   %d workloads, %d pods\n", render.Plain(c.Cluster), c.Workloads, c.Pods)
	if o.format() == render.MD {
		fmt.Fprintln(o.out)
	}
	var rows [][]string
	for _, s := range c.Signals {
		missing := strings.Join(s.Missing[:min(3, len(s.Missing))], ", ")
		if n := len(s.Missing) - 3; n > 0 {
			missing += fmt.Sprintf(" and %d more", n)
		}
		rows = append(rows, []string{s.Name, fmt.Sprintf("%d/%d", s.Covered, c.Workloads), orDash(s.from()), orDash(missing)})
	}
	if err := o.list(nil, []string{"signal", "covered", "from", "not covered"}, rows); err != nil {
		return err
	}
	if o.format() == render.MD {
		fmt.Fprintln(o.out)
	}
	for _, s := range c.Signals {
		if s.Do != "" {
			fmt.Fprintf(o.out, "%s: %s\n", s.Name, s.Do)
		}
	}
	fmt.Fprintf(o.out, "load on you: %.0f queries/%s (%.1f %% of the time one is under way), %s logs/day; own disk %s\n",
		c.Load.QueriesPerStep, span(c.Load.Step), 100*c.Load.QueryShare, size(c.Load.LogBytesPerDay), size(c.Load.OwnDisk))
	var keeps []string
	for _, h := range c.History {
		keeps = append(keeps, h.Source+": "+render.Plain(h.Keeps))
	}
	_, err := fmt.Fprintf(o.out, "history: %s\n", orDash(strings.Join(keeps, ", ")))
	return err
}

// from are the places that a signal comes from, most workloads first.
func (c *coveredBy) from() string {
	var out []string
	for _, n := range slices.SortedFunc(maps.Keys(c.From), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.From[b], c.From[a]), strings.Compare(a, b))
	}) {
		out = append(out, fmt.Sprintf("%s %d", n, c.From[n]))
	}
	return strings.Join(out, ", ")
}

// size is a number of bytes as people write it.
func size(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	if i == 0 || v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// Command budget shows whether the page budget holds where nothing happens: it
// runs thousands of null series at one-minute steps through the detectors and the
// correlator, with the policies that are shipped, and counts what is told.
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
)

func main() {
	var c run
	flag.IntVar(&c.series, "series", 10_000, "null series")
	flag.IntVar(&c.days, "days", 3, "simulated `days`, after those of -learn")
	flag.IntVar(&c.learn, "learn", 1, "`days` before them, of which nothing is counted but the budget's own history")
	flag.Uint64Var(&c.seed, "seed", 1, "of the random numbers")
	flag.DurationVar(&c.limit, "limit", 20*time.Minute, "real `time` after which it ends with what it has")
	flag.Parse()
	if err := c.do(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "budget:", err)
		os.Exit(1)
	}
}

// run is what is simulated.
type run struct {
	series, days, learn int
	seed                uint64
	limit               time.Duration
}

// began is when the simulated time begins: a Monday.
var began = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// partition is one fold of the detector and the series that it sees.
type partition struct {
	n      int
	fold   bus.Fold
	labels []event.Labels
	nulls  []*null
	out    []event.Outgoing
	err    error
}

func (c run) partitions(store *policy.Store) ([]*partition, error) {
	all := make([]*partition, event.Partitions)
	for n := range all {
		fold, err := detector.NewFold(detector.Metrics, n, detector.DefaultConfig(), store, nil)
		if err != nil {
			return nil, err
		}
		all[n] = &partition{n: n, fold: fold}
	}
	signals := []struct {
		name, class, unit, detectors string
	}{
		{"request_rate", "ambient", "{request}/s", "level_shift"},
		{"cpu_usage", "saturation", "1", "level_shift"},
		{"memory_usage", "saturation", "By", "level_shift"},
		{"latency_p99", "symptom", "s", "level_shift,spike"},
	}
	for i := range c.series {
		s := signals[i%len(signals)]
		w := fmt.Sprintf("w%05d", i/len(signals))
		ls := event.LabelsOf(map[string]string{
			event.LabelName: s.name, event.LabelClass: s.class, event.LabelUnit: s.unit, event.LabelDetected: s.detectors,
			event.LabelNamespace: "null", event.LabelWorkload: w, event.LabelKind: "Deployment", event.LabelSource: "main",
		})
		p := all[event.PartitionOf(ls.Entity())]
		p.labels, p.nulls = append(p.labels, ls), append(p.nulls, newNull(i, c.seed))
	}
	return all, nil
}

// step gives a partition a minute of samples and closes it.
func (p *partition) step(minute int) {
	at := began.Add(time.Duration(minute) * time.Minute)
	b := event.MetricBatch{Source: "main", Partition: p.n, Namespace: "null", Step: at}
	for i, ls := range p.labels {
		b.Series = append(b.Series, event.Series{Labels: ls, ID: ls.Hash(), Points: []event.Point{{T: at.UnixMilli(), V: p.nulls[i].next(minute)}}})
	}
	p.out = p.out[:0]
	for _, data := range []any{b, event.Tick{Watermark: at, Signals: []string{"metrics"}}} {
		m := bus.Message{Data: data, Sequence: uint64(minute + 1)}
		m.ID, m.Time = fmt.Sprintf("%d-%d", p.n, minute), at
		out, err := p.fold.Apply(m)
		if err != nil {
			p.err = err
			return
		}
		p.out = append(p.out, out...)
	}
}

func (c run) do(w io.Writer) error {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		return err
	}
	cfg := correlator.DefaultConfig()
	cfg.Groups = []string{"metrics"}
	judge, err := correlator.NewFold(cfg, store, "null")
	if err != nil {
		return err
	}
	all, err := c.partitions(store)
	if err != nil {
		return err
	}
	promised, err := correlator.LoadPolicy(store)
	if err != nil {
		return err
	}
	from := time.Now()
	count := tally{from: began.Add(time.Duration(c.learn) * 24 * time.Hour), anomalies: map[string]map[string]bool{}, incidents: map[string]event.Incident{}, told: map[string]time.Time{}, paged: map[string]bool{}}
	minutes := (c.learn + c.days) * 24 * 60
	minute := 0
	for ; minute < minutes && time.Since(from) < c.limit; minute++ {
		each(all, func(p *partition) { p.step(minute) })
		for _, p := range all {
			if p.err != nil {
				return p.err
			}
			for _, o := range p.out {
				m := bus.Message{Data: o.Data()}
				m.ID, m.Type, m.Time = o.ID, o.Type, o.Time
				revised, err := judge.Apply(m)
				if err != nil {
					return err
				}
				count.take(o, revised)
			}
		}
	}
	state, err := judge.MarshalBinary()
	if err != nil {
		return err
	}
	end := began.Add(time.Duration(minute-1) * time.Minute)
	if judged, err := correlator.Judged(state); err != nil || judged.Before(end.Add(-time.Minute)) {
		return fmt.Errorf("the correlator has judged up to %s of %s: %w", judged, end, err)
	}
	days := float64(minute)/(24*60) - float64(c.learn)
	return count.print(w, c, days, promised.FalsePagesPerWeek, time.Since(from))
}

// each runs the partitions on every core.
func each(all []*partition, do func(*partition)) {
	var g sync.WaitGroup
	next := make(chan *partition)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() {
			for p := range next {
				do(p)
			}
		})
	}
	for _, p := range all {
		next <- p
	}
	close(next)
	g.Wait()
}

// tally counts what came of it.
type tally struct {
	from      time.Time
	anomalies map[string]map[string]bool // keys by detector
	incidents map[string]event.Incident  // last revisions
	told      map[string]time.Time       // without a symptom, and a ticket
	paged     map[string]bool            // with one
}

func (t *tally) take(o event.Outgoing, revised []event.Outgoing) {
	if o.Type == event.AnomalyDetected.Type && !o.Time.Before(t.from) {
		// One that goes on is published again.
		a := o.Data().(event.Anomaly)
		if t.anomalies[a.Detector] == nil {
			t.anomalies[a.Detector] = map[string]bool{}
		}
		t.anomalies[a.Detector][a.Key] = true
	}
	for _, r := range revised {
		i, ok := r.Data().(event.Incident)
		if !ok {
			continue
		}
		if !i.Opened.Before(t.from) {
			t.incidents[i.ID] = i
		}
		switch {
		case i.Priority.Pages():
			if !i.Opened.Before(t.from) {
				t.paged[i.ID] = true
			}
			delete(t.told, i.ID)
		case i.Priority == event.P3 && t.told[i.ID].IsZero():
			t.told[i.ID] = i.Updated
		}
	}
}

func (t *tally) print(w io.Writer, c run, days, budget float64, took time.Duration) error {
	if days <= 0 {
		return fmt.Errorf("%s was not enough for the %d days of -learn; a longer -limit, or fewer -series", c.limit, c.learn)
	}
	var told []time.Time
	late := 0
	for _, at := range t.told {
		told = append(told, at)
		if !at.Before(t.from) {
			late++
		}
	}
	slices.SortFunc(told, time.Time.Compare)
	most := 0
	for i, at := range told {
		n := 0
		for _, o := range told[i:] {
			if o.Sub(at) < 7*24*time.Hour {
				n++
			}
		}
		most = max(most, n)
	}
	fmt.Fprintf(w, "%d null series, 1m steps, %.1f days after %d of learning, seed %d: %s\n", c.series, days, c.learn, c.seed, took.Round(time.Second))
	all := 0
	for _, keys := range t.anomalies {
		all += len(keys)
	}
	fmt.Fprintf(w, "anomalies detected          %8d   (%.3f a series-day)\n", all, float64(all)/float64(c.series)/days)
	for _, name := range slices.Sorted(maps.Keys(t.anomalies)) {
		fmt.Fprintf(w, "  %-25s %8d\n", name, len(t.anomalies[name]))
	}
	fmt.Fprintf(w, "incidents                   %8d\n", len(t.incidents))
	fmt.Fprintf(w, "  with a symptom (page)     %8d   never held by the budget\n", len(t.paged))
	fmt.Fprintf(w, "  without, told             %8d\n", late)
	fmt.Fprintf(w, "most told in seven days     %8d   budget %g\n", most, budget)
	if float64(most) > max(1, budget) {
		return fmt.Errorf("the budget of %g a week does not hold: %d were told in one", budget, most)
	}
	return nil
}

package backtest

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors" // every detector that we ship
)

// folds are those of the services, without the bus between them.
type folds struct {
	signals []string
	parts   [event.Partitions]part
	judge   bus.Fold
	place   map[uint64]int // of a series
	seq     uint64
}

// part is one partition of every detector group.
type part struct {
	fold map[detector.Input]bus.Fold
	in   []step
	out  []event.Outgoing
	err  error
}

// step is a message on its way into a fold.
type step struct {
	to detector.Input
	m  bus.Message
}

var inputs = []detector.Input{detector.Metrics, detector.Logs, detector.Events}

// noGrace is how far a group may be behind another here: as far as it likes,
// since all of them are read in one order of time.
const noGrace = 30 * 24 * time.Hour

func newFolds(o *Options) (*folds, error) {
	f := &folds{signals: []string{"events", "metrics"}, place: map[uint64]int{}}
	if o.Loki != nil {
		f.signals = []string{"events", "logs", "metrics"}
	}
	fold, err := detector.NewFolds(o.Detector, o.Policies, nil)
	if err != nil {
		return nil, err
	}
	for n := range len(f.parts) {
		f.parts[n].fold = map[detector.Input]bus.Fold{}
		for _, in := range inputs {
			if f.parts[n].fold[in], err = fold(in, n); err != nil {
				return nil, err
			}
		}
	}
	c := o.Correlator
	c.Groups, c.Grace = f.signals, noGrace
	f.judge, err = correlator.NewFold(c, o.Policies, o.Cluster)
	return f, err
}

// window is what one step of event time holds.
type window struct {
	at     time.Time
	series []event.Series   // of metrics
	events []event.Outgoing // of Kubernetes: events, changes and topology
	logs   []event.Outgoing
	// metrics and lines say which streams the window closes; metrics closes that
	// of events too.
	metrics, lines bool
	skipped        int
	blind          []event.Blindness
}

// fold puts a window through the detectors, and what they say through the
// correlator, and calls told with everything that either says.
func (f *folds) fold(w window, told func(event.Outgoing)) error {
	f.seq++
	if w.metrics {
		f.metrics(w)
		for _, o := range w.events {
			f.add(detector.Events, partitionOf(o), message(o))
		}
		f.tick(w, event.MetricsTick, detector.Metrics)
		f.tick(w, event.EventsTick, detector.Events)
	}
	if w.lines {
		for _, o := range w.logs {
			f.add(detector.Logs, o.Data().(event.LogBatch).Partition, message(o))
		}
		f.tick(w, event.LogsTick, detector.Logs)
	}
	f.each()
	for n := range len(f.parts) {
		p := &f.parts[n]
		if p.err != nil {
			return p.err
		}
		for _, o := range p.out {
			told(o)
			revised, err := f.judge.Apply(message(o))
			if err != nil {
				return err
			}
			for _, r := range revised {
				told(r)
			}
		}
	}
	return nil
}

func (f *folds) add(to detector.Input, partition int, m bus.Message) {
	f.parts[partition].in = append(f.parts[partition].in, step{to, m})
}

func (f *folds) metrics(w window) {
	var batches [event.Partitions]event.MetricBatch
	for _, s := range w.series {
		n, ok := f.place[s.ID]
		if !ok {
			n = event.Partition(s.Labels.Get(event.LabelNamespace), s.Labels.Workload())
			f.place[s.ID] = n
		}
		batches[n].Series = append(batches[n].Series, s)
	}
	for n, b := range batches {
		if len(b.Series) > 0 {
			b.Partition, b.Step = n, w.at
			f.add(detector.Metrics, n, bus.Message{Attributes: event.Attributes{Time: w.at}, Data: b})
		}
	}
}

func (f *folds) tick(w window, kind event.Kind[event.Tick], to detector.Input) {
	for n := range len(f.parts) {
		t := event.Tick{Watermark: w.at, Skipped: w.skipped, Blind: w.blind, Signals: f.signals}
		f.add(to, n, bus.Message{Attributes: event.Attributes{Type: kind.Type, Time: w.at}, Data: t, Sequence: f.seq})
	}
}

// message is an event as a fold gets it off the bus.
func message(o event.Outgoing) bus.Message {
	return bus.Message{Attributes: event.Attributes{ID: o.ID, Type: o.Type, Time: o.Time}, Data: o.Data()}
}

// partitionOf is where what concerns Kubernetes belongs.
func partitionOf(o event.Outgoing) int {
	switch v := o.Data().(type) {
	case event.KubeEvent:
		return event.PartitionOf(v.Root())
	case event.Change:
		return event.PartitionOf(v.Entity)
	case event.Topology:
		return event.PartitionOf(v.Entity)
	}
	return 0
}

// each runs the partitions on every core.
func (f *folds) each() {
	var g sync.WaitGroup
	next := make(chan *part)
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() {
			for p := range next {
				p.run()
			}
		})
	}
	for n := range len(f.parts) {
		f.parts[n].out = f.parts[n].out[:0]
		if len(f.parts[n].in) > 0 {
			next <- &f.parts[n]
		}
	}
	close(next)
	g.Wait()
}

func (p *part) run() {
	for _, s := range p.in {
		out, err := p.fold[s.to].Apply(s.m)
		if err != nil {
			p.err = fmt.Errorf("%s: %w", s.to, err)
			return
		}
		p.out = append(p.out, out...)
	}
	clear(p.in)
	p.in = p.in[:0]
}

// states are the snapshots of all folds, the correlator's last.
func (f *folds) states() ([][]byte, error) {
	var out [][]byte
	for n := range len(f.parts) {
		for _, in := range inputs {
			b, err := f.parts[n].fold[in].MarshalBinary()
			if err != nil {
				return nil, err
			}
			out = append(out, b)
		}
	}
	b, err := f.judge.MarshalBinary()
	return append(out, b), err
}

// restore puts snapshots into folds that were just made.
func (f *folds) restore(states [][]byte) error {
	if want := len(f.parts)*len(inputs) + 1; len(states) != want {
		return fmt.Errorf("states of %d folds, not %d", len(states), want)
	}
	for n := range len(f.parts) {
		for i, in := range inputs {
			if err := f.parts[n].fold[in].UnmarshalBinary(states[n*len(inputs)+i]); err != nil {
				return err
			}
		}
	}
	return f.judge.UnmarshalBinary(states[len(states)-1])
}

// budget is what policies/slo.yaml allows a week.
func budget(store *policy.Store) (float64, error) {
	p, err := correlator.LoadPolicy(store)
	return p.FalsePagesPerWeek, err
}

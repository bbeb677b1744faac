// Command series measures what it costs to watch series of metrics: processor
// time a sample, memory a series, and how long a checkpoint takes, for the
// detectors that are shipped and growing numbers of series.
//
// Each series is shown to the detectors that the shipped query of its signal asks
// for. Time is processor time of the process, garbage collection included, from
// the encoded batch to what the detectors say of it; making and encoding the
// samples is left out.
package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
)

func main() {
	sizes := flag.String("series", "1000,10000,100000", "`numbers` of series")
	steps := flag.Int("steps", 40, "steps that are measured, after as many that are not")
	step := flag.Duration("step", 15*time.Second, "time between two samples; longer ones fill the ledgers of thirty days")
	deep := flag.Int("deep", -1, "series that are known in full; -1: as by default")
	clock := flag.Bool("steady", false, "let the samples come at the pace of the clock over a bus on disk, with checkpoints")
	room := flag.Int64("room", 24, "GiB that the bus of a steady run keeps")
	flag.Parse()
	how := measure
	if *clock {
		how = steady
	}
	if err := run(os.Stdout, *sizes, pace{*step, *steps, *room << 30}, *deep, how); err != nil {
		fmt.Fprintln(os.Stderr, "series:", err)
		os.Exit(1)
	}
}

// pace is how many samples of each series come, and how far apart.
type pace struct {
	step  time.Duration
	steps int
	room  int64 // bytes that the bus keeps
}

func run(w io.Writer, sizes string, at pace, deep int, measure func(io.Writer, detector.Config, *policy.Store, int, pace) error) error {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		return err
	}
	cfg := detector.DefaultConfig()
	if deep >= 0 {
		if err := yaml.Unmarshal(fmt.Appendf(nil, "spike: {deep: %d}", deep), &cfg); err != nil {
			return err
		}
	}
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-series: %w", err)
		}
		if err := measure(w, cfg, store, n, at); err != nil {
			return err
		}
	}
	return nil
}

// signal is what a shipped query gives: which of its series are how many.
type signal struct{ name, class, unit, detectors string }

// signals are in the proportions of a cluster whose services export requests:
// many series of resources, few of requests.
var signals = []signal{
	{"container_cpu", "saturation", "1", "level_shift"},
	{"container_memory", "saturation", "By", "level_shift"},
	{"memory_limit_ratio", "saturation", "1", "forecast"},
	{"throttled_ratio", "saturation", "1", "level_shift"},
	{"request_rate", "ambient", "{request}/s", "level_shift"},
	{"container_cpu", "saturation", "1", "level_shift"},
	{"container_memory", "saturation", "By", "level_shift"},
	{"latency_p99", "symptom", "s", "level_shift,spike"},
}

// part is one partition: its fold and the batches of its series.
type part struct {
	fold    bus.Fold
	batches []event.MetricBatch
}

const begin = 1_780_000_000_000 // milliseconds

func parts(cfg detector.Config, store *policy.Store, n int) ([]*part, error) {
	cfg.MaxSeries = n
	fold, err := detector.NewFolds(cfg, store, nil)
	if err != nil {
		return nil, err
	}
	all := make([]*part, event.Partitions)
	for i := range all {
		all[i] = &part{}
		if all[i].fold, err = fold(detector.Metrics, i); err != nil {
			return nil, err
		}
	}
	for i := range n {
		s := signals[i%len(signals)]
		labels := map[string]string{
			event.LabelName: s.name, event.LabelClass: s.class, event.LabelUnit: s.unit, event.LabelDetected: s.detectors, event.LabelSource: "main",
			event.LabelNamespace: "team-" + strconv.Itoa(i/2000), event.LabelWorkload: "web-" + strconv.Itoa(i/len(signals)), event.LabelKind: "Deployment",
			"copy": strconv.Itoa(i % len(signals)),
		}
		ls := event.LabelsOf(labels)
		p := event.PartitionOf(ls.Entity())
		one := event.Series{Labels: ls, ID: ls.Hash(), Points: make([]event.Point, 1)}
		b := &all[p].batches
		if k := len(*b); k == 0 || len((*b)[k-1].Series) == event.MaxBatchSamples {
			*b = append(*b, event.MetricBatch{Source: "main", Query: strconv.Itoa(k), Partition: p})
		}
		last := &(*b)[len(*b)-1]
		last.Series = append(last.Series, one)
	}
	return all, nil
}

func measure(w io.Writer, cfg detector.Config, store *policy.Store, n int, pace pace) error {
	all, err := parts(cfg, store, n)
	if err != nil {
		return err
	}
	idle := settled() // the batches that are sent, and folds that have seen nothing
	idleRSS := resident()
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	var used time.Duration
	samples := 0
	for step := range 2 * pace.steps {
		at := time.UnixMilli(begin + int64(step)*pace.step.Milliseconds()).UTC()
		for i, p := range all {
			payloads, attributes, err := p.encoded(at, rng)
			if err != nil {
				return err
			}
			from := cpu()
			for k := range payloads {
				e, err := event.MetricsRead.Decode(attributes[k], payloads[k])
				if err != nil {
					return err
				}
				if err := p.apply(e.Data, at); err != nil {
					return err
				}
				if step >= pace.steps {
					samples += len(e.Data.Series)
				}
			}
			if err := p.apply(event.Tick{Watermark: at, Signals: []string{"metrics"}}, at); err != nil {
				return fmt.Errorf("partition %d: %w", i, err)
			}
			if step >= pace.steps {
				used += cpu() - from
			}
		}
	}
	heap := settled() - idle
	grown := resident() - idleRSS
	write, read, size, err := checkpoint(all, cfg, store, n)
	if err != nil {
		return err
	}
	rate := float64(samples) / used.Seconds()
	fmt.Fprintf(w, "%9s  %12s  %12s  %10s  %10s  %10s  %10s  %12s\n",
		"series", "samples/s", "15s on a core", "heap B/ser", "RSS B/ser", "write", "read", "B/ser written")
	fmt.Fprintf(w, "%9d  %12.0f  %11.1f %%  %10.0f  %10.0f  %10s  %10s  %12.0f\n",
		n, rate, 100*float64(n)/15/rate, float64(heap)/float64(n), float64(grown)/float64(n),
		write.Round(time.Millisecond), read.Round(time.Millisecond), float64(size)/float64(n))
	runtime.KeepAlive(all)
	return nil
}

// encoded are the batches of a step, as they come over the bus.
func (p *part) encoded(at time.Time, rng *rand.Rand) ([][]byte, []event.Attributes, error) {
	var payloads [][]byte
	var attributes []event.Attributes
	p.next(at, rng)
	for i := range p.batches {
		o := event.MetricsRead.Out(p.batches[i])
		payload, err := o.Payload()
		if err != nil {
			return nil, nil, err
		}
		payloads = append(payloads, payload)
		attributes = append(attributes, event.Attributes{ID: o.ID, Type: o.Type, Subject: o.Subject, Time: o.Time, Extensions: o.Extensions})
	}
	return payloads, attributes, nil
}

// next makes the samples of a step.
func (p *part) next(at time.Time, rng *rand.Rand) {
	for i := range p.batches {
		b := &p.batches[i]
		b.Step = at
		for k := range b.Series {
			level := 1 + float64(b.Series[k].ID%1000)
			if b.Series[k].Labels.Get(event.LabelUnit) == "1" {
				level = float64(b.Series[k].ID%1000) / 2000
			}
			wave := math.Sin(2 * math.Pi * float64(at.UnixMilli()-begin) / 86_400_000)
			b.Series[k].Points[0] = event.Point{T: at.UnixMilli(), V: level * (1 + 0.2*wave + 0.05*rng.NormFloat64())}
		}
	}
}

func (p *part) apply(data any, at time.Time) error {
	m := bus.Message{Data: data}
	m.Time = at
	_, err := p.fold.Apply(m)
	return err
}

// checkpoint writes the state of all partitions and reads it back.
func checkpoint(all []*part, cfg detector.Config, store *policy.Store, n int) (write, read time.Duration, size int, err error) {
	states := make([][]byte, len(all))
	from := cpu()
	for i, p := range all {
		if states[i], err = p.fold.MarshalBinary(); err != nil {
			return 0, 0, 0, err
		}
		size += len(states[i])
	}
	write = cpu() - from
	fresh, err := parts(cfg, store, n)
	if err != nil {
		return 0, 0, 0, err
	}
	from = cpu()
	for i, p := range fresh {
		if err = p.fold.UnmarshalBinary(states[i]); err != nil {
			return 0, 0, 0, err
		}
	}
	return write, cpu() - from, size, nil
}

// settled is the heap in use once everything dead is gone.
func settled() int64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

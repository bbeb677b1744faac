package detectors

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// LogSpikeConfig is the `detector.log_spike:` section of the configuration file.
type LogSpikeConfig struct {
	// P is the tail probability of a minute's count below which it is odd.
	// Default: 1e-7: a workload has ten templates, each tested each minute, so that
	// chance alone goes so far on one day in seven hundred.
	P float64 `yaml:"p"`
	// MinLines is the least number of lines in a minute. Default: 10.
	MinLines float64 `yaml:"min_lines"`
	// MinRatio is the least multiple of the expected count. Default: 3.
	MinRatio float64 `yaml:"min_ratio"`
	// WarmUp is how long a workload is only learnt from. Default: 30m.
	WarmUp time.Duration `yaml:"warm_up"`
}

// Validate checks the ranges.
func (c LogSpikeConfig) Validate() error {
	return errors.Join(
		between("p", c.P, 1e-18, 1e-2, 1e-7),
		between("min_lines", c.MinLines, 1, 1e6, 10),
		between("min_ratio", c.MinRatio, 1, 1e6, 3),
		between("warm_up", c.WarmUp.Minutes(), 5, 24*60, 30),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "log_spike", Input: detector.Logs, Class: event.ClassCause, Hold: 3 * time.Minute,
			Doc: "A log statement of a workload that comes far oftener than it used to (gamma-Poisson by template and minute).",
		},
		LogSpikeConfig{P: 1e-7, MinLines: 10, MinRatio: 3, WarmUp: 30 * time.Minute},
		func(c LogSpikeConfig, set detector.Settings) (detector.Detector, error) {
			return &logSpike{cfg: c, words: vocabulary(set), rows: map[uint64]*logRate{}}, nil
		}))
}

type logSpike struct {
	cfg    LogSpikeConfig
	words  *detector.Vocabulary
	rows   map[uint64]*logRate // by statement
	tested int64
	swept  int64 // hour of the last sweep
}

// logRate is the habit of one statement.
type logRate struct {
	rate    stat.GammaPoisson // lines in a minute in which the workload logs at all
	slot    int64             // the minute that is being counted
	n       float64
	read    float64 // lines of it that were read, each of which stands for n/read
	minutes int64   // of the speaker, when the last minute was closed
	onset   int64
	hours   [24]uint8 // the most lines of a minute at this hour of days before, by magnitude
	peak    uint8     // and in this hour
}

// magnitude is a count by powers of the eighth root of two.
func magnitude(n float64) uint8 { return uint8(min(255, math.Ceil(8*math.Log2(1+n)))) }

const (
	logHorizon = 24 * 60 // minutes

	// becomesUsual is how long a spike lasts before it is learnt like any rate.
	becomesUsual = 6 * 60 * minute

	// hourFade is what the magnitude of an hour loses each day without one like it.
	hourFade = 4
)

// Tested is detector.Tester's.
func (d *logSpike) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *logSpike) Observe(b event.Batch) (found []event.Anomaly) {
	d.join()
	for _, s := range d.words.Seen() {
		r, ok := d.rows[s.Key]
		if !ok {
			r = &logRate{slot: s.Speaker.Slot, minutes: s.Speaker.Minutes}
			// Before it was first seen it was there no time in each minute.
			r.rate.N = float64(min(max(0, s.Speaker.Minutes-1), logHorizon))
			d.rows[s.Key] = r
		}
		d.close(r, s.Speaker)
		r.n, r.read = r.n+s.Count, r.read+s.Count/s.Rate
		d.tested++
		if a, ok := d.judge(s, r, b.Watermark); ok {
			found = append(found, a)
		}
	}
	d.sweep(b.Watermark.UnixMilli())
	return found
}

// join adds the habits of templates that became one: what each was seen to do
// is what they do together. An anomaly of one that is gone ends by its silence.
func (d *logSpike) join() {
	follow(d.words, d.rows, func(r, gone *logRate) {
		// The two were counted over the same minutes, one of them for longer.
		r.rate.N = max(r.rate.N, gone.rate.N)
		r.rate.Sum += gone.rate.Sum
		r.rate.Sum2 += gone.rate.Sum2
		if gone.slot == r.slot {
			r.n, r.read = r.n+gone.n, r.read+gone.read
		}
		r.peak = max(r.peak, gone.peak)
		for i := range r.hours {
			r.hours[i] = max(r.hours[i], gone.hours[i])
		}
	})
}

// close learns the minutes that are over. Only minutes in which the workload
// logged count: silence may be a gap in what we see.
func (d *logSpike) close(r *logRate, src *detector.Speaker) {
	if src.Slot <= r.slot {
		return
	}
	r.peak = max(r.peak, magnitude(r.n))
	if src.Slot/60 != r.slot/60 {
		// What was there once is usual for some days.
		at := &r.hours[r.slot/60%24]
		*at = max(r.peak, *at-min(*at, hourFade))
		r.peak = 0
	}
	most := r.rate.High(1e-3) + 1
	if r.onset != 0 && src.Slot*minute-r.onset < becomesUsual {
		most = min(most, r.rate.Mean()+1) // a spike is not to end because it is learnt
	}
	r.rate.Add(min(r.n, most), logHorizon)
	if r.n < d.cfg.MinLines || src.Minutes-r.minutes > 1 {
		r.onset = 0
	}
	for range min(src.Minutes-r.minutes-1, logHorizon) {
		r.rate.Add(0, logHorizon)
	}
	r.slot, r.minutes, r.n, r.read = src.Slot, src.Minutes, 0, 0
}

// judge tests the minute so far: a part of a minute that is too much for a
// whole one is odd already. Of sampled lines those are tested that were read: one
// that stands for twenty is no more evidence than one.
func (d *logSpike) judge(s detector.Seen, r *logRate, at time.Time) (event.Anomaly, bool) {
	mean, p := r.rate.Mean(), 1.0
	if s.Speaker.Known(d.cfg.WarmUp) && r.n >= d.cfg.MinLines && r.n >= d.cfg.MinRatio*mean {
		seen := r.rate.Thinned(r.n / r.read)
		p = seen.Tail(r.read)
		// Half as many again as at this hour of a day before are usual.
		if magnitude(r.n/1.5) <= r.hours[r.slot/60%24] {
			p = 1
		}
	}
	if p > d.cfg.P {
		if r.n >= d.cfg.MinLines {
			r.onset = 0
		}
		return event.Anomaly{}, false
	}
	if r.onset == 0 {
		r.onset = s.First
	}
	a := logObservation(d.words, s, at)
	a.Unit, a.Observed, a.Expected, a.TailProb = "{line}/min", r.n, &event.Interval{Low: 0, High: r.rate.High(1e-3)}, p
	a.Onset = time.UnixMilli(r.onset).UTC()
	a.Severity, a.Class = severityOfLevel(s.Statement.Level)
	a.Summary = fmt.Sprintf("%.0f lines a minute%s, expected about %.3g: %s", r.n, sampled(r.n/r.read), mean, clip(a.Labels["template"], 160))
	a.Explanation = fmt.Sprintf("gamma-Poisson over %.0f minutes; tail probability %.1e, alarm below %.1e", r.rate.N, p, d.cfg.P)
	return a, true
}

// sweep forgets, once an hour, the habits of what has not been said for two days.
func (d *logSpike) sweep(now int64) {
	hour := now / (60 * minute)
	if hour <= d.swept {
		return
	}
	d.swept = hour
	for key, r := range d.rows {
		if r.slot*minute < now-2*forgetAfter || d.words.Statement(key) == nil {
			delete(d.rows, key)
		}
	}
}

// MarshalBinary writes the state.
func (d *logSpike) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Int(d.swept)
	w.Uint(uint64(len(d.rows)))
	for _, key := range sortedKeys(d.rows) {
		r := d.rows[key]
		w.Fixed(key)
		r.rate.Write(w)
		w.Int(r.slot)
		w.Float(r.n)
		w.Float(r.read)
		w.Int(r.minutes)
		w.Int(r.onset)
		w.Bytes(r.hours[:])
		w.Uint(uint64(r.peak))
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *logSpike) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.swept = r.Int()
	d.rows = map[uint64]*logRate{}
	for range r.Len() {
		key := r.Fixed()
		l := &logRate{}
		l.rate.Read(r)
		l.slot, l.n, l.read, l.minutes, l.onset = r.Int(), r.Float(), r.Float(), r.Int(), r.Int()
		copy(l.hours[:], r.Bytes())
		l.peak = uint8(r.Uint())
		if r.Err() != nil {
			return r.Err()
		}
		d.rows[key] = l
	}
	return r.Close()
}

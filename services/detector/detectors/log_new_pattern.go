package detectors

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// LogNewPatternConfig is the `detector.log_new_pattern:` section of the configuration file.
type LogNewPatternConfig struct {
	// WarmUp is how long a workload is only learnt from, and how long after a
	// gap in its logs. Default: 30m.
	WarmUp time.Duration `yaml:"warm_up"`
	// P is the tail probability of a new statement in a workload with so stable
	// a vocabulary below which an error is odd. Default: 0.02.
	P float64 `yaml:"p"`
	// QuietP is the same for lines that state no error but sound like one.
	// Default: 0.003.
	QuietP float64 `yaml:"quiet_p"`
	// For is how long a statement counts as new. Default: 15m.
	For time.Duration `yaml:"for"`
}

// Validate checks the ranges.
func (c LogNewPatternConfig) Validate() error {
	return errors.Join(
		between("warm_up", c.WarmUp.Minutes(), 5, 24*60, 30),
		between("p", c.P, 1e-6, 0.5, 0.02),
		between("quiet_p", c.QuietP, 1e-6, c.P, 0.003),
		between("for", c.For.Minutes(), 1, 24*60, 15),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "log_new_pattern", Input: detector.Logs, Class: event.ClassCause, Hold: 5 * time.Minute,
			Doc: "A log statement that a workload has never made before and that speaks of trouble, weighed by how stable its vocabulary is.",
		},
		LogNewPatternConfig{WarmUp: 30 * time.Minute, P: 0.02, QuietP: 0.003, For: 15 * time.Minute},
		func(c LogNewPatternConfig, _ detector.Settings) (detector.Detector, error) {
			return &logNewPattern{cfg: c, sources: newLogSources(), known: map[uint64]*knownPattern{}, novelty: map[uint64]*novelty{}}, nil
		}))
}

type logNewPattern struct {
	cfg     LogNewPatternConfig
	sources logSources
	known   map[uint64]*knownPattern // by workload and template
	novelty map[uint64]*novelty      // by workload
	tested  int64
}

// knownPattern is a template that a workload has made.
type knownPattern struct {
	source   uint64
	template uint64
	first    int64
	last     int64
	odd      bool
	prob     float64
	level    logpattern.Level
	count    float64
}

// novelty is how often a workload says something new, by the minute.
type novelty struct {
	rate    stat.GammaPoisson
	slot    int64
	minutes int64
	n       float64
}

// maxKnown bounds the templates that are remembered.
const maxKnown = 100_000

// Tested is detector.Tester's.
func (d *logNewPattern) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *logNewPattern) Observe(b event.Batch) (found []event.Anomaly) {
	now := b.Watermark.UnixMilli()
	all := d.sources.fold(b)
	d.join()
	for _, s := range all {
		src := d.sources.rows[s.source]
		nov, ok := d.novelty[s.source]
		if !ok {
			nov = &novelty{slot: src.slot, minutes: src.minutes}
			d.novelty[s.source] = nov
		}
		nov.close(src)
		k, ok := d.known[s.key]
		if !ok {
			if len(d.known) >= maxKnown {
				continue
			}
			k = &knownPattern{source: s.source, template: s.template, first: s.first}
			d.known[s.key] = k
			nov.n++
			d.tested++
			k.prob = nov.rate.Tail(nov.n)
			k.odd = src.warm(d.cfg.WarmUp) && d.matters(s, k.prob)
		}
		k.last, k.level, k.count = now, max(k.level, s.level), k.count+s.count
		if !k.odd {
			continue
		}
		if now-k.first > d.cfg.For.Milliseconds() {
			k.odd = false
			continue
		}
		found = append(found, d.anomaly(s, k, src, nov, b.Watermark))
	}
	d.forget(now)
	return found
}

// join makes one of the templates that became one. Of a statement that was known
// before, what looked new is only another form.
func (d *logNewPattern) join() {
	follow(&d.sources, d.known, func(k *knownPattern) (uint64, *uint64) { return k.source, &k.template }, func(k, gone *knownPattern) {
		k.odd = k.odd && gone.odd
		k.first, k.last = min(k.first, gone.first), max(k.last, gone.last)
		k.level, k.count = max(k.level, gone.level), k.count+gone.count
	})
}

// matters says whether a new statement is worth a word: by what it says of
// itself, and by how seldom the workload says new things.
func (d *logNewPattern) matters(s seen, prob float64) bool {
	switch {
	case s.level >= logpattern.Error:
		return prob <= d.cfg.P
	case s.level == logpattern.Warning || s.level == logpattern.Unknown && troubled(s.sample):
		return prob <= d.cfg.QuietP
	}
	return false
}

// troubled says whether a line without a level sounds like trouble.
func troubled(s string) bool {
	s = strings.ToLower(s[:min(len(s), 400)])
	for _, w := range []string{"error", "exception", "fail", "panic", "fatal", "refused", "timed out", "timeout", "denied", "killed", "cannot", "unable", "unavailable", "out of memory", "no such", "corrupt"} {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

func (d *logNewPattern) anomaly(s seen, k *knownPattern, src *logSource, nov *novelty, at time.Time) event.Anomaly {
	a := event.Anomaly{
		Series: event.SeriesHash(s.key), Entity: src.entity, Signal: "log:" + event.SeriesHash(s.template), Unit: "{line}",
		Observed: k.count, Expected: &event.Interval{}, TailProb: stat.Prob(k.prob), Onset: time.UnixMilli(k.first).UTC(),
		Labels:   map[string]string{"template": clip(d.sources.miner.Template(s.template), 300), "level": k.level.String(), event.LabelSource: src.source},
		Evidence: []event.EvidenceRef{d.sources.evidence(src, s.template, s.sample, at)},
	}
	a.Severity, a.Class = severityOfLevel(max(k.level, logpattern.Warning))
	a.Summary = fmt.Sprintf("new log line (%s): %s", k.level, clip(a.Labels["template"], 200))
	a.Explanation = fmt.Sprintf("never seen in %.0f lines over %d minutes of this workload, which says new things %.3g times a minute", src.lines, src.minutes, nov.rate.Mean())
	return a
}

// close learns the minutes that are over.
func (n *novelty) close(src *logSource) {
	if src.slot <= n.slot {
		return
	}
	n.rate.Add(n.n, logHorizon)
	for range min(src.minutes-n.minutes-1, logHorizon) {
		n.rate.Add(0, logHorizon)
	}
	n.slot, n.minutes, n.n = src.slot, src.minutes, 0
}

func (d *logNewPattern) forget(now int64) {
	if now/minute%60 != 0 {
		return // once an hour is enough, and needs no state
	}
	d.sources.forget(now)
	for key, k := range d.known {
		// A statement that comes once a week is not new each week, but memory is
		// bounded: seven days.
		if k.last < now-7*forgetAfter {
			delete(d.known, key)
		}
	}
	for id := range d.novelty {
		if d.sources.rows[id] == nil {
			delete(d.novelty, id)
		}
	}
}

// MarshalBinary writes the state.
func (d *logNewPattern) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	d.sources.write(w)
	w.Uint(uint64(len(d.known)))
	for _, key := range sortedKeys(d.known) {
		k := d.known[key]
		w.Fixed(key)
		w.Fixed(k.source)
		w.Fixed(k.template)
		w.Int(k.first)
		w.Int(k.last)
		w.Bool(k.odd)
		w.Float(k.prob)
		w.Uint(uint64(k.level))
		w.Float(k.count)
	}
	w.Uint(uint64(len(d.novelty)))
	for _, id := range sortedKeys(d.novelty) {
		n := d.novelty[id]
		w.Fixed(id)
		n.rate.Write(w)
		w.Int(n.slot)
		w.Int(n.minutes)
		w.Float(n.n)
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *logNewPattern) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.sources.read(r)
	d.known, d.novelty = map[uint64]*knownPattern{}, map[uint64]*novelty{}
	for range r.Len() {
		key := r.Fixed()
		k := &knownPattern{
			source: r.Fixed(), template: r.Fixed(), first: r.Int(), last: r.Int(), odd: r.Bool(), prob: r.Float(),
			level: logpattern.Level(r.Uint()), count: r.Float(),
		}
		if r.Err() != nil {
			return r.Err()
		}
		d.known[key] = k
	}
	for range r.Len() {
		id := r.Fixed()
		n := &novelty{}
		n.rate.Read(r)
		n.slot, n.minutes, n.n = r.Int(), r.Int(), r.Float()
		if r.Err() != nil {
			return r.Err()
		}
		d.novelty[id] = n
	}
	return r.Close()
}

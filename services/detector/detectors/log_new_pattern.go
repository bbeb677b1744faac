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
		func(c LogNewPatternConfig, set detector.Settings) (detector.Detector, error) {
			return &logNewPattern{cfg: c, words: vocabulary(set), fresh: map[uint64]*freshStatement{}, novelty: map[uint64]*novelty{}}, nil
		}))
}

type logNewPattern struct {
	cfg     LogNewPatternConfig
	words   *detector.Vocabulary
	fresh   map[uint64]*freshStatement // by statement
	novelty map[uint64]*novelty        // by workload
	tested  int64
	swept   int64 // hour of the last sweep
}

// freshStatement is one that is new, and odd by that.
type freshStatement struct {
	first int64
	prob  float64
}

// novelty is how often a workload says something new, by the minute.
type novelty struct {
	rate    stat.GammaPoisson
	slot    int64
	minutes int64
	n       float64
}

// Tested is detector.Tester's.
func (d *logNewPattern) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *logNewPattern) Observe(b event.Batch) (found []event.Anomaly) {
	now := b.Watermark.UnixMilli()
	d.join()
	for _, s := range d.words.Seen() {
		nov, ok := d.novelty[s.Speaker.ID]
		if !ok {
			nov = &novelty{slot: s.Speaker.Slot, minutes: s.Speaker.Minutes}
			d.novelty[s.Speaker.ID] = nov
		}
		nov.close(s.Speaker)
		f := d.fresh[s.Key]
		if s.New {
			nov.n++
			d.tested++
			p := nov.rate.Tail(nov.n)
			if s.Speaker.Known(d.cfg.WarmUp) && d.matters(s, p) {
				f = &freshStatement{s.First, p}
				d.fresh[s.Key] = f
			}
		}
		if f != nil && now-f.first <= d.cfg.For.Milliseconds() {
			found = append(found, d.anomaly(s, f, nov, b.Watermark))
		}
	}
	d.sweep(now)
	return found
}

// join keeps what is new under the statement that it became part of. Of one that
// was known before, what looked new is only another form.
func (d *logNewPattern) join() {
	for _, m := range d.words.Moved() {
		gone, isNew := d.fresh[m.From]
		delete(d.fresh, m.From)
		into, wasNew := d.fresh[m.To]
		switch {
		case isNew && !m.Joined:
			d.fresh[m.To] = gone
		case isNew && wasNew:
			into.first = min(into.first, gone.first)
		case wasNew:
			delete(d.fresh, m.To)
		}
	}
}

// matters says whether a new statement is worth a word: by what it says of
// itself, and by how seldom the workload says new things.
func (d *logNewPattern) matters(s detector.Seen, prob float64) bool {
	switch {
	case s.Level >= logpattern.Error:
		return prob <= d.cfg.P
	case s.Level == logpattern.Warning || s.Level == logpattern.Unknown && troubled(s.Sample):
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

func (d *logNewPattern) anomaly(s detector.Seen, f *freshStatement, nov *novelty, at time.Time) event.Anomaly {
	a := logObservation(d.words, s, at)
	a.Unit, a.Observed, a.Expected, a.TailProb = "{line}", s.Statement.Count, &event.Interval{}, stat.Prob(f.prob)
	a.Onset = time.UnixMilli(f.first).UTC()
	a.Severity, a.Class = severityOfLevel(max(s.Statement.Level, logpattern.Warning))
	a.Summary = fmt.Sprintf("new log line (%s): %s", s.Statement.Level, clip(a.Labels["template"], 200))
	a.Explanation = fmt.Sprintf("never seen in %.0f lines over %d minutes of this workload, which says new things %.3g times a minute",
		s.Speaker.Lines, s.Speaker.Minutes, nov.rate.Mean())
	return a
}

// close learns the minutes that are over.
func (n *novelty) close(src *detector.Speaker) {
	if src.Slot <= n.slot {
		return
	}
	n.rate.Add(n.n, logHorizon)
	for range min(src.Minutes-n.minutes-1, logHorizon) {
		n.rate.Add(0, logHorizon)
	}
	n.slot, n.minutes, n.n = src.Slot, src.Minutes, 0
}

// sweep forgets, once an hour, what is no longer new, and who no longer speaks.
func (d *logNewPattern) sweep(now int64) {
	hour := now / (60 * minute)
	if hour <= d.swept {
		return
	}
	d.swept = hour
	for key, f := range d.fresh {
		if now-f.first > d.cfg.For.Milliseconds() {
			delete(d.fresh, key)
		}
	}
	for id := range d.novelty {
		if d.words.Speaker(id) == nil {
			delete(d.novelty, id)
		}
	}
}

// MarshalBinary writes the state.
func (d *logNewPattern) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Int(d.swept)
	w.Uint(uint64(len(d.fresh)))
	for _, key := range sortedKeys(d.fresh) {
		w.Fixed(key)
		w.Int(d.fresh[key].first)
		w.Float(d.fresh[key].prob)
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
	d.swept = r.Int()
	d.fresh, d.novelty = map[uint64]*freshStatement{}, map[uint64]*novelty{}
	for range r.Len() {
		key := r.Fixed()
		d.fresh[key] = &freshStatement{first: r.Int(), prob: r.Float()}
		if r.Err() != nil {
			return r.Err()
		}
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

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
	// P is the tail probability of another new statement of trouble, in a workload
	// that makes them so seldom, below which an error is odd. Default: 0.02.
	P float64 `yaml:"p"`
	// QuietP is the same for lines that state no error but sound like one, in a
	// workload that says new things of any kind so seldom. Default: 0.003.
	QuietP float64 `yaml:"quiet_p"`
	// MinLines is how many lines of a new statement are told; one that states that
	// it is fatal is told at once. Default: 3.
	MinLines float64 `yaml:"min_lines"`
	// Settle is how long a new statement must last that begins within ten minutes
	// of a rollout: what starts complains of what is not there yet. Default: 2m.
	Settle time.Duration `yaml:"settle"`
	// For is how long a statement counts as new. Default: 15m.
	For time.Duration `yaml:"for"`
}

// Validate checks the ranges.
func (c LogNewPatternConfig) Validate() error {
	return errors.Join(
		between("warm_up", c.WarmUp.Minutes(), 5, 24*60, 30),
		between("p", c.P, 1e-6, 0.5, 0.02),
		between("quiet_p", c.QuietP, 1e-6, c.P, 0.003),
		between("min_lines", c.MinLines, 1, 1e6, 3),
		between("settle", c.Settle.Minutes(), 0, 60, 2),
		between("for", c.For.Minutes(), 1, 24*60, 15),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "log_new_pattern", Input: detector.Logs, Class: event.ClassCause, Hold: 5 * time.Minute,
			Doc: "A log statement that a workload has never made before and that speaks of trouble, weighed by how seldom it makes such, and how long before a rollout was.",
		},
		LogNewPatternConfig{WarmUp: 30 * time.Minute, P: 0.02, QuietP: 0.003, MinLines: 3, Settle: 2 * time.Minute, For: 15 * time.Minute},
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
	learnt  uint64
}

// freshStatement is one of trouble that is new.
type freshStatement struct {
	first  int64
	prob   float64 // of another new one
	limit  float64 // of what is odd
	count  float64 // lines that were read
	rolled int64   // rollout before it; zero for none
	told   bool
	like   string // what it is like, in words; "" for nothing
}

// novelty is how often a workload says something new, by the minute, once it is
// known: at first everything is.
type novelty struct {
	trouble stat.GammaPoisson // statements of trouble
	words   stat.GammaPoisson // of any kind
	slot    int64
	minutes int64
	nt, nw  float64 // new ones of this minute
}

const (
	// afterRollout is how long what is new is said to be so since a rollout, and
	// startsUp how long what starts may complain.
	afterRollout = 30 * minute
	startsUp     = 10 * minute
)

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
	if n := d.words.Learnt(); n != d.learnt {
		d.learnt = n
		d.recount(now)
	}
	for _, s := range d.words.Seen() {
		nov, ok := d.novelty[s.Speaker.ID]
		if !ok {
			nov = &novelty{slot: s.Speaker.Slot, minutes: s.Speaker.Minutes}
			d.novelty[s.Speaker.ID] = nov
		}
		known := s.Speaker.Known(d.cfg.WarmUp)
		nov.close(s.Speaker, known)
		f := d.fresh[s.Key]
		if f != nil && s.Statement.First < f.first-minute {
			// History has come, as after an upgrade, and it was said before.
			delete(d.fresh, s.Key)
			f = nil
		}
		if s.New && known {
			d.tested++
			if p, limit := d.judge(s, nov); limit > 0 && !isHistory(b) {
				f = &freshStatement{first: s.First, prob: p, limit: limit}
				if sp := s.Speaker; sp.Rolled != 0 && s.First-sp.Rolled >= -minute && s.First-sp.Rolled < afterRollout {
					f.rolled = sp.Rolled
				}
				d.fresh[s.Key] = f
			}
		}
		if f == nil || now-f.first > d.cfg.For.Milliseconds() {
			continue
		}
		f.count += s.Count / s.Rate // one that stands for twenty is no more evidence than one
		if !f.told && d.lasts(f, s) {
			f.told, f.like = true, d.like(s)
		}
		if f.told {
			found = append(found, d.anomaly(s, f, nov, b.Watermark))
		}
	}
	d.sweep(now)
	return found
}

// like says which statement that is known a new one is like most, and who makes it:
// the same trouble elsewhere, or another wording of an old one.
func (d *logNewPattern) like(s detector.Seen) string {
	text := d.words.Text(s.Statement.Template)
	likeness, best := logpattern.NewLikeness(text), logpattern.AtLeastLike
	var found *detector.Statement
	foundKey, other, ratios := uint64(0), "", map[uint64]float64{} // by template, which many may make
	d.words.Each(func(key uint64, st *detector.Statement) {
		if key == s.Key {
			return
		}
		ratio, ok := ratios[st.Template]
		if !ok {
			ratio = likeness.To(d.words.Text(st.Template))
			ratios[st.Template] = ratio
		}
		// In no order: of those that are as like, the one that was made first.
		if ratio < best || ratio == best && found != nil && (st.First > found.First || st.First == found.First && key > foundKey) {
			return
		}
		best, found, foundKey, other = ratio, st, key, d.words.Text(st.Template)
	})
	if found == nil {
		return ""
	}
	by := "this workload"
	if sp := d.words.Speaker(found.Speaker); sp == nil {
		by = "a workload that is gone"
	} else if sp.ID != s.Speaker.ID {
		by = sp.Entity.String()
	}
	return fmt.Sprintf("%.0f %% like %q, which %s has made since %s", 100*best, clip(other, 120), by, time.UnixMilli(found.First).UTC().Format("2006-01-02 15:04"))
}

// recount counts again what was new, when history has come that says what was said
// before.
func (d *logNewPattern) recount(now int64) {
	for _, n := range d.novelty {
		n.trouble.Sum, n.trouble.Sum2, n.words.Sum, n.words.Sum2 = 0, 0, 0, 0
	}
	d.words.Each(func(_ uint64, s *detector.Statement) {
		n := d.novelty[s.Speaker]
		if n == nil || float64(now-s.First) > n.words.N*minute {
			return
		}
		n.words.Sum, n.words.Sum2 = n.words.Sum+1, n.words.Sum2+1
		if s.Level >= logpattern.Warning || s.Level == logpattern.Unknown && troubled(s.Sample) {
			n.trouble.Sum, n.trouble.Sum2 = n.trouble.Sum+1, n.trouble.Sum2+1
		}
	})
}

// judge gives the tail probability of another new statement, by how seldom the
// workload makes such, and the one below which it is odd, by what it says of
// itself; zero for what says nothing of trouble.
func (d *logNewPattern) judge(s detector.Seen, nov *novelty) (p, limit float64) {
	loud := s.Level >= logpattern.Error
	quiet := s.Level == logpattern.Warning || s.Level == logpattern.Unknown && troubled(s.Sample)
	nov.nw++
	if !loud && !quiet {
		return 1, 0
	}
	nov.nt++
	p = nov.trouble.Tail(nov.nt)
	if loud {
		return p, d.cfg.P
	}
	return max(p, nov.words.Tail(nov.nw)), d.cfg.QuietP
}

// tail is the probability of a new statement with so many lines. How many lines
// new statements have is not learnt: that one of the usual few has c of them is
// taken to be as improbable as the few are to c.
func (d *logNewPattern) tail(f *freshStatement) float64 {
	return stat.Prob(f.prob * min(1, d.cfg.MinLines/max(f.count, 1)))
}

// lasts says whether a new statement is improbable, and more than a single
// complaint, or than those of what starts.
func (d *logNewPattern) lasts(f *freshStatement, s detector.Seen) bool {
	if d.tail(f) > f.limit {
		return false
	}
	if s.Level >= logpattern.Fatal {
		return true
	}
	starting := f.rolled != 0 && f.first-f.rolled < startsUp
	return f.count >= d.cfg.MinLines && (!starting || s.Last-f.first >= d.cfg.Settle.Milliseconds())
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
			into.first, into.count = min(into.first, gone.first), into.count+gone.count
			into.told = into.told || gone.told
		case wasNew:
			delete(d.fresh, m.To)
		}
	}
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
	a.Unit, a.Observed, a.Expected, a.TailProb = "{line}", s.Statement.Count, &event.Interval{}, d.tail(f)
	a.Onset = time.UnixMilli(f.first).UTC()
	a.Severity, a.Class = severityOfLevel(max(s.Statement.Level, logpattern.Warning))
	since := ""
	if f.rolled != 0 {
		since = ", first seen " + span(max(0, float64(f.first-f.rolled)/1000)) + " after a rollout of " + s.Speaker.Entity.Name
	}
	a.Summary = fmt.Sprintf("new log line (%s)%s%s: %s", s.Statement.Level, sampled(s.Rate), since, clip(a.Labels["template"], 200))
	a.Explanation = fmt.Sprintf("never seen in %.0f lines over %d minutes of this workload, which makes a new statement of trouble %.3g times a minute, and one of any kind %.3g times",
		s.Speaker.Lines, s.Speaker.Minutes, nov.trouble.Mean(), nov.words.Mean())
	if f.like != "" {
		a.Explanation += "; " + f.like
	}
	if f.rolled != 0 {
		a.Explanation += "; pods of a new ReplicaSet have written since " + time.UnixMilli(f.rolled).UTC().Format("15:04:05")
	}
	return a
}

// close learns the minutes that are over.
func (n *novelty) close(src *detector.Speaker, known bool) {
	if src.Slot <= n.slot {
		return
	}
	if known {
		n.trouble.Add(n.nt, logHorizon)
		n.words.Add(n.nw, logHorizon)
		for range min(src.Minutes-n.minutes-1, logHorizon) {
			n.trouble.Add(0, logHorizon)
			n.words.Add(0, logHorizon)
		}
	}
	n.slot, n.minutes, n.nt, n.nw = src.Slot, src.Minutes, 0, 0
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
	w.Uint(d.learnt)
	w.Uint(uint64(len(d.fresh)))
	for _, key := range sortedKeys(d.fresh) {
		w.Fixed(key)
		f := d.fresh[key]
		w.Int(f.first)
		w.Float(f.prob)
		w.Float(f.limit)
		w.Float(f.count)
		w.Int(f.rolled)
		w.Bool(f.told)
		w.String(f.like)
	}
	w.Uint(uint64(len(d.novelty)))
	for _, id := range sortedKeys(d.novelty) {
		n := d.novelty[id]
		w.Fixed(id)
		n.trouble.Write(w)
		n.words.Write(w)
		w.Int(n.slot)
		w.Int(n.minutes)
		w.Float(n.nt)
		w.Float(n.nw)
	}
	return w.Data(), nil
}

// UnmarshalBinary reads it back.
func (d *logNewPattern) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.swept, d.learnt = r.Int(), r.Uint()
	d.fresh, d.novelty = map[uint64]*freshStatement{}, map[uint64]*novelty{}
	for range r.Len() {
		key := r.Fixed()
		d.fresh[key] = &freshStatement{first: r.Int(), prob: r.Float(), limit: r.Float(), count: r.Float(), rolled: r.Int(), told: r.Bool(), like: r.String()}
		if r.Err() != nil {
			return r.Err()
		}
	}
	for range r.Len() {
		id := r.Fixed()
		n := &novelty{}
		n.trouble.Read(r)
		n.words.Read(r)
		n.slot, n.minutes, n.nt, n.nw = r.Int(), r.Int(), r.Float(), r.Float()
		if r.Err() != nil {
			return r.Err()
		}
		d.novelty[id] = n
	}
	return r.Close()
}

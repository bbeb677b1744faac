package detectors

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// LogVanishedConfig is the `detector.log_vanished:` section of the configuration file.
type LogVanishedConfig struct {
	// P is the tail probability of so long a silence below which it is odd.
	// Default: 1e-7: each of some hundred gaps a day of each statement is tested.
	P float64 `yaml:"p"`
	// Hours is how many of the last 24 hours a statement must have been made in,
	// and all in which its workload said anything; the hours of a first start's
	// history count. At least 2. Default: 20.
	Hours int `yaml:"hours"`
	// MinSilence is the least silence that is told. Default: 2m.
	MinSilence time.Duration `yaml:"min_silence"`
	// MaxGap is the longest usual gap between two lines of a statement that is
	// waited for. Default: 20m.
	MaxGap time.Duration `yaml:"max_gap"`
}

// Validate checks the ranges.
func (c LogVanishedConfig) Validate() error {
	return errors.Join(
		between("p", c.P, 1e-12, 1e-2, 1e-7),
		between("hours", float64(c.Hours), 2, 24, 20),
		between("min_silence", c.MinSilence.Minutes(), 0.5, 24*60, 2),
		between("max_gap", c.MaxGap.Minutes(), 1, 6*60, 20),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "log_vanished", Input: detector.Logs, Class: event.ClassCause, Hold: 2 * time.Minute,
			Doc: "A log statement that came steadily and stopped while the pods that made it write on (a heartbeat; renewal times by statement).",
		},
		LogVanishedConfig{P: 1e-7, Hours: 20, MinSilence: 2 * time.Minute, MaxGap: 20 * time.Minute},
		func(c LogVanishedConfig, set detector.Settings) (detector.Detector, error) {
			return newLogVanished(c, vocabulary(set)), nil
		}))
}

func newLogVanished(c LogVanishedConfig, words *detector.Vocabulary) *logVanished {
	return &logVanished{cfg: c, words: words, rows: map[uint64]*recurrence{}, spoke: map[uint64]*dayHours{}, unseen: map[string]int64{}, lost: map[uint64]int64{}}
}

type logVanished struct {
	cfg    LogVanishedConfig
	words  *detector.Vocabulary
	rows   map[uint64]*recurrence // by statement
	spoke  map[uint64]*dayHours   // by speaker: when it said anything
	unseen map[string]int64       // milliseconds of each source that nobody could read
	lost   map[uint64]int64       // and of each speaker of which lines were left out
	looked int64                  // when it was last looked for silences, in milliseconds
	tested int64
}

// recurrence is how a statement comes back.
type recurrence struct {
	gaps   stat.Renewal // between the first lines of windows with some, in milliseconds that were read
	came   dayHours
	first  int64    // first line of the last window with some; 0: before history only
	last   int64    // last line
	unseen int64    // of the source, at that time
	pods   []uint64 // that made it last, the newest first
}

// dayHours are the hours of the last day in which something was: a bit each.
type dayHours struct {
	hour int64 // the newest
	bits uint32
}

func (h *dayHours) add(t int64) {
	hour := t / (60 * minute)
	if d := hour - h.hour; d > 0 {
		h.bits, h.hour = h.bits<<min(d, 31)&(1<<24-1), hour
	}
	if d := h.hour - hour; d < 24 {
		h.bits |= 1 << d
	}
}

// at are the bits as they are seen from another hour.
func (h *dayHours) at(hour int64) uint32 {
	if d := hour - h.hour; d > 0 {
		return h.bits << min(d, 31) & (1<<24 - 1)
	}
	return h.bits
}

const (
	gapHorizon = 500 // gaps
	// leastGaps are so many that a rate is known.
	leastGaps = 50
	// mostVariation of gaps is hardly more than that of chance: what is more comes
	// in bursts, of which one may be the last of the day.
	mostVariation = 1.2
	// byTheClock is the shape of gaps that somebody planned.
	byTheClock = 4
	// madeBy bounds the pods that are remembered as those that made a statement.
	madeBy = 4
	// lookEvery is how often it is looked for silences, in milliseconds.
	lookEvery = 30_000
	// maxVanished bounds the statements that evidence names.
	maxVanished = 3
)

// Tested is detector.Tester's.
func (d *logVanished) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *logVanished) Observe(b event.Batch) []event.Anomaly {
	history := isHistory(b)
	if !history {
		d.blind(b)
	}
	follow(d.words, d.rows, func(r, gone *recurrence) {
		// The whole comes as often as the part that came oftener, or more.
		if gone.gaps.N > r.gaps.N {
			r.gaps = gone.gaps
		}
		r.came.add(gone.came.hour * 60 * minute)
		r.came.bits |= gone.came.at(r.came.hour)
		r.first, r.last, r.unseen = max(r.first, gone.first), max(r.last, gone.last), max(r.unseen, gone.unseen)
	})
	for _, s := range d.words.Seen() {
		d.learn(s, history)
	}
	now := b.Watermark.UnixMilli()
	if history || now-d.looked < lookEvery {
		return nil
	}
	hour := now/(60*minute) != d.looked/(60*minute)
	d.looked = now
	if hour {
		d.forget(now)
	}
	return d.silences(b)
}

// blind adds up the time in which lines may have been that were not read: of
// what was given up, of sources that do not answer, and of workloads of which
// lines were left out.
func (d *logVanished) blind(b event.Batch) {
	if b.Previous.IsZero() {
		return
	}
	passed := b.Watermark.Sub(b.Previous).Milliseconds()
	if b.Skipped > 0 {
		d.unseen[""] += passed
		return
	}
	blind := map[string]bool{}
	for _, s := range b.Blind {
		blind[s.Source] = true
	}
	for id := range d.words.Rates(b) {
		if !blind[""] && !blind[d.words.Speaker(id).Source] {
			d.lost[id] += passed
		}
	}
	if blind[""] { // of whom is not known
		clear(blind)
		blind[""] = true
	}
	for source := range blind {
		d.unseen[source] += passed
	}
}

// unread is how much of what a speaker wrote could not be read so far, in
// milliseconds.
func (d *logVanished) unread(s *detector.Speaker) int64 {
	n := d.unseen[""] + d.lost[s.ID]
	if s.Source != "" {
		n += d.unseen[s.Source]
	}
	return n
}

// learn folds what was said in a window. History has windows between which
// nobody looked: it tells in which hours a statement came, and no gaps.
func (d *logVanished) learn(s detector.Seen, history bool) {
	spoke, ok := d.spoke[s.Speaker.ID]
	if !ok {
		spoke = &dayHours{}
		d.spoke[s.Speaker.ID] = spoke
	}
	spoke.add(s.Last)
	r, ok := d.rows[s.Key]
	if !ok {
		r = &recurrence{}
		d.rows[s.Key] = r
	}
	r.came.add(s.Last)
	if history {
		return
	}
	unseen := d.unread(s.Speaker)
	if r.first != 0 {
		gap := s.First - r.first
		// A gap with a time in it that was not read is as long as the rest of it or
		// longer: it tells nothing.
		if unseen == r.unseen && gap > 0 && gap < becomesUsual {
			r.gaps.Add(float64(gap), gapHorizon)
		}
	}
	r.first, r.last, r.unseen = s.First, max(r.last, s.Last), unseen
	for _, id := range s.Pods {
		if i := slices.Index(r.pods, id); i >= 0 {
			r.pods = slices.Delete(r.pods, i, i+1)
		} else if len(r.pods) >= madeBy {
			r.pods = r.pods[:madeBy-1]
		}
		r.pods = slices.Insert(r.pods, 0, id)
	}
}

// vanished is a statement that is missing.
type vanished struct {
	key  uint64
	row  *recurrence
	prob float64
	away float64 // milliseconds in which it was waited for
	how  float64 // the shape of its gaps
}

// silences are the workloads in which steady statements are missing, an anomaly
// for each.
func (d *logVanished) silences(b event.Batch) (found []event.Anomaly) {
	missing := map[uint64][]vanished{}
	now := b.Watermark.UnixMilli()
	grain := float64(b.Watermark.Sub(b.Previous).Milliseconds())
	for key, r := range d.rows {
		if now-r.first < d.cfg.MinSilence.Milliseconds() {
			continue
		}
		st := d.words.Statement(key)
		if st == nil || st.Level >= logpattern.Warning || !d.steady(r) {
			continue // that trouble is no longer told of is no trouble
		}
		sp := d.words.Speaker(st.Speaker)
		if sp == nil || !d.everyHour(r, sp.ID, now) {
			continue
		}
		d.tested++
		v := vanished{key, r, 1, float64(now - r.first - (d.unread(sp) - r.unseen)), r.gaps.Shape(grain)}
		if v.away < float64(d.cfg.MinSilence.Milliseconds()) || v.away > becomesUsual || v.away < 2*r.gaps.Max || !alive(sp, r, now) {
			continue
		}
		if v.prob = r.gaps.Silence(v.away, grain); v.prob <= d.cfg.P {
			missing[sp.ID] = append(missing[sp.ID], v)
		}
	}
	for _, id := range sortedKeys(missing) {
		all := missing[id]
		slices.SortFunc(all, func(a, b vanished) int { return cmp.Or(cmp.Compare(a.prob, b.prob), cmp.Compare(a.key, b.key)) })
		all = slices.DeleteFunc(all, func(v vanished) bool { return troubled(d.words.Statement(v.key).Sample) })
		if len(all) > 0 {
			found = append(found, d.anomaly(d.words.Speaker(id), all, b.Watermark))
		}
	}
	return found
}

// steady says whether the gaps are known, short, and no more irregular than
// chance.
func (d *logVanished) steady(r *recurrence) bool {
	return r.gaps.N >= leastGaps && r.gaps.Mean() <= float64(d.cfg.MaxGap.Milliseconds()) && r.gaps.Variation() <= mostVariation
}

// everyHour says whether a statement came in every hour before this one in which
// its workload said anything, and in enough of them: what comes by day only, or
// while a job runs, does not stop by accident. The hours of the silence itself
// are not asked for.
func (d *logVanished) everyHour(r *recurrence, speaker uint64, now int64) bool {
	spoke := d.spoke[speaker]
	if spoke == nil {
		return false
	}
	hour := now / (60 * minute)
	silent := uint32(1)<<min(24, max(1, hour-r.last/(60*minute)+1)) - 1
	before := spoke.at(hour) &^ silent
	came := r.came.at(hour) &^ silent
	return before&^came == 0 && bits.OnesCount32(came) >= d.cfg.Hours-bits.OnesCount32(silent)
}

// alive says whether a pod that made the statement went on to write other lines
// nearly until now. A rollout, a scale-down and a source that lags take the pods
// away too, and say nothing of what is missing.
func alive(sp *detector.Speaker, r *recurrence, now int64) bool {
	return slices.ContainsFunc(r.pods, func(id uint64) bool {
		return float64(sp.Heard(id)-r.last) >= 0.8*float64(now-r.last)
	})
}

func (d *logVanished) anomaly(sp *detector.Speaker, all []vanished, at time.Time) event.Anomaly {
	worst := all[0]
	st := d.words.Statement(worst.key)
	mean := worst.row.gaps.Mean()
	text := d.words.Text(st.Template)
	a := event.Anomaly{
		Series: event.SeriesHash(event.HashStrings("vanished", sp.Entity.String())), Entity: sp.Entity, Signal: "log:" + event.SeriesHash(st.Template),
		Severity: event.Info, Class: event.ClassAmbient, Unit: "s", Observed: math.Round(worst.away / 1000), TailProb: max(worst.prob, worst.row.gaps.Least()),
		Expected: &event.Interval{Low: 0, High: worst.row.gaps.Max / 1000},
		Onset:    time.UnixMilli(worst.row.last + int64(mean)).UTC(),
		Labels:   map[string]string{"template": clip(text, 300), "level": st.Level.String(), event.LabelSource: sp.Source},
	}
	how := "about every"
	if worst.how >= byTheClock {
		a.Severity, a.Class, how = event.Warning, event.ClassCause, "every"
	}
	more := ""
	if len(all) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(all)-1)
	}
	a.Summary = fmt.Sprintf("no line for %s that came %s %s%s: %s", span(worst.away/1000), how, span(mean/1000), more, clip(text, 160))
	a.Explanation = fmt.Sprintf("%.0f gaps of %s on average (variation %.2f), the longest %s, in every hour of the day in which this workload wrote; its pods write on; tail probability %.1e, alarm below %.1e",
		worst.row.gaps.N, span(mean/1000), worst.row.gaps.Variation(), span(worst.row.gaps.Max/1000), worst.prob, d.cfg.P)
	for _, v := range all[:min(len(all), maxVanished)] {
		st := d.words.Statement(v.key)
		e := logEvidence(d.words, sp, st.Template, st.Sample, at)
		e.Start = time.UnixMilli(v.row.last).Add(-evidenceBefore).UTC()
		a.Evidence = append(a.Evidence, e)
	}
	return a
}

// forget drops what has stayed away for so long that it is not waited for, and
// what the vocabulary has forgotten.
func (d *logVanished) forget(now int64) {
	for key, r := range d.rows {
		if d.words.Statement(key) == nil || max(r.last, r.came.hour*60*minute) < now-forgetAfter {
			delete(d.rows, key)
		}
	}
	for id := range d.spoke {
		if d.words.Speaker(id) == nil {
			delete(d.spoke, id)
			delete(d.lost, id)
		}
	}
}

// MarshalBinary writes the state.
func (d *logVanished) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Int(d.looked)
	w.Uint(uint64(len(d.unseen)))
	for _, source := range sortedKeys(d.unseen) {
		w.String(source)
		w.Int(d.unseen[source])
	}
	w.Uint(uint64(len(d.lost)))
	for _, id := range sortedKeys(d.lost) {
		w.Fixed(id)
		w.Int(d.lost[id])
	}
	w.Uint(uint64(len(d.spoke)))
	for _, id := range sortedKeys(d.spoke) {
		w.Fixed(id)
		d.spoke[id].write(w)
	}
	w.Uint(uint64(len(d.rows)))
	for _, key := range sortedKeys(d.rows) {
		r := d.rows[key]
		w.Fixed(key)
		r.gaps.Write(w)
		r.came.write(w)
		w.Int(r.first)
		w.Int(r.last)
		w.Int(r.unseen)
		w.Uint(uint64(len(r.pods)))
		for _, p := range r.pods {
			w.Fixed(p)
		}
	}
	return w.Data(), nil
}

func (h *dayHours) write(w *snapshot.Writer) { w.Int(h.hour); w.Uint(uint64(h.bits)) }
func (h *dayHours) read(r *snapshot.Reader)  { h.hour, h.bits = r.Int(), uint32(r.Uint())&(1<<24-1) }

// UnmarshalBinary reads it back.
func (d *logVanished) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	*d = *newLogVanished(d.cfg, d.words)
	d.looked = r.Int()
	for range r.Len() {
		source := r.String()
		d.unseen[source] = r.Int()
	}
	for range r.Len() {
		id := r.Fixed()
		d.lost[id] = r.Int()
	}
	for range r.Len() {
		id, h := r.Fixed(), &dayHours{}
		h.read(r)
		d.spoke[id] = h
	}
	for range r.Len() {
		key := r.Fixed()
		row := &recurrence{}
		row.gaps.Read(r)
		row.came.read(r)
		row.first, row.last, row.unseen = r.Int(), r.Int(), r.Int()
		for range r.Len() {
			row.pods = append(row.pods, r.Fixed())
		}
		if r.Err() != nil {
			return r.Err()
		}
		d.rows[key] = row
	}
	return r.Close()
}

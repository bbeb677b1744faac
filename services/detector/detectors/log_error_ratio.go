package detectors

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
	"github.com/oncall-copilot/oncall/pkg/stat"
	"github.com/oncall-copilot/oncall/services/detector"
)

// LogErrorRatioConfig is the `detector.log_error_ratio:` section of the configuration file.
type LogErrorRatioConfig struct {
	// P is the tail probability of so many errors among so many lines below which
	// they are odd. Default: 1e-6.
	P float64 `yaml:"p"`
	// MinErrors is the least number of lines that state an error, in five minutes.
	// Default: 10.
	MinErrors float64 `yaml:"min_errors"`
	// MinShift is the least distance of the share from the expected, 0 to 1.
	// Default: 0.05.
	MinShift float64 `yaml:"min_shift"`
	// MinRatio is the least multiple of the expected share. Default: 2.
	MinRatio float64 `yaml:"min_ratio"`
	// WarmUp is how long a workload is only learnt from. Default: 1h.
	WarmUp time.Duration `yaml:"warm_up"`
}

// Validate checks the ranges.
func (c LogErrorRatioConfig) Validate() error {
	return errors.Join(
		between("p", c.P, 1e-18, 1e-2, 1e-6),
		between("min_errors", c.MinErrors, 1, 1e6, 10),
		between("min_shift", c.MinShift, 0, 1, 0.05),
		between("min_ratio", c.MinRatio, 1, 1e6, 2),
		between("warm_up", c.WarmUp.Minutes(), 5, 24*60, 60),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "log_error_ratio", Input: detector.Logs, Class: event.ClassCause, Hold: 5 * time.Minute,
			Doc: "A workload of whose lines far more state an error than is usual, and usual at this hour (beta-binomial by workload).",
		},
		LogErrorRatioConfig{P: 1e-6, MinErrors: 10, MinShift: 0.05, MinRatio: 2, WarmUp: time.Hour},
		func(c LogErrorRatioConfig, set detector.Settings) (detector.Detector, error) {
			return &logErrorRatio{cfg: c, words: vocabulary(set), rows: map[uint64]*errorShare{}}, nil
		}))
}

type logErrorRatio struct {
	cfg    LogErrorRatioConfig
	words  *detector.Vocabulary
	rows   map[uint64]*errorShare // by workload
	tested int64
}

// errorShare is which part of a workload's lines state an error, by the minute.
type errorShare struct {
	usual    stat.Share
	byHour   map[int64]*stat.Share // of the day, in UTC, of the days before
	thisHour []counts              // the minutes of this one, which are held against those
	slot     int64                 // the minute that is being counted
	recent   [recentMinutes]counts // the newest first
	onset    int64
	carriers []carrier
}

// counts are lines of one minute, as many as were read.
type counts struct{ errors, lines float64 }

// carrier is a statement that errors are of.
type carrier struct {
	key uint64
	n   float64 // errors, forgotten by a third each minute
}

const (
	recentMinutes = 5
	// hourHorizon is a week of one hour, in minutes, and hourEarned two days.
	hourHorizon = 7 * 60
	hourEarned  = 2 * 60
	// maxCarriers bounds the statements that are known to carry errors, and
	// maxCarrying those that evidence names.
	maxCarriers = 12
	maxCarrying = 3
)

// Tested is detector.Tester's.
func (d *logErrorRatio) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *logErrorRatio) Observe(b event.Batch) (found []event.Anomaly) {
	for _, r := range d.rows {
		r.follow(d.words.Moved())
	}
	// What was sampled is counted as it was read: a line that stands for twenty
	// is no more evidence than one.
	rate := d.words.Rates(b)
	spoke := map[uint64]int64{} // when they wrote the first line of this window
	for _, s := range d.words.Seen() {
		r, ok := d.rows[s.Speaker.ID]
		if !ok {
			r = &errorShare{byHour: map[int64]*stat.Share{}, slot: s.Speaker.Slot}
			d.rows[s.Speaker.ID] = r
		}
		r.close(s.Speaker.Slot)
		weight := max(1, rate[s.Speaker.ID])
		r.recent[0].lines += s.Count / weight
		if first, ok := spoke[s.Speaker.ID]; !ok || s.Errors > 0 && s.First < first {
			spoke[s.Speaker.ID] = s.First
		}
		if s.Errors > 0 {
			r.recent[0].errors += s.Errors / weight
			r.carry(s.Key, s.Errors/weight)
		}
	}
	for _, id := range sortedKeys(spoke) {
		d.tested++
		if a, ok := d.judge(d.words.Speaker(id), d.rows[id], spoke[id], b.Watermark); ok {
			a.Summary = strings.Replace(a.Summary, " lines state", " lines"+sampled(rate[id])+" state", 1)
			found = append(found, a)
		}
	}
	for id := range d.rows {
		if d.words.Speaker(id) == nil {
			delete(d.rows, id)
		}
	}
	return found
}

// close learns the minute that is over, and makes room for one that begins.
func (r *errorShare) close(slot int64) {
	passed := slot - r.slot
	if passed <= 0 {
		return
	}
	over := r.recent[0]
	r.thisHour = append(r.thisHour, over)
	if r.onset != 0 && slot*minute-r.onset < becomesUsual {
		over.errors = min(over.errors, r.usual.Mean()*over.lines) // a shift is not to end because it is learnt
	}
	// One minute is not to make usual what follows.
	if u := &r.usual; u.N > 10 && u.Tail(over.errors, over.lines) < 1e-3 {
		over.errors = min(over.errors, high(u, over.lines)*over.lines+1)
	}
	r.usual.Add(over.errors, over.lines, logHorizon)
	if slot/60 != r.slot/60 {
		hour := r.slot / 60 % 24
		if r.byHour[hour] == nil {
			r.byHour[hour] = &stat.Share{}
		}
		for _, c := range r.thisHour {
			r.byHour[hour].Add(c.errors, c.lines, hourHorizon)
		}
		r.thisHour = nil
	}
	for range min(passed, recentMinutes) {
		copy(r.recent[1:], r.recent[:])
		r.recent[0] = counts{}
	}
	r.slot = slot
	for i := range r.carriers {
		r.carriers[i].n *= 2.0 / 3
	}
	r.carriers = slices.DeleteFunc(r.carriers, func(c carrier) bool { return c.n < 0.5 })
}

// carry counts errors of a statement.
func (r *errorShare) carry(key uint64, n float64) {
	if i := slices.IndexFunc(r.carriers, func(c carrier) bool { return c.key == key }); i >= 0 {
		r.carriers[i].n += n
	} else {
		r.carriers = append(r.carriers, carrier{key, n})
	}
	slices.SortFunc(r.carriers, func(a, b carrier) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.key, b.key)) })
	r.carriers = r.carriers[:min(len(r.carriers), maxCarriers)]
}

// follow keeps carriers under what they became part of.
func (r *errorShare) follow(moved []detector.Moved) {
	for _, m := range moved {
		if i := slices.IndexFunc(r.carriers, func(c carrier) bool { return c.key == m.From }); i >= 0 {
			n := r.carriers[i].n
			r.carriers = slices.Delete(r.carriers, i, i+1)
			r.carry(m.To, n)
		}
	}
}

// judge tests the errors of the last five minutes.
func (d *logErrorRatio) judge(sp *detector.Speaker, r *errorShare, at int64, end time.Time) (event.Anomaly, bool) {
	var now counts
	for _, c := range r.recent {
		now.errors, now.lines = now.errors+c.errors, now.lines+c.lines
	}
	mean, p := r.usual.Mean(), 1.0
	if sp != nil && sp.Known(d.cfg.WarmUp) && now.errors >= d.cfg.MinErrors && now.errors >= (mean+d.cfg.MinShift)*now.lines && now.errors >= d.cfg.MinRatio*mean*now.lines {
		p = r.usual.Tail(now.errors, now.lines)
		// What is usual at this hour is not odd.
		if h := r.byHour[r.slot/60%24]; h != nil && h.N >= hourEarned {
			p = max(p, h.Tail(now.errors, now.lines))
		}
	}
	if p > d.cfg.P {
		if r.recent[0].lines > 0 && now.errors < (mean+d.cfg.MinShift)*now.lines {
			r.onset = 0
		}
		return event.Anomaly{}, false
	}
	if r.onset == 0 {
		r.onset = at
	}
	share := now.errors / now.lines
	a := event.Anomaly{
		Series: event.SeriesHash(event.HashStrings("log_error_ratio", sp.Entity.String())), Entity: sp.Entity, Signal: "log_error_ratio", Unit: "1",
		Severity: event.Warning, Observed: share, Expected: &event.Interval{Low: 0, High: high(&r.usual, now.lines)}, TailProb: p,
		Onset:       time.UnixMilli(r.onset).UTC(),
		Explanation: fmt.Sprintf("beta-binomial over %.0f lines in %.0f minutes; tail probability %.1e, alarm below %.1e", r.usual.T, r.usual.N, p, d.cfg.P),
		Labels:      map[string]string{event.LabelSource: sp.Source},
	}
	a.Summary = fmt.Sprintf("%.0f of %.0f lines state an error (%s), expected about %s", now.errors, now.lines, number(share, "1"), number(mean, "1"))
	for _, c := range r.carriers {
		st := d.words.Statement(c.key)
		if st == nil || len(a.Evidence) == maxCarrying {
			continue
		}
		if len(a.Evidence) == 0 {
			text := d.words.Text(st.Template)
			a.Summary += "; most: " + clip(text, 120)
			a.Labels["template"], a.Labels["level"] = clip(text, 300), st.Level.String()
		}
		a.Evidence = append(a.Evidence, logEvidence(d.words, sp, st.Template, st.Sample, end))
	}
	if len(a.Evidence) == 0 {
		a.Evidence = []event.EvidenceRef{{Source: "loki", Query: selectorOf(sp), Start: end.Add(-evidenceBefore), End: end}}
	}
	return a, true
}

// high is the share that so many lines exceed once in a thousand times.
func high(s *stat.Share, lines float64) float64 {
	lo, hi := s.Mean(), 1.0
	for range 12 {
		if mid := (lo + hi) / 2; s.Tail(mid*lines, lines) > 1e-3 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// MarshalBinary writes the state.
func (d *logErrorRatio) MarshalBinary() ([]byte, error) {
	w := &snapshot.Writer{}
	w.Uint(uint64(len(d.rows)))
	for _, id := range sortedKeys(d.rows) {
		r := d.rows[id]
		w.Fixed(id)
		r.usual.Write(w)
		w.Uint(uint64(len(r.byHour)))
		for _, h := range sortedKeys(r.byHour) {
			w.Int(h)
			r.byHour[h].Write(w)
		}
		w.Int(r.slot)
		for _, c := range r.recent {
			c.write(w)
		}
		w.Uint(uint64(len(r.thisHour)))
		for _, c := range r.thisHour {
			c.write(w)
		}
		w.Int(r.onset)
		w.Uint(uint64(len(r.carriers)))
		for _, c := range r.carriers {
			w.Fixed(c.key)
			w.Float(c.n)
		}
	}
	return w.Data(), nil
}

func (c *counts) write(w *snapshot.Writer) { w.Float(c.errors); w.Float(c.lines) }
func (c *counts) read(r *snapshot.Reader)  { c.errors, c.lines = r.Float(), r.Float() }

// UnmarshalBinary reads it back.
func (d *logErrorRatio) UnmarshalBinary(b []byte) error {
	r := snapshot.NewReader(b)
	d.rows = map[uint64]*errorShare{}
	for range r.Len() {
		id, row := r.Fixed(), &errorShare{byHour: map[int64]*stat.Share{}}
		row.usual.Read(r)
		for range r.Len() {
			h, s := r.Int(), &stat.Share{}
			s.Read(r)
			row.byHour[h] = s
		}
		row.slot = r.Int()
		for i := range row.recent {
			row.recent[i].read(r)
		}
		for range r.Len() {
			var c counts
			c.read(r)
			row.thisHour = append(row.thisHour, c)
		}
		row.onset = r.Int()
		for range r.Len() {
			row.carriers = append(row.carriers, carrier{r.Fixed(), r.Float()})
		}
		if r.Err() != nil {
			return r.Err()
		}
		d.rows[id] = row
	}
	return r.Close()
}

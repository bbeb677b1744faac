package detectors

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/services/detector"
)

// LogValueShiftConfig is the `detector.log_value_shift:` section of the configuration file.
type LogValueShiftConfig struct {
	// P is the tail probability below which values are odd that lie so far from
	// those before. Default: 1e-6: there are many values, each tested each minute.
	P float64 `yaml:"p"`
	// MinLines is the least number of lines that state the value, in a minute or
	// as many minutes as it takes to have fifty, ten at most. Default: 20.
	MinLines float64 `yaml:"min_lines"`
	// MinShift is the least distance of the share of a state or a code from the
	// expected, 0 to 1. Default: 0.05.
	MinShift float64 `yaml:"min_shift"`
	// MinRatio is the least multiple of the expected: of a share, of the 95th
	// percentile, and of the median or its reciprocal. Default: 2.
	MinRatio float64 `yaml:"min_ratio"`
	// WarmUp is how long a workload is only learnt from. Default: 1h.
	WarmUp time.Duration `yaml:"warm_up"`
}

// Validate checks the ranges.
func (c LogValueShiftConfig) Validate() error {
	return errors.Join(
		between("p", c.P, 1e-18, 1e-2, 1e-6),
		between("min_lines", c.MinLines, 5, 1e6, 20),
		between("min_shift", c.MinShift, 0.001, 1, 0.05),
		between("min_ratio", c.MinRatio, 1, 1e6, 2),
		between("warm_up", c.WarmUp.Minutes(), 5, 24*60, 60),
	)
}

func init() {
	detector.Builtin.Register(detector.Define(
		detector.Meta{
			Name: "log_value_shift", Input: detector.Logs, Class: event.ClassCause, Hold: 5 * time.Minute,
			Doc: "A value that a log statement states, such as a status or a duration, that is not what it used to be (shares of states, and of numbers above the usual quantiles, by beta-binomial).",
		},
		LogValueShiftConfig{P: 1e-6, MinLines: 20, MinShift: 0.05, MinRatio: 2, WarmUp: time.Hour},
		func(c LogValueShiftConfig, set detector.Settings) (detector.Detector, error) {
			return &logValueShift{cfg: c, words: vocabulary(set), rows: map[uint64]*statedValues{}, held: map[uint64]int{}, share: maxValuesOfWorkload}, nil
		}))
}

// logValueShift keeps small sketches of what statements state, for those that are
// made often enough to have a distribution.
type logValueShift struct {
	cfg    LogValueShiftConfig
	words  *detector.Vocabulary
	rows   map[uint64]*statedValues // by statement
	tested int64
	swept  int64 // hour of the last sweep

	held   map[uint64]int // values that are kept and statements of which, by workload
	total  int
	share  int                // the most that a workload may hold
	wanted bool               // by one who holds nothing, and there was no room
	fields []logpattern.Field // of one line
}

// statedValues are the values of one statement.
type statedValues struct {
	speaker uint64
	seen    int64 // minute of the last line
	values  []*statedValue
	opaque  []uint64 // keys of those of which nothing can be said
}

const (
	// earnedBy is how many lines a statement has before its values are kept.
	earnedBy = 200
	// The bounds of what is kept: values of a statement, statements and values of
	// a workload, and of a partition; of the values of which nothing is kept the
	// keys.
	maxValuesOfStatement = 8
	maxValuesOfWorkload  = 32
	maxValues            = 160
	maxOpaque            = 24
	// maxToldValues is how many values of one statement are told at once.
	maxToldValues = 3
)

// Tested is detector.Tester's.
func (d *logValueShift) Tested() int64 {
	n := d.tested
	d.tested = 0
	return n
}

// Observe is detector.Detector's.
func (d *logValueShift) Observe(b event.Batch) (found []event.Anomaly) {
	d.join()
	history := isHistory(b)
	for _, s := range d.words.Seen() {
		row := d.rows[s.Key]
		if row == nil {
			if s.Statement.Count < earnedBy || !d.room(s.Speaker.ID) {
				continue
			}
			if d.fields = logpattern.Fields(d.fields, s.Sample); len(d.fields) == 0 {
				continue
			}
			row = &statedValues{speaker: s.Speaker.ID}
			d.rows[s.Key] = row
			d.count(row.speaker, 1)
		}
		d.close(row, s, history)
		row.seen = s.First / minute
		for text, pod := range d.words.Lines(s) {
			d.fields = logpattern.Fields(d.fields, text)
			for i := range d.fields {
				if v := d.value(row, &d.fields[i]); v != nil {
					v.add(&d.fields[i], pod, s.First)
				}
			}
		}
		clear(d.fields) // they hold the line
		if !history {
			found = append(found, d.tell(row, s, b.Watermark)...)
		}
	}
	d.sweep(b.Watermark.UnixMilli())
	return found
}

// join forgets what was kept of templates that became one: their values together
// are distributed like those of neither.
func (d *logValueShift) join() {
	for _, m := range d.words.Moved() {
		d.drop(m.From)
		d.drop(m.To)
	}
}

func (d *logValueShift) drop(key uint64) {
	if row := d.rows[key]; row != nil {
		d.count(row.speaker, -len(row.values)-1)
		delete(d.rows, key)
	}
}

func (d *logValueShift) count(speaker uint64, n int) {
	d.total += n
	if d.held[speaker] += n; d.held[speaker] <= 0 {
		delete(d.held, speaker)
	}
}

func (d *logValueShift) room(speaker uint64) bool {
	d.wanted = d.wanted || d.total >= maxValues && d.held[speaker] == 0
	return d.total < maxValues && d.held[speaker] < d.share
}

// value is what is kept of a value, made when it is new and there is room.
func (d *logValueShift) value(row *statedValues, f *logpattern.Field) *statedValue {
	key := f.Key()
	for _, v := range row.values {
		if v.key == key {
			return v
		}
	}
	if len(row.values) >= maxValuesOfStatement || !d.room(row.speaker) || slices.Contains(row.opaque, key) {
		return nil
	}
	v := newStatedValue(key, f)
	row.values = append(row.values, v)
	d.count(row.speaker, 1)
	return v
}

// close ends the blocks that are full, and forgets the values of which nothing can
// be said.
func (d *logValueShift) close(row *statedValues, s detector.Seen, history bool) {
	sp := s.Speaker
	settling := sp.Rolled != 0 && s.First-sp.Rolled < startsUp
	judged := !history && !settling && sp.Known(d.cfg.WarmUp)
	row.values = slices.DeleteFunc(row.values, func(v *statedValue) bool {
		if v.kind&opaque != 0 {
			if len(row.opaque) < maxOpaque {
				row.opaque = append(row.opaque, v.key)
			}
			d.count(row.speaker, -1)
			return true
		}
		d.tested += v.close(s.First/minute, judged, &d.cfg)
		return false
	})
}

// tell are the anomalies of a statement's values, the least probable first.
func (d *logValueShift) tell(row *statedValues, s detector.Seen, at time.Time) (found []event.Anomaly) {
	var odd []*statedValue
	for _, v := range row.values {
		if v.odd != nil {
			odd = append(odd, v)
		}
	}
	slices.SortStableFunc(odd, func(a, b *statedValue) int { return cmp.Compare(a.odd.p, b.odd.p) })
	for _, v := range odd[:min(len(odd), maxToldValues)] {
		found = append(found, d.anomaly(v, s, at))
	}
	return found
}

func (d *logValueShift) anomaly(v *statedValue, s detector.Seen, at time.Time) event.Anomaly {
	o := v.odd
	if o.sample == "" {
		o.sample = clip(d.sample(v, s), longestExcerpt)
	}
	a := logObservation(d.words, s, at)
	a.Series = event.SeriesHash(event.HashStrings("log_value_shift", event.SeriesHash(s.Key), event.SeriesHash(v.key)))
	a.Signal += "/" + v.name
	a.Unit, a.Observed, a.Expected, a.TailProb = v.unit, o.observed, &event.Interval{Low: o.low, High: o.high}, o.p
	if o.class != "" {
		a.Unit = "1"
	}
	a.Onset = time.UnixMilli(o.onset).UTC()
	a.Severity, a.Class = event.Info, event.ClassCause
	// What a status of five hundred says needs no level beside it.
	if v.codes && o.class == "5xx" || s.Statement.Level >= logpattern.Error {
		a.Severity = event.Warning
	}
	a.Labels["value"] = v.title()
	a.Summary = o.said + ": " + clip(a.Labels["template"], 120)
	a.Explanation = fmt.Sprintf("beta-binomial over %.0f minutes and more of this statement, by the last of them and by all; %.0f lines state the value; tail probability %.1e, alarm below %.1e",
		v.blocks, o.lines, o.p, d.cfg.P)
	a.Evidence = valueEvidence(d.words, s, v, at)
	return a
}

// sample is a line of this window that states what is odd, or any.
func (d *logValueShift) sample(v *statedValue, s detector.Seen) string {
	for text := range d.words.Lines(s) {
		d.fields = logpattern.Fields(d.fields, text)
		for i := range d.fields {
			if f := &d.fields[i]; f.Key() == v.key && v.isOdd(f) {
				return text
			}
		}
	}
	return s.Sample
}

// sweep forgets, once an hour, what no longer comes; and where there was no room for a
// workload, of those that have more than a fair share what did not come for longest.
// They get no more than that until there is room for all again.
func (d *logValueShift) sweep(now int64) {
	hour := now / (60 * minute)
	if hour <= d.swept {
		return
	}
	d.swept = hour
	keys := sortedKeys(d.rows)
	for _, key := range keys {
		if d.rows[key].seen*minute < now-forgetAfter || d.words.Statement(key) == nil {
			d.drop(key)
		}
	}
	if d.total < maxValues/2 {
		d.share = maxValuesOfWorkload
	}
	if !d.wanted {
		return
	}
	d.wanted = false
	d.share = max(2, min(d.share, logpattern.FairShare(d.held, maxValues-maxValues/4)))
	keys = sortedKeys(d.rows)
	slices.SortStableFunc(keys, func(a, b uint64) int { return cmp.Compare(d.rows[a].seen, d.rows[b].seen) })
	for _, key := range keys {
		if row := d.rows[key]; d.held[row.speaker] > d.share {
			d.drop(key)
		}
	}
}

package detector

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
)

// Vocabulary is what the workloads of one partition say in their logs: the
// statements behind the lines, and the habits of those who make them. The fold of
// logs gives each line to one miner, once, whatever the number of detectors; they
// read here what the last window brought, and never write.
//
// It is a fold like a detector: no clock, no I/O, and equal windows give equal
// state. It is not safe for concurrent use.
type Vocabulary struct {
	miner      *logpattern.Miner
	speakers   map[uint64]*Speaker
	statements map[uint64]*Statement
	swept      int64 // hour of the last sweep
	moved      []Moved
	unfollowed bool // no detector has seen what moved
	learnt     uint64

	// Of the last window, and no state:
	seen    []Seen
	streams map[uint64]origin // by stream
	picked  []picked
}

// origin is who writes a stream.
type origin struct {
	speaker  uint64
	pod      uint64
	revision string
}

// Speaker is one who writes lines: a workload, whatever its pods are called.
// Times are milliseconds since the Unix epoch.
type Speaker struct {
	ID      uint64
	Entity  event.Entity
	Source  string  // configured name of the source, for blindness
	First   int64   // first line
	Last    int64   // last line
	Resumed int64   // first line after the last silence of ten minutes
	Minutes int64   // minutes with lines
	Slot    int64   // the last of them
	Lines   float64 // all lines, with those that were sampled out
	// Rolled is when the first line of a pod of another ReplicaSet came: a rollout,
	// as it shows in the names of pods. Zero for none, and where names do not tell.
	Rolled   int64
	live     int64 // last line that is no history
	revision string
	pods     []pod
}

// pod is one of a speaker's, or all of them where streams do not name theirs.
type pod struct {
	id       uint64 // hash of its name
	revision string
	last     int64 // last line
}

// maxPods bounds the pods that are known of one speaker; those that were heard
// last stay.
const maxPods = 32

// Statement is a template as one speaker uses it.
type Statement struct {
	Speaker  uint64
	Template uint64
	Level    logpattern.Level // the worst that a line of it stated
	First    int64            // first line, in milliseconds
	Last     int64            // last line
	Count    float64          // lines, with those that were sampled out
	Sample   string           // one of its lines, clipped, at most a few hours old
	sampled  int64            // when that was
}

// Seen is a statement that was made in the last window.
type Seen struct {
	Key       uint64 // of the statement: the same for its whole life
	Statement *Statement
	Speaker   *Speaker
	New       bool             // this speaker did not make it before
	Level     logpattern.Level // the worst of the window
	Count     float64          // lines of the window, with those that were sampled out
	Errors    float64          // those of them that state an error or worse
	First     int64            // time of the first, in milliseconds
	Last      int64            // and of the last
	Pods      []uint64         // who made it, by Speaker.Heard's ids
	Rate      float64          // how many lines one that was read stands for, on average; at least 1
	Sample    string           // one of them, as long as it is

	first int32 // of its lines in Vocabulary.picked, and one
}

// Moved is a statement whose template became part of another in the last window:
// what was kept of it belongs to the other now.
type Moved struct {
	From, To uint64 // keys
	Joined   bool   // the other was known already
}

const (
	// minute is the grain in which lines are counted, in milliseconds.
	minute = 60_000
	// silence is how long a speaker must log nothing to count as a gap: what
	// appears after one may have been there all along.
	silence = 10 * minute
	// longestLine is how much of a line is mined, and longestSample how much of
	// one is kept, in bytes.
	longestLine   = 4096
	longestSample = 500
	// freshSample is how old a sample may be before a newer line replaces it.
	freshSample = 4 * 60 * minute

	// The bounds of one partition.
	maxSpeakers   = 5000
	maxStatements = 50_000

	// A speaker is remembered for a day of silence. A statement that comes once a
	// week is not new each week.
	speakerTTL   = 24 * 60 * minute
	statementTTL = 7*24*60*minute + 60*minute
)

// NewVocabulary makes one that knows nothing.
func NewVocabulary() *Vocabulary {
	v := &Vocabulary{}
	v.reset()
	return v
}

func (v *Vocabulary) reset() {
	*v = Vocabulary{
		miner: logpattern.New(logpattern.Config{}), speakers: map[uint64]*Speaker{}, statements: map[uint64]*Statement{},
		streams: map[uint64]origin{},
	}
}

// Seen are the statements of the last window, by their keys.
func (v *Vocabulary) Seen() []Seen { return v.seen }

// Moved are the statements that became part of others since the window that
// detectors saw before, in a fixed order.
func (v *Vocabulary) Moved() []Moved { return v.moved }

// Speaker is nil for one that is not known, or was forgotten.
func (v *Vocabulary) Speaker(id uint64) *Speaker { return v.speakers[id] }

// Statement is nil for one that is not known, or was forgotten.
func (v *Vocabulary) Statement(key uint64) *Statement { return v.statements[key] }

// Text is a template with <*> for values; "" for one that was forgotten.
func (v *Vocabulary) Text(template uint64) string { return v.miner.Template(template) }

// tally counts a template of a speaker in one window.
type tally struct {
	speaker  *Speaker
	template uint64
	level    logpattern.Level
	count    float64
	kept     float64 // lines that were read
	errors   float64
	first    int64
	last     int64
	pods     []uint64
	sample   string

	read        int   // lines, as they were read
	pick, close int32 // the first and last of them in Vocabulary.picked, and one
}

type place struct{ speaker, template uint64 }

// Fold mines the lines of a window, or of history.
func (v *Vocabulary) Fold(b event.Batch) {
	// What became part of others in the window before has been followed by now.
	v.miner.Compact()
	v.compact(maxStatements)
	before := v.miner.United()
	clear(v.picked) // they hold whole answers
	v.picked = v.picked[:0]
	var all []tally
	index := map[place]int{}
	for _, batch := range b.Logs {
		weight := float64(max(1, batch.SampledRate))
		for _, s := range batch.Streams {
			from, sp := v.origin(s)
			if sp == nil {
				continue
			}
			heard := int64(0)
			for _, line := range s.Lines {
				t := line.Time.UnixMilli()
				// A line without a sensible time is of this window.
				if d := batch.End.UnixMilli() - t; d < 0 || d > 24*60*minute {
					t = batch.End.UnixMilli()
				}
				if !batch.Chosen {
					sp.line(t, weight, batch.Bootstrap)
				}
				heard = max(heard, t)
				m := v.miner.AddFor(sp.ID, clip(line.Text, longestLine))
				at := place{sp.ID, m.ID}
				i, ok := index[at]
				if !ok {
					i = len(all)
					index[at] = i
					all = append(all, tally{speaker: sp, template: m.ID, first: t, last: t, sample: line.Text})
				}
				n := &all[i]
				n.count, n.kept = n.count+weight, n.kept+1
				if m.Level >= logpattern.Error {
					n.errors += weight
				}
				n.first, n.last, n.level = min(n.first, t), max(n.last, t), max(n.level, m.Level)
				v.pick(n, line.Text, from.pod)
				if k := len(n.pods); k == 0 || n.pods[k-1] != from.pod && k < maxPods {
					n.pods = append(n.pods, from.pod)
				}
			}
			if !batch.Chosen {
				sp.hear(from, heard)
			}
		}
	}
	if !v.unfollowed {
		v.moved = v.moved[:0]
	}
	v.unfollowed = false
	if v.miner.United() != before {
		all = v.join(all)
		v.move()
	}
	v.enter(all)
	v.sweep(b.Watermark.UnixMilli())
}

// origin finds who wrote a stream; nil when there are as many as may be.
func (v *Vocabulary) origin(s event.LogStream) (origin, *Speaker) {
	if len(s.Lines) == 0 {
		return origin{}, nil
	}
	if o, ok := v.streams[s.ID]; ok && s.ID != 0 {
		if sp := v.speakers[o.speaker]; sp != nil {
			return o, sp
		}
	}
	e := s.Labels.Entity()
	if e.Kind == "Pod" {
		// Pods churn; their workload is what has habits.
		e = event.Entity{Namespace: e.Namespace, Kind: "Workload", Name: event.WorkloadOfPod(e.Name)}
	}
	id := event.HashStrings("logsource", e.String())
	sp, ok := v.speakers[id]
	if !ok {
		if len(v.speakers) >= maxSpeakers {
			return origin{}, nil
		}
		sp = &Speaker{ID: id, Entity: e, Source: s.Labels.Get(event.LabelSource)}
		v.speakers[id] = sp
	}
	if len(v.streams) >= 4*maxSpeakers {
		clear(v.streams)
	}
	name := s.Labels.Get(event.LabelPod)
	o := origin{id, event.HashStrings("logpod", name), strings.Clone(event.RevisionOfPod(name))}
	v.streams[s.ID] = o
	return o, sp
}

// hear notes that a pod wrote lines up to a time.
func (s *Speaker) hear(from origin, t int64) {
	i := slices.IndexFunc(s.pods, func(p pod) bool { return p.id == from.pod })
	if i >= 0 {
		s.pods[i].last = max(s.pods[i].last, t)
		return
	}
	if from.revision != "" && from.revision != s.revision {
		// Pods of the revision before, and those of one that is rolled out while
		// they live, are no rollout.
		there := slices.ContainsFunc(s.pods, func(p pod) bool { return p.revision == from.revision && p.last > t-silence })
		if !there && s.revision != "" {
			s.Rolled = t
		}
		if !there {
			s.revision = from.revision
		}
	}
	if len(s.pods) >= maxPods {
		oldest := 0
		for i := range s.pods {
			if s.pods[i].last < s.pods[oldest].last {
				oldest = i
			}
		}
		s.pods = slices.Delete(s.pods, oldest, oldest+1)
	}
	s.pods = append(s.pods, pod{from.pod, from.revision, t})
}

// Heard is when a pod wrote its last line, in milliseconds; zero for one that is
// not known any more.
func (s *Speaker) Heard(id uint64) int64 {
	for _, p := range s.pods {
		if p.id == id {
			return p.last
		}
	}
	return 0
}

// line counts a line. Between the windows of history nobody looked, so that there
// are no gaps to see.
func (s *Speaker) line(t int64, weight float64, history bool) {
	if s.First == 0 || t < s.First {
		s.First = t
	}
	if s.Resumed == 0 || s.live != 0 && !history && t-s.live > silence {
		s.Resumed = t
	}
	if !history {
		s.live = max(s.live, t)
	}
	s.Last = max(s.Last, t)
	s.Lines += weight
	if m := t / minute; m > s.Slot {
		s.Slot = m
		s.Minutes++
	}
}

// Known says whether the speaker is known well enough for a judgement: long
// enough, without a gap just before, and with lines enough.
func (s *Speaker) Known(least time.Duration) bool {
	return s.Minutes >= int64(least/time.Minute) && s.Last-s.Resumed >= least.Milliseconds() && s.Lines >= 100
}

// join adds up what was counted in one window before and after templates became
// one.
func (v *Vocabulary) join(all []tally) []tally {
	index := map[place]int{}
	out := all[:0]
	for _, n := range all {
		n.template = v.miner.Resolve(n.template)
		at := place{n.speaker.ID, n.template}
		i, ok := index[at]
		if !ok {
			index[at] = len(out)
			out = append(out, n)
			continue
		}
		o := &out[i]
		o.count, o.kept, o.errors, o.level = o.count+n.count, o.kept+n.kept, o.errors+n.errors, max(o.level, n.level)
		o.first, o.last = min(o.first, n.first), max(o.last, n.last)
		o.pods = append(o.pods, n.pods...)
		if n.pick != 0 {
			if o.pick == 0 {
				o.pick = n.pick
			} else {
				v.picked[o.close-1].next = n.pick
			}
			o.close = n.close
		}
	}
	return out
}

// move keeps statements under the templates that theirs became part of.
func (v *Vocabulary) move() {
	for _, key := range sortedKeys(v.statements) {
		st := v.statements[key]
		now, sp := v.miner.Resolve(st.Template), v.speakers[st.Speaker]
		if now == st.Template || sp == nil {
			continue
		}
		to := statementKey(sp, now)
		delete(v.statements, key)
		into, ok := v.statements[to]
		v.moved = append(v.moved, Moved{key, to, ok})
		if !ok {
			st.Template = now
			v.statements[to] = st
			continue
		}
		into.First, into.Last = min(into.First, st.First), max(into.Last, st.Last)
		into.Level, into.Count = max(into.Level, st.Level), into.Count+st.Count
	}
}

// statementKey names a template of a speaker.
func statementKey(sp *Speaker, template uint64) uint64 {
	return event.HashStrings("log", sp.Entity.String(), event.SeriesHash(template))
}

// enter writes down what was said in a window.
func (v *Vocabulary) enter(all []tally) {
	v.seen = slices.Grow(v.seen[:0], len(all))
	for _, n := range all {
		key := statementKey(n.speaker, n.template)
		st, ok := v.statements[key]
		if !ok {
			if len(v.statements) >= maxStatements {
				continue
			}
			st = &Statement{Speaker: n.speaker.ID, Template: n.template, First: n.first}
			v.statements[key] = st
		}
		st.First, st.Last, st.Level, st.Count = min(st.First, n.first), max(st.Last, n.last), max(st.Level, n.level), st.Count+n.count
		if st.sampled == 0 || n.last-st.sampled > freshSample {
			// A copy, or the whole answer that the line is part of would be kept.
			st.Sample, st.sampled = strings.Clone(clip(n.sample, longestSample)), n.last
		}
		v.seen = append(v.seen, Seen{
			Key: key, Statement: st, Speaker: n.speaker, New: !ok, Level: n.level, Count: n.count, Errors: n.errors, First: n.first, Last: n.last, Rate: n.count / n.kept,
			Pods: n.pods, Sample: n.sample, first: n.pick,
		})
	}
	slices.SortFunc(v.seen, func(a, b Seen) int { return cmp.Compare(a.Key, b.Key) })
}

// compact makes room when nearly as many statements are kept as may be. Of speakers
// that have more than a fair share of three quarters, the statements are forgotten
// that were not made for longest: one that never says the same twice takes
// nobody's place.
func (v *Vocabulary) compact(most int) {
	if len(v.statements) < most-most/8 {
		return
	}
	keys := sortedKeys(v.statements)
	slices.SortStableFunc(keys, func(a, b uint64) int { return cmp.Compare(v.statements[b].Last, v.statements[a].Last) })
	has, of := map[uint64]int{}, map[uint64]int{}
	for _, key := range keys {
		has[v.statements[key].Speaker]++
	}
	fair := logpattern.FairShare(has, most-most/4)
	for _, key := range keys {
		id := v.statements[key].Speaker
		if of[id] >= fair {
			delete(v.statements, key)
			continue
		}
		of[id]++
	}
}

// unseen keeps what moved for the next window: detectors do not see this one.
func (v *Vocabulary) unseen() {
	v.seen, v.unfollowed = v.seen[:0], true
	v.learnt++
}

// Learnt changes when history was folded that detectors did not see: statements
// may have been made before the window in which they were new.
func (v *Vocabulary) Learnt() uint64 { return v.learnt }

// Each calls f with every statement, in no order.
func (v *Vocabulary) Each(f func(key uint64, s *Statement)) {
	for key, s := range v.statements {
		f(key, s)
	}
}

// sweep forgets, once an hour, who and what no longer comes.
func (v *Vocabulary) sweep(now int64) {
	hour := now / (60 * minute)
	if hour <= v.swept {
		return
	}
	v.swept = hour
	for id, s := range v.speakers {
		if s.Last < now-speakerTTL {
			delete(v.speakers, id)
		}
	}
	for key, s := range v.statements {
		if s.Last < now-statementTTL {
			delete(v.statements, key)
		}
	}
}

// clip cuts a text to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

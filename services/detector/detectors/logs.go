package detectors

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

// minute is the grain in which lines are counted, in milliseconds.
const minute = 60_000

// logSources are what the log detectors know of the workloads whose logs they
// read: since when, how much, and whether there was a gap.
type logSources struct {
	miner *logpattern.Miner
	rows  map[uint64]*logSource
	// joined: in the last window templates became part of others.
	joined bool
}

type logSource struct {
	entity  event.Entity
	source  string  // configured name of the source, for blindness
	first   int64   // first line, milliseconds
	last    int64   // last line
	resumed int64   // first line after the last gap
	minutes int64   // minutes with lines
	slot    int64   // the minute that is being counted
	lines   float64 // all lines so far
}

// silence is how long a workload must log nothing to count as a gap: what
// appears after one may have been there all along.
const silence = 10 * minute

// maxLogSources bounds the workloads of a partition.
const maxLogSources = 5000

func newLogSources() logSources {
	return logSources{miner: logpattern.New(logpattern.Config{}), rows: map[uint64]*logSource{}}
}

// seen is one template of one workload in one window.
type seen struct {
	key      uint64 // of workload and template
	source   uint64 // key of the logSource
	template uint64
	level    logpattern.Level
	count    float64
	first    int64
	sample   string
}

// fold mines the lines of a window and returns what was seen, sorted.
func (l *logSources) fold(b event.Batch) []seen {
	var out []seen
	index := map[uint64]int{}
	// What became part of others in the window before has been followed by now.
	l.miner.Compact()
	before := l.miner.United()
	for _, batch := range b.Logs {
		weight := float64(max(1, batch.SampledRate))
		for _, s := range batch.Streams {
			if len(s.Lines) == 0 {
				continue
			}
			id, src := l.source(s.Labels)
			if src == nil {
				continue
			}
			for _, line := range s.Lines {
				t := line.Time.UnixMilli()
				// A line without a sensible time is of this window.
				if d := batch.End.UnixMilli() - t; d < 0 || d > 24*60*minute {
					t = batch.End.UnixMilli()
				}
				src.line(t, weight)
				m := l.miner.AddFor(id, clip(line.Text, 4096))
				key := logKey(src, m.ID)
				i, ok := index[key]
				if !ok {
					i = len(out)
					index[key] = i
					out = append(out, seen{key: key, source: id, template: m.ID, level: m.Level, first: t, sample: line.Text})
				}
				out[i].count += weight
				out[i].first = min(out[i].first, t)
				out[i].level = max(out[i].level, m.Level)
			}
		}
	}
	l.joined = l.miner.United() != before
	if l.joined {
		out = l.join(out)
	}
	slices.SortFunc(out, func(a, b seen) int { return cmp.Compare(a.key, b.key) })
	return out
}

// logKey names a template of a workload.
func logKey(src *logSource, template uint64) uint64 {
	return event.HashStrings("log", src.entity.String(), event.SeriesHash(template))
}

// join adds up what was counted in one window before and after templates became
// one.
func (l *logSources) join(all []seen) []seen {
	index := map[uint64]int{}
	out := all[:0]
	for _, s := range all {
		if now := l.miner.Resolve(s.template); now != s.template {
			s.template, s.key = now, logKey(l.rows[s.source], now)
		}
		i, ok := index[s.key]
		if !ok {
			index[s.key] = len(out)
			out = append(out, s)
			continue
		}
		o := &out[i]
		o.count, o.first, o.level = o.count+s.count, min(o.first, s.first), max(o.level, s.level)
	}
	return out
}

// follow keeps what is kept of templates under what they became part of in the last
// window, in a fixed order. at is where a value keeps its template; merge adds what
// was kept of one to what is kept of the other.
func follow[V any](l *logSources, kept map[uint64]*V, at func(*V) (source uint64, template *uint64), merge func(into, gone *V)) {
	if !l.joined {
		return
	}
	for _, key := range sortedKeys(kept) {
		v := kept[key]
		source, template := at(v)
		now, src := l.miner.Resolve(*template), l.rows[source]
		if now == *template || src == nil {
			continue
		}
		delete(kept, key)
		to := logKey(src, now)
		if into, ok := kept[to]; ok {
			merge(into, v)
			continue
		}
		*template = now
		kept[to] = v
	}
}

func (l *logSources) source(ls event.Labels) (uint64, *logSource) {
	e := ls.Entity()
	if e.Kind == "Pod" {
		// Pods churn; their workload is what has habits.
		e = event.Entity{Namespace: e.Namespace, Kind: "Workload", Name: event.WorkloadOfPod(e.Name)}
	}
	id := event.HashStrings("logsource", e.String())
	src, ok := l.rows[id]
	if !ok {
		if len(l.rows) >= maxLogSources {
			return 0, nil
		}
		src = &logSource{entity: e, source: ls.Get(event.LabelSource)}
		l.rows[id] = src
	}
	return id, src
}

func (s *logSource) line(t int64, weight float64) {
	if s.first == 0 {
		s.first, s.resumed = t, t
	}
	if s.last != 0 && t-s.last > silence {
		s.resumed = t
	}
	s.last = max(s.last, t)
	s.lines += weight
	if m := t / minute; m > s.slot {
		s.slot = m
		s.minutes++
	}
}

// warm says whether the workload is known well enough for a judgement: long
// enough, without a gap just before, and with lines enough.
func (s *logSource) warm(least time.Duration) bool {
	return s.minutes >= int64(least/time.Minute) && s.last-s.resumed >= least.Milliseconds() && s.lines >= 100
}

func (l *logSources) forget(now int64) {
	for id, s := range l.rows {
		if s.last < now-forgetAfter {
			delete(l.rows, id)
		}
	}
}

// evidence is the LogQL that shows a template's lines, with one of them.
func (l *logSources) evidence(s *logSource, template uint64, sample string, at time.Time) event.EvidenceRef {
	sel := event.LabelsOf(map[string]string{event.LabelNamespace: s.entity.Namespace}).String()
	if s.entity.Kind != "Namespace" && s.entity.Kind != "Cluster" && s.entity.Namespace != "" {
		sel = strings.TrimSuffix(sel, "}") + ", pod=~" + quote(regexpQuote(s.entity.Name)+"-.*") + "}"
	}
	q := sel
	for _, p := range logpattern.Phrases(l.miner.Template(template), sample) {
		q += " |= " + quote(p)
	}
	return event.EvidenceRef{Source: "loki", Query: q, Start: at.Add(-evidenceBefore), End: at, Excerpt: []string{clip(strings.ToValidUTF8(sample, "?"), 500)}}
}

func quote(s string) string {
	// A selector of one label is the quoting that PromQL and LogQL share.
	q := event.Labels{{Name: "x", Value: s}}.String()
	return strings.TrimSuffix(strings.TrimPrefix(q, "{x="), "}")
}

// regexpQuote escapes what RE2 would read as an operator; names of workloads
// hold dots at most.
func regexpQuote(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`\.+*?()|[]{}^$`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (l *logSources) write(w *snapshot.Writer) {
	l.miner.Write(w)
	w.Uint(uint64(len(l.rows)))
	for _, id := range sortedKeys(l.rows) {
		s := l.rows[id]
		w.Fixed(id)
		writeEntity(w, s.entity)
		w.String(s.source)
		w.Int(s.first)
		w.Int(s.last)
		w.Int(s.resumed)
		w.Int(s.minutes)
		w.Int(s.slot)
		w.Float(s.lines)
	}
}

func (l *logSources) read(r *snapshot.Reader) {
	*l = newLogSources()
	l.miner.Read(r)
	for range r.Len() {
		id := r.Fixed()
		s := &logSource{entity: readEntity(r), source: r.String(), first: r.Int(), last: r.Int(), resumed: r.Int(), minutes: r.Int(), slot: r.Int(), lines: r.Float()}
		if r.Err() != nil {
			return
		}
		l.rows[id] = s
	}
}

// severityOfLevel grades a line by the level it states.
func severityOfLevel(l logpattern.Level) (event.Severity, event.SignalClass) {
	switch {
	case l >= logpattern.Error:
		return event.Warning, event.ClassCause
	case l == logpattern.Warning:
		return event.Info, event.ClassCause
	}
	return event.Info, event.ClassAmbient
}

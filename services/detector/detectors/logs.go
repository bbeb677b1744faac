package detectors

import (
	"fmt"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/services/detector"
)

// minute is the grain in which lines are counted, in milliseconds.
const minute = 60_000

// vocabulary is what a detector of logs reads. One that is made without, only to
// see that it can be, reads that nothing is said.
func vocabulary(set detector.Settings) *detector.Vocabulary {
	if set.Vocabulary == nil {
		return detector.NewVocabulary()
	}
	return set.Vocabulary
}

// follow keeps what is kept of statements under what they became part of in the
// last window. merge adds what was kept of one to what is kept of the other.
func follow[V any](v *detector.Vocabulary, kept map[uint64]*V, merge func(into, gone *V)) {
	for _, m := range v.Moved() {
		gone, ok := kept[m.From]
		if !ok {
			continue
		}
		delete(kept, m.From)
		if into, ok := kept[m.To]; ok {
			merge(into, gone)
			continue
		}
		kept[m.To] = gone
	}
}

// isHistory says whether a window is of the time before the first, which is learnt
// from and not judged.
func isHistory(b event.Batch) bool { return len(b.Logs) > 0 && b.Logs[0].Bootstrap }

// longestExcerpt is how much of a line evidence holds, in bytes.
const longestExcerpt = 500

// sampled says that lines were left out, so that what is counted is an estimate:
// of how many one was read, on average.
func sampled(rate float64) string {
	if rate < 1.5 {
		return ""
	}
	return fmt.Sprintf(" (1:%.0f sampled)", rate)
}

// logEvidence is the LogQL that shows a template's lines, with one of them.
func logEvidence(v *detector.Vocabulary, s *detector.Speaker, template uint64, sample string, at time.Time) event.EvidenceRef {
	q := selectorOf(s)
	for _, p := range logpattern.Phrases(v.Text(template), sample) {
		q += " |= " + quote(p)
	}
	return event.EvidenceRef{
		Source: "loki", Query: q, Start: at.Add(-evidenceBefore), End: at, Excerpt: []string{clip(strings.ToValidUTF8(sample, "?"), longestExcerpt)},
	}
}

// selectorOf is the LogQL selector of a speaker's streams.
func selectorOf(s *detector.Speaker) string {
	sel := event.LabelsOf(map[string]string{event.LabelNamespace: s.Entity.Namespace}).String()
	if s.Entity.Kind != "Namespace" && s.Entity.Kind != "Cluster" && s.Entity.Namespace != "" {
		pods := regexpQuote(s.Entity.Name) + "-.*"
		if s.Entity.Kind == "Workload" {
			// Nothing says what it is: it may be a pod that nothing owns.
			pods = regexpQuote(s.Entity.Name) + "(-.*)?"
		}
		sel = strings.TrimSuffix(sel, "}") + ", pod=~" + quote(pods) + "}"
	}
	return sel
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

// logObservation is what all anomalies of one statement have in common.
func logObservation(v *detector.Vocabulary, s detector.Seen, at time.Time) event.Anomaly {
	return event.Anomaly{
		Series: event.SeriesHash(s.Key), Entity: s.Speaker.Entity, Signal: "log:" + event.SeriesHash(s.Statement.Template),
		Labels: map[string]string{
			"template": clip(v.Text(s.Statement.Template), 300), "level": s.Statement.Level.String(), event.LabelSource: s.Speaker.Source,
		},
		Evidence: []event.EvidenceRef{logEvidence(v, s.Speaker, s.Statement.Template, s.Sample, at)},
	}
}

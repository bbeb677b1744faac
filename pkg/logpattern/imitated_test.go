package logpattern

import (
	"testing"

	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// scoreImitated is the mean grouping accuracy on imitated systems, of those of which
// errors were looked at and of the others.
func scoreImitated(each func(*logs.Imitation, score)) (known, unseen score) {
	for _, s := range logs.Imitated() {
		sum := &unseen
		if s.Known {
			sum = &known
		}
		var one score
		for _, seed := range seeds {
			lines := s.Lines(seed)
			one.add(lines)
			sum.add(lines)
		}
		each(s, one)
	}
	return known, unseen
}

// BenchmarkImitatedLogs prints the grouping accuracy on systems in the style of real
// programs; of single ones only where their errors were looked at, so that the others
// stay a measure of what was not.
func BenchmarkImitatedLogs(b *testing.B) {
	known, unseen := scoreImitated(func(s *logs.Imitation, one score) {
		if s.Known {
			b.Logf("%-10s %-12s %2d statements: content %.3f raw %.3f raw, ids at once %.3f", s.Name, s.Format, s.Statements(), one.content/one.n, one.raw/one.n, one.online/one.n)
		}
	})
	b.ReportMetric(known.content/known.n, "GA/known/content")
	b.ReportMetric(known.raw/known.n, "GA/known/raw")
	b.ReportMetric(unseen.content/unseen.n, "GA/unseen/content")
	b.ReportMetric(unseen.raw/unseen.n, "GA/unseen/raw")
	b.ReportMetric((known.online+unseen.online)/(known.n+unseen.n), "GA/at-once")
	b.ReportMetric(0, "ns/op")
}

package logpattern

import (
	"testing"

	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// variantScore is the same for who takes the variants of a statement for several.
type variantScore struct {
	score
	variants float64
}

// scoreImitated is the mean grouping accuracy on imitated systems, of those of which
// errors were looked at and of the others.
func scoreImitated(each func(*logs.Imitation, variantScore)) (known, unseen variantScore) {
	for _, s := range logs.Imitated() {
		sum := &unseen
		if s.Known {
			sum = &known
		}
		var one variantScore
		for _, seed := range seeds {
			lines := s.Lines(seed)
			v := groupingUpToVariants(lines)
			one.add(lines)
			sum.add(lines)
			one.variants, sum.variants = one.variants+v, sum.variants+v
		}
		each(s, one)
	}
	return known, unseen
}

// groupingUpToVariants is that of raw lines.
func groupingUpToVariants(lines []logs.Line) float64 {
	m := New(Config{})
	ids := make([]uint64, len(lines))
	for i, l := range lines {
		ids[i] = m.Add(l.Raw).ID
	}
	for i, id := range ids {
		ids[i] = m.Resolve(id)
	}
	return logs.GroupingUpToVariants(ids, lines)
}

// BenchmarkImitatedLogs prints the grouping accuracy on systems in the style of real
// programs; of single ones only where their errors were looked at, so that the others
// stay a measure of what was not.
func BenchmarkImitatedLogs(b *testing.B) {
	known, unseen := scoreImitated(func(s *logs.Imitation, one variantScore) {
		if s.Known {
			b.Logf("%-10s %-12s %2d statements: content %.3f raw %.3f raw, up to variants %.3f raw, ids at once %.3f", s.Name, s.Format, s.Statements(), one.content/one.n, one.raw/one.n, one.variants/one.n, one.online/one.n)
		}
	})
	b.ReportMetric(known.content/known.n, "GA/known/content")
	b.ReportMetric(known.raw/known.n, "GA/known/raw")
	b.ReportMetric(unseen.content/unseen.n, "GA/unseen/content")
	b.ReportMetric(unseen.raw/unseen.n, "GA/unseen/raw")
	b.ReportMetric(known.variants/known.n, "GA/known/up-to-variants")
	b.ReportMetric(unseen.variants/unseen.n, "GA/unseen/up-to-variants")
	b.ReportMetric((known.online+unseen.online)/(known.n+unseen.n), "GA/at-once")
	b.ReportMetric(0, "ns/op")
}

// TestImitatedLogsAreGrouped holds what was reached.
func TestImitatedLogsAreGrouped(t *testing.T) {
	known, unseen := scoreImitated(func(*logs.Imitation, variantScore) {})
	if c, r, v := known.content/known.n, known.raw/known.n, known.variants/known.n; c < 0.64 || r < 0.68 || v < 0.88 {
		t.Errorf("looked at: got %.3f on messages, %.3f on raw lines, %.3f up to variants, want at least 0.64, 0.68 and 0.88", c, r, v)
	}
	if c, r, v := unseen.content/unseen.n, unseen.raw/unseen.n, unseen.variants/unseen.n; c < 0.60 || r < 0.59 || v < 0.77 {
		t.Errorf("not looked at: got %.3f on messages, %.3f on raw lines, %.3f up to variants, want at least 0.60, 0.59 and 0.77", c, r, v)
	}
}

package logpattern

import (
	"testing"

	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// score is a mean grouping accuracy.
type score struct{ content, raw, online, n float64 }

func (s *score) add(lines []logs.Line) score {
	c, _ := grouping(lines, false)
	r, o := grouping(lines, true)
	s.content, s.raw, s.online, s.n = s.content+c, s.raw+r, s.online+o, s.n+1
	return score{c, r, o, 1}
}

func scorePrograms(t testing.TB, each func(logs.Program, score)) (known, unseen score) {
	t.Helper()
	programs, err := logs.Programs()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if p.Known {
			each(p, known.add(p.Lines))
		} else {
			each(p, unseen.add(p.Lines))
		}
	}
	return known, unseen
}

// TestLogsOfProgramsAreStillGrouped holds what was reached.
func TestLogsOfProgramsAreStillGrouped(t *testing.T) {
	known, unseen := scorePrograms(t, func(logs.Program, score) {})
	for name, s := range map[string]score{"known": known, "unseen": unseen} {
		if c, r := s.content/s.n, s.raw/s.n; c < 0.80 || r < 0.80 {
			t.Errorf("%s: got %.3f on messages and %.3f on raw lines, want at least 0.80", name, c, r)
		}
	}
}

// BenchmarkPrograms prints the grouping accuracy on logs of real programs.
func BenchmarkPrograms(b *testing.B) {
	known, unseen := scorePrograms(b, func(p logs.Program, s score) {
		b.Logf("%-24s looked at: %-5v content %.3f raw %.3f raw, ids at once %.3f", p.Name, p.Known, s.content, s.raw, s.online)
	})
	b.ReportMetric(known.content/known.n, "GA/known/content")
	b.ReportMetric(known.raw/known.n, "GA/known/raw")
	b.ReportMetric(unseen.content/unseen.n, "GA/unseen/content")
	b.ReportMetric(unseen.raw/unseen.n, "GA/unseen/raw")
	b.ReportMetric((known.online+unseen.online)/(known.n+unseen.n), "GA/at-once")
	b.ReportMetric(0, "ns/op")
}

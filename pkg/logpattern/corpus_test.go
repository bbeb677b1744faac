package logpattern

import (
	"testing"

	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// seeds of the invented logs: names, hosts and users are others with each.
var seeds = []uint64{1, 2, 3}

// TestInventedLogsAreGrouped holds what was reached, so that a change for one
// format does not spoil another.
func TestInventedLogsAreGrouped(t *testing.T) {
	var content, raw float64
	systems := logs.Invented()
	n := float64(len(systems) * len(seeds))
	for _, s := range systems {
		for _, seed := range seeds {
			lines := s.Lines(seed)
			c, _ := grouping(lines, false)
			r, _ := grouping(lines, true)
			content, raw = content+c/n, raw+r/n
		}
	}
	if content < 0.935 || raw < 0.945 {
		t.Errorf("got %.3f on messages and %.3f on raw lines, want at least 0.935 and 0.945", content, raw)
	}
}

// BenchmarkInventedLogs prints the grouping accuracy on each.
func BenchmarkInventedLogs(b *testing.B) {
	var content, raw, online float64
	systems := logs.Invented()
	n := float64(len(seeds))
	for _, s := range systems {
		var c, r, o float64
		for _, seed := range seeds {
			lines := s.Lines(seed)
			x, _ := grouping(lines, false)
			y, z := grouping(lines, true)
			c, r, o = c+x/n, r+y/n, o+z/n
		}
		b.Logf("%-10s %-14s content %.3f raw %.3f raw, ids at once %.3f", s.Name, s.Format, c, r, o)
		k := float64(len(systems))
		content, raw, online = content+c/k, raw+r/k, online+o/k
	}
	b.ReportMetric(content, "GA/content")
	b.ReportMetric(raw, "GA/raw")
	b.ReportMetric(online, "GA/at-once")
	b.ReportMetric(0, "ns/op")
}

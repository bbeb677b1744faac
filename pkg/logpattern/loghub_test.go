package logpattern

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// grouping is the grouping accuracy of a miner that reads a log once, raw or
// its messages, with the ids after the last line; and of the ids given at once.
func grouping(lines []logs.Line, raw bool) (final, online float64) {
	return groupingBy(usual, lines, raw)
}

func groupingBy(l limits, lines []logs.Line, raw bool) (final, online float64) {
	m := New(Config{})
	m.limits = l
	ids, likely, want := make([]uint64, len(lines)), make([]uint64, len(lines)), make([]string, len(lines))
	for i, l := range lines {
		text := l.Content
		if raw {
			text = l.Raw
		}
		match := m.Add(text)
		ids[i], likely[i], want[i] = match.ID, match.Likely, l.Event
	}
	online = logs.GroupingAccuracy(likely, want)
	for i, id := range ids {
		ids[i] = m.Resolve(id)
	}
	return logs.GroupingAccuracy(ids, want), online
}

// sharedLogs are the labelled logs beside the repository, by system.
func sharedLogs(t testing.TB) map[string][]logs.Line {
	t.Helper()
	all, err := logs.Shared("../../../shared/data/loghub")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no labelled logs beside the repository: no figure")
	} else if err != nil {
		t.Fatal(err)
	}
	return all
}

// The shared logs are known to whoever works on the miner: what it makes of
// them says nothing of others, and must not get worse unnoticed.
func TestSharedLogsAreStillGrouped(t *testing.T) {
	known := sharedLogs(t)
	for _, raw := range []bool{false, true} {
		mean := 0.0
		for name, lines := range known {
			ga, _ := grouping(lines, raw)
			if ga < 0.93 {
				t.Errorf("%s (raw %v): got %.3f, want at least 0.93", name, raw, ga)
			}
			mean += ga / float64(len(known))
		}
		if mean < 0.985 {
			t.Errorf("raw %v: got %.3f, want at least 0.985", raw, mean)
		}
	}
}

// BenchmarkGroupingAccuracy prints the grouping accuracy on LogHub's samples,
// on the message column and on raw lines, after one pass.
func BenchmarkGroupingAccuracy(b *testing.B) {
	known := sharedLogs(b)
	var content, raw, online float64
	for _, name := range slices.Sorted(maps.Keys(known)) {
		c, _ := grouping(known[name], false)
		r, o := grouping(known[name], true)
		b.Logf("%-10s content %.3f raw %.3f raw, ids at once %.3f", name, c, r, o)
		n := float64(len(known))
		content, raw, online = content+c/n, raw+r/n, online+o/n
	}
	b.ReportMetric(content, "GA/content")
	b.ReportMetric(raw, "GA/raw")
	b.ReportMetric(online, "GA/at-once")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLeaveOneOut prints what each shared log gets by the limits, of 60 drawn
// at random, that are best on the other seven: how much is due to choosing. It
// says nothing of the grammar, which was written by people who saw all eight.
func BenchmarkLeaveOneOut(b *testing.B) {
	known := sharedLogs(b)
	names := slices.Sorted(maps.Keys(known))
	r := rand.New(rand.NewPCG(1, 2))
	between := func(low, high int) int { return low + r.IntN(high-low+1) }
	var scores [][]float64
	for range 60 {
		l := limits{
			plain: between(3, 12), context: between(2, 6), least: between(2, 4), first: between(4, 16), assigned: between(2, 8), cued: between(2, 6),
			name: between(2, 8), joined: 2 + len(scores)%3, known: 2 + len(scores)%4, colon: between(3, 10), bracket: between(3, 8), tail: between(6, most), seen: between(1, 4), sentence: between(1, 5), frame: between(2, 5), phrases: between(3, 8),
		}
		var row []float64
		for _, name := range names {
			ga, _ := groupingBy(l, known[name], true)
			row = append(row, ga)
		}
		scores = append(scores, row)
	}
	mean := 0.0
	for i, name := range names {
		best, chosen := -1.0, 0
		for k, row := range scores {
			rest := 0.0
			for j, ga := range row {
				if j != i {
					rest += ga
				}
			}
			if rest > best {
				best, chosen = rest, k
			}
		}
		b.Logf("%-10s raw %.3f by limits that give the others %.3f", name, scores[chosen][i], best/float64(len(names)-1))
		mean += scores[chosen][i] / float64(len(names))
	}
	var means []float64
	for _, row := range scores {
		sum := 0.0
		for _, ga := range row {
			sum += ga / float64(len(row))
		}
		means = append(means, sum)
	}
	slices.Sort(means)
	b.Logf("limits at random: worst %.3f, median %.3f, best %.3f", means[0], means[len(means)/2], means[len(means)-1])
	b.ReportMetric(mean, "GA/left-out")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkAdd(b *testing.B) {
	known := sharedLogs(b)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(known)) {
		for _, l := range known[name] {
			lines = append(lines, l.Raw)
		}
	}
	m := New(Config{})
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		m.Add(lines[i%len(lines)])
		i++
	}
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "lines/s")
}

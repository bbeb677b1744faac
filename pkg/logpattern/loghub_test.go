package logpattern

import (
	"encoding/csv"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// data is where the labelled logs lie beside the repository.
const data = "../../../shared/data/loghub"

type labelled struct{ raw, content, event string }

func load(b testing.TB, system string) []labelled {
	b.Helper()
	raw, err := os.ReadFile(filepath.Join(data, system, system+"_2k.log"))
	if err != nil {
		b.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n"), "\n")
	f, err := os.Open(filepath.Join(data, system, system+"_2k.log_structured.csv"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		b.Fatal(err)
	}
	content, id := -1, -1
	for i, h := range rows[0] {
		switch h {
		case "Content":
			content = i
		case "EventId":
			id = i
		}
	}
	var out []labelled
	for i, row := range rows[1:] {
		if i < len(lines) {
			out = append(out, labelled{lines[i], row[content], row[id]})
		}
	}
	return out
}

// groupingAccuracy is the share of lines whose group holds exactly the lines
// of its true group.
func groupingAccuracy(got []uint64, want []string) float64 {
	groups, truth := map[uint64]map[string]int{}, map[string]int{}
	sizes := map[uint64]int{}
	for i := range got {
		if groups[got[i]] == nil {
			groups[got[i]] = map[string]int{}
		}
		groups[got[i]][want[i]]++
		sizes[got[i]]++
		truth[want[i]]++
	}
	right := 0
	for i := range got {
		if len(groups[got[i]]) == 1 && sizes[got[i]] == truth[want[i]] {
			right++
		}
	}
	return float64(right) / float64(len(got))
}

// grouping is the grouping accuracy of a miner that reads a log once, raw or
// its messages, with the ids after the last line; and of the ids given at once.
func grouping(lines []labelled, raw bool) (final, online float64) {
	m := New(Config{})
	ids, want := make([]uint64, len(lines)), make([]string, len(lines))
	for i, l := range lines {
		text := l.content
		if raw {
			text = l.raw
		}
		ids[i], want[i] = m.Add(text).ID, l.event
	}
	online = groupingAccuracy(ids, want)
	for i, id := range ids {
		ids[i] = m.Resolve(id)
	}
	return groupingAccuracy(ids, want), online
}

// sharedLogs are the labelled logs beside the repository, by system.
func sharedLogs(t testing.TB) map[string][]labelled {
	t.Helper()
	systems, err := os.ReadDir(data)
	if err != nil {
		t.Skip("no labelled logs beside the repository: no figure")
	}
	logs := map[string][]labelled{}
	for _, s := range systems {
		logs[s.Name()] = load(t, s.Name())
	}
	return logs
}

// The shared logs are known to whoever works on the miner: what it makes of
// them says nothing of others, and must not get worse unnoticed.
func TestSharedLogsAreStillGrouped(t *testing.T) {
	logs := sharedLogs(t)
	for _, raw := range []bool{false, true} {
		mean := 0.0
		for name, lines := range logs {
			ga, _ := grouping(lines, raw)
			if ga < 0.93 {
				t.Errorf("%s (raw %v): got %.3f, want at least 0.93", name, raw, ga)
			}
			mean += ga / float64(len(logs))
		}
		if mean < 0.97 {
			t.Errorf("raw %v: got %.3f, want at least 0.97", raw, mean)
		}
	}
}

// BenchmarkGroupingAccuracy prints the grouping accuracy on LogHub's samples,
// on the message column and on raw lines, after one pass.
func BenchmarkGroupingAccuracy(b *testing.B) {
	logs := sharedLogs(b)
	var content, raw, online float64
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		c, _ := grouping(logs[name], false)
		r, o := grouping(logs[name], true)
		b.Logf("%-10s content %.3f raw %.3f raw, ids at once %.3f", name, c, r, o)
		n := float64(len(logs))
		content, raw, online = content+c/n, raw+r/n, online+o/n
	}
	b.ReportMetric(content, "GA/content")
	b.ReportMetric(raw, "GA/raw")
	b.ReportMetric(online, "GA/at-once")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkAdd(b *testing.B) {
	logs := sharedLogs(b)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		for _, l := range logs[name] {
			lines = append(lines, l.raw)
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

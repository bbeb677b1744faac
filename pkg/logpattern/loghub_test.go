package logpattern

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// data is where the labelled logs lie beside the repository.
const data = "../../../shared/data/loghub"

type labelled struct{ raw, content, event string }

func load(b *testing.B, system string) []labelled {
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

// BenchmarkGroupingAccuracy prints the grouping accuracy on LogHub's samples,
// on the message column and on raw lines, after one pass.
func BenchmarkGroupingAccuracy(b *testing.B) {
	systems, err := os.ReadDir(data)
	if err != nil {
		b.Skip("no labelled logs beside the repository: no figure")
	}
	var meanContent, meanRaw float64
	for _, s := range systems {
		lines := load(b, s.Name())
		score := func(raw bool) float64 {
			m := New(Config{})
			ids := make([]uint64, len(lines))
			want := make([]string, len(lines))
			for i, l := range lines {
				if raw {
					ids[i] = m.Add(l.raw).ID
				} else {
					ids[i] = m.AddContent(l.content, Unknown).ID
				}
				want[i] = l.event
			}
			final := map[uint64]uint64{}
			for i, id := range ids {
				if _, ok := final[id]; !ok {
					final[id] = m.Resolve(id)
				}
				ids[i] = final[id]
			}
			return groupingAccuracy(ids, want)
		}
		c, r := score(false), score(true)
		b.Logf("%-10s content %.3f raw %.3f", s.Name(), c, r)
		meanContent += c / float64(len(systems))
		meanRaw += r / float64(len(systems))
	}
	b.ReportMetric(meanContent, "GA/content")
	b.ReportMetric(meanRaw, "GA/raw")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkAdd(b *testing.B) {
	systems, err := os.ReadDir(data)
	if err != nil {
		b.Skip("no labelled logs beside the repository: no figure")
	}
	var lines []string
	for _, s := range systems {
		for _, l := range load(b, s.Name()) {
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

package drain

import (
	"errors"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/grafana/loki/v3/pkg/pattern/drain"

	"github.com/oncall-copilot/oncall/pkg/logpattern"
	"github.com/oncall-copilot/oncall/test/benchmark/logs"
)

// jsonKeys are the members of JSON lines that Loki's miner looks at, as its
// default limits have them.
type jsonKeys struct{}

func (jsonKeys) PatternIngesterTokenizableJSONFields(string) []string {
	return []string{"log", "message", "msg", "msg_", "_msg", "content"}
}

// loki makes Loki's miner for a log, as its pattern ingester makes one for a stream.
func loki(first string) *drain.Drain {
	return drain.New("", drain.DefaultConfig(), jsonKeys{}, drain.DetectLogFormat(first), nil)
}

// knownLogs are LogHub's samples where they lie beside the repository, else the
// invented logs.
func knownLogs(t testing.TB) map[string][]logs.Line {
	t.Helper()
	known, err := logs.Shared("../../../../shared/data/loghub")
	if err == nil {
		return known
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	t.Log("no labelled logs beside the repository: the invented ones instead")
	return inventedLogs()
}

func inventedLogs() map[string][]logs.Line {
	all := map[string][]logs.Line{}
	for _, s := range logs.Invented() {
		all[s.Name+" ("+s.Format+")"] = s.Lines(1)
	}
	return all
}

// cost is what reading lines took.
type cost struct {
	lines  int
	took   time.Duration // of a processor, so that what else runs counts for neither
	allocs uint64
}

func (c *cost) add(o cost) {
	c.lines, c.took, c.allocs = c.lines+o.lines, c.took+o.took, c.allocs+o.allocs
}

func (c *cost) perSecond() float64 { return float64(c.lines) / c.took.Seconds() }

func (c *cost) perLine() float64 { return float64(c.allocs) / float64(c.lines) }

// passes is how often a log is read in a row: the first is as cold as it can be.
const passes = 25

// measure has a new miner read a log.
func measure(lines []logs.Line, fold func(string)) cost {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := processorTime()
	for range passes {
		for i := range lines {
			fold(lines[i].Raw)
		}
	}
	took := processorTime() - begin
	runtime.ReadMemStats(&after)
	return cost{lines: passes * len(lines), took: took, allocs: after.Mallocs - before.Mallocs}
}

// processorTime is what the process has used so far, its garbage collector too.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSpeedAgainstLoki prints how fast both miners read raw lines, a miner for each
// log, turn about; run it with -cpu 1.
func BenchmarkSpeedAgainstLoki(b *testing.B) {
	known := knownLogs(b)
	names := slices.Sorted(maps.Keys(known))
	ours, theirs := map[string]*cost{}, map[string]*cost{}
	for _, name := range names {
		ours[name], theirs[name] = &cost{}, &cost{}
	}
	var ratios []float64
	var both [2]cost
	for b.Loop() {
		var round [2]cost
		for _, name := range names {
			lines := known[name]
			m := logpattern.New(logpattern.Config{})
			o := measure(lines, func(l string) { m.Add(l) })
			d := loki(lines[0].Raw)
			l := measure(lines, func(l string) { d.Train(l, 0) })
			ours[name].add(o)
			theirs[name].add(l)
			round[0].add(o)
			round[1].add(l)
		}
		ratios = append(ratios, round[0].perSecond()/round[1].perSecond())
		both[0].add(round[0])
		both[1].add(round[1])
	}
	for _, name := range names {
		o, l := ours[name], theirs[name]
		b.Logf("%-24s ours %9.0f lines/s %.3f allocs/line, Loki's %9.0f lines/s %.3f allocs/line, ratio %.2f", name, o.perSecond(), o.perLine(), l.perSecond(), l.perLine(), o.perSecond()/l.perSecond())
	}
	slices.Sort(ratios)
	b.Logf("ratios of %d rounds: %.2f to %.2f", len(ratios), ratios[0], ratios[len(ratios)-1])
	b.ReportMetric(both[0].perSecond(), "ours-lines/s")
	b.ReportMetric(both[0].perLine(), "ours-allocs/line")
	b.ReportMetric(both[1].perSecond(), "lokis-lines/s")
	b.ReportMetric(both[1].perLine(), "lokis-allocs/line")
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(0, "ns/op")
}

// byLoki is the grouping accuracy of Loki's miner. A line that it skips is a group
// of its own.
func byLoki(lines []logs.Line, text func(logs.Line) string) float64 {
	d := loki(text(lines[0]))
	ids, want := make([]uint64, len(lines)), make([]string, len(lines))
	clusters := map[*drain.LogCluster]uint64{}
	for i, l := range lines {
		ids[i], want[i] = uint64(i), l.Event
		if c := d.Train(text(l), 0); c != nil {
			if _, ok := clusters[c]; !ok {
				clusters[c] = uint64(len(lines) + i)
			}
			ids[i] = clusters[c]
		}
	}
	return logs.GroupingAccuracy(ids, want)
}

// byOurs is that of ours, with the ids after the last line.
func byOurs(lines []logs.Line, text func(logs.Line) string) float64 {
	m := logpattern.New(logpattern.Config{})
	ids, want := make([]uint64, len(lines)), make([]string, len(lines))
	for i, l := range lines {
		ids[i], want[i] = m.Add(text(l)).ID, l.Event
	}
	for i, id := range ids {
		ids[i] = m.Resolve(id)
	}
	return logs.GroupingAccuracy(ids, want)
}

// BenchmarkAccuracyAgainstLoki prints the grouping accuracy of both.
func BenchmarkAccuracyAgainstLoki(b *testing.B) {
	content := func(l logs.Line) string { return l.Content }
	raw := func(l logs.Line) string { return l.Raw }
	for what, known := range map[string]map[string][]logs.Line{"shared": knownLogs(b), "invented": inventedLogs()} {
		b.Run(what, func(b *testing.B) {
			var sums [4]float64
			for _, name := range slices.Sorted(maps.Keys(known)) {
				lines := known[name]
				row := [4]float64{byOurs(lines, content), byOurs(lines, raw), byLoki(lines, content), byLoki(lines, raw)}
				b.Logf("%-24s ours %.3f content %.3f raw, Loki's %.3f content %.3f raw", name, row[0], row[1], row[2], row[3])
				for i := range sums {
					sums[i] += row[i] / float64(len(known))
				}
			}
			for i, unit := range [4]string{"ours/content", "ours/raw", "lokis/content", "lokis/raw"} {
				b.ReportMetric(sums[i], unit)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

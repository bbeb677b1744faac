package detectors

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// beside is a window with lines of two pods of other workloads: what the second
// wrote is sampled.
func beside(i int, whole, part []string, rate int) event.Batch {
	at := detectortest.At(i)
	b := event.Batch{Watermark: at, Previous: at.Add(-time.Minute)}
	for k, lines := range [][]string{whole, part} {
		lb := event.LogBatch{Source: "loki", Query: "q", Namespace: "shop", Start: b.Previous, End: at, Chunk: k, SampledRate: 1 + k*(rate-1)}
		ls := event.LabelsOf(map[string]string{
			event.LabelNamespace: "shop", event.LabelWorkload: []string{"web", "loud"}[k], event.LabelKind: "Deployment", event.LabelPod: []string{podA, "loud-7d4b9c6f5-x2x8q"}[k], event.LabelSource: "loki",
		})
		s := event.LogStream{ID: ls.Hash(), Labels: ls}
		for j, l := range lines {
			s.Lines = append(s.Lines, event.LogLine{Time: b.Previous.Add(time.Duration(j+1) * 10 * time.Millisecond), Text: l})
		}
		if len(s.Lines) > 0 {
			lb.Streams = []event.LogStream{s}
			b.Logs = append(b.Logs, lb)
		}
	}
	return b
}

func TestASilenceIsMissedBesideAWorkloadThatIsSampled(t *testing.T) {
	info, _ := detector.Builtin.Lookup("log_vanished")
	d, err := detector.Alone(info, info.Default(), detector.Settings{Policies: store(t)})
	if err != nil {
		t.Fatal(err)
	}
	const stop = 26*60 + 17
	for i := range stop + 60 {
		lines := []string{fmt.Sprintf(work, i%90)}
		if i < stop {
			lines = append(lines, fmt.Sprintf(beat, i))
		}
		for _, a := range d.Observe(beside(i, lines, []string{"retrying"}, 1+19*(i/stop))) {
			if i < stop || a.Entity.Name != "web" {
				t.Fatalf("minute %d: %s", i, a.Summary)
			}
			return
		}
	}
	t.Error("the silence of a workload that was read in full is not told")
}

func TestSampledLinesAreCountedAsAllAndBelievedAsThoseThatWereRead(t *testing.T) {
	const rate = 20
	for name, c := range map[string]struct {
		usual int // lines in a minute, all of which are read
		lines int // in one in which one in twenty is read
		told  bool
	}{
		"as many as ever":          {40, 40, false},
		"twenty times as many":     {40, 800, true},
		"one, which stands for 20": {0, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			info, _ := detector.Builtin.Lookup("log_spike")
			told := 0
			for seed := range uint64(20) {
				d, err := detector.Alone(info, info.Default(), detector.Settings{Policies: store(t)})
				if err != nil {
					t.Fatal(err)
				}
				r := rand.New(rand.NewPCG(seed, 1))
				for i := range 180 {
					n, keep, every := c.usual, 1.0, 1
					if i == 30 {
						n++
					}
					if i > 120 {
						keep, every = 1.0/rate, rate
						if i == 150 {
							n = c.lines
						}
					}
					var lines []string
					for range n {
						if r.Float64() < keep || c.lines == 1 {
							lines = append(lines, `level=info msg="retrying upstream"`)
						}
					}
					for _, a := range d.Observe(beside(i, []string{fmt.Sprintf(work, i)}, append(lines, other(i, every)...), every)) {
						if i != 150 {
							t.Errorf("minute %d: %s", i, a.Summary)
							continue
						}
						told++
						if !strings.Contains(a.Summary, " (1:20 sampled)") || a.Observed < 400 || a.Observed > 1200 {
							t.Errorf("%s", a.Summary)
						}
						break
					}
				}
			}
			if c.told && told < 18 || !c.told && told > 0 {
				t.Errorf("told in %d of 20 runs", told)
			}
		})
	}
}

// other are lines of which there are always as many, as far as one in every is read.
func other(i, every int) (out []string) {
	for k := range max(1, 20/every) {
		out = append(out, fmt.Sprintf(beat, i+k))
	}
	return out
}

func TestErrorsOfASampledWorkloadAreNoMoreThanWereRead(t *testing.T) {
	info, _ := detector.Builtin.Lookup("log_error_ratio")
	d, err := detector.Alone(info, info.Default(), detector.Settings{Policies: store(t)})
	if err != nil {
		t.Fatal(err)
	}
	fails := func(n int) (out []string) {
		for k := range n {
			out = append(out, fmt.Sprintf(`level=error msg="cannot reach the mail server" try=%d`, k))
		}
		return out
	}
	for i := range 120 {
		whole, part := append(other(i, 1), other(i, 1)...), other(i, 1)
		if i >= 90 {
			part = append(part, fails(2)...) // they stand for 40, and are two
		}
		if i == 119 {
			whole = append(whole, fails(30)...)
		}
		for _, a := range d.Observe(beside(i, whole, part, 1+19*(i/90))) {
			switch {
			case i != 119 || a.Entity.Name != "web":
				if a.Entity.Name == "loud" && strings.Contains(a.Summary, "(1:20 sampled)") && i >= 94 {
					continue // ten errors were read in five minutes
				}
				t.Fatalf("minute %d: %s: %s", i, a.Entity.Name, a.Summary)
			case !strings.HasPrefix(a.Summary, "30 of "):
				t.Errorf("errors of a workload that was read in full: %s", a.Summary)
			default:
				return
			}
		}
	}
	t.Error("the errors of a workload that was read in full are not told")
}

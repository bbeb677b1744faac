package detectors

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// logLife plays minutes of lines of one workload to a detector and gives its
// observations the life that the service gives them.
func logLife(t *testing.T, name string, minutes int, lines func(minute int) []string) (began, ended []int) {
	t.Helper()
	info, ok := detector.Builtin.Lookup(name)
	if !ok {
		t.Fatalf("no detector %s", name)
	}
	d, err := detector.Alone(info, info.Default(), detector.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	life := detector.NewLife(info, "00000000")
	labels := event.LabelsOf(map[string]string{event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment", event.LabelSource: "loki"})
	open := map[string]bool{}
	for i := range minutes {
		at := detectortest.At(i)
		b := event.Batch{Watermark: at, Previous: at.Add(-time.Minute)}
		s := event.LogStream{ID: labels.Hash(), Labels: labels}
		for j, l := range lines(i) {
			s.Lines = append(s.Lines, event.LogLine{Time: b.Previous.Add(time.Duration(j+1) * time.Millisecond), Text: l})
		}
		b.Logs = []event.LogBatch{{Source: "loki", Query: "q", Namespace: "shop", Start: b.Previous, End: at, SampledRate: 1, Streams: []event.LogStream{s}}}
		for _, out := range life.Step(b, d.Observe(b), func(reason string) { t.Fatalf("left out: %s", reason) }) {
			a := out.Data().(event.Anomaly)
			switch {
			case a.Ended != nil && open[a.Key]:
				delete(open, a.Key)
				ended = append(ended, i)
			case a.Ended != nil:
				t.Fatalf("minute %d: %s ended and had not begun", i, a.Key)
			case !open[a.Key]:
				open[a.Key] = true
				began = append(began, i)
			}
		}
	}
	if len(open) > 0 {
		t.Errorf("%d anomalies have not ended", len(open))
	}
	return began, ended
}

// usual are the lines of a minute in which all is well.
func usual(minute int) []string {
	var out []string
	for j := range 8 {
		out = append(out, fmt.Sprintf(`level=info msg="served request" path=/cart took=%dms`, 3*minute+j), fmt.Sprintf(`level=info msg="cache hit" key=user-%d`, minute*j))
	}
	if minute%3 == 0 {
		out = append(out, `level=error msg="upstream timed out" upstream=10.0.0.4`)
	}
	return out
}

func TestASpikeOfLinesEndsWhenTheyAreFewAgain(t *testing.T) {
	began, ended := logLife(t, "log_spike", 90, func(minute int) []string {
		out := usual(minute)
		for range 60 {
			if minute >= 50 && minute < 60 {
				out = append(out, `level=error msg="upstream timed out" upstream=10.0.0.4`)
			}
		}
		return out
	})
	if len(began) != 1 || began[0] != 50 || len(ended) != 1 || ended[0] < 60 || ended[0] > 64 {
		t.Errorf("began in minutes %v and ended in %v, want once in 50 and within five minutes after 59", began, ended)
	}
}

func TestWhatComesOftenAtThisHourEachDayIsToldOnTheFirst(t *testing.T) {
	began, _ := logLife(t, "log_spike", 51*60, func(minute int) []string {
		out := usual(minute)[:2]
		if m := minute % 1440; m >= 100 && m < 110 || minute == 1440+400 {
			for range 60 {
				out = append(out, `level=info msg="compacting the segment" segment=17`)
			}
		}
		return out
	})
	if len(began) != 2 || began[0] != 100 || began[1] != 1440+400 {
		t.Errorf("began in minutes %v, want in 100, at that hour of the next days no more, and in %d", began, 1440+400)
	}
}

func TestANewLineEndsWhenItIsNoLongerNew(t *testing.T) {
	for name, until := range map[string]int{"it stops": 305, "it goes on for ever": 400} {
		t.Run(name, func(t *testing.T) {
			began, ended := logLife(t, "log_new_pattern", 330, func(minute int) []string {
				out := usual(minute)
				if minute >= 300 && minute < until {
					out = append(out, `level=error msg="cannot decode the cart" err="unexpected end of input"`)
				}
				return out
			})
			if len(began) != 1 || began[0] != 302 || len(ended) != 1 || ended[0] > 325 {
				t.Errorf("began in minutes %v and ended in %v, want once with the third line, in 302, and by 325", began, ended)
			}
		})
	}
}

// A word that varies makes one template of several while they are in trouble:
// what is open must end all the same, and nothing may be said to be new that is
// another form of what was known.
func TestAnomaliesOfTemplatesThatBecomeOneEnd(t *testing.T) {
	names := []string{"alder", "birch", "cedar", "dogwood", "elm", "fir", "gum", "hazel", "ivy", "juniper"}
	for _, name := range []string{"log_spike", "log_new_pattern"} {
		t.Run(name, func(t *testing.T) {
			began, ended := logLife(t, name, 345, func(minute int) []string {
				out := usual(minute)
				if minute >= 300 && minute < 315 {
					for range 40 {
						n := min(minute-300, len(names)-1)
						out = append(out, fmt.Sprintf(`level=error msg="worker lost its connection to shard %s and will try again"`, names[n]))
					}
				}
				return out
			})
			if len(began) == 0 || len(ended) != len(began) {
				t.Errorf("began in minutes %v and ended in %v, want some, and all of them ended", began, ended)
			}
		})
	}
}

// What is kept of a template goes to the one that it becomes part of, or its
// habits would be lost and the whole would look new.
func TestWhatIsKeptOfATemplateFollowsItWhenItBecomesPartOfAnother(t *testing.T) {
	words := detector.NewVocabulary()
	spike := &logSpike{cfg: LogSpikeConfig{P: 1e-6, MinLines: 10, MinRatio: 3, WarmUp: 30 * time.Minute}, words: words, rows: map[uint64]*logRate{}}
	fresh := &logNewPattern{cfg: LogNewPatternConfig{WarmUp: 30 * time.Minute, P: 0.02, QuietP: 0.003, For: 15 * time.Minute}, words: words, fresh: map[uint64]*freshStatement{}, novelty: map[uint64]*novelty{}}
	labels := event.LabelsOf(map[string]string{event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment"})
	moves := 0
	for i, name := range []string{"alder", "birch", "cedar", "dogwood", "elm", "fir", "gum", "hazel", "ivy", "juniper", "kapok", "larch"} {
		at := detectortest.At(i)
		line := event.LogLine{Time: at.Add(-time.Second), Text: `level=error msg="worker lost its connection to shard ` + name + ` and will try again"`}
		b := event.Batch{Watermark: at, Logs: []event.LogBatch{{End: at, SampledRate: 1, Streams: []event.LogStream{{ID: 1, Labels: labels, Lines: []event.LogLine{line}}}}}}
		words.Fold(b)
		for _, s := range words.Seen() {
			if s.New {
				fresh.fresh[s.Key] = &freshStatement{first: s.First, prob: 1e-3}
			}
		}
		spike.Observe(b)
		fresh.Observe(b)
		moves += len(words.Moved())
		for key := range spike.rows {
			if words.Statement(key) == nil {
				t.Fatalf("after %s a rate is kept for a template that is part of another", name)
			}
		}
		for key := range fresh.fresh {
			if words.Statement(key) == nil {
				t.Fatalf("after %s a statement is new by a template that is part of another", name)
			}
		}
	}
	if moves == 0 {
		t.Fatal("no templates became one, so that nothing was tested")
	}
	if len(spike.rows) != 1 {
		t.Errorf("%d rates of one statement", len(spike.rows))
	}
}

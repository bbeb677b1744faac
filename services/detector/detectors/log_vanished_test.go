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

// podLines are the lines of a minute by the pod that writes them.
type podLines map[string][]string

// logMinute is what a Loki has of one minute.
type logMinute struct {
	lines podLines
	blind bool // nobody could read it
	rate  int  // of sampling; 0 is 1
}

// playLogs plays minutes of pods of one Deployment to a detector and returns what
// began and ended, by minute.
func playLogs(t testing.TB, name string, minutes int, of func(minute int) logMinute) (began map[int]event.Anomaly, ended []int) {
	t.Helper()
	info, ok := detector.Builtin.Lookup(name)
	if !ok {
		t.Fatalf("no detector %s", name)
	}
	d, err := detector.Alone(info, info.Default(), detector.Settings{Policies: store(t)})
	if err != nil {
		t.Fatal(err)
	}
	life, open := detector.NewLife(info, "00000000"), map[string]bool{}
	began = map[int]event.Anomaly{}
	for i := range minutes {
		m := of(i)
		for _, out := range life.Step(logWindow(i, m), d.Observe(logWindow(i, m)), func(reason string) { t.Fatalf("left out: %s", reason) }) {
			a := out.Data().(event.Anomaly)
			switch {
			case a.Ended != nil:
				delete(open, a.Key)
				ended = append(ended, i)
			case !open[a.Key]:
				open[a.Key] = true
				began[i] = a
			}
		}
	}
	return began, ended
}

func logWindow(i int, m logMinute) event.Batch {
	at := detectortest.At(i)
	b := event.Batch{Watermark: at, Previous: at.Add(-time.Minute)}
	if m.blind {
		b.Blind = []event.Blindness{{Source: "loki", Since: b.Previous, Reason: "connection refused"}}
		return b
	}
	lb := event.LogBatch{Source: "loki", Query: "q", Namespace: "shop", Start: b.Previous, End: at, SampledRate: max(1, m.rate)}
	for _, pod := range sortedKeys(m.lines) {
		ls := event.LabelsOf(map[string]string{
			event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment", event.LabelPod: pod, event.LabelSource: "loki",
		})
		s := event.LogStream{ID: ls.Hash(), Labels: ls}
		for j, l := range m.lines[pod] {
			s.Lines = append(s.Lines, event.LogLine{Time: b.Previous.Add(time.Duration(j+1) * 100 * time.Millisecond), Text: l})
		}
		lb.Streams = append(lb.Streams, s)
	}
	b.Logs = []event.LogBatch{lb}
	return b
}

const (
	podA = "web-7d4b9c6f5-x2x8q"
	podB = "web-5c8d9f7b6-b4n7z" // of the next revision
	beat = `level=info msg="queue polled" depth=%d`
	work = `level=info msg="served request" path=/cart took=%dms`
)

func TestALineThatCameSteadilyAndStopsIsMissed(t *testing.T) {
	const stop, back = 26*60 + 17, 27 * 60
	r := rand.New(rand.NewPCG(7, 7))
	both := func(pod string, i int) podLines {
		return podLines{pod: {fmt.Sprintf(beat, i), fmt.Sprintf(work, i%90)}}
	}
	rest := func(pod string, i int) podLines { return podLines{pod: {fmt.Sprintf(work, i%90)}} }
	for name, c := range map[string]struct {
		of     func(i int) logMinute
		missed bool
	}{
		"while its pod writes other lines": {func(i int) logMinute {
			if i >= stop && i < back {
				return logMinute{lines: rest(podA, i)}
			}
			return logMinute{lines: both(podA, i)}
		}, true},
		"not with its pod, as when a workload is scaled to zero": {func(i int) logMinute {
			if i >= stop && i < back {
				return logMinute{}
			}
			return logMinute{lines: both(podA, i)}
		}, false},
		"not when pods of another revision, which do not make it, take over": {func(i int) logMinute {
			if i >= stop {
				return logMinute{lines: rest(podB, i)}
			}
			return logMinute{lines: both(podA, i)}
		}, false},
		"not while nobody can read the source": {func(i int) logMinute {
			return logMinute{lines: both(podA, i), blind: i >= stop && i < back}
		}, false},
		"not while lines are sampled out": {func(i int) logMinute {
			if i >= stop && i < back {
				return logMinute{lines: rest(podA, i), rate: 20}
			}
			return logMinute{lines: both(podA, i)}
		}, false},
		"not when it comes by day only": {func(i int) logMinute {
			if i/60%24 >= 2 && i/60%24 < 12 {
				return logMinute{lines: both(podA, i)}
			}
			return logMinute{lines: rest(podA, i)}
		}, false},
		"not when it comes in bursts": {func(i int) logMinute {
			if i/40%2 == 0 && i < stop {
				return logMinute{lines: both(podA, i)}
			}
			return logMinute{lines: rest(podA, i)}
		}, false},
		"not when it told of an error": {func(i int) logMinute {
			l := rest(podA, i)
			if i < stop {
				l[podA] = append(l[podA], `level=error msg="cannot reach the mail server"`)
			}
			return logMinute{lines: l}
		}, false},
		"not when it comes by chance, and has stayed away as long before": {func(i int) logMinute {
			if r.IntN(3) == 0 {
				return logMinute{lines: both(podA, i)}
			}
			return logMinute{lines: rest(podA, i)}
		}, false},
		"not before it is known for a day": {func(i int) logMinute {
			if i >= 10*60 && i < 12*60 {
				return logMinute{lines: rest(podA, i)}
			}
			return logMinute{lines: both(podA, i)}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			began, ended := playLogs(t, "log_vanished", 28*60, c.of)
			if !c.missed {
				for i, a := range began {
					t.Errorf("minute %d: %s (%s)", i, a.Summary, a.Explanation)
				}
				return
			}
			if len(began) != 1 || len(ended) != 1 {
				t.Fatalf("began %v, ended in %v, want once", began, ended)
			}
			for i, a := range began {
				if i < stop+3 || i > stop+20 || ended[0] < back || ended[0] > back+4 {
					t.Errorf("began in minute %d and ended in %d, want within 20 after %d and 4 after %d", i, ended[0], stop, back)
				}
				if d := a.Onset.Sub(detectortest.At(stop - 1)); d < -time.Minute || d > time.Minute {
					t.Errorf("onset is %s from the first line that did not come", d)
				}
				if !strings.HasPrefix(a.Summary, "no line for ") || !strings.Contains(a.Summary, "came about every 1 m: queue polled") {
					t.Errorf("%q", a.Summary)
				}
				if e := a.Evidence; len(e) != 1 || !strings.Contains(e[0].Query, `|= "queue polled"`) || len(e[0].Excerpt) != 1 {
					t.Errorf("evidence %+v", e)
				}
			}
		})
	}
}

// What comes by the clock is missed after some beats, and is worth a warning.
func TestABeatOfAClockIsMissedAfterAFew(t *testing.T) {
	const stop = 26 * 60
	began, _ := playLogs(t, "log_vanished", 27*60, func(i int) logMinute {
		l := podLines{podA: {fmt.Sprintf(work, i%90)}}
		if i%5 == 0 && i < stop {
			l[podA] = append(l[podA], fmt.Sprintf(beat, i))
		}
		return logMinute{lines: l}
	})
	if len(began) != 1 {
		t.Fatalf("began %v, want once", began)
	}
	for i, a := range began {
		if i < stop+10 || i > stop+45 || a.Severity != event.Warning || !strings.Contains(a.Summary, "that came every 5 m: queue polled") {
			t.Errorf("minute %d: %s %q", i-stop, a.Severity, a.Summary)
		}
	}
}

// A thread that dies takes all its statements along: that is one anomaly.
func TestStatementsThatVanishTogetherAreOneAnomaly(t *testing.T) {
	began, _ := playLogs(t, "log_vanished", 27*60, func(i int) logMinute {
		l := podLines{podA: {fmt.Sprintf(work, i%90)}}
		if i < 26*60-10 {
			l[podA] = append(l[podA], "level=info msg=polled", `level=info msg="wrote a segment"`, `level=info msg="offsets are on disk now"`,
				`level=info msg="consumer group is up to date"`, `level=debug msg="nothing left to send for this round"`)
		}
		return logMinute{lines: l}
	})
	for i, a := range began {
		if !strings.Contains(a.Summary, " more): ") || len(a.Evidence) != maxVanished {
			t.Errorf("minute %d: %q with %d queries", i, a.Summary, len(a.Evidence))
		}
	}
	if len(began) != 1 {
		t.Errorf("%d anomalies, want 1", len(began))
	}
}

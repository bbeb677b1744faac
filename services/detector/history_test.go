package detector_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
)

// clusterLog is a healthy workload that now and then has one of many troubles,
// each some times a day; what it says in a minute is a function of the minute.
func clusterLog(minute int, only func(string) bool) (lines []event.LogLine) {
	r := rand.New(rand.NewPCG(uint64(minute), 11))
	at := historyStart.Add(time.Duration(minute) * time.Minute)
	add := func(text string) {
		if only == nil || only(text) {
			lines = append(lines, event.LogLine{Time: at.Add(time.Duration(len(lines)+1) * time.Second), Text: text})
		}
	}
	for range 4 {
		add(fmt.Sprintf(`level=info msg="served request" path=/cart took=%dms`, r.IntN(90)))
	}
	if r.IntN(20) == 0 {
		for range 3 {
			// Eight troubles that differ in more than a word.
			add([]string{
				`level=error msg="upstream timed out" upstream=10.0.0.4`, `level=error msg="cannot charge the card"`, `level=error msg="mail was not accepted by the relay"`,
				`level=error msg="cache lost its leader"`, `level=error msg="token of the session is over"`, `level=error msg="deadlock, the transaction begins again"`,
				`level=error msg="stock is negative"`, `level=error msg="image was too large to scale"`,
			}[r.IntN(8)])
			add([]string{`level=error msg="retry"`, `level=error msg="gave up on it"`}[r.IntN(2)])
		}
	}
	return lines
}

var historyStart = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// logsAt is a batch of what was said in some minutes.
func logsAt(from, minutes int, only func(string) bool, more ...string) event.LogBatch {
	ls := event.LabelsOf(map[string]string{event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment", event.LabelSource: "loki"})
	s := event.LogStream{ID: ls.Hash(), Labels: ls}
	for m := from; m < from+minutes; m++ {
		s.Lines = append(s.Lines, clusterLog(m, only)...)
	}
	start := historyStart.Add(time.Duration(from) * time.Minute)
	for _, text := range more {
		s.Lines = append(s.Lines, event.LogLine{Time: start.Add(50 * time.Second), Text: text})
	}
	return event.LogBatch{
		Source: "loki", Query: "q", Partition: 7, Namespace: "shop", Start: start, End: start.Add(time.Duration(minutes) * time.Minute),
		SampledRate: 1, Streams: []event.LogStream{s},
	}
}

// pastOf are the batches that a collector makes of the day before a minute.
func pastOf(until int) (out []bus.Message) {
	trouble := func(text string) bool { return len(text) > 11 && text[:11] == "level=error" }
	add := func(b event.LogBatch) {
		b.Query, b.Bootstrap = "past", true
		out = append(out, bus.Message{Attributes: event.Attributes{ID: fmt.Sprint(event.LogsRead.ID(b), b.Chosen)}, Data: b})
	}
	for m := until - 24*60; m < until; m += 60 {
		b := logsAt(m, 60, trouble)
		b.Chosen = true
		add(b)
	}
	for m := until - 24*60; m < until; m += 15 {
		add(logsAt(m, 1, nil))
	}
	return out
}

// live are windows of minutes as they come.
func live(from, to int, more map[int][]string) (out []bus.Message) {
	for m := from; m < to; m++ {
		b := logsAt(m, 1, nil, more[m]...)
		out = append(out, bus.Message{Attributes: event.Attributes{ID: event.LogsRead.ID(b)}, Data: b},
			bus.Message{Attributes: event.Attributes{ID: fmt.Sprint("t", m)}, Data: event.Tick{Watermark: b.End}})
	}
	return out
}

func TestTheFirstHourAfterHistoryHasNoNewLinesButThoseThatAreNew(t *testing.T) {
	const start = 48 * 60
	const trouble = `level=error msg="cannot decode the order" err="unexpected end of input"`
	broken := map[int][]string{start + 7: {trouble, trouble, trouble}}
	for name, c := range map[string]struct {
		before []bus.Message
		more   map[int][]string
		told   []string // by minute after the start
	}{
		"after the first start":                           {pastOf(start), nil, nil},
		"after the first start, and something breaks":     {pastOf(start), broken, []string{"8m0s new log line (error): cannot decode the order"}},
		"after an upgrade of the miner":                   {append(live(start-120, start, nil), pastOf(start)...), nil, nil},
		"after an upgrade of the miner, and it breaks":    {append(live(start-120, start, nil), pastOf(start)...), broken, []string{"8m0s new log line (error): cannot decode the order"}},
		"without history nothing can be told in the hour": {nil, broken, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFold(t, detector.Logs, detector.DefaultConfig())
			apply(t, f, c.before)
			// It is there again after a restart.
			again := newFold(t, detector.Logs, detector.DefaultConfig())
			if err := again.UnmarshalBinary(state(t, f)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(state(t, f), state(t, again)) {
				t.Error("state read and written again differs")
			}
			out := apply(t, again, c.before) // and its repeats are known
			for _, a := range anomalies(out) {
				t.Errorf("history was told of: %s", a.Summary)
			}
			var told []string
			for _, a := range anomalies(apply(t, again, live(start, start+60, c.more))) {
				if a.Ended != nil || len(told) > 0 && a.Detector == "log_new_pattern" && a.Observed > 3 {
					continue
				}
				told = append(told, fmt.Sprintf("%s %s", a.WindowEnd.Sub(historyStart.Add(start*time.Minute)), a.Summary))
			}
			if fmt.Sprint(told) != fmt.Sprint(c.told) {
				t.Errorf("told %q, want %q", told, c.told)
			}
		})
	}
}

package detectors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// rationed makes a spike detector that has room for so many series in full, in each
// partition.
func rationed(t *testing.T, most int) *spikes {
	t.Helper()
	info, _ := detector.Builtin.Lookup("spike")
	c := info.Default().(SpikeConfig)
	c.Deep = most * event.Partitions
	d, err := info.New(c, detector.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*spikes)
}

func seriesOf(class event.SignalClass, name string) event.Labels {
	return event.LabelsOf(map[string]string{event.LabelName: name, event.LabelClass: string(class), event.LabelNamespace: "shop", event.LabelWorkload: "web"})
}

// spikeWindow is one minute of series of noise; odd ones stand out.
func spikeWindow(step int, all []event.Labels, odd func(event.Labels) bool) event.Batch {
	b := event.Batch{Watermark: detectortest.At(step), Previous: detectortest.At(step - 1)}
	m := event.MetricBatch{Step: b.Watermark}
	for _, ls := range all {
		r := rand.New(rand.NewPCG(ls.Hash(), uint64(step)))
		v := 100 + r.NormFloat64()
		if odd(ls) {
			v += 50
		}
		m.Series = append(m.Series, event.Series{ID: ls.Hash(), Labels: ls, Points: []event.Point{{T: b.Watermark.UnixMilli(), V: v}}})
	}
	slices.SortFunc(m.Series, func(a, b event.Series) int { return strings.Compare(event.SeriesHash(a.ID), event.SeriesHash(b.ID)) })
	b.Metrics = []event.MetricBatch{m}
	return b
}

func none(event.Labels) bool { return false }

// inFull are the names of the series that are known in full.
func inFull(d *spikes, all []event.Labels) (names []string) {
	for _, ls := range all {
		if d.deep.rows.Find(ls.Hash()) != nil {
			names = append(names, ls.Get(event.LabelName))
		}
	}
	return names
}

func TestWhatRequestsFeelIsKnownInFullBeforeTheRest(t *testing.T) {
	restarts := []event.Labels{seriesOf(event.ClassCause, "a"), seriesOf(event.ClassCause, "b"), seriesOf(event.ClassCause, "c")}
	latencies := []event.Labels{seriesOf(event.ClassSymptom, "w"), seriesOf(event.ClassSymptom, "x"), seriesOf(event.ClassSymptom, "y"), seriesOf(event.ClassSymptom, "z")}
	d := rationed(t, 3)
	lightly := int64(0)
	for i, c := range []struct {
		come []event.Labels
		want string
	}{
		{restarts[:1], "a"},
		{append(restarts[:1:1], restarts[2]), "a c"}, // in the order in which they came
		{restarts, "a b c"},
		{append(restarts[:3:3], latencies[0]), "a c w"}, // the last one leaves
		{append(restarts[:3:3], latencies[:2]...), "a w x"},
		{append(restarts[:3:3], latencies...), ""}, // whichever of the latencies has the least id
		{append(restarts[:3:3], latencies...), ""},
	} {
		found := d.Observe(spikeWindow(i, c.come, none))
		got := inFull(d, append(restarts[:3:3], latencies...))
		if s := strings.Join(got, " "); c.want != "" && s != c.want {
			t.Errorf("window %d: known in full are %q, want %q", i, s, c.want)
		}
		crowded := c.want == ""
		if crowded && (len(got) != 3 || slices.ContainsFunc(got, func(n string) bool { return n < "w" })) {
			t.Errorf("window %d: known in full are %q, want three latencies", i, got)
		}
		if crowded != (len(found) == 1) {
			t.Fatalf("window %d: got %d observations, want a notice only where latencies find no room", i, len(found))
		}
		if crowded && !strings.HasPrefix(found[0].Summary, "1 of the latencies, ") {
			t.Errorf("window %d: %s", i, found[0].Summary)
		}
		lightly = d.Rationed()
	}
	if lightly != 4 {
		t.Errorf("%d series were looked at lightly in the last window, want 4", lightly)
	}
	// A day later the latencies are gone, and who is there takes their places.
	for i := range 3 {
		d.Observe(spikeWindow(26*60+i, restarts, none))
	}
	if got := strings.Join(inFull(d, restarts), " "); got != "a b c" {
		t.Errorf("after the latencies went, known in full are %q", got)
	}
}

// TestARationedSpikeStandsOutAlikeAfterRestarts has series of which a part finds room
// come and go, with a restore after every window in one of two runs.
func TestARationedSpikeStandsOutAlikeAfterRestarts(t *testing.T) {
	var all []event.Labels
	for i := range 12 {
		all = append(all, seriesOf([]event.SignalClass{event.ClassCause, event.ClassSymptom}[i%2], fmt.Sprint("s", i)))
	}
	restarted, calm := rationed(t, 4), rationed(t, 4)
	told := map[string]bool{}
	for step := range 400 {
		come := slices.Clone(all)
		r := rand.New(rand.NewPCG(uint64(step/40), 1))
		r.Shuffle(len(come), func(i, j int) { come[i], come[j] = come[j], come[i] })
		b := spikeWindow(step, come[:9], func(ls event.Labels) bool { return step%97 == 96 })
		got, want := restarted.Observe(b), calm.Observe(b)
		one, _ := json.Marshal(got)
		two, _ := json.Marshal(want)
		if !bytes.Equal(one, two) {
			t.Fatalf("window %d: with restarts\n%s\nwithout\n%s", step, one, two)
		}
		for _, a := range got {
			told[fmt.Sprint(strings.Contains(a.Explanation, "known lightly, without"), a.Signal != "series")] = true
		}
		state, err := restarted.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		restarted = rationed(t, 4)
		if err := restarted.UnmarshalBinary(state); err != nil {
			t.Fatal(err)
		}
		if again, _ := calm.MarshalBinary(); !bytes.Equal(state, again) {
			t.Fatalf("window %d: states differ", step)
		}
	}
	if !told["true true"] || !told["false true"] || !told["false false"] {
		t.Errorf("told of %v; want spikes that are known in full and lightly, and the notice", told)
	}
	if d := restarted.deep.rows.Len(); d != 4 {
		t.Errorf("%d series are known in full, want 4", d)
	}
}

func TestASpikeStandsOutWhereThereIsNoRoom(t *testing.T) {
	d := rationed(t, 0)
	one := []event.Labels{seriesOf(event.ClassCause, "restarts")}
	for step := range 200 {
		if found := d.Observe(spikeWindow(step, one, none)); len(found) > 0 {
			t.Fatalf("window %d: %s", step, found[0].Summary)
		}
	}
	found := d.Observe(spikeWindow(200, one, func(event.Labels) bool { return true }))
	if len(found) != 1 || !strings.Contains(found[0].Explanation, "known lightly") || found[0].Onset != detectortest.At(200).UTC().Truncate(time.Millisecond) {
		t.Errorf("got %+v", found)
	}
}

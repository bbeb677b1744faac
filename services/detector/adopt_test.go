package detector_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

func configured(t *testing.T, text string) detector.Config {
	t.Helper()
	cfg := detector.DefaultConfig()
	if err := yaml.Unmarshal([]byte(text), &cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// by are the lines of what a detector found.
func by(t *testing.T, out []event.Outgoing, is func(name string) bool) string {
	t.Helper()
	var found []event.Outgoing
	for _, o := range out {
		if a, ok := o.Data().(event.Anomaly); ok && is(a.Detector) {
			found = append(found, o)
		}
	}
	return lines(t, found)
}

// After a change of one detector the others go on as though there had been none.
func TestAChangeOfOneDetectorIsNothingToTheOthers(t *testing.T) {
	for _, c := range []struct {
		in                detector.Input
		changed, detector string
	}{
		{detector.Metrics, "level_shift: {window: 20m}", "level_shift"},
		{detector.Metrics, "disabled: [spike]", "spike"},
		{detector.Logs, "log_spike: {p: 1e-9}", "log_spike"},
		{detector.Logs, "disabled: [log_vanished]", "log_vanished"},
		{detector.Events, "event_surge: {p: 1e-5}", "event_surge"},
		{detector.Events, "disabled: [event_surge]", "event_surge"},
	} {
		t.Run(string(c.in)+" "+c.changed, func(t *testing.T) {
			msgs := messages(c.in, detectortest.Stream(c.in, 300))
			others := func(name string) bool { return name != c.detector }
			want := by(t, apply(t, newFold(t, c.in, detector.DefaultConfig()), msgs), others)
			for _, cut := range []int{1, len(msgs) / 3, len(msgs)/3 + 1, 2*len(msgs)/3 + 1} {
				before := newFold(t, c.in, detector.DefaultConfig())
				out := apply(t, before, msgs[:cut])
				after := newFold(t, c.in, configured(t, c.changed))
				if err := after.(bus.Adopter).Adopt(state(t, before)); err != nil {
					t.Fatal(err)
				}
				// What it writes from now on is its own.
				again := newFold(t, c.in, configured(t, c.changed))
				if err := again.UnmarshalBinary(state(t, after)); err != nil || !bytes.Equal(state(t, again), state(t, after)) {
					t.Errorf("cut at %d: what it wrote cannot be read again: %v", cut, err)
				}
				if got := by(t, append(out, apply(t, after, msgs[cut:])...), others); got != want {
					t.Errorf("cut at %d: the others found\n%s\nwant\n%s", cut, got, want)
				}
			}
		})
	}
}

// A ledger of requests is the same whatever is promised of them.
func TestAnotherObjectiveGoesOnWithTheLedgerOfBefore(t *testing.T) {
	with := func(target string) bus.Fold {
		text, err := policies.FS.ReadFile("slo.yaml")
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), "target: 0.995", "target: "+target, 1)
		store, err := policy.NewStore(policies.FS, fstest.MapFS{"slo.yaml": {Data: []byte(changed)}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := detector.NewFold(detector.Metrics, 7, detector.DefaultConfig(), store, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	var windows []event.Batch
	for i := range 300 {
		at := detectortest.Start.Add(time.Duration(i) * time.Minute)
		m := event.MetricBatch{Step: at, Partition: 7, Namespace: "shop"}
		for name, v := range map[string]float64{"request_rate": 100, "error_ratio": 0.4 * float64(i/200)} {
			l := event.LabelsOf(map[string]string{event.LabelName: name, event.LabelNamespace: "shop", event.LabelWorkload: "web", event.LabelKind: "Deployment"})
			m.Series = append(m.Series, event.Series{ID: l.Hash(), Labels: l, Points: []event.Point{{T: at.UnixMilli(), V: v}}})
		}
		windows = append(windows, event.Batch{Watermark: at, Metrics: []event.MetricBatch{m}})
	}
	msgs := messages(detector.Metrics, windows)
	burns := func(name string) bool { return name == "burn_rate" }
	cut := len(msgs) / 3
	want := by(t, apply(t, with("0.99"), msgs), burns)
	before, after := with("0.995"), with("0.99")
	out := apply(t, before, msgs[:cut])
	if err := after.(bus.Adopter).Adopt(state(t, before)); err != nil {
		t.Fatal(err)
	}
	if got := by(t, append(out, apply(t, after, msgs[cut:])...), burns); got != want || want == "" {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
}

func TestAStateOfAnotherVersionIsNotTakenOver(t *testing.T) {
	for _, in := range inputs {
		f := newFold(t, in, detector.DefaultConfig())
		s := state(t, f)
		s[1] = '0' // the first character of the version
		err := newFold(t, in, detector.DefaultConfig()).(bus.Adopter).Adopt(s)
		if err == nil || !strings.Contains(err.Error(), "state of version") {
			t.Errorf("%s: %v, want its version", in, err)
		}
	}
}

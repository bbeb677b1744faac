package detectors_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// What each model of policies/detectors says of a series, a minute a step.
func TestEveryModelOfADeclaredDetector(t *testing.T) {
	const head = "name: queue\ndoc: d\nexpr: x\nclass: cause\n"
	for name, c := range map[string]struct {
		yaml, load, steps, why string
	}{
		"threshold, once it has lasted": {
			"model: threshold\nabove: 5\nfor: 3m", "1x9 6x9 1x9", "13-19", "beyond the threshold",
		},
		"threshold, not what ends before": {
			"model: threshold\nabove: 5\nfor: 3m", "1x9 6x1 1x9 6x1 1x9", "", "",
		},
		"the band of its own past": {
			"model: quantile_band\nfor: 0s", "10~1x130 20x2 10~1x9", "131-133", "outside the band",
		},
		"the band, for longer than it looks back, is the usual": {
			"model: quantile_band\nfor: 3m\nwindow: 3h", "10~1x180 20~1x600", "184-362", "outside the band",
		},
		"the band is wide where the past was": {
			"model: quantile_band\nfor: 0s", "10~9x130 18x2 10~9x9", "", "",
		},
		"a trend that reaches the limit": {
			"model: predict_linear\nabove: 100\nhorizon: 1h\nwindow: 1h\nfor: 0s", "10+1x70", "31-70", "the trend gives",
		},
		"a level is no trend": {
			"model: predict_linear\nabove: 100\nhorizon: 1h\nwindow: 1h\nfor: 0s", "90~1x120", "", "",
		},
		"off level and trend": {
			"model: double_exponential_smoothing\nfor: 0s", "100~2x200 200x2 100~2x30", "201-203", "off the forecast of level and trend",
		},
		"a trend that goes on is none": {
			"model: double_exponential_smoothing\nfor: 0s", "100+1x300", "", "",
		},
		"nor is anything while it learns": {
			"model: double_exponential_smoothing\nfor: 0s", "100~2x60 200x2 100~2x30", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := policy.NewStore(fstest.MapFS{"detectors/queue.yaml": {Data: []byte(head + c.yaml + "\n")}})
			if err != nil {
				t.Fatal(err)
			}
			all, err := detector.Declared(store)
			if err != nil {
				t.Fatal(err)
			}
			d, err := all[0].New(all[0].Default(), detector.Settings{})
			if err != nil {
				t.Fatal(err)
			}
			found := detectortest.Play(t, d, map[string]string{`{__name__="queue", namespace="shop"}`: c.load})
			if got := detectortest.Steps(found); got != c.steps {
				t.Errorf("odd in steps %q, want %q", got, c.steps)
			}
			for step, as := range found {
				if !strings.Contains(as[0].Explanation, c.why) {
					t.Errorf("step %d: %q, want %q in it", step, as[0].Explanation, c.why)
				}
			}
		})
	}
}

package detectors

import (
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

const (
	web   = `, namespace="shop", workload="web", workload_kind="Deployment"}`
	ratio = `{__name__="error_ratio", oncall_unit="1"` + web
	rate  = `{__name__="request_rate"` + web
)

// of is a series of one of the clusters behind a proxy.
func of(name, cluster string) string {
	return `{__name__="` + name + `", oncall_unit="1", envoy_cluster_name="` + cluster + `"` + web
}

func TestBehaviour(t *testing.T) {
	s := store(t)
	for name, c := range map[string]struct {
		detector string
		load     map[string]string
		steps    string // in which it is odd; "*" for some
		class    event.SignalClass
		severity event.Severity
		summary  string
	}{
		"a fast burn pages within minutes": {
			"burn_rate",
			map[string]string{ratio: "0.001x120 1x14", rate: "100x135"},
			"124-135", event.ClassSymptom, "", "% of requests fail; SLO default 0.995: burn",
		},
		"a trouble pages while it lasts, and not again when slower windows know of it": {
			"burn_rate",
			map[string]string{ratio: "0x12 0.3x5 0x30", rate: "100x47"},
			"16-21", event.ClassSymptom, event.Critical, "burn",
		},
		"failures of hardly any traffic say nothing": {
			"burn_rate",
			map[string]string{ratio: "0x120 1x10 0x20", rate: "0.003x150"},
			"", "", "", "",
		},
		"a burn below every window's rate is no alarm": {
			"burn_rate",
			map[string]string{ratio: "0.005x400", rate: "100x400"},
			"", "", "", "",
		},
		"one cluster of a proxy burns beside one that does not": {
			"burn_rate",
			map[string]string{of("error_ratio", "a"): "0.001x120 1x14", of("request_rate", "a"): "100x135", of("error_ratio", "b"): "0x135", of("request_rate", "b"): "100x135"},
			"124-135", event.ClassSymptom, "", "% of requests fail; SLO default 0.995: burn",
		},
		"whichever of the two it is": {
			"burn_rate",
			map[string]string{of("error_ratio", "b"): "0.001x120 1x14", of("request_rate", "b"): "100x135", of("error_ratio", "a"): "0x135", of("request_rate", "a"): "100x135"},
			"124-135", event.ClassSymptom, "", "% of requests fail; SLO default 0.995: burn",
		},
		"requests without a share of errors do not burn": {
			"burn_rate",
			map[string]string{rate: "100x400"},
			"", "", "", "",
		},
		"one wild sample stands out": {
			"spike",
			map[string]string{`{__name__="x"` + web: "10~1x199 30 10~1x20"},
			"200", event.ClassAmbient, "", "x 30, expected",
		},
		"noise does not": {
			"spike",
			map[string]string{`{__name__="x"` + web: "10~1x800"},
			"", "", "", "",
		},
		"nothing stands out before the series is known": {
			"spike",
			map[string]string{`{__name__="x"` + web: "10~1x50 30 10~1x10"},
			"", "", "", "",
		},
		"a constant that changes a little does not stand out": {
			"spike",
			map[string]string{`{__name__="x"` + web: "10x200 10.5 10x20"},
			"", "", "", "",
		},
		"a lasting change is a level shift": {
			"level_shift",
			map[string]string{`{__name__="x"` + web: "10~1x299 20~1x90"},
			"306-365", event.ClassAmbient, "", "x moved from about 10",
		},
		"one wild sample is no level shift": {
			"level_shift",
			map[string]string{`{__name__="x"` + web: "10~1x299 90 10~1x60"},
			"", "", "", "",
		},
		"a disk that fills within hours is a symptom": {
			"forecast",
			map[string]string{`{__name__="pvc_used_ratio", oncall_class="saturation", oncall_unit="1", namespace="data", oncall_entity="data/pvc/pg-0"}`: "0.5+0.004x60"},
			"30-60", event.ClassSymptom, event.Critical, "full in",
		},
		"a disk that fills within days is saturation": {
			"forecast",
			map[string]string{`{__name__="pvc_used_ratio", oncall_class="saturation", oncall_unit="1", namespace="data"}`: "0.6+0.0002x60"},
			"30-60", event.ClassSaturation, event.Warning, "full in",
		},
		"a jump is no trend": {
			"forecast",
			map[string]string{`{__name__="pvc_used_ratio", oncall_class="saturation", oncall_unit="1", namespace="data"}`: "0.5x40 0.7x40"},
			"", "", "", "",
		},
		"a nearly empty disk is no trouble however it grows": {
			"forecast",
			map[string]string{`{__name__="pvc_used_ratio", oncall_class="saturation", oncall_unit="1", namespace="data"}`: "0.01+0.001x120"},
			"", "", "", "",
		},
		"busy CPU is not a thing that fills up": {
			"forecast",
			map[string]string{`{__name__="node_cpu_ratio", oncall_class="saturation", oncall_unit="1", node="n1"}`: "0.5+0.004x60"},
			"", "", "", "",
		},
		"a certificate of a few hours is a symptom": {
			"forecast",
			map[string]string{`{__name__="cert_expiry_seconds", oncall_unit="s", namespace="shop"}`: "7200-60x3"},
			"0-3", event.ClassSymptom, event.Critical, "certificate expires in",
		},
		"a workload without a ready replica is a symptom after three minutes": {
			"availability",
			map[string]string{`{__name__="replicas_desired"` + web: "3x30", `{__name__="replicas_ready"` + web: "3x9 0x10 3x9"},
			"13-20", event.ClassSymptom, event.Critical, "0/3 ready",
		},
		"a crash loop that comes back for moments is down": {
			"availability",
			map[string]string{`{__name__="replicas_desired"` + web: "3x39", `{__name__="replicas_ready"` + web: "3x9 0x1 3x0 0x1 3x0 0x1 3x0 0x1 3x20"},
			"*", event.ClassSymptom, event.Critical, "0/3 ready, and so for",
		},
		"a workload that is down for a moment now and then is not": {
			"availability",
			map[string]string{`{__name__="replicas_desired"` + web: "3x60", `{__name__="replicas_ready"` + web: "3x9 0x0 3x9 0x0 3x9 0x0 3x9 0x0 3x9"},
			"", "", "", "",
		},
		"a rollout that keeps its minimum says nothing": {
			"availability",
			map[string]string{`{__name__="replicas_desired"` + web: "4x30", `{__name__="replicas_ready"` + web: "4x9 3x5 4x14"},
			"", "", "", "",
		},
		"what was scaled to zero is not down": {
			"availability",
			map[string]string{`{__name__="replicas_desired"` + web: "3x9 0x20", `{__name__="replicas_ready"` + web: "3x9 0x20"},
			"", "", "", "",
		},
		"what was never up is a cause, not an outage": {
			"availability",
			map[string]string{`{__name__="replicas_desired"` + web: "3x9", `{__name__="replicas_ready"` + web: "0x9"},
			"3-9", event.ClassCause, event.Warning, "never up",
		},
		"a series that always came and is missing is noticed": {
			"flatline",
			map[string]string{rate: "10~1x150 _x30"},
			"*", event.ClassAmbient, event.Info, "is missing since",
		},
		"a series that always moved and stands still is noticed": {
			"flatline",
			map[string]string{rate: "10~1x150 7x30"},
			"*", event.ClassAmbient, event.Info, "stands still at 7",
		},
		"a counter that begins again is neither": {
			"flatline",
			map[string]string{rate: "0+5x150 0+5x30"},
			"", "", "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			info, ok := detector.Builtin.Lookup(c.detector)
			if !ok {
				t.Fatalf("no detector %s", c.detector)
			}
			d, err := info.New(info.Default(), detector.Settings{Policies: s})
			if err != nil {
				t.Fatal(err)
			}
			found := detectortest.Play(t, d, c.load)
			got := detectortest.Steps(found)
			if c.steps != "*" && got != c.steps || c.steps == "*" && got == "" {
				t.Fatalf("odd in steps %q, want %q", got, c.steps)
			}
			for step, as := range found {
				a := as[0]
				if c.class != "" && a.Class != c.class || c.severity != "" && a.Severity != c.severity || !strings.Contains(a.Summary, c.summary) {
					t.Errorf("step %d: got %s %s %q, want %s %s %q", step, a.Class, a.Severity, a.Summary, c.class, c.severity, c.summary)
				}
				if a.Onset.After(detectortest.At(step)) {
					t.Errorf("step %d: onset %s lies after it", step, a.Onset)
				}
			}
		})
	}
}

func TestBlindnessIsNotAbsence(t *testing.T) {
	info, _ := detector.Builtin.Lookup("flatline")
	d, err := info.New(info.Default(), detector.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	detectortest.Play(t, d, map[string]string{rate: "10~1x150"})
	for i := 151; i < 200; i++ {
		b := event.Batch{Watermark: detectortest.At(i), Previous: detectortest.At(i - 1), Blind: []event.Blindness{{Source: "prom"}}}
		if got := d.Observe(b); len(got) != 0 {
			t.Fatalf("step %d: blind, but got %q", i, got[0].Summary)
		}
	}
}

package detectors

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/detectortest"
)

// Where every other count of slow requests is missing, the share is that of the
// steps that are known; of failures a missing count is none.
func TestSlowRequestsThatAreNotToldAreNotTakenForNone(t *testing.T) {
	for objective, want := range map[string]string{
		"latency: {histogram: h, threshold: 300ms}": "60 % of requests take longer than 300ms; SLO web 0.99: burn 60.0x (1h",
		"errors: e, total: t":                       "% of requests fail; SLO web 0.99: burn 30.0x (1h",
	} {
		store, err := policy.NewStore(fstest.MapFS{"slo.yaml": {Data: []byte("objectives:\n  - name: web\n    target: 0.99\n    " + strings.ReplaceAll(objective, "e, total", "e\n    total") + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		info, _ := detector.Builtin.Lookup("burn_rate")
		d, err := info.New(info.Default(), detector.Settings{Policies: store})
		if err != nil {
			t.Fatal(err)
		}
		const of = `, oncall_family="slo_web", oncall_slo="web"` + web
		found := detectortest.Play(t, d, map[string]string{
			`{__name__="slo_errors"` + of:   strings.Repeat("60 _ ", 60),
			`{__name__="slo_requests"` + of: "100x119",
		})
		last := slices.Max(slices.Collect(maps.Keys(found)))
		got := found[last][0].Summary
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", objective, got, want)
		}
	}
}

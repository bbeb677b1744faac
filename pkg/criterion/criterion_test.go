package criterion

import (
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/policies"
)

func TestTheShippedFilesLoad(t *testing.T) {
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Load(store)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 3 {
		t.Errorf("got %d criteria, want at least 3", len(all))
	}
}

func TestErrorsNameLineFieldAndFix(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"a model that is not there":     {"name: a\ndoc: d\nexpr: x\nmodel: magic\nclass: cause\n", "f.yaml:4: model: magic is not threshold, quantile_band, seasonal, predict_linear or double_exponential_smoothing; write model: threshold"},
		"a threshold without value":     {"name: a\ndoc: d\nexpr: x\nmodel: threshold\nclass: cause\n", "f.yaml:4: model: threshold needs above or below"},
		"a class of its own":            {"name: a\ndoc: d\nexpr: x\nmodel: seasonal\nclass: page\n", "f.yaml:5: class: page is not symptom, saturation, cause or ambient"},
		"an unknown field":              {"name: a\nexprs: x\n", "f.yaml:2: exprs: unknown field"},
		"a name with capitals":          {"name: Bad-Name\ndoc: d\nexpr: x\nmodel: seasonal\nclass: cause\n", "f.yaml:1: name: Bad-Name is not lower_snake"},
		"a factor that smooths nothing": {"name: a\ndoc: d\nexpr: x\nmodel: double_exponential_smoothing\nsmoothing: [1, 0.5]\nclass: cause\n", "f.yaml:5: smoothing: [1 0.5] are not two factors between 0 and 1; write [0.1, 0.02]"},
		"bounds that cross":             {"name: a\ndoc: d\nexpr: x\nmodel: threshold\nabove: 1\nbelow: 2\nclass: cause\n", "f.yaml:6: below: 2 is not less than above"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse("f.yaml", []byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("name: a\ndoc: d\nexpr: x\nmodel: threshold\nabove: 1\nclass: cause\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse("f.yaml", []byte(s))
		if err == nil && c.Validate() != nil {
			t.Errorf("%q was accepted and does not validate", s)
		}
	})
}

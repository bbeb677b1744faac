package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

type objectives struct {
	Objectives []objective `yaml:"objectives"`
}

type objective struct {
	Name   string  `yaml:"name"`
	Target float64 `yaml:"target"`
}

func (o *objectives) Validate() error {
	var errs []error
	for i, x := range o.Objectives {
		if x.Target <= 0 || x.Target >= 1 {
			errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("objectives[%d].target", i), Value: x.Target, Problem: "is not between 0 and 1", Fix: "write 0.999"})
		}
	}
	return errors.Join(errs...)
}

func TestDecodeNamesFileLineFieldValueAndFix(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"a wrong value":    {"objectives:\n  - name: a\n    target: 0.9\n  - name: b\n    target: 99.9\n", "slo.yaml:5: objectives[1].target: 99.9 is not between 0 and 1; write 0.999"},
		"an unknown field": {"objectives:\n  - name: a\n    taget: 0.9\n", "slo.yaml:3: taget: unknown field; remove it or correct its name"},
		"a wrong type":     {"objectives:\n  - name: a\n    target: much\n", "slo.yaml:3: cannot unmarshal !!str `much` into float64"},
		"no number":        {"objectives:\n  - name: a\n  - name: b\n    target: .nan\n", "slo.yaml:4: objectives[1].target: .nan is no number to reckon with; write one"},
		"an infinite one":  {"objectives:\n  - target: -.Inf\n", "slo.yaml:2: objectives[0].target: -.Inf is no number to reckon with; write one"},
		"broken syntax":    {"objectives:\n  - name: [\n", "slo.yaml:"},
		"two documents":    {"objectives: []\n---\nobjectives: []\n", "slo.yaml: more than one YAML document"},
		"two wrong values": {"objectives:\n  - target: 2\n  - target: 3\n", "slo.yaml:2: objectives[0].target: 2 is not between 0 and 1; write 0.999\nslo.yaml:3: objectives[1].target: 3"},
	} {
		t.Run(name, func(t *testing.T) {
			var o objectives
			err := policy.Decode("slo.yaml", []byte(tc.in), &o)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
			if _, ok := errors.AsType[*policy.Error](err); !ok {
				t.Errorf("%T is not a *policy.Error", err)
			}
		})
	}
}

func TestASectionKeepsTheLinesOfItsDocument(t *testing.T) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte("first: 1\n\nslo:\n  objectives:\n    - name: a\n      target: 7\n"), &doc); err != nil {
		t.Fatal(err)
	}
	var o objectives
	err := policy.DecodeNode("config.yaml", doc.Content[0].Content[3], &o)
	if want := "config.yaml:6: objectives[0].target: 7 is not between 0 and 1; write 0.999"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestALaterLayerReplacesAFileAndChangesTheHash(t *testing.T) {
	first := fstest.MapFS{"a.yaml": {Data: []byte("1")}, "queries/x.yaml": {Data: []byte("x")}}
	s, err := policy.NewStore(first)
	if err != nil {
		t.Fatal(err)
	}
	layered, err := policy.NewStore(first, fstest.MapFS{"a.yaml": {Data: []byte("2")}, "..data/a.yaml": {Data: []byte("3")}})
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := layered.File("a.yaml"); string(b) != "2" {
		t.Errorf("a.yaml = %q, want the later layer's", b)
	}
	if s.Hash() == layered.Hash() || len(s.Hash()) != 12 {
		t.Errorf("hashes %s and %s", s.Hash(), layered.Hash())
	}
	if got := layered.Glob("queries", ".yaml"); len(got) != 1 || got[0] != "queries/x.yaml" {
		t.Errorf("Glob = %v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("objectives:\n  - target: 0.9\n"))
	f.Add([]byte("objectives: [{target: .nan}, &a {target: -.inf}, *a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var o objectives
		err := policy.Decode("x", b, &o)
		if err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
		for _, x := range o.Objectives {
			if err == nil && !(x.Target > 0 && x.Target < 1) {
				t.Errorf("%q: target %v", b, x.Target)
			}
		}
	})
}

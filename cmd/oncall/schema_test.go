package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/slo"
)

// outputs are what commands write with -o json, by the name of the schema in
// schemas/cli.
var outputs = []struct {
	name, title string
	value       any
	examples    func() []any
}{
	{"canary", "What oncall canary-gate, canary-prom and serve canary write: a verdict on a canary.", canary.Result{}, canaryExamples},
	{"cost", "What oncall cost writes: what a cluster has, pays for and does not use, and what would be enough.", costed{}, costExamples},
	{"slo-prom", "What oncall slo-prom writes: the state of an error budget.", budgets{}, budgetExamples},
	{"triage", "What oncall triage writes: what is known of one workload, and what to do next.", triaged{}, func() []any { return nil }},
}

// closed are the closed sets of strings.
var closed = map[reflect.Type]*jsonschema.Schema{
	reflect.TypeFor[canary.Verdict](): {Type: "string", Enum: []any{canary.Continue, canary.Hold, canary.Rollback}},
	reflect.TypeFor[canary.Looks]():   {Type: "string", Enum: []any{canary.AnyLooks, canary.OneLook}},
	reflect.TypeFor[slo.Verdict]():    {Type: "string", Enum: []any{slo.Page, slo.Ticket, slo.OK, slo.NoData}},
}

// TestSchemasOfOutputs fails when an output differs from its published schema.
// Run with -update to write them, and read the difference: a removed or retyped
// field breaks scripts.
func TestSchemasOfOutputs(t *testing.T) {
	for _, o := range outputs {
		s, err := jsonschema.ForType(reflect.TypeOf(o.value), &jsonschema.ForOptions{TypeSchemas: closed})
		if err != nil {
			t.Fatal(err)
		}
		openFields(s)
		s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", o.title
		want, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		file := filepath.Join("..", "..", "schemas", "cli", o.name+".json")
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is written (%v); run: go test ./cmd/oncall -run SchemasOfOutputs -update", file, err)
			continue
		}
		resolved, err := s.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range o.examples() {
			b, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			var v any
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			if err := resolved.Validate(v); err != nil {
				t.Errorf("%s: %v: %s", o.name, err, b)
			}
		}
	}
}

// openFields lets readers meet fields that they do not know.
func openFields(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if s.Properties != nil {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		openFields(p)
	}
	openFields(s.Items)
}

func canaryExamples() []any {
	p, slow := canary.Default(), 0.3
	side := func(ok, total float64) canary.Side { return canary.Side{Counts: canary.Counts{OK: ok, Total: total}} }
	late := side(900, 1000)
	late.P95 = &slow
	return []any{
		p.Judge(canary.Input{Canary: side(9950, 10000), Baseline: side(9950, 10000)}),
		p.Judge(canary.Input{Canary: side(40, 40), Baseline: side(9950, 10000), Over: time.Minute}),
		p.Judge(canary.Input{Canary: late, Baseline: late}),
		p.Judge(canary.Input{Canary: side(math.NaN(), 1), Baseline: side(0, 0)}),
		p.Unmeasured("nobody answers"),
	}
}

func budgetExamples() []any {
	o := slo.Objective{Name: "web", Target: 0.999, Period: 720 * time.Hour, MinRequests: 30}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	var busy, idle slo.Ledger
	for m := int64(299); m >= 0; m-- { // the oldest first, as requests come
		busy.Add(now-m*60_000, 10, 100)
		idle.Add(now-m*60_000, 0, 0)
	}
	burning := o.Status(&busy, slo.DefaultWindows(), now)
	return []any{budgets{Status: burning, Series: []slo.Status{burning}}, budgets{Status: o.Status(&idle, slo.DefaultWindows(), now)}}
}

// A budget of which little is known is printed in full in every format.
func TestPrintBudget(t *testing.T) {
	for _, format := range []string{"table", "markdown"} {
		var b bytes.Buffer
		for _, x := range budgetExamples() {
			if err := printBudget(&options{out: io.Writer(&b), output: format}, x.(budgets).Status); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"PAGE", "web 99.9 % of requests over 30d", "100x / 100x", "NO-DATA", "budget: nothing is known of it"} {
			if !bytes.Contains(b.Bytes(), []byte(want)) {
				t.Errorf("%s has no %q:\n%s", format, want, b.String())
			}
		}
	}
}

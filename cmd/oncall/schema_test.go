package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/backtest"
	"github.com/oncall-copilot/oncall/internal/objectives"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/slo"
	"github.com/oncall-copilot/oncall/pkg/survey"
)

// outputs are what commands write with -o json, by the name of the schema in
// schemas/cli.
var outputs = []struct {
	name, title string
	commands    []string // without oncall before them
	value       any
	examples    func() []any
}{
	{"agent-run", "What oncall agent-run --once writes: what is wrong now, why, and what to do next.", []string{"agent-run"}, survey.Result{}, none},
	{"agent-run-incident", "What oncall agent-run --incident writes: a recorded incident, looked at again.", nil, again{}, none},
	{"ask", "What oncall ask writes: the answer to a question, with its evidence and how it came about.", []string{"ask"}, asked{}, none},
	{"backtest", "What oncall backtest writes: what would have paged, beside what did.", []string{"backtest"}, backtest.Result{}, none},
	{"canary", "What oncall canary-gate, canary-prom and serve canary write: a verdict on a canary.", []string{"canary-gate", "canary-prom"}, canary.Result{}, canaryExamples},
	{"config", "What oncall config validate writes.", []string{"config validate"}, validated{}, none},
	{"cost", "What oncall cost writes: what a cluster has, pays for and does not use, and what would be enough.", []string{"cost"}, costed{}, costExamples},
	{"coverage", "What oncall doctor --coverage writes: which workloads are seen by which signal.", nil, coverage{}, none},
	{"detect-metrics", "A line of what oncall detect metrics writes: how odd a sample is.", []string{"detect metrics"}, verdict{}, none},
	{"detectors", "What oncall detectors writes: the detectors there are.", []string{"detectors"}, []listed{}, none},
	{"dlq", "What oncall dlq ls writes: the messages that could not be processed.", []string{"dlq ls"}, []deadLetter{}, none},
	{"doctor", "What oncall doctor writes: what was checked, and what to do.", []string{"doctor"}, []finding{}, none},
	{"events", "What oncall events writes: the kinds of events on the bus.", []string{"events"}, []kindOfEvent{}, none},
	{"health", "What oncall health writes: what is broken in a cluster, what will be soon, and why.", []string{"health"}, examination{}, none},
	{"incidents", "What oncall incidents ls writes: the incidents, newest first.", []string{"incidents ls"}, []event.Incident{}, none},
	{"owner", "What oncall owner writes: who owns a thing, and by which rule.", []string{"owner"}, owned{}, none},
	{"owners", "What oncall owner ls writes: who owns each workload.", []string{"owner ls"}, []owned{}, none},
	{"patterns", "A line of what oncall patterns writes: the pattern of a line of a log.", []string{"patterns"}, patternLine{}, none},
	{"patterns-compare", "What oncall patterns --compare writes: what is new, gone or changed from one log to another.", nil, patternComparison{}, none},
	{"patterns-summary", "What oncall patterns --summary writes: the patterns of a log.", nil, patternSummary{}, none},
	{"record", "What oncall record writes: what a bundle holds.", []string{"record"}, bundle.Manifest{}, none},
	{"reports", "What oncall replay and demo write: of every incident the report at its worst.", []string{"replay", "demo"}, []event.Report{}, none},
	{"slo-prom", "What oncall slo-prom writes: the state of an error budget.", []string{"slo-prom"}, budgets{}, budgetExamples},
	{"slo-suggest", "What oncall slo suggest writes: objectives that were kept, and the policy file that they make.", []string{"slo suggest"}, objectives.Suggested{}, none},
	{"triage", "What oncall triage writes: what is known of one workload, and what to do next.", []string{"triage"}, triaged{}, none},
	{"version", "What oncall version writes.", []string{"version"}, versions{}, none},
	{"why", "What oncall why writes: an incident, and every decision about telling people of it.", []string{"why"}, explained{}, none},
}

func none() []any { return nil }

// outputsOfEvents are commands that write an event as it is on the bus, by the
// schema that it has there.
var outputsOfEvents = map[string]string{
	"incidents show": "report/v1.json", "incidents watch": "incident/v1.json", "anomalies watch": "anomaly/v1.json", "dlq show": "deadletter/v1.json",
}

// outputless are commands that write no JSON of their own, with what they write.
var outputless = map[string]string{
	"up": "reports, until it is stopped", "serve canary": "answers to other programs; those are of schemas/cli/canary.json", "detector run": "anomalies, on the bus",
	"bus init": "a line", "bus keys": "Secrets of Kubernetes", "bus permissions": "a NATS server's configuration", "dlq redrive": "a line", "config print": "a configuration file",
}

// A command whose output has no schema cannot be relied on by a script.
func TestEveryCommandsOutputHasASchema(t *testing.T) {
	known := map[string]bool{}
	for _, o := range outputs {
		for _, c := range o.commands {
			known[c] = true
		}
	}
	for _, of := range []map[string]string{outputsOfEvents, outputless} {
		for c := range of {
			if known[c] {
				t.Errorf("%s has two outputs", c)
			}
			known[c] = true
		}
	}
	found := map[string]bool{}
	everyCommand(newRoot(&options{}), func(c *cobra.Command) {
		name := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "oncall"), " ")
		if name == "" || c.HasSubCommands() && len(c.UseLine()) > 0 && c.Use == c.Name() {
			return // it only holds others
		}
		found[name] = true
		if !known[name] {
			t.Errorf("oncall %s has no schema: name its output in outputs of schema_test.go, and run: go test ./cmd/oncall -run SchemasOfOutputs -update", name)
		}
	})
	for name := range known {
		if !found[name] {
			t.Errorf("there is no command oncall %s", name)
		}
	}
}

// scriptJSON is the script command `json SCHEMA CMD…`: what the command writes
// with -o json is of the schema, a file of schemas or of schemas/cli.
func scriptJSON(ts *testscript.TestScript, _ bool, args []string) {
	_ = ts.Exec(args[1], append(args[2:], "-o", "json")...) // its exit code is of other scripts
	file := filepath.Join("..", "..", "schemas", "cli", args[0]+".json")
	if strings.Contains(args[0], "/") {
		file = filepath.Join("..", "..", "schemas", args[0])
	}
	b, err := os.ReadFile(filepath.Join(testFolder, file))
	ts.Check(err)
	var s jsonschema.Schema
	ts.Check(json.Unmarshal(b, &s))
	resolved, err := s.Resolve(nil)
	ts.Check(err)
	written := 0
	for dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout"))); ; written++ {
		var v any
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		ts.Check(err)
		if err := resolved.Validate(v); err != nil {
			ts.Fatalf("what %s writes is not of %s: %v", strings.Join(args[1:], " "), args[0], err)
		}
	}
	if written == 0 {
		ts.Fatalf("%s writes no JSON", strings.Join(args[1:], " "))
	}
}

// testFolder is where the tests run; scripts run elsewhere.
var testFolder, _ = os.Getwd()

// closed are the closed sets of strings.
var closed = map[reflect.Type]*jsonschema.Schema{
	reflect.TypeFor[[]byte]():         {Type: "string", ContentEncoding: "base64"},
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

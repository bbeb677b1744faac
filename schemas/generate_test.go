package schemas

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var update = flag.Bool("update", false, "write the generated files")

// TestGenerated fails when a committed contract differs from what the table of
// kinds says. Run with -update to write the files, and read the difference: a
// removed or retyped field breaks readers.
func TestGenerated(t *testing.T) {
	docs := comments(t)
	want := map[string][]byte{}
	for _, k := range event.Kinds() {
		if strings.HasSuffix(k.Schema, ".json") {
			want[filepath.FromSlash(k.Schema)] = jsonSchema(t, k, docs)
		}
	}
	want["asyncapi.yaml"] = asyncAPI(t)
	want[filepath.FromSlash("../docs/events.md")] = markdown()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, want[name], 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v; run: go generate ./schemas", err)
			continue
		}
		if !bytes.Equal(got, want[name]) {
			t.Errorf("%s differs from the table of kinds; run: go generate ./schemas", name)
		}
	}
}

// enums are the closed sets of strings.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[event.Severity]():      {"info", "warning", "critical"},
	reflect.TypeFor[event.Priority]():      {"P1", "P2", "P3", "P4"},
	reflect.TypeFor[event.IncidentState](): {"open", "resolved"},
	reflect.TypeFor[event.Outcome]():       {"sent", "held", "silenced", "maintenance", "shadow"},
	reflect.TypeFor[event.Urgency]():       {"broken", "soon", "hygiene"},
	reflect.TypeFor[event.SignalClass]():   {"symptom", "saturation", "cause", "ambient"},
}

func jsonSchema(t *testing.T, k event.Registered, docs map[string]string) []byte {
	t.Helper()
	types := map[reflect.Type]*jsonschema.Schema{reflect.TypeFor[[]byte](): {Type: "string", ContentEncoding: "base64"}}
	for typ, values := range enums {
		types[typ] = &jsonschema.Schema{Type: "string", Enum: values}
	}
	s, err := jsonschema.ForType(k.Data, &jsonschema.ForOptions{TypeSchemas: types})
	if err != nil {
		t.Fatalf("%s: %v", k.Type, err)
	}
	open(s)
	describe(s, k.Data, docs)
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.ID = event.SchemaURL(k.Schema)
	s.Title = k.Data.Name()
	s.Description = docs[k.Data.Name()]
	constrain(s, k.Data)
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatalf("%s: %v", k.Type, err)
	}
	return append(b, '\n')
}

// constrain adds what Go types cannot say.
func constrain(s *jsonschema.Schema, typ reflect.Type) {
	if typ == reflect.TypeFor[event.Anomaly]() {
		zero, one := 0.0, 1.0
		s.Properties["tail_prob"].ExclusiveMinimum, s.Properties["tail_prob"].Maximum = &zero, &one
		s.Properties["series"].Pattern = "^[0-9a-f]{16}$"
	}
	if typ == reflect.TypeFor[event.Report]() {
		limit := 120
		s.Properties["headline"].MaxLength = &limit
	}
}

// open lets readers meet fields that they do not know.
func open(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if s.Properties != nil {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		open(p)
	}
	open(s.Items)
	if s.Properties == nil {
		open(s.AdditionalProperties)
	}
}

// describe copies the comments of Go fields into the schema.
func describe(s *jsonschema.Schema, typ reflect.Type, docs map[string]string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		switch {
		case typ.Kind() == reflect.Slice && s.Items != nil:
			s = s.Items
		case typ.Kind() == reflect.Map && s.AdditionalProperties != nil:
			s = s.AdditionalProperties
		case typ.Kind() != reflect.Pointer:
			return
		}
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || s.Properties == nil {
		return
	}
	for f := range fields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		p, ok := s.Properties[name]
		if !ok {
			continue
		}
		p.Description = docs[typ.Name()+"."+f.Name]
		describe(p, f.Type, docs)
	}
}

func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}

// comments reads the doc comments of pkg/event: "Type" and "Type.Field".
func comments(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := filepath.Glob("../pkg/event/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of pkg/event: %v", err)
	}
	fset := token.NewFileSet()
	for _, name := range files {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range g.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				out[ts.Name.Name] = oneLine(g.Doc.Text())
				st, ok := ts.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, fl := range st.Fields.List {
					text := fl.Doc.Text()
					if text == "" {
						text = fl.Comment.Text()
					}
					for _, n := range fl.Names {
						out[ts.Name.Name+"."+n.Name] = oneLine(text)
					}
				}
			}
		}
	}
	return out
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func asyncAPI(t *testing.T) []byte {
	t.Helper()
	type m = map[string]any
	channels, operations, messages := m{}, m{}, m{}
	for _, k := range event.Kinds() {
		name := strings.TrimSuffix(strings.TrimPrefix(k.Type, "dev.oncall."), ".v1")
		payload := m{"$ref": "./" + k.Schema}
		if !strings.HasSuffix(k.Schema, ".json") {
			payload = m{"schemaFormat": "application/vnd.google.protobuf;version=3", "schema": m{"$ref": "./" + k.Schema}}
		}
		messages[name] = m{
			"name": k.Type, "summary": k.Doc, "contentType": k.ContentType, "payload": payload,
			"headers": m{"$ref": "#/components/schemas/cloudevents"},
		}
		params := m{}
		for _, p := range k.Params() {
			params[p] = m{"description": paramDocs[p]}
		}
		ch := m{
			"address": k.Address, "description": k.Doc,
			"messages":    m{name: m{"$ref": "#/components/messages/" + name}},
			"x-jetstream": m{"stream": k.Stream.Name, "max_age": k.Stream.MaxAge.String(), "retention": retention(k.Stream)},
		}
		if len(params) > 0 {
			ch["parameters"] = params
		}
		channels[name] = ch
		operations["receive."+name] = m{"action": "receive", "channel": m{"$ref": "#/channels/" + name}}
	}
	doc := m{
		"asyncapi": "3.0.0",
		"info": m{
			"title": "AI On-Call Copilot", "version": "1.0.0",
			"description": "Events of the pipeline: CloudEvents 1.0 in NATS binary mode, Nats-Msg-Id equal to ce-id.",
			"license":     m{"name": "Apache-2.0"},
		},
		"defaultContentType": "application/json",
		"servers":            m{"nats": m{"host": "nats:4222", "protocol": "nats"}},
		"channels":           channels, "operations": operations,
		"components": m{"messages": messages, "schemas": m{"cloudevents": cloudEventHeaders()}},
	}
	var b bytes.Buffer
	b.WriteString("# Generated from pkg/event/kinds.go by: go generate ./schemas\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var paramDocs = map[string]string{
	"partition": "00 to 31: FNV-1a-32 of namespace/workload, modulo 32", "namespace": "Kubernetes namespace as a token, or _cluster",
	"kind": "kind of the object or change", "reason": "reason of the Kubernetes event", "severity": "info, warning or critical; of decisions, P1 to P4",
	"detector": "registered name of the detector", "group": "detector group: metrics, logs or events", "incident": "id of the incident",
	"source": "prometheus, loki or kubernetes", "outcome": "sent, held, silenced, maintenance or shadow", "team": "owning team, or _cluster for none",
	"channel": "configured name of the channel", "service": "name of the service", "stream": "stream of the original message", "consumer": "consumer that gave up",
}

func cloudEventHeaders() map[string]any {
	str := func(doc string) map[string]any { return map[string]any{"type": "string", "description": doc} }
	return map[string]any{
		"type":     "object",
		"required": []string{"Nats-Msg-Id", "ce-id", "ce-source", "ce-specversion", "ce-type", "ce-time", "ce-dataschema"},
		"properties": map[string]any{
			"Nats-Msg-Id": str("equal to ce-id; the server drops repeats inside the stream's window"),
			"ce-id":       str("a pure function of the data"), "ce-source": str("//cluster/service"), "ce-specversion": str("1.0"), "ce-type": str("type of the event"),
			"ce-time": str("event time"), "ce-subject": str("namespace/kind/name of the entity"), "ce-dataschema": str("URL of the schema"),
			"ce-recordedtime": str("when it was published; never part of a replay"), "ce-severitytext": str("INFO, WARN or ERROR"), "ce-severitynumber": str("9, 13 or 17"),
			"traceparent": str("W3C trace context of this hop"), "ce-traceparent": str("W3C trace context of the start"),
		},
	}
}

func retention(s *event.Stream) string {
	if s.WorkQueue {
		return "workqueue"
	}
	return "limits"
}

func markdown() []byte {
	var b strings.Builder
	b.WriteString("# Events\n\n<!-- Generated from pkg/event/kinds.go by: go generate ./schemas -->\n\n")
	b.WriteString("Everything on the bus is a CloudEvent in NATS binary mode: attributes in `ce-*` headers, `Nats-Msg-Id` equal to `ce-id`.\n")
	b.WriteString("Subscribe with any NATS client: `nats sub 'anomalies.>'`. Schemas are in [`schemas/`](../schemas), the whole as AsyncAPI in\n[`schemas/asyncapi.yaml`](../schemas/asyncapi.yaml); `oncall events` prints this table.\n\n## Streams\n\n")
	b.WriteString("| stream | holds | kept | size | ids remembered |\n|---|---|---|---|---|\n")
	for _, s := range event.Streams() {
		fmt.Fprintf(&b, "| %s | %s | %v | %d MiB | %v |\n", s.Name, s.Doc, s.MaxAge, s.MaxBytes>>20, s.Dedupe)
	}
	b.WriteString("\n## Kinds\n\n| type | subject | stream | schema | meaning |\n|---|---|---|---|---|\n")
	for _, k := range event.Kinds() {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | [%s](../schemas/%s) | %s |\n", k.Type, k.Address, k.Stream.Name, k.Schema, k.Schema, k.Doc)
	}
	b.WriteString("\n## Words in subjects\n\n")
	for _, p := range slices.Sorted(maps.Keys(paramDocs)) {
		fmt.Fprintf(&b, "- `%s`: %s\n", p, paramDocs[p])
	}
	return []byte(b.String())
}

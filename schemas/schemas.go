// Package schemas holds the published contracts of the bus, generated from
// pkg/event's table of kinds and embedded in the binary: a JSON Schema for
// each type of event, and asyncapi.yaml for the streams and subjects.
//
// Within a version only optional fields are added: fields are never removed,
// retyped or made stricter, and readers ignore what they do not know. A
// breaking change is a new file, v2, published beside v1 for one release.
package schemas

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/oncall-copilot/oncall/pkg/event"
)

//go:generate go test . -run TestGenerated -update

// FS holds the files as they lie in this folder.
//
//go:embed asyncapi.yaml */*.json */*.proto
var FS embed.FS

// Read returns one file, for example anomaly/v1.json.
func Read(name string) ([]byte, error) { return fs.ReadFile(FS, name) }

// compiled caches schemas by file name.
var compiled sync.Map

// Validate checks an event's payload against the published schema of its
// type. Telemetry in protobuf is checked by decoding it.
func Validate(a event.Attributes, payload []byte) error {
	k, ok := event.Lookup(a.Type)
	if !ok {
		return fmt.Errorf("type %q is not in the table of kinds", a.Type)
	}
	if !event.MatchSubject(k.Filter(), a.Subject) {
		return fmt.Errorf("%s: subject %q is not of the form %s", a.Type, a.Subject, k.Address)
	}
	if !strings.HasSuffix(k.Schema, ".json") {
		_, err := k.Decode(a, payload)
		return err
	}
	s, err := compile(k.Schema)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	var v any
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("%s %s: not JSON: %w", a.Type, a.ID, err)
	}
	if dec.More() {
		return fmt.Errorf("%s %s: more than one JSON value", a.Type, a.ID)
	}
	if err := s.Validate(v); err != nil {
		return fmt.Errorf("%s %s: %w", a.Type, a.ID, err)
	}
	return nil
}

func compile(file string) (*jsonschema.Resolved, error) {
	if s, ok := compiled.Load(file); ok {
		return s.(*jsonschema.Resolved), nil
	}
	b, err := Read(file)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", file, err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("schema %s: %w", file, err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", file, err)
	}
	compiled.Store(file, r)
	return r, nil
}

package bundle

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// LogEntry is one line of logs.jsonl, as logcli --output=jsonl writes it.
type LogEntry struct {
	Labels    map[string]string `json:"labels"`
	Line      string            `json:"line"`
	Timestamp time.Time         `json:"timestamp"`
	// Rate is how many lines it stands for, where lines were sampled; 0: itself.
	Rate int `json:"rate,omitempty"`
}

// Logs yields the lines of logs.jsonl in file order.
func (b *Bundle) Logs() iter.Seq2[LogEntry, error] { return jsonLines[LogEntry](b, "logs.jsonl") }

// Events yields the events of events.jsonl in file order.
func (b *Bundle) Events() iter.Seq2[event.KubeEvent, error] {
	return jsonLines[event.KubeEvent](b, "events.jsonl")
}

// Lines yields the JSON values of a file with one a line, as they are.
func (b *Bundle) Lines(name string) iter.Seq2[json.RawMessage, error] {
	return jsonLines[json.RawMessage](b, name)
}

// Object is one line of objects.jsonl: a Kubernetes object as it was, in its
// own JSON. When it was seen so is in its annotations, so that the file is
// still one of Kubernetes objects.
type Object struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   ObjectMeta `json:"metadata"`
	JSON       json.RawMessage
}

// ObjectMeta is what is read of an object's metadata.
type ObjectMeta struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Annotations     map[string]string `json:"annotations"`
}

// Annotations that a recording adds to the objects of objects.jsonl.
const (
	AnnotationSeen = "oncall.dev/seen" // when the object was seen like this, RFC 3339
	AnnotationGone = "oncall.dev/gone" // "true" when this is its last state, seen as it was deleted
)

// UnmarshalJSON keeps the whole object beside what is read of it.
func (o *Object) UnmarshalJSON(b []byte) error {
	type plain Object
	if err := json.Unmarshal(b, (*plain)(o)); err != nil {
		return err
	}
	if o.Kind == "" || o.Metadata.Name == "" {
		return fmt.Errorf("object without kind or metadata.name")
	}
	o.JSON = append(json.RawMessage(nil), b...)
	return nil
}

// MarshalJSON writes the object as it was read.
func (o Object) MarshalJSON() ([]byte, error) { return o.JSON, nil }

// Seen is when the object was seen like this; false when the line does not say.
func (o Object) Seen() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, o.Metadata.Annotations[AnnotationSeen])
	return t.UTC(), err == nil
}

// Gone says whether this is the last state of an object that was deleted.
func (o Object) Gone() bool { return o.Metadata.Annotations[AnnotationGone] == "true" }

// Objects yields the objects of objects.jsonl in file order.
func (b *Bundle) Objects() iter.Seq2[Object, error] { return jsonLines[Object](b, "objects.jsonl") }

// Edges reads edges.json; a bundle without it has none.
func (b *Bundle) Edges() ([]Edge, error) {
	if !b.Has("edges.json") {
		return nil, nil
	}
	f, err := b.open("edges.json")
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.name, err)
	}
	defer func() { _ = f.Close() }()
	var out []Edge
	if err := json.NewDecoder(io.LimitReader(f, maxLine)).Decode(&out); err != nil {
		return nil, malformed("bundle %s: edges.json: %w", b.name, err)
	}
	return out, nil
}

// Evidence yields the recorded answers to look-ups, in the order they were
// given; a bundle without them has none.
func (b *Bundle) Evidence() iter.Seq2[event.Evidence, error] {
	if !b.Has("evidence/answers.jsonl") {
		return func(func(event.Evidence, error) bool) {}
	}
	return jsonLines[event.Evidence](b, "evidence/answers.jsonl")
}

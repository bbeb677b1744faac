package kubernetes

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// FuzzCursor: whatever stands where the cursor was kept, a world can begin with it
// or it is refused; what is written of that world can be read.
func FuzzCursor(f *testing.F) {
	good := newWorld(Config{}, func(s string) string { return s }, time.Now, saved{}).save(time.Unix(1_772_000_000, 0))
	for _, v := range []any{good, map[string]any{"schema": cursorSchema, "nodes": map[string]any{"node-0": map[string]any{"cordoned": true}}, "revisions": map[string]any{"?": 1}}, map[string]any{"schema": -1}, "none"} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		past, err := decodeCursor(packed.Bytes())
		if err != nil {
			return
		}
		again, err := json.Marshal(newWorld(Config{}, func(s string) string { return s }, time.Now, past).save(past.Closed))
		if err != nil {
			return // a time that JSON cannot write
		}
		var read saved
		if err := json.Unmarshal(again, &read); err != nil || read.Schema != cursorSchema {
			t.Errorf("what is saved of %q cannot be read: schema %d, %v", b, read.Schema, err)
		}
	})
}

// FuzzRecordedObject: an object of a recording is of a kind that is watched, and a
// ConfigMap's content does not stay.
func FuzzRecordedObject(f *testing.F) {
	for _, s := range []string{
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"},"status":{"phase":"Running"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"web"},"data":{"password":"hunter2"},"binaryData":{"a":"aHVudGVyMg=="}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","hash":"x","data":{"a":"b"}}`, `{"apiVersion":"v1","kind":"Secret","data":{"a":"Yg=="}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":-1}}`, `{"kind":1}`, `null`,
		`{"apiVersion":"v1","kind":"Event","eventTime":"2026-11-26T00:00:00Z","series":{"count":2,"lastObservedTime":"2026-11-26T00:00:00.1Z"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeEvent(b)
		o, err := decode(b)
		if err != nil || o == nil {
			return
		}
		switch o := o.(type) {
		case *corev1.Secret:
			t.Error("a Secret is read")
		case *corev1.ConfigMap:
			if len(o.Data) != 1 || len(o.Data[hashKey]) == 0 || o.BinaryData != nil {
				t.Errorf("of a ConfigMap stays %v and %v, want its hash alone", o.Data, o.BinaryData)
			}
		}
	})
}

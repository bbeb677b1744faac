package event

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "add kinds that testdata/corpus does not hold yet; what it holds is never written again")

// kept is one message of the corpus as a version of this program wrote it, and
// what it read in it.
type kept struct {
	Attributes Attributes      `json:"attributes"`
	Payload    []byte          `json:"payload"`
	Data       json.RawMessage `json:"data"`
}

// TestMessagesOfEarlierVersionsAreStillRead reads a message of every kind as it
// was written when the kind was new: streams hold messages for more than a year.
// Every field that was read then must be read now, with the same value.
func TestMessagesOfEarlierVersionsAreStillRead(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(k.Type, func(t *testing.T) {
			file := filepath.Join("testdata", "corpus", k.Type+".json")
			raw, err := os.ReadFile(file)
			if os.IsNotExist(err) && *update {
				raw, err = add(file, k)
			}
			if err != nil {
				t.Fatalf("%v; add it with -update", err)
			}
			var m kept
			if err := json.Unmarshal(raw, &m); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			v, err := k.Decode(m.Attributes, m.Payload)
			if err != nil {
				t.Fatal(err)
			}
			now, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if where := lost("", value(t, m.Data), value(t, now)); where != "" {
				t.Errorf("%s is not read as it was: add fields, and never rename, retype or remove one; a new meaning is a new kind .v2", where)
			}
		})
	}
}

func value(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// lost is the first place of a JSON value that another has not or has otherwise.
func lost(path string, was, is any) string {
	switch was := was.(type) {
	case map[string]any:
		m, ok := is.(map[string]any)
		if !ok {
			return path
		}
		for k, v := range was {
			if where := lost(path+"."+k, v, m[k]); where != "" {
				return where
			}
		}
		return ""
	case []any:
		l, ok := is.([]any)
		if !ok || len(l) != len(was) {
			return path
		}
		for i, v := range was {
			if where := lost(fmt.Sprintf("%s[%d]", path, i), v, l[i]); where != "" {
				return where
			}
		}
		return ""
	}
	if !reflect.DeepEqual(was, is) {
		return path
	}
	return ""
}

// add writes a message of a kind in which every field has a value.
func add(file string, k Registered) ([]byte, error) {
	m := kept{Attributes: Attributes{Type: k.Type, ID: "corpus"}}
	var err error
	labels := LabelsOf(map[string]string{LabelName: "up", LabelNamespace: "shop"})
	switch k.Data {
	case reflect.TypeFor[MetricBatch]():
		kind := MetricsRead
		if k.Type == MetricsPushed.Type {
			kind = MetricsPushed
		}
		o := kind.Out(MetricBatch{
			Source: "prometheus", Query: "q1", Partition: 3, Namespace: "shop", Step: noon, Chunk: 2, Bootstrap: true,
			Series: []Series{{ID: labels.Hash(), Labels: labels, Points: []Point{{T: noon.UnixMilli(), V: 1.5}}}},
		})
		m.Attributes = attributesOf(o)
		m.Payload, err = o.Payload()
	case reflect.TypeFor[LogBatch]():
		o := LogsRead.Out(LogBatch{
			Source: "loki", Query: "q1", Partition: 3, Namespace: "shop", Start: noon, End: noon.Add(5 * time.Second), Chunk: 1, SampledRate: 4, Bootstrap: true, Chosen: true,
			Streams: []LogStream{{ID: labels.Hash(), Labels: labels, Lines: []LogLine{{Time: noon, Text: "a line"}}}},
		})
		m.Attributes = attributesOf(o)
		m.Payload, err = o.Payload()
	default:
		v := reflect.New(k.Data).Elem()
		fill(v, 0)
		m.Payload, err = json.Marshal(v.Interface())
	}
	if err != nil {
		return nil, err
	}
	v, err := k.Decode(m.Attributes, m.Payload)
	if err != nil {
		return nil, err
	}
	if m.Data, err = json.Marshal(v); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	return raw, os.WriteFile(file, append(raw, '\n'), 0o644)
}

func attributesOf(o Outgoing) Attributes {
	return Attributes{Type: o.Type, ID: o.ID, Time: o.Time, Subject: o.Subject, Extensions: o.Extensions}
}

// fill gives every field a value that is not its zero.
func fill(v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(noon))
		return
	case json.RawMessage:
		v.SetBytes([]byte(`"raw"`))
		return
	}
	if depth > 6 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		key, of := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth+1)
		fill(of, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, of)
	case reflect.Interface:
		v.Set(reflect.ValueOf("text"))
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !strings.HasPrefix(f.Tag.Get("json"), "-") {
				fill(v.Field(i), depth+1)
			}
		}
	}
}

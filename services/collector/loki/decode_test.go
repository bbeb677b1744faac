package loki

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// answers that Loki gives, and that it should not.
var answers = map[string]struct {
	body string
	ok   bool // decode reads it
}{
	"lines":                {`{"status":"success","data":{"resultType":"streams","result":[{"stream":{"namespace":"shop","pod":"web-1"},"values":[["1772000001000000000","GET / 200"],["1772000002000000000","GET / 500"]]}],"stats":{"summary":{"bytesProcessedPerSecond":1.5e3,"ok":true,"no":null,"x":[1,-2,[]]}}}}` + "\n", true},
	"no streams":           {`{"data":{"resultType":"streams","result":[]}}`, true},
	"a stream of no lines": {`{"data":{"result":[{"values":[],"stream":{}}],"resultType":"streams"}}`, true},
	"what is escaped":      {`{"data":{"resultType":"streams","result":[{"stream":{"a\"b":"\\"},"values":[["1","\"quoted\" \\ \/ \b\f\n\r\t end"],["2","\\"],["3","a\\"],["4","\"\""]]}]}}`, true},
	"what is written as a number of a character": {`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","a \u003c b \u00e9 \ud83d\ude00 \ud83d c"]]}]}}`, true},
	"bytes that are no text":                     {"{\"data\":{\"resultType\":\"streams\",\"result\":[{\"stream\":{},\"values\":[[\"1\",\"a\xff\xfe\"],[\"2\",\"\\\"\xc3\"]]}]}}", true},
	"other letters":                              {`{"data":{"resultType":"streams","result":[{"stream":{"é":"ü"},"values":[["1","日本\t語"]]}]}}`, true},
	"metadata":                                   {`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","a",{"trace":"b","structuredMetadata":{"x":"y"}}],["2","b",{}]]}]}}`, true},
	"white space":                                {" {\n\"data\" : { \"resultType\":\t\"streams\" , \"result\" : [ { \"stream\" : { } , \"values\" : [ [ \"1\" , \"a\" ] ] } ] } } \r\n", true},
	"a label that comes twice":                   {`{"data":{"resultType":"streams","result":[{"stream":{"a":"1","a":"2"},"values":[]}]}}`, true},
	"a matrix":                                   {`{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}]}}`, false},
	"names in other letters":                     {`{"Data":{"resulttype":"streams","RESULT":[{"Stream":{"a":"b"},"values":[["1","a"]]}]}}`, false},
	"lines that are none":                        {`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["x"],[],[1,2],[null],["3","c"]]}]}}`, false},
	"nothing where something should be":          {`{"data":{"resultType":"streams","result":[{"stream":null,"values":null}]}}`, false},
	"streams that come twice":                    {`{"data":{"resultType":"streams","result":[{"stream":{}}],"result":[{"stream":{"a":"b"}}]}}`, false},
	"lines that come twice":                      {`{"data":{"resultType":"streams","result":[{"values":[["1","a"]],"values":[["2","b"]]}]}}`, false},
	"more behind the end":                        {`{"data":{"resultType":"streams","result":[]}}{}`, false},
	"an answer that was cut":                     {`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","a`, false},
	"one that was cut at an escape":              {`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","a\`, false},
	"an escape that is none":                     {`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","a\x41"]]}]}}`, false},
	"a line over two lines":                      {"{\"data\":{\"resultType\":\"streams\",\"result\":[{\"stream\":{},\"values\":[[\"1\",\"a\n\"]]}]}}", false},
	"a comma too many":                           {`{"data":{"resultType":"streams","result":[{"stream":{},"values":[["1","a"],]}]}}`, false},
	"a number that is none":                      {`{"data":{"resultType":"streams","result":[],"stats":01}}`, false},
	"a page":                                     {`<html>`, false},
	"nothing":                                    {``, false},
}

// asUnmarshal holds what decode reads of a body against what encoding/json does.
func asUnmarshal(t *testing.T, body []byte) (ok bool) {
	t.Helper()
	kind, streams, ok := decode(body)
	if !ok {
		return false
	}
	wantKind, want, err := unmarshal(body)
	if err != nil {
		t.Errorf("decode reads %q, which is no JSON: %v", body, err)
	}
	if kind != wantKind || !reflect.DeepEqual(streams, want) {
		t.Errorf("of %q\ngot  %q %+v\nwant %q %+v", body, kind, streams, wantKind, want)
	}
	return true
}

func TestAnswersAreReadAsEncodingJSONReadsThem(t *testing.T) {
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			if ok := asUnmarshal(t, []byte(a.body)); ok != a.ok {
				t.Errorf("decode reads it: %v, want %v", ok, a.ok)
			}
		})
	}
}

func TestLongAndManyLinesAreReadWhole(t *testing.T) {
	var values []string
	for i := range 3000 {
		line := strings.Repeat("x", i*i%9000) + fmt.Sprintf(`\"%d\"`, i)
		values = append(values, fmt.Sprintf(`["%d","%s"]`, i, line))
	}
	if !asUnmarshal(t, []byte(`{"data":{"resultType":"streams","result":[{"stream":{},"values":[`+strings.Join(values, ",")+`]}]}}`)) {
		t.Error("decode does not read it")
	}
}

func FuzzDecodeReadsAsEncodingJSON(f *testing.F) {
	for _, a := range answers {
		f.Add([]byte(a.body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { asUnmarshal(t, body) })
}

func BenchmarkParse(b *testing.B) {
	var values []string
	for i := range 2000 {
		values = append(values, fmt.Sprintf(`["17720000%011d","level=info ts=2026-11-24T12:00:00.123Z caller=server.go:112 msg=\"request served\" path=/items/%d status=200"]`, i, i))
	}
	body := []byte(`{"status":"success","data":{"resultType":"streams","result":[{"stream":{"namespace":"shop"},"values":[` + strings.Join(values, ",") + `]}]}}`)
	for name, read := range map[string]func() bool{
		"decode":        func() bool { _, _, ok := decode(body); return ok },
		"encoding/json": func() bool { _, _, err := unmarshal(body); return err == nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if !read() {
					b.Fatal("not read")
				}
			}
		})
	}
}

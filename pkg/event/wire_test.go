package event

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/encoding/protowire"
)

// repeat is a message of n times one field.
func repeat(num protowire.Number, value []byte, n int) []byte {
	one := protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
	out := make([]byte, 0, n*len(one))
	for range n {
		out = append(out, one...)
	}
	return out
}

func TestABombCostsLittleMemory(t *testing.T) {
	nothing := []byte{}
	for name, payload := range map[string][]byte{
		"a length that is not there":      append(binary.AppendUvarint(nil, 4<<30), 0, 0),
		"zeros":                           s2.EncodeSnappy(nil, make([]byte, 64<<20)),
		"a million empty series":          s2.EncodeSnappy(nil, repeat(5, nothing, 1_000_000)),
		"a million empty samples":         s2.EncodeSnappy(nil, repeat(5, repeat(2, nothing, 1_000_000), 1)),
		"a million empty spans":           s2.EncodeSnappy(nil, repeat(5, repeat(3, repeat(8, nothing, 1_000_000), 1), 1)),
		"a million empty symbols":         s2.EncodeSnappy(nil, repeat(4, nothing, 1_000_000)),
		"a million empty streams":         s2.EncodeSnappy(nil, repeat(1, nothing, 1_000_000)),
		"a million empty lines":           s2.EncodeSnappy(nil, repeat(1, repeat(2, nothing, 1_000_000), 1)),
		"a million empty pairs of a line": s2.EncodeSnappy(nil, repeat(1, repeat(2, repeat(3, nothing, 1_000_000), 1), 1)),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err1 := MetricsRead.Decode(Attributes{ID: "m:s:q:00:1:0"}, payload)
			_, err2 := LogsRead.Decode(Attributes{ID: "l:s:q:00:1:0", Extensions: map[string]string{extWindowEnd: "1"}}, payload)
			runtime.ReadMemStats(&after)
			// What is passed over need not be refused: nobody reads histograms.
			if err1 == nil && err2 == nil && !strings.Contains(name, "spans") {
				t.Error("nobody refuses it")
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
				t.Errorf("decoding took %d MiB", took>>20)
			}
		})
	}
}

func TestAFullBatchIsFarFromTheBounds(t *testing.T) {
	b := MetricBatch{Source: "s", Query: "q", Step: noon}
	for i := range MaxBatchSamples {
		ls := Labels{{"__name__", "request_rate"}, {"namespace", "shop"}, {"pod", strings.Repeat("x", 200) + string(rune('a'+i%26))}, {"zone", strings.Repeat("z", 100)}}
		b.Series = append(b.Series, Series{Labels: ls, Points: []Point{{T: noon.UnixMilli(), V: float64(i)}}})
	}
	payload, err := MetricsRead.Out(b).Payload()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := unpack(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	_, n, err := countSamples(raw)
	if err != nil || n.fields+n.labels > maxFields/10 || len(raw) > maxUnpacked/10 {
		t.Errorf("%+v in %d bytes, want at most a tenth of the bounds; %v", n, len(raw), err)
	}
}

// Labels that neighbours share are not hashed anew.
func TestASeriesHasTheIDOfItsLabelsWhateverIsBesideIt(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := MetricBatch{Source: "s", Query: "q", Step: noon}
	for range 400 {
		m := map[string]string{}
		for i := range 8 {
			if r.IntN(6) > 0 {
				m[string(rune('a'+i))] = strings.Repeat("v", r.IntN(3)*r.IntN(20)) + string(rune('0'+r.IntN(2)))
			}
		}
		ls := LabelsOf(m)
		b.Series = append(b.Series, Series{ID: ls.Hash(), Labels: ls, Points: []Point{{T: noon.UnixMilli(), V: 1}}})
	}
	payload, err := MetricsRead.Out(b).Payload()
	if err != nil {
		t.Fatal(err)
	}
	e, err := MetricsRead.Decode(Attributes{ID: "m:s:q:00:1:0"}, payload)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range e.Data.Series {
		if want := b.Series[i]; s.ID != want.ID || !slices.Equal(s.Labels, want.Labels) {
			t.Fatalf("series %d: %x %v, want %x %v", i, s.ID, s.Labels, want.ID, want.Labels)
		}
	}
}

func FuzzMetricsWire(f *testing.F) {
	p, _ := MetricsRead.Out(MetricBatch{Source: "s", Query: "q", Step: noon, Series: []Series{{Labels: Labels{{"namespace", "shop"}}, Points: []Point{{1, 2}}}}}).Payload()
	raw, _ := s2.Decode(nil, p)
	f.Add(raw)
	f.Add(repeat(5, repeat(2, nil, 3), 3))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := MetricsRead.Decode(Attributes{ID: "m:s:q:00:1:0"}, s2.EncodeSnappy(nil, raw))
		if err != nil {
			return
		}
		for _, s := range e.Data.Series {
			if s.ID != s.Labels.Hash() {
				t.Errorf("%v is series %x, want %x", s.Labels, s.ID, s.Labels.Hash())
			}
		}
		if _, err := MetricsRead.Out(e.Data).Payload(); err != nil && !strings.Contains(err.Error(), "more than") {
			t.Errorf("decoded, and not encoded again: %v", err)
		}
	})
}

func FuzzLogsWire(f *testing.F) {
	p, _ := LogsRead.Out(LogBatch{Source: "s", Query: "q", Start: noon, End: noon.Add(time.Second), Streams: []LogStream{{Labels: Labels{{"namespace", "shop"}}, Lines: []LogLine{{noon, "x"}}}}}).Payload()
	raw, _ := s2.Decode(nil, p)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		a := Attributes{ID: "l:s:q:00:1:0", Extensions: map[string]string{extWindowEnd: "1000000000"}}
		e, err := LogsRead.Decode(a, s2.EncodeSnappy(nil, raw))
		if err != nil {
			return
		}
		if _, err := LogsRead.Out(e.Data).Payload(); err != nil && !strings.Contains(err.Error(), "more than") {
			t.Errorf("decoded, and not encoded again: %v", err)
		}
	})
}

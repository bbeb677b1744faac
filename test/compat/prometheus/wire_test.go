package compat

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestTheWireOfMetricsIsRemoteWrite2 writes batches of every shape, reads them
// with Prometheus' own messages, and the other way round with everything in
// them that Prometheus can put there.
func TestTheWireOfMetricsIsRemoteWrite2(t *testing.T) {
	step := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		b := event.MetricBatch{Source: "prometheus", Query: "1a2b3c4d", Partition: n % event.Partitions, Step: step}
		for i := range r.IntN(60) {
			m := map[string]string{"__name__": "request_rate", "namespace": "shop"}
			for range r.IntN(8) {
				m[fmt.Sprintf("l%d", r.IntN(12))] = []string{"", "ü\x00\xff", "web", "a-much-longer-value-than-the-others", fmt.Sprint(i)}[r.IntN(5)]
			}
			s := event.Series{Labels: event.LabelsOf(m), Points: []event.Point{}}
			for range r.IntN(4) {
				s.Points = append(s.Points, event.Point{T: r.Int64() >> r.IntN(64) * int64(1-2*r.IntN(2)), V: []float64{0, 1.5, math.Inf(1), -math.MaxFloat64}[r.IntN(4)]})
			}
			s.ID = s.Labels.Hash()
			b.Series = append(b.Series, s)
		}
		out := event.MetricsRead.Out(b)
		payload, err := out.Payload()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := snappy.Decode(nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		var req writev2.Request
		if err := req.Unmarshal(raw); err != nil {
			t.Fatalf("Prometheus cannot read it: %v", err)
		}
		if req.Symbols[0] != "" || len(req.Timeseries) != len(b.Series) {
			t.Fatalf("symbols begin with %q, %d series, want %d", req.Symbols[0], len(req.Timeseries), len(b.Series))
		}
		theirs := make([]event.Series, len(req.Timeseries))
		for i := range req.Timeseries {
			ts := &req.Timeseries[i]
			s := event.Series{Labels: event.Labels{}, Points: []event.Point{}}
			for j := 0; j < len(ts.LabelsRefs); j += 2 {
				s.Labels = append(s.Labels, event.Label{Name: req.Symbols[ts.LabelsRefs[j]], Value: req.Symbols[ts.LabelsRefs[j+1]]})
			}
			for _, p := range ts.Samples {
				s.Points = append(s.Points, event.Point{T: p.Timestamp, V: p.Value})
			}
			s.ID = s.Labels.Hash()
			theirs[i] = s
			ts.Metadata = writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: 1}
			ts.Histograms = []writev2.Histogram{{Sum: 1, PositiveSpans: []writev2.BucketSpan{{Length: 2}}, PositiveDeltas: []int64{1, 2}}}
			ts.Exemplars = []writev2.Exemplar{{LabelsRefs: []uint32{0, 0}, Value: 1}}
		}
		if len(b.Series) > 0 && !reflect.DeepEqual(theirs, b.Series) {
			t.Fatalf("Prometheus reads\n%v\nwritten was\n%v", theirs, b.Series)
		}
		if raw, err = req.Marshal(); err != nil {
			t.Fatal(err)
		}
		got, err := event.MetricsRead.Decode(event.Attributes{ID: out.ID}, snappy.Encode(nil, raw))
		if err != nil {
			t.Fatalf("what Prometheus writes cannot be read: %v", err)
		}
		if len(b.Series) > 0 && !reflect.DeepEqual(got.Data.Series, b.Series) {
			t.Fatalf("read\n%v\nPrometheus wrote\n%v", got.Data.Series, b.Series)
		}
	}
}

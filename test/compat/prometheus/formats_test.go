package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/remotewrite"
)

// receiver is our receiver, and what it stored.
func receiver(t *testing.T, now time.Time) (http.Handler, *[]event.MetricBatch) {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("tok"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stored []event.MetricBatch
	cfg := remotewrite.Config{}
	cfg.Listen, cfg.BearerTokenFile = "127.0.0.1:0", token
	s, err := remotewrite.New(cfg, collector.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: prom.NewRegistry(), Policies: store, Now: func() time.Time { return now },
		Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")}),
		Publish: func(_ context.Context, events ...event.Outgoing) error {
			for _, e := range events {
				stored = append(stored, e.Data().(event.MetricBatch))
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Receiver(), &stored
}

func post(h http.Handler, kind string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, remotewrite.Path, bytes.NewReader(snappy.Encode(nil, body)))
	r.Header.Set("Authorization", "Bearer tok")
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Content-Encoding", "snappy")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestWhatPrometheusWritesIsRead encodes with Prometheus' own messages, with
// everything in them that it can send, and compares what both versions store.
func TestWhatPrometheusWritesIsRead(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	h, stored := receiver(t, now)
	ms := now.UnixMilli()
	one := &prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{Type: prompb.MetricMetadata_COUNTER, MetricFamilyName: "http_requests_total", Help: "h"}}}
	symbols := writev2.NewSymbolTable()
	two := &writev2.Request{}
	for i := range 40 {
		ls := labels.FromStrings("__name__", "http_requests_total", "namespace", "shop", "pod", fmt.Sprintf("web-%d", i), "code", "200", "path", "/ü")
		ts := prompb.TimeSeries{
			Samples:   []prompb.Sample{{Value: float64(i) + 0.5, Timestamp: ms - 15000}, {Value: math.MaxFloat64, Timestamp: ms}},
			Exemplars: []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "x"}}, Value: 1, Timestamp: ms}},
		}
		ls.Range(func(l labels.Label) { ts.Labels = append(ts.Labels, prompb.Label{Name: l.Name, Value: l.Value}) })
		one.Timeseries = append(one.Timeseries, ts)
		two.Timeseries = append(two.Timeseries, writev2.TimeSeries{
			LabelsRefs: symbols.SymbolizeLabels(ls, nil), Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: symbols.Symbolize("h")},
			Samples:   []writev2.Sample{{Value: float64(i) + 0.5, Timestamp: ms - 15000}, {Value: math.MaxFloat64, Timestamp: ms}},
			Exemplars: []writev2.Exemplar{{LabelsRefs: []uint32{symbols.Symbolize("trace_id"), symbols.Symbolize("x")}, Value: 1, Timestamp: ms}},
		})
	}
	one.Timeseries = append(one.Timeseries, prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "native"}}, Histograms: []prompb.Histogram{{Sum: 1, Timestamp: ms}}})
	two.Timeseries = append(two.Timeseries, writev2.TimeSeries{LabelsRefs: []uint32{symbols.Symbolize("__name__"), symbols.Symbolize("native")}, Histograms: []writev2.Histogram{{Sum: 1, Timestamp: ms}}})
	two.Symbols = symbols.Symbols()
	body, err := one.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if w := post(h, "application/x-protobuf", body); w.Code != 204 {
		t.Fatalf("1.0: %d %s", w.Code, w.Body)
	}
	first := slices.Clone(*stored)
	*stored = nil
	if body, err = two.Marshal(); err != nil {
		t.Fatal(err)
	}
	w := post(h, "application/x-protobuf;proto=io.prometheus.write.v2.Request", body)
	if w.Code != 204 {
		t.Fatalf("2.0: %d %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{"Samples": "80", "Histograms": "1", "Exemplars": "40"} {
		if got := w.Header().Get("X-Prometheus-Remote-Write-" + name + "-Written"); got != want {
			t.Errorf("%s written: %s, want %s", name, got, want)
		}
	}
	if a, b := fmt.Sprint(first), fmt.Sprint(*stored); a != b || len(first) != 1 || len(first[0].Series) != 40 {
		t.Errorf("1.0 stored %s\n2.0 stored %s", a, b)
	}
}

// TestOpenMetricsOfBundlesIsPrometheus holds what we write against Prometheus'
// parser, sample by sample.
func TestOpenMetricsOfBundlesIsPrometheus(t *testing.T) {
	in := &bundle.Metrics{Types: map[string]bundle.MetricType{"up": bundle.Gauge, "requests": bundle.Counter}}
	for i, name := range []string{"up", "requests_total"} {
		ls := event.LabelsOf(map[string]string{"__name__": name, "a": "quote \" back\\slash\nline ü", "pod": "web-0"})
		in.Series = append(in.Series, event.Series{ID: ls.Hash(), Labels: ls, Points: []event.Point{{T: 1795521600000, V: float64(i) + 0.25}, {T: 1795521615123, V: 1e21}}})
	}
	slices.SortFunc(in.Series, func(a, b event.Series) int { return strings.Compare(a.Labels.String(), b.Labels.String()) })
	var text bytes.Buffer
	if err := bundle.WriteMetrics(&text, in); err != nil {
		t.Fatal(err)
	}
	type sample struct {
		series string
		at     int64
		value  float64
	}
	want := map[sample]bool{}
	for _, s := range in.Series {
		for _, p := range s.Points {
			want[sample{s.Labels.String(), p.T, p.V}] = true
		}
	}
	p := textparse.NewOpenMetricsParser(text.Bytes(), labels.NewSymbolTable())
	n := 0
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text.String())
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, at, v := p.Series()
		var ls labels.Labels
		p.Labels(&ls)
		m := ls.Map()
		if at == nil || !want[sample{event.LabelsOf(m).String(), *at, v}] {
			t.Errorf("Prometheus reads %v %v %v, which was not written", m, at, v)
		}
		n++
	}
	if n != len(want) {
		t.Errorf("Prometheus reads %d samples, want %d in\n%s", n, len(want), text.String())
	}
	out, err := bundle.ReadMetrics(&text, "metrics.om")
	if err != nil || fmt.Sprint(out.Series) != fmt.Sprint(in.Series) {
		t.Errorf("we read %v, %v", out, err)
	}
}

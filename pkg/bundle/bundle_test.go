package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func TestReadMetricsNamesTheLineOfABadSample(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"a sample without a timestamp": {"a 1\n# EOF\n", "x.om:1: sample of \"a\" has no timestamp"},
		"a value that is no number":    {"# TYPE a gauge\na{b=\"c\"} x 1\n# EOF\n", "x.om:2: value \"x\""},
		"labels that are not closed":   {"a{b=\"c\" 1 1\n# EOF\n", "x.om:1: labels of \"a\" are not closed"},
		"a label that stands twice":    {"a{b=\"c\",b=\"d\"} 1 1\n# EOF\n", "b occurs twice"},
		"a file that was cut short":    {"a 1 1\n", "no # EOF"},
		"a timestamp in nanoseconds":   {"a 1 1766000000000000000\n# EOF\n", "not in seconds"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadMetrics(strings.NewReader(tc.in), "x.om")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ReadMetrics(%q) = %v, want an error with %q", tc.in, err, tc.want)
			}
		})
	}
}

func TestReadMetricsSortsPointsAndKeepsTheLastOfOneTime(t *testing.T) {
	m, err := ReadMetrics(strings.NewReader("# TYPE req counter\nreq_total{a=\"x # y\"} 3 2.5\nreq_total{a=\"x # y\"} 1 1 # {t=\"1\"} 0.5 1\nreq_total{a=\"x # y\"} 4 2.5\n# EOF\n"), "x.om")
	if err != nil {
		t.Fatal(err)
	}
	want := []event.Point{{T: 1000, V: 1}, {T: 2500, V: 4}}
	if len(m.Series) != 1 || !reflect.DeepEqual(m.Series[0].Points, want) {
		t.Errorf("got %+v, want one series with %v", m.Series, want)
	}
	if got := m.TypeOf("req_total"); got != Counter {
		t.Errorf("TypeOf(req_total) = %s, want counter", got)
	}
}

func FuzzReadMetrics(f *testing.F) {
	f.Add([]byte("# TYPE a gauge\na{b=\"c\\n\\\"\"} NaN 1.5\nb +Inf 2\n# EOF\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := ReadMetrics(bytes.NewReader(in), "fuzz.om")
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := WriteMetrics(&first, m); err != nil {
			t.Fatal(err)
		}
		again, err := ReadMetrics(bytes.NewReader(first.Bytes()), "again.om")
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, first.Bytes())
		}
		if err := WriteMetrics(&second, again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("write, read, write differs:\n%s\n%s", first.Bytes(), second.Bytes())
		}
	})
}

func TestPackedBundleReadsAsTheFolderDoes(t *testing.T) {
	dir := t.TempDir()
	at := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	recs := []Record{
		{Sequence: 1, Received: at, Subject: "telemetry.metrics.07.shop", Header: map[string][]string{"ce-id": {"m:1"}}, Payload: []byte{0xff, 0x00, 0xfe}},
		{Sequence: 2, Received: at, Subject: "telemetry.metrics.07.tick", Payload: []byte(`{"partition":7}`)},
	}
	w, err := Create(dir, "streams/TELEMETRY_METRICS.jsonl.zst")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := WriteManifest(dir, Manifest{Name: "test", Start: at, End: at, State: "cold", MadeBy: "test"}); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "b.tar.zst")
	var packed bytes.Buffer
	if err := Pack(&packed, dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, archive} {
		b, err := Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []Record
		for r, err := range b.Records("TELEMETRY_METRICS") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if !reflect.DeepEqual(got, recs) {
			t.Errorf("%s: got %+v, want %+v", name, got, recs)
		}
		if got := b.Streams(); !reflect.DeepEqual(got, []string{"TELEMETRY_METRICS"}) {
			t.Errorf("%s: Streams() = %v", name, got)
		}
	}
}

func TestFormatValueKeepsInfinities(t *testing.T) {
	for v, want := range map[float64]string{math.Inf(1): "+Inf", math.Inf(-1): "-Inf", 0.1: "0.1", 1e21: "1e+21"} {
		if got := formatValue(v); got != want {
			t.Errorf("formatValue(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestWhatIsMalformedNamesFileAndLine(t *testing.T) {
	const manifest = `{"version": 1, "name": "m", "start": "2026-11-25T02:00:00Z", "end": "2026-11-25T03:00:00Z"}`
	read := func(files fstest.MapFS) error {
		b, err := OpenFS(files, "b")
		if err != nil {
			return err
		}
		for _, err := range b.Logs() {
			if err != nil {
				return err
			}
		}
		for _, err := range b.Records("ANOMALIES") {
			if err != nil {
				return err
			}
		}
		if _, err := b.Metrics(); err != nil {
			return err
		}
		_, err = b.Checkpoints()
		return err
	}
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for name, tc := range map[string]struct {
		file, text, want string
	}{
		"a manifest cut short":              {"manifest.json", "{\n \"version\": 1,\n", "manifest.json:2"},
		"a manifest with a wrong type":      {"manifest.json", "{\n \"version\": \"one\"\n}", "manifest.json:2"},
		"a log line that is no JSON":        {"logs.jsonl", "{}\nnonsense\n", "logs.jsonl:2"},
		"a message cut short":               {"streams/ANOMALIES.jsonl", "{}\n{\"seq\":", "streams/ANOMALIES.jsonl:2"},
		"metrics that are none":             {"metrics.om", "a 1 1\nb b b\n# EOF\n", "metrics.om:2"},
		"a checkpoint that leaves its room": {"state/checkpoints.jsonl", `{"group": "../x", "partition": 1}`, "checkpoints.jsonl:1"},
	} {
		t.Run(name, func(t *testing.T) {
			files := fstest.MapFS{"manifest.json": file(manifest), "logs.jsonl": file(""), "streams/ANOMALIES.jsonl": file(""), "metrics.om": file("# EOF\n")}
			files[tc.file] = file(tc.text)
			err := read(files)
			if !errors.Is(err, ErrMalformed) || !strings.Contains(fmt.Sprint(err), tc.want) {
				t.Errorf("got %v, want a malformed bundle at %s", err, tc.want)
			}
		})
	}
}

func TestWhatAHistogramCountsIsACounter(t *testing.T) {
	t.Parallel()
	m, err := ReadMetrics(strings.NewReader("\ufeff# TYPE took histogram\n# TYPE lag summary\n# TYPE queue_count gauge\ntook_bucket{le=\"1\"} 1 2\n# EOF\n"), "x.om")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]MetricType{
		"took_bucket": Counter, "took_count": Counter, "took_sum": Counter, "took_total": Counter, "took_created": Unknown,
		"lag_count": Counter, "lag_sum": Counter, "lag": Unknown, // a quantile
		"queue_count": Gauge, "other_count": Unknown,
	} {
		if got := m.TypeOf(name); got != want {
			t.Errorf("TypeOf(%s) = %s, want %s", name, got, want)
		}
	}
}

package benchmark

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
)

const (
	logWindow = 10 * time.Second
	logLines  = 20_000 // of a window
	logPods   = 64
	logLearnt = 190 // windows of few lines before, from which detectors learn

)

// statements are what pods write: half of it is logfmt, the rest JSON, klog and text.
var statements = []string{
	`level=info ts=2026-11-24T12:00:00.123Z caller=server.go:112 msg="request served" method=GET path=/items/%d status=200 took=%dms trace_id=4bf92f3577b34da6a3ce929d0e0e%04d`,
	`level=info ts=2026-11-24T12:00:00.123Z caller=pool.go:41 msg="connection taken from the pool" idle=%d waited=%dus conn=%d`,
	`level=debug ts=2026-11-24T12:00:00.123Z caller=cache.go:77 msg="cache miss" key=items/%d shard=%d size=%d`,
	`{"time":"2026-11-24T12:00:00.123Z","level":"info","msg":"message consumed","topic":"orders","partition":%d,"offset":%d,"lag":%d}`,
	`{"time":"2026-11-24T12:00:00.123Z","level":"warn","msg":"slow query","rows":%d,"took_ms":%d,"statement":"select * from items where id = %d"}`,
	`I1124 12:00:00.123456       1 controller.go:%d] Reconciled object generation=%d in %dms`,
	`2026-11-24 12:00:00,123 INFO  [http-%d] c.s.checkout.OrderService - order %d placed for customer %d`,
	`10.0.3.%d - - [24/Nov/2026:12:00:00 +0000] "GET /cart/%d HTTP/1.1" 200 %d "-" "curl/8.5.0"`,
}

// answers are what a Loki says of windows, by their start.
type answers struct {
	*httptest.Server
	bodies map[int64]string
	bytes  int // of the lines
}

func serveLogs(b *testing.B, windows int) *answers {
	b.Helper()
	a := &answers{bodies: map[int64]string{}}
	for w := range logLearnt + windows {
		at, n := noon.Add(time.Duration(w)*logWindow), 2*logPods
		if w >= logLearnt {
			n = logLines
		}
		var body strings.Builder
		body.WriteString(`{"status":"success","data":{"resultType":"streams","result":[`)
		for p := range logPods {
			if p > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"stream":{"namespace":"shop","pod":"app%d-7d4b9c6f5-x2x8q","container":"app","stream":"stdout"},"values":[`, p)
			for i := range n / logPods {
				line := fmt.Sprintf(statements[(i+p)%len(statements)], i%997, w+i, p)
				if w >= logLearnt {
					a.bytes += len(line)
				}
				if i > 0 {
					body.WriteByte(',')
				}
				fmt.Fprintf(&body, `["%d",%s]`, at.Add(time.Duration(i)*time.Millisecond).UnixNano(), strconv.Quote(line))
			}
			body.WriteString("]}")
		}
		body.WriteString("]}}")
		a.bodies[at.UnixNano()] = body.String()
	}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, _ := strconv.ParseInt(r.FormValue("start"), 10, 64)
		_, _ = w.Write([]byte(a.bodies[start]))
	}))
	b.Cleanup(a.Close)
	return a
}

// readLogs walks over the windows of a Loki, as the collector reads them.
func readLogs(b *testing.B, a *answers, from, windows int, f func(end time.Time, out []event.Outgoing) error) {
	b.Helper()
	cfg := loki.Config{Window: logWindow, Limit: 100_000, BytesPerDay: 1 << 50, Tail: loki.Tail{Off: true}}
	cfg.URL, cfg.MaxQPS = a.URL, 1e6
	lines, _, err := loki.NewHistory(cfg, collector.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: time.Now, Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")}),
	})
	if err != nil {
		b.Fatal(err)
	}
	for w := range windows { // one question for each: the answers are made for it
		at := noon.Add(time.Duration(from+w) * logWindow)
		if err := lines.Walk(b.Context(), at, at.Add(logWindow), time.Minute, f); err != nil {
			b.Fatal(err)
		}
	}
}

// folds are those of all partitions, and what they told.
type folds struct {
	all  [event.Partitions]detectorFold
	told map[string]int
}

type detectorFold interface {
	Apply(bus.Message) ([]event.Outgoing, error)
}

func newFolds(b *testing.B) *folds {
	b.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		b.Fatal(err)
	}
	f := &folds{told: map[string]int{}}
	for p := range f.all {
		if f.all[p], err = detector.NewFold(detector.Logs, p, detector.DefaultConfig(), store, prometheus.NewRegistry()); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func (f *folds) apply(m bus.Message) error {
	to := f.all[:]
	if v, ok := m.Data.(event.LogBatch); ok {
		to = f.all[v.Partition : v.Partition+1]
	}
	for _, fold := range to {
		out, err := fold.Apply(m)
		if err != nil {
			return err
		}
		for _, o := range out {
			if a, ok := o.Data().(event.Anomaly); ok {
				f.told[a.Detector]++
			}
		}
	}
	return nil
}

// messages are what is published of a window, as it is read again.
func messages(end time.Time, out []event.Outgoing) (all []bus.Message) {
	for _, o := range out {
		all = append(all, bus.Message{Attributes: event.Attributes{ID: o.ID}, Data: o.Data()})
	}
	return append(all, bus.Message{Data: event.Tick{Watermark: end}})
}

// BenchmarkLinesToAnomalies is the way of a line from Loki's answer to an anomaly:
// parsing, joining, redaction, encoding, a stream on disk, the server, decoding,
// the miner and all detectors of logs. It states lines for a second of processor
// time, the server's and that of the Loki that is played included, and how much of
// it the collector and the detector take when they are alone.
func BenchmarkLinesToAnomalies(b *testing.B) {
	var alone, folded, whole float64
	b.Run("collector", func(b *testing.B) {
		a := serveLogs(b, b.N)
		b.ResetTimer()
		began := cpu()
		readLogs(b, a, logLearnt, b.N, func(time.Time, []event.Outgoing) error { return nil })
		used := cpu() - began
		b.ReportMetric(float64(a.bytes)/1e6/used.Seconds(), "MB/s/core")
		alone = lineRate(b, used)
	})
	b.Run("detector", func(b *testing.B) {
		a := serveLogs(b, b.N)
		f := newFolds(b)
		var all []bus.Message
		fill := func(end time.Time, out []event.Outgoing) error {
			all = append(all, messages(end, out)...)
			return nil
		}
		readLogs(b, a, 0, logLearnt, fill)
		for _, m := range all {
			if err := f.apply(m); err != nil {
				b.Fatal(err)
			}
		}
		all = nil
		readLogs(b, a, logLearnt, b.N, fill)
		b.ResetTimer()
		began := cpu()
		for _, m := range all {
			if err := f.apply(m); err != nil {
				b.Fatal(err)
			}
		}
		folded = lineRate(b, cpu()-began)
	})
	b.Run("Loki to anomaly", func(b *testing.B) { whole = linesToAnomalies(b) })
	if alone > 0 && folded > 0 && whole > 0 {
		b.Logf("%.0f lines/s/core, %.2f of the 100,000 that are wanted; of the time %.0f %% is the collector's, %.0f %% the detector's, the rest the bus's", whole, whole/1e5, 100*whole/alone, 100*whole/folded)
	}
}

func linesToAnomalies(b *testing.B) float64 {
	s := bustest.Connect(b, bustest.Server(b), nil)
	a := serveLogs(b, b.N)
	f := newFolds(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	read := make(chan time.Time, 1) // of the last window
	done := make(chan error, 1)
	go func() {
		done <- s.Read(ctx, event.Logs, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
			if err := f.apply(m); err != nil {
				return err
			}
			if v, ok := m.Data.(event.Tick); ok {
				read <- v.Watermark
			}
			return nil
		})
	}()
	publish := func(end time.Time, out []event.Outgoing) error {
		if err := s.Publish(ctx, append(out, event.TickOf(event.Logs).Out(event.Tick{Watermark: end}))...); err != nil {
			return err
		}
		select {
		case at := <-read:
			if !at.Equal(end) {
				return fmt.Errorf("read up to %s, want %s", at, end)
			}
			return nil
		case err := <-done:
			return err
		}
	}
	readLogs(b, a, 0, logLearnt, publish)
	before := f.told["log_spike"]
	b.ResetTimer()
	began := cpu()
	readLogs(b, a, logLearnt, b.N, publish)
	used := cpu() - began
	if f.told["log_spike"] == before {
		b.Error("lines come a hundred times as often as they did, and nothing is told")
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		b.Error(err)
	}
	return lineRate(b, used)
}

// lineRate reports lines for a second of processor time.
func lineRate(b *testing.B, used time.Duration) float64 {
	b.Helper()
	r := float64(b.N) * logLines / used.Seconds()
	b.ReportMetric(r, "lines/s/core")
	b.ReportMetric(0, "ns/op")
	return r
}

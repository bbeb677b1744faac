package benchmark

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// batch is a full batch of series as the collector makes them.
func batch(n int) event.MetricBatch {
	b := event.MetricBatch{Source: "prometheus", Query: "1a2b3c4d", Partition: n % event.Partitions, Namespace: "shop", Step: noon.Add(time.Duration(n) * time.Second)}
	for i := range event.MaxBatchSamples {
		b.Series = append(b.Series, event.Series{
			Labels: event.LabelsOf(map[string]string{
				"__name__": "request_rate", "namespace": "shop", "workload": fmt.Sprintf("web-%d", i), "oncall_unit": "{request}/s", "oncall_class": "ambient", "oncall_source": "prometheus",
			}),
			Points: []event.Point{{T: b.Step.UnixMilli(), V: float64(n*i) * 1.1}},
		})
	}
	return b
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSamplesOverTheBus is everything between a batch in the collector and
// the same batch in a fold: encoding, publishing to a stream on disk, the
// server, reading, decoding. It states samples for a second of processor time,
// the server's included, and how that compares with the bare stream, which
// moves payloads that are encoded already and nobody decodes.
func BenchmarkSamplesOverTheBus(b *testing.B) {
	var ours, bare float64
	b.Run("codec+bus", func(b *testing.B) { ours = overTheBus(b) })
	b.Run("bare stream", func(b *testing.B) { bare = bareStream(b) })
	if ours > 0 && bare > 0 {
		b.Logf("%.0f samples/s/core, %.2f of the bare stream's %.0f", ours, ours/bare, bare)
	}
}

func overTheBus(b *testing.B) float64 {
	s := bustest.Connect(b, bustest.Server(b), nil)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	done := make(chan error, 1)
	total, got := b.N, 0
	go func() {
		done <- s.Read(ctx, event.Metrics, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
			if v, ok := m.Data.(event.MetricBatch); !ok || len(v.Series) != event.MaxBatchSamples {
				return fmt.Errorf("message %d is %T", m.Sequence, m.Data)
			}
			if got++; got == total {
				return errAll
			}
			return nil
		})
	}()
	batches := make([]event.MetricBatch, 64)
	for i := range batches {
		batches[i] = batch(i)
	}
	b.ResetTimer()
	began := cpu()
	for sent := 0; sent < b.N; {
		out := make([]event.Outgoing, 0, len(batches))
		for i := range min(len(batches), b.N-sent) {
			v := batches[i]
			v.Step = noon.Add(time.Duration(sent) * time.Second)
			sent++
			for j := range v.Series {
				v.Series[j].Points[0].T = v.Step.UnixMilli()
			}
			out = append(out, event.MetricsRead.Out(v))
		}
		if err := s.Publish(ctx, out...); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; !errors.Is(err, errAll) {
		b.Fatal(err)
	}
	return rate(b, cpu()-began)
}

var errAll = fmt.Errorf("all read")

// rate reports samples for a second of processor time.
func rate(b *testing.B, used time.Duration) float64 {
	b.Helper()
	r := float64(b.N) * event.MaxBatchSamples / used.Seconds()
	b.ReportMetric(r, "samples/s/core")
	b.ReportMetric(0, "ns/op")
	return r
}

func bareStream(b *testing.B) float64 {
	s := bustest.Connect(b, bustest.Server(b), nil)
	js, err := jetstream.New(s.Conn(), jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		b.Fatal(err)
	}
	payload, err := event.MetricsRead.Out(batch(1)).Payload()
	if err != nil {
		b.Fatal(err)
	}
	cons, err := js.OrderedConsumer(b.Context(), event.Metrics.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	got := 0
	b.ResetTimer()
	began := cpu()
	cc, err := cons.Consume(func(jetstream.Msg) {
		if got++; got == b.N {
			close(done)
		}
	}, jetstream.PullMaxMessagesWithBytesLimit(256, 8<<20))
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Stop()
	for i := range b.N {
		if _, err := js.PublishAsync("telemetry.metrics.00.shop", payload, jetstream.WithMsgID(fmt.Sprint(i)), jetstream.WithStallWait(10*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	return rate(b, cpu()-began)
}

// BenchmarkAnomalyToItsHandler is how long an anomaly takes from Publish to the
// function that handles it, one after the other.
func BenchmarkAnomalyToItsHandler(b *testing.B) {
	s := bustest.Connect(b, bustest.Server(b), nil)
	ctx, cancel := context.WithCancel(b.Context())
	arrived := make(chan time.Time, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = bus.Consume(ctx, s, event.AnomalyDetected, bus.ConsumerConfig{Durable: "bench"}, func(context.Context, event.Event[event.Anomaly]) error {
			arrived <- time.Now()
			return nil
		})
	}()
	defer func() { cancel(); <-done }()
	took := make([]time.Duration, 0, b.N)
	for i := range b.N {
		a := event.Anomaly{
			Key: "0123456789abcdef", Detector: "spike", ConfigHash: "1", Series: fmt.Sprintf("%016x", i), Severity: event.Warning,
			Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, Signal: "error_ratio", Class: event.ClassSymptom,
			Onset: noon, WindowEnd: noon.Add(time.Duration(i) * time.Second), Observed: 1, TailProb: 1e-6, Summary: "errors",
		}
		sent := time.Now()
		if err := bus.Publish(ctx, s, event.AnomalyDetected, a); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-arrived).Sub(sent))
	}
	slices.Sort(took)
	for name, share := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99} {
		b.ReportMetric(float64(took[min(len(took)-1, int(share*float64(len(took))))].Microseconds())/1000, name)
	}
}

package cloudevents

import (
	"context"
	"errors"
	"testing"
	"time"

	cejs "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	sdk "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/client"
	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)

func anomaly() event.Anomaly {
	return event.Anomaly{
		Key: "0123456789abcdef", Detector: "spike", ConfigHash: "1", Series: "0123456789abcdef", Severity: event.Warning,
		Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, Signal: "error_rate", Class: event.ClassSymptom,
		Onset: noon, WindowEnd: noon, Observed: 1, TailProb: 1e-6, Summary: "errors",
	}
}

// listening is a bus whose server the SDK can reach by TCP.
func listening(t *testing.T) (*bus.Bus, string) {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return bustest.Connect(t, s, nil), s.ClientURL()
}

func TestTheSDKReadsWhatWeWrite(t *testing.T) {
	b, url := listening(t)
	if err := b.Publish(t.Context(), event.AnomalyDetected.Out(anomaly())); err != nil {
		t.Fatal(err)
	}
	// The binding's consumer makes a durable of its own on the stream.
	c, err := cejs.NewConsumer(url, event.Anomalies.Name, "anomalies.>", nil, nil, []nats.SubOpt{nats.DeliverAll()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opened := make(chan error, 1)
	go func() { opened <- c.OpenInbound(ctx) }()
	m, err := c.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e, err := binding.ToEvent(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	_ = m.Finish(nil)
	want := event.AnomalyDetected.Out(anomaly())
	if e.ID() != want.ID || e.Type() != want.Type || e.Subject() != "shop/deployment/web" || !e.Time().Equal(noon) ||
		e.DataSchema() != want.Schema || e.DataContentType() != "application/json" || e.Extensions()["severitytext"] != "WARN" {
		t.Errorf("the SDK reads %v", e)
	}
	var a event.Anomaly
	if err := e.DataAs(&a); err != nil || a.Summary != "errors" {
		t.Errorf("data %+v, %v", a, err)
	}
	cancel()
	if err := <-opened; err != nil && !errors.Is(err, context.Canceled) {
		t.Logf("the binding ended with %v", err)
	}
}

func TestWeReadWhatTheSDKWrites(t *testing.T) {
	for name, encode := range map[string]func(context.Context) context.Context{
		"binary mode":     binding.WithForceBinary,
		"structured mode": binding.WithForceStructured,
	} {
		t.Run(name, func(t *testing.T) {
			b, url := listening(t)
			out := event.AnomalyDetected.Out(anomaly())
			s, err := cejs.NewSender(url, event.Anomalies.Name, out.Subject, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close(context.Background()) }()
			c, err := client.New(s)
			if err != nil {
				t.Fatal(err)
			}
			e := sdk.NewEvent()
			e.SetID(out.ID)
			e.SetType(out.Type)
			e.SetSource("//third/party")
			e.SetSubject(out.About)
			e.SetTime(noon)
			e.SetDataSchema(out.Schema)
			e.SetExtension("severitytext", "WARN")
			if err := e.SetData("application/json", anomaly()); err != nil {
				t.Fatal(err)
			}
			if err := c.Send(encode(t.Context()), e); sdk.IsUndelivered(err) {
				t.Fatal(err)
			}
			var got []bus.Message
			if err := b.Read(t.Context(), event.Anomalies, bus.ReadOptions{}, func(m bus.Message) error { got = append(got, m); return nil }); err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 {
				t.Fatalf("%d messages", len(got))
			}
			m := got[0]
			if m.ID != out.ID || m.Type != out.Type || m.About != out.About || !m.Time.Equal(noon) || m.Source != "//third/party" || m.Extensions["severitytext"] != "WARN" {
				t.Errorf("attributes %+v", m.Attributes)
			}
			if a, ok := m.Data.(event.Anomaly); !ok || a.Summary != "errors" {
				t.Errorf("data %#v", m.Data)
			}
		})
	}
}

// The codec itself, without a server between: what we write is a message of the
// binding, and the other way round.
func TestAMessageOfOursIsAMessageOfTheBinding(t *testing.T) {
	e := sdk.NewEvent()
	e.SetID("r:a:1")
	e.SetType("t")
	e.SetSource("//s")
	e.SetSubject("shop/pod/web-1")
	e.SetTime(noon)
	e.SetExtension("sequence", "00000000000000000001")
	if err := e.SetData("application/json", map[string]any{"a": "ü"}); err != nil {
		t.Fatal(err)
	}
	ours, err := bus.ToMsg("x", e)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := binding.ToEvent(t.Context(), cejs.NewMessage(ours))
	if err != nil {
		t.Fatal(err)
	}
	if theirs.String() != e.String() {
		t.Errorf("the binding reads\n%s\nof\n%s", theirs, e)
	}
	for _, ctx := range []context.Context{binding.WithForceBinary(t.Context()), binding.WithForceStructured(t.Context())} {
		m := &nats.Msg{Subject: "x", Header: nats.Header{}}
		body, header, err := written(ctx, &e)
		if err != nil {
			t.Fatal(err)
		}
		m.Data, m.Header = body, header
		back, err := bus.FromMsg(m)
		if err != nil {
			t.Fatal(err)
		}
		if back.String() != e.String() {
			t.Errorf("we read\n%s\nof\n%s", back, e)
		}
	}
}

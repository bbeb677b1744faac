//go:build e2e

package fault

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// traces receives spans by OTLP, as a collector of traces does.
type traces struct {
	collector.UnimplementedTraceServiceServer
	address string

	mu    sync.Mutex
	spans []*tracepb.Span
}

func newTraces(t *testing.T) *traces {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &traces{address: l.Addr().String()}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return r
}

// Export keeps the spans.
func (r *traces) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *traces) all() []*tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*tracepb.Span(nil), r.spans...)
}

// attributes are those of a span that hold text or a number.
func attributes(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, kv := range s.Attributes {
		out[kv.Key] = kv.Value.GetStringValue()
	}
	return out
}

// TestOneTraceLeadsFromTheAnomalyToTheDelivery runs the five processes with
// traces on and looks for a trace that has every hop.
func TestOneTraceLeadsFromTheAnomalyToTheDelivery(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	tr := newTraces(t)
	r.otlp = tr.address
	r.startAll()
	r.same(want, 0) // the processes export what is left when they stop
	path := []string{
		"create anomalies.{severity}.{namespace}.{detector}", "process incidents.{incident}.opened",
		"process reports.{incident}.drafted", "process notify.{channel}.{incident}",
	}
	// What let the incident out: a watermark of the anomaly's own trace, or one of
	// another, and then there is a span of the publishing here.
	out := []string{"process watermarks.{group}.{partition}", "publish incidents.{incident}.opened"}
	byTrace := map[string]map[string]*tracepb.Span{}
	telemetry := map[string]bool{} // span ids of published batches
	for _, s := range tr.all() {
		id := hex.EncodeToString(s.TraceId)
		if byTrace[id] == nil {
			byTrace[id] = map[string]*tracepb.Span{}
		}
		byTrace[id][s.Name] = s
		if s.Name == "publish telemetry.metrics.{partition}.{namespace}" || s.Name == "publish telemetry.logs.{partition}.{namespace}" {
			telemetry[string(s.SpanId)] = true
		}
	}
	if len(telemetry) == 0 {
		t.Error("no span of a published batch")
	}
	complete := 0
	for _, spans := range byTrace {
		missing := false
		for _, name := range path {
			missing = missing || spans[name] == nil
		}
		if missing || spans[out[0]] == nil && spans[out[1]] == nil {
			continue
		}
		complete++
		create := spans[path[0]]
		if len(create.ParentSpanId) != 0 {
			t.Error("the detection is not the beginning of its trace")
		}
		linked := false
		for _, l := range create.Links {
			linked = linked || telemetry[string(l.SpanId)]
		}
		if !linked {
			t.Errorf("the detection is not linked to a batch it was made from; it has %d links", len(create.Links))
		}
		for _, name := range path {
			a := attributes(spans[name])
			for _, key := range []string{"messaging.system", "messaging.operation.type", "messaging.operation.name", "messaging.destination.name", "messaging.destination.template"} {
				if a[key] == "" {
					t.Errorf("span %s has no %s", name, key)
				}
			}
			if a["messaging.system"] != "nats" {
				t.Errorf("span %s: messaging.system is %q", name, a["messaging.system"])
			}
		}
	}
	if complete == 0 {
		for id, spans := range byTrace {
			if spans[path[0]] != nil {
				names := ""
				for n := range spans {
					names += n + "; "
				}
				t.Logf("trace %s: %s", id, names)
			}
		}
		t.Errorf("none of %d traces leads from an anomaly to its delivery", len(byTrace))
	}
}

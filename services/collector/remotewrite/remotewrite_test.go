package remotewrite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/client_golang/exp/api/remote"
	v2 "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/receiver"
)

// sent is a series as a sender writes it.
type sent struct {
	labels map[string]string
	points []event.Point
}

func series(labels string, points ...event.Point) sent {
	ls, err := event.ParseLabels("{" + labels + "}")
	if err != nil {
		panic(err)
	}
	return sent{ls.Map(), points}
}

// message1Of encodes a request of version 1.0, field by field.
func message1Of(all ...sent) []byte {
	var out []byte
	for _, s := range all {
		var ts []byte
		for _, l := range event.LabelsOf(s.labels) {
			var b []byte
			b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), l.Name)
			b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), l.Value)
			ts = protowire.AppendBytes(protowire.AppendTag(ts, 1, protowire.BytesType), b)
		}
		for _, p := range s.points {
			var b []byte
			b = protowire.AppendFixed64(protowire.AppendTag(b, 1, protowire.Fixed64Type), math.Float64bits(p.V))
			b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), uint64(p.T))
			ts = protowire.AppendBytes(protowire.AppendTag(ts, 2, protowire.BytesType), b)
		}
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), ts)
	}
	return out
}

func message2Of(all ...sent) *v2.Request {
	symbols := v2.NewSymbolTable()
	req := &v2.Request{}
	for _, s := range all {
		ts := &v2.TimeSeries{}
		for _, l := range event.LabelsOf(s.labels) {
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		for _, p := range s.points {
			ts.Samples = append(ts.Samples, &v2.Sample{Value: p.V, Timestamp: p.T})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	return req
}

// raw1 lets client_golang send what is encoded already.
type raw1 []byte

func (r raw1) Size() int { return len(r) }
func (r raw1) MarshalToSizedBuffer(b []byte) (int, error) {
	return copy(b, r), nil
}

func newSource(t testing.TB, cfg Config, env collector.Env) *Source {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	env.Policies, env.Metrics, env.Log = store, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	env.Redact = redact.New(redact.Options{Key: []byte("0123456789abcdef")})
	if env.Now == nil {
		env.Now = time.Now
	}
	s, err := New(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func at(seconds int, v float64) event.Point {
	return event.Point{T: noon.Add(time.Duration(seconds) * time.Second).UnixMilli(), V: v}
}

const web = `namespace="shop", pod="web-7d4b9c6f5-x2x8q", job="web", instance="10.0.0.1:80"`

func TestBothVersionsAreReadAlike(t *testing.T) {
	in := []sent{series(`__name__="up", `+web, at(0, 1), at(15, 0)), series(`__name__="http_requests_total", code="200"`, at(0, 12.5))}
	one, err1 := decode1(message1Of(in...))
	raw, err := message2Of(in...).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	two, err2 := decode2(raw)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if a, b := fmt.Sprint(one), fmt.Sprint(two); a != b || len(one) != 2 || len(one[0].points) != 2 {
		t.Errorf("1.0 gives %s\n2.0 gives %s", a, b)
	}
}

func TestHostileBodiesAreRefusedBeforeTheyBecomeMemory(t *testing.T) {
	tiny := func(field protowire.Number, n int) []byte {
		var out []byte
		for range n {
			out = protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), nil)
		}
		return out
	}
	huge := make([]byte, maxDecoded+1)
	for name, tc := range map[string]struct {
		decode func() error
		want   string
	}{
		"a snappy bomb":        {func() error { _, err := unpack(s2.EncodeSnappy(nil, huge)); return err }, "would grow"},
		"no snappy":            {func() error { _, err := unpack([]byte("hello")); return err }, "snappy"},
		"too many series, 1.0": {func() error { _, err := decode1(tiny(1, maxSeries+1)); return err }, "more than"},
		"too many series, 2.0": {func() error { _, err := decode2(tiny(5, maxSeries+1)); return err }, "more than"},
		"too many symbols":     {func() error { _, err := decode2(tiny(4, maxSymbols+1)); return err }, "more than"},
		"too many samples, 1.0": {func() error {
			_, err := decode1(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), tiny(2, maxSamples+1)))
			return err
		}, "more than"},
		"too many samples, 2.0": {func() error {
			_, err := decode2(protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), tiny(2, maxSamples+1)))
			return err
		}, "more than"},
		"cut in a series": {func() error {
			b := message1Of(series(`__name__="up"`, at(0, 1)))
			_, err := decode1(b[:len(b)-3])
			return err
		}, "unexpected EOF"},
		"a symbol that is not": {func() error {
			r := message2Of()
			r.Timeseries = []*v2.TimeSeries{{LabelsRefs: []uint32{1, 9}}}
			b, _ := r.MarshalVT()
			_, err := decode2(b)
			return err
		}, "outside the table"},
		"an odd number of labels": {func() error {
			r := message2Of()
			r.Timeseries = []*v2.TimeSeries{{LabelsRefs: []uint32{0}}}
			b, _ := r.MarshalVT()
			_, err := decode2(b)
			return err
		}, "odd number"},
		"another first symbol": {func() error {
			b, _ := (&v2.Request{Symbols: []string{"x"}}).MarshalVT()
			_, err := decode2(b)
			return err
		}, "first symbol"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.decode(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestContentIsNegotiatedByItsMessage(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, encoding, want string
		status               int
	}{
		"1.0 as old senders write it": {"application/x-protobuf", "snappy", message1, 0},
		"1.0 by name":                 {"application/x-protobuf;proto=prometheus.WriteRequest", "snappy", message1, 0},
		"2.0":                         {"application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy", message2, 0},
		"2.0 with a space":            {"application/x-protobuf; proto=io.prometheus.write.v2.Request", "", message2, 0},
		"a message of the future":     {"application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", "", 415},
		"JSON":                        {"application/json", "snappy", "", 415},
		"no type":                     {"", "snappy", "", 415},
		"another compression":         {"application/x-protobuf", "zstd", "", 415},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := negotiate(http.Header{"Content-Type": {tc.kind}, "Content-Encoding": {tc.encoding}})
			no, _ := errors.AsType[*receiver.Refusal](err)
			if got != tc.want || (no == nil) != (tc.status == 0) || no != nil && no.Status != tc.status {
				t.Errorf("got %q, %v; want %q, %d", got, err, tc.want, tc.status)
			}
		})
	}
}

func TestOnlyWhatARuleTakesIsKeptWithTheLabelsThatAreNeeded(t *testing.T) {
	s := newSource(t, Config{}, collector.Env{Now: func() time.Time { return noon }})
	good := series(`__name__="http_requests_total", code="500", path="/login?token=abc", prometheus_replica="a", `+web, at(0, 7))
	replica := series(`__name__="http_requests_total", code="500", path="/login?token=abc", prometheus_replica="b", `+web, at(0, 7))
	other := series(`__name__="http_requests_total", code="500", path="/logout", `+web, at(0, 7))
	in := func(all ...sent) []pushed {
		p, err := decode1(message1Of(all...))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	out, w, err := s.admit(in(good, other, series(`__name__="go_goroutines"`, at(0, 1)), series(`__name__="http_requests_total"`, at(-7200, 1), at(3600, 1))))
	if err != nil || w.samples != 5 || len(out) != 1 || len(out[0].Series) != 2 {
		t.Fatalf("batches %+v, written %+v, %v", out, w, err)
	}
	for _, one := range out[0].Series {
		m := one.Labels.Map()
		if m["path"] != "" || m["prometheus_replica"] != "" || m["code"] != "500" || m["pod"] != "web-7d4b9c6f5-x2x8q" || m[partLabel] == "" {
			t.Errorf("kept %v", one.Labels)
		}
	}
	if out[0].Series[0].ID == out[0].Series[1].ID {
		t.Error("series that differ in a label that is left out became one")
	}
	first, _, _ := s.admit(in(good, other))
	again, _, _ := s.admit(in(other, replica))
	if a, b := event.MetricsPushed.Out(first[0]).ID, event.MetricsPushed.Out(again[0]).ID; a != b || !strings.HasPrefix(a, "p:remote_write:") {
		t.Errorf("the same samples of another replica in another order are %s and %s", a, b)
	}
	_, w, err = s.admit(in(good, sent{map[string]string{"a": "no name"}, []event.Point{at(0, 1)}}))
	if no, ok := errors.AsType[*receiver.Refusal](err); !ok || no.Status != 400 || w.samples != 1 {
		t.Errorf("a series without a name: %v, %+v", err, w)
	}
}

func TestManySamplesBecomeBatchesThatFit(t *testing.T) {
	s := newSource(t, Config{}, collector.Env{Now: func() time.Time { return noon }})
	var in []pushed
	for i := range 700 {
		in = append(in, pushed{labels: event.LabelsOf(map[string]string{"__name__": "http_requests_total", "pod": fmt.Sprintf("web-%d", i), "namespace": "shop"}), points: []event.Point{at(0, 1), at(15, 2)}})
	}
	long := pushed{labels: event.LabelsOf(map[string]string{"__name__": "http_requests_total", "pod": "long"})}
	for i := range 1200 {
		long.points = append(long.points, event.Point{T: noon.UnixMilli() - int64(i), V: 1})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 { // which do not compress
		ls := map[string]string{"__name__": "http_requests_total", "pod": fmt.Sprintf("fat-%d", i)}
		for _, name := range []string{"namespace", "workload", "service", "app", "job"} {
			b := make([]byte, maxValue)
			for j := range b {
				b[j] = byte('a' + random.IntN(26))
			}
			ls[name] = string(b)
		}
		in = append(in, pushed{labels: event.LabelsOf(ls), points: []event.Point{at(0, 1)}})
	}
	out, _, err := s.admit(append(in, long))
	n := 0
	for _, b := range out {
		if payload, err := event.MetricsPushed.Wire.Marshal(b); err != nil || int64(len(payload)) > int64(event.Pushed.MaxMsg) {
			t.Errorf("batch of %d bytes, %v", len(payload), err)
		}
		for _, se := range b.Series {
			n += len(se.Points)
		}
	}
	if err != nil || n != 2800 {
		t.Errorf("%d samples in %d batches, %v; want 2800", n, len(out), err)
	}
}

func TestStepsThatAreBehindGiveSendersTheirLatenessOnce(t *testing.T) {
	d := due{every: 30 * time.Second, lateness: 30 * time.Second}
	if got := d.wait(noon, noon.Add(10*time.Second)); got != 50*time.Second {
		t.Errorf("on time: wait %v, want 50s", got)
	}
	now := noon.Add(10 * time.Minute)
	if got := d.wait(noon, now); got != 30*time.Second {
		t.Errorf("ten minutes behind: wait %v, want 30s", got)
	}
	now = now.Add(30 * time.Second)
	for ended := noon; ended.Before(now.Add(-90 * time.Second)); ended = ended.Add(30 * time.Second) {
		if got := d.wait(ended, now); got != 0 {
			t.Fatalf("catching up at %v: wait %v, want none", ended, got)
		}
	}
}

// TestASenderIsHeardThroughTheBus sends with client_golang's own sender to a
// receiver, and folds what it stored.
func TestASenderIsHeardThroughTheBus(t *testing.T) {
	b := bustest.Start(t)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("tok"), 0o600); err != nil {
		t.Fatal(err)
	}
	var offset atomic.Int64 // of the clock
	now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	cfg := Config{Step: time.Second, Lateness: time.Second}
	cfg.Listen, cfg.BearerTokenFile = "127.0.0.1:0", token
	s := newSource(t, cfg, collector.Env{Publish: b.Publish, Follow: b.Read, Now: now})
	ctx, cancel := context.WithCancel(t.Context())
	r := s.Receiver()
	done := make(chan error, 2)
	go func() { done <- r.Run(ctx) }()
	emitted := make(chan collector.Emission, 100)
	go func() {
		done <- s.Run(ctx, nil, func(ctx context.Context, e collector.Emission) error {
			select {
			case emitted <- e:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
	}()
	addr, err := r.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	api, err := remote.NewAPI("http://"+addr.String(), remote.WithAPIPath(strings.TrimPrefix(Path, "/")), remote.WithAPIHTTPClient(&http.Client{Transport: bearer("tok")}))
	if err != nil {
		t.Fatal(err)
	}
	ms := time.Now().UnixMilli()
	points := []event.Point{{T: ms - 2000, V: 100}, {T: ms - 1000, V: 130}}
	one := series(`__name__="http_requests_total", code="200", `+web, points...)
	two := series(`__name__="grpc_server_handled_total", grpc_code="OK", `+web, points...)
	junk := series(`__name__="go_goroutines"`, points...)
	if _, err := api.Write(t.Context(), remote.WriteV1MessageType, raw1(message1Of(one, junk))); err != nil {
		t.Errorf("1.0: %v", err)
	}
	for range 2 { // sent again, as after an answer that was lost
		stats, err := api.Write(t.Context(), remote.WriteV2MessageType, message2Of(two, junk))
		if err != nil || stats.Samples != 4 {
			t.Errorf("2.0: %v, %+v", err, stats)
		}
	}
	if _, err := api.Write(t.Context(), remote.WriteV2MessageType, message2Of(junk)); err != nil {
		t.Errorf("nothing that is allowed is an error to the sender: %v", err)
	}
	want := map[string]bool{"http_requests_total": true, "grpc": true}
	deadline := time.After(20 * time.Second)
	for len(want) > 0 {
		select {
		case e := <-emitted:
			if e.Closed.IsZero() || e.Cursor == nil {
				t.Errorf("emission %+v closes nothing", e)
			}
			for _, o := range e.Events {
				for _, se := range o.Data().(event.MetricBatch).Series {
					if se.Labels.Get(event.LabelName) == "request_rate" && se.Points[0].V == 30 && se.Labels.Get(event.LabelSource) == "remote_write" {
						delete(want, se.Labels.Get(event.LabelFamily))
					}
				}
			}
		case <-deadline:
			t.Fatalf("no rate of %v", want)
		}
	}
	batches := 0
	if err := b.Read(t.Context(), event.Pushed, bus.ReadOptions{}, func(m bus.Message) error {
		if b, ok := m.Data.(event.MetricBatch); ok && len(b.Series) > 0 {
			batches++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if batches != 2 {
		t.Errorf("%d batches stored, want 2: what is sent again is stored once", batches)
	}
	offset.Store(int64(3 * time.Minute))
	for blind := false; !blind; {
		select {
		case e := <-emitted:
			blind = e.Blind != nil && e.Blind.Source == "remote_write" && !e.Closed.IsZero()
		case <-deadline:
			t.Fatal("silence is not said")
		}
	}
	if n := testutil.ToFloat64(s.samples.WithLabelValues("not_allowed")); n != 8 {
		t.Errorf("%v samples not allowed, want 8", n)
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// bearer is a transport that shows a token.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func TestRuleErrorsNameTheField(t *testing.T) {
	for want, yaml := range map[string]string{
		"signals[0].match":     `signals: [{signal: a, family: f, match: "x{y=z}", as: rate, aggregate: sum, entity: workload, class: cause}]`,
		"signals[0].as":        `signals: [{signal: a, family: f, match: x, as: speed, aggregate: sum, entity: workload, class: cause}]`,
		"signals[0].ratio":     `signals: [{signal: a, family: f, ratio: [b, c], entity: workload, class: cause}]`,
		"signals[0].zero":      `signals: [{signal: a, family: f, match: x, as: rate, aggregate: sum, zero: b, entity: workload, class: cause}]`,
		"signals[0].quantile":  `signals: [{signal: a, family: f, match: x, as: quantile, quantile: 99, entity: workload, class: cause}]`,
		"signals[0].entity":    `signals: [{signal: a, family: f, match: x, as: rate, aggregate: sum, entity: host, class: cause}]`,
		"signals[0].class":     `signals: [{signal: a, family: f, match: x, as: rate, aggregate: sum, entity: node, class: bad}]`,
		"signals[0].aggregate": `signals: [{signal: a, family: f, match: x, as: rate, entity: node, class: cause}]`,
	} {
		store, err := policy.NewStore(fstest.MapFS{"pushed.yaml": {Data: []byte(yaml)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadRules(store); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not name %s", yaml, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	in := []sent{series(`__name__="up", job="x"`, at(0, 1))}
	f.Add(message1Of(in...))
	if b, err := message2Of(in...).MarshalVT(); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, decode := range []func([]byte) ([]pushed, error){decode1, decode2} {
			all, err := decode(raw)
			if err != nil {
				continue
			}
			for i := range all {
				if all[i].check() == nil && all[i].labels.Get(event.LabelName) == "" {
					t.Error("a series without a name passed")
				}
			}
		}
	})
}

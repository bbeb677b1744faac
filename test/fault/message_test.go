//go:build e2e

package fault

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// recorded is the telemetry of an undisturbed run, in its order.
func recorded(t *testing.T) []bus.Raw {
	t.Helper()
	return undisturbed(t).telemetry
}

// replayed is a run whose telemetry the test feeds; its collector reads nothing
// and answers look-ups only.
func replayed(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.cursor(ends)
	r.startAll()
	return r
}

// feed stores messages as the collector had.
func (r *rig) feed(msgs ...bus.Raw) {
	r.t.Helper()
	for _, m := range msgs {
		if err := r.bus.Republish(r.t.Context(), m.Subject, m.Header, m.Payload); err != nil {
			r.t.Fatal(err)
		}
	}
}

// again is a message under an id that the server does not know, as if its
// window for repeats were over.
func again(m bus.Raw, n int) bus.Raw {
	m.Header = maps.Clone(m.Header)
	m.Header["Nats-Msg-Id"] = []string{fmt.Sprintf("%s:again:%d", m.Header["Nats-Msg-Id"][0], n)}
	return m
}

func isTick(m bus.Raw) bool { return strings.HasSuffix(m.Subject, ".tick") }

// TestBatchesRepeatedOutsideTheDedupeWindow is fault 14.
func TestBatchesRepeatedOutsideTheDedupeWindow(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := replayed(t)
	rng := rand.New(rand.NewPCG(*seed, 14))
	all := recorded(t)
	for i, m := range all {
		r.feed(m)
		// Now and then what came lately comes again, ticks and all.
		if rng.IntN(800) == 0 {
			for j := max(0, i-rng.IntN(600)); j <= i; j += 1 + rng.IntN(4) {
				r.feed(again(all[j], i))
			}
		}
	}
	r.same(want, 0)
}

// TestBatchesReorderedWithinTheirLateness is fault 15: what comes before its
// tick may come in any order, and what comes after is counted and changes
// nothing.
func TestBatchesReorderedWithinTheirLateness(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := replayed(t)
	rng := rand.New(rand.NewPCG(*seed, 15))
	for _, s := range []*event.Stream{event.Metrics, event.Logs} {
		var window []bus.Raw
		flush := func() {
			rng.Shuffle(len(window), func(i, j int) { window[i], window[j] = window[j], window[i] })
			r.feed(window...)
			window = window[:0]
		}
		var held []bus.Raw // ticks that wait while later batches go ahead of them
		for _, m := range recorded(t) {
			if event.MatchSubject(s.Subjects[0], m.Subject) {
				if !isTick(m) {
					window = append(window, m)
					continue
				}
				flush()
				held = append(held, m)
				if len(held) >= event.Partitions*3 {
					r.feed(held...)
					held = held[:0]
				}
			}
		}
		flush()
		r.feed(held...)
	}
	late := slices.IndexFunc(recorded(t), func(m bus.Raw) bool { return event.MatchSubject("telemetry.metrics.*.billing", m.Subject) })
	m := again(recorded(t)[late], 0)
	m.Header["ce-id"] = []string{strings.Replace(m.Header["ce-id"][0], "m:prometheus:", "m:late:", 1)}
	m.Payload = renamed(t, m)
	r.feed(m)
	eventually(t, 20*time.Second, "the late batch counted", func() bool { return r.metric("detector", `oncall_late_total{group="metrics"}`) >= 1 })
	r.same(want, 0)
}

// renamed is a batch of the same time about series that nobody knows: the same
// series would be a repeat.
func renamed(t *testing.T, m bus.Raw) []byte {
	t.Helper()
	a := event.Attributes{ID: m.Header["ce-id"][0]}
	b, err := event.MetricsRead.Decode(a, m.Payload)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Data.Series {
		ls := slices.Clone(b.Data.Series[i].Labels)
		b.Data.Series[i].Labels = append(ls, event.Label{Name: "zone", Value: "late"})
	}
	payload, err := event.MetricsRead.Out(b.Data).Payload()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// TestPoisonGoesToTheDeadLetters is fault 17.
func TestPoisonGoesToTheDeadLetters(t *testing.T) {
	want := undisturbed(t)
	r := replayed(t)
	all := recorded(t)
	r.feed(all[:len(all)/2]...)
	partition := event.Partition("shop", "web")
	subject := "telemetry.metrics." + event.PartitionToken(partition) + ".shop"
	id := func(n int) string {
		return fmt.Sprintf("m:poison:q:%s:%d:%d", event.PartitionToken(partition), began.UnixMilli(), n)
	}
	poison := map[string][]byte{
		"bad protobuf":          s2.EncodeSnappy(nil, bytes.Repeat([]byte{0xff}, 100)),
		"not snappy":            bytes.Repeat([]byte{0xfe}, 100),
		"a bomb that says so":   append(binary.AppendUvarint(nil, 4<<30), 0, 0, 0),
		"a bomb of real zeros":  s2.EncodeSnappy(nil, make([]byte, 64<<20))[:400<<10],
		"an empty message":      {},
		"bad UTF-8 in a symbol": badSymbol(t),
	}
	half := time.UnixMilli(0)
	for _, m := range all[:len(all)/2] {
		if ms, err := strconv.ParseInt(lastPart(m.Header["ce-id"][0]), 10, 64); err == nil && isTick(m) && strings.HasPrefix(m.Subject, "telemetry.metrics.") {
			half = time.UnixMilli(ms)
		}
	}
	eventually(t, 30*time.Second, "the first half folded", func() bool { return !r.watermark("metrics").Before(half.Add(-step)) })
	before := r.running["detector"].rss(t)
	n := 0
	for _, name := range slices.Sorted(maps.Keys(poison)) {
		for range 5 {
			n++
			h := map[string][]string{
				"Nats-Msg-Id": {fmt.Sprint("poison", n)}, "ce-specversion": {"1.0"}, "ce-id": {id(n)}, "ce-type": {event.MetricsRead.Type}, "ce-source": {"//x/y"},
				"content-type": {"application/x-protobuf"},
			}
			r.feed(bus.Raw{Subject: subject, Header: h, Payload: poison[name]})
		}
	}
	for _, s := range []string{"incidents.poison.opened", "reports.poison.drafted", "notify.hook.poison", "telemetry.logs.03.shop", "anomalies.info.shop.x"} {
		r.feed(bus.Raw{Subject: s, Header: map[string][]string{"Nats-Msg-Id": {"poison:" + s}}, Payload: []byte("{not an event")})
	}
	// The next good message of the same partition.
	rest := all[len(all)/2:]
	next := slices.IndexFunc(rest, func(m bus.Raw) bool { return m.Subject == event.MetricsTick.Filter() })
	r.feed(rest[:next+1]...)
	fed, id2 := time.Now(), "w:metrics:"+event.PartitionToken(partition)+":"+lastPart(rest[next].Header["ce-id"][0])
	eventually(t, 5*time.Second, "the next message folded", func() bool { return r.has(event.Anomalies, "watermarks.metrics."+event.PartitionToken(partition), id2) })
	if took := time.Since(fed); took > time.Second {
		t.Errorf("the message after the poison took %v, want at most 1s", took)
	}
	eventually(t, 30*time.Second, "dead letters of every kind", func() bool { return r.letters()["TELEMETRY_METRICS"] >= 5*(len(poison)-1) })
	t.Logf("dead letters: %v", r.letters())
	if grown := r.running["detector"].rss(t) - before; grown > 64<<20 {
		t.Errorf("the detector has grown by %d MiB, want less than 64", grown>>20)
	}
	r.feed(rest[next+1:]...)
	r.same(want, 0)
}

func lastPart(id string) string { return id[strings.LastIndexByte(id, ':')+1:] }

// has says whether a stream holds an event.
func (r *rig) has(s *event.Stream, filter, id string) bool {
	found := false
	err := r.bus.Read(r.t.Context(), s, bus.ReadOptions{Filters: []string{filter}}, func(m bus.Message) error {
		found = found || m.ID == id
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// letters counts dead letters by the stream they come from.
func (r *rig) letters() map[string]int {
	r.t.Helper()
	out := map[string]int{}
	each(r, event.DeadLetters, func(_ bus.Message, d event.DeadLetter) {
		if d.Reason == "" {
			r.t.Errorf("a dead letter of %s %d has no reason", d.Stream, d.Sequence)
		}
		out[d.Stream]++
	})
	return out
}

// TestADetectorThatPanicsStopsNobodyElse is fault 18.
func TestADetectorThatPanicsStopsNobodyElse(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	r.start("collector", "correlator", "reasoner", "notifier")
	r.logs["detector"] = &syncBuffer{}
	r.running["detector"] = start(t, "detector", r.config("detector"), r.logs["detector"], envPanics+"=1")
	r.same(want, 0)
	if n := r.letters()["TELEMETRY_METRICS"]; n != 3 {
		t.Errorf("%d dead letters, want 3: then the detector is left out of its partition", n)
	}
}

// TestCheckpointsThatAreCorruptOrOld is fault 19.
func TestCheckpointsThatAreCorruptOrOld(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	r.sources.pace.Store(int64(slow))
	r.startAll()
	ck := r.kv("ckpt")
	read := func() map[string][]byte {
		out := map[string][]byte{}
		keys, err := ck.Keys(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if b, _, err := ck.Get(t.Context(), k); err == nil {
				out[k] = b
			}
		}
		return out
	}
	r.readTo(0.35)
	old := read()
	r.readTo(0.6)
	for _, name := range []string{"detector", "correlator"} {
		if _, err := r.running[name].stop(25 * time.Second); err != nil {
			t.Error(err)
		}
	}
	junk := [][]byte{[]byte("{"), nil, []byte(`{"seq":9999999999,"digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}`), []byte(`{"seq":5,"state":"AAAA","digest":"00"}`)}
	keys := slices.Sorted(maps.Keys(read()))
	if len(keys) < event.Partitions+1 || len(old) < event.Partitions {
		t.Fatalf("checkpoints %v, before %d", keys, len(old))
	}
	for i, k := range keys {
		b := junk[i%len(junk)]
		if i%len(junk) == 1 {
			b = old[k] // an old one is a good one
		}
		if _, err := ck.Put(t.Context(), k, b); err != nil {
			t.Fatal(err)
		}
	}
	r.start("detector", "correlator")
	r.sources.pace.Store(0)
	r.same(want, 0)
	for _, name := range []string{"detector", "correlator"} {
		if contains(r.logs[name].String(), "panic") {
			t.Errorf("%s panicked", name)
		}
	}
}

// badSymbol is a well-formed batch whose one label value is no UTF-8.
func badSymbol(t *testing.T) []byte {
	t.Helper()
	payload, err := event.MetricsRead.Out(event.MetricBatch{Series: []event.Series{{
		Labels: event.Labels{{Name: "namespace", Value: "shop"}, {Name: "pod", Value: "web\xff\xfe"}}, Points: []event.Point{{T: 1, V: 1}},
	}}}).Payload()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

package bus_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// sum is a toy fold: it adds up chunk numbers and publishes an anomaly for
// every tick, whose observed value is the sum. It drops repeats by step, as a
// fold has to.
type sum struct {
	Partition int
	Total     uint64
	Last      uint64 // unix ms of the last step
	poison    int    // a chunk that makes it panic; 0 for none
}

func (s *sum) Apply(m bus.Message) ([]event.Outgoing, error) {
	switch v := m.Data.(type) {
	case event.MetricBatch:
		if s.poison != 0 && v.Chunk == s.poison {
			s.Total = 1 << 60 // a panic may leave anything behind
			panic("poison")
		}
		if v.Chunk == 999 {
			return nil, errors.New("refused")
		}
		if ms := uint64(v.Step.UnixMilli()); ms > s.Last {
			s.Last = ms
			s.Total += uint64(v.Chunk)
		}
	case event.Tick:
		a := event.Anomaly{
			Detector: "sum", ConfigHash: "1", Series: fmt.Sprintf("%016x", s.Partition), Severity: event.Info, Entity: event.Entity{Kind: "Test", Name: "t"},
			WindowEnd: v.Watermark, Observed: float64(s.Total), TailProb: 1,
		}
		return []event.Outgoing{
			event.AnomalyDetected.Out(a),
			event.WatermarkPassed.Out(event.Watermark{Group: "sum", Partition: s.Partition, Time: v.Watermark}),
		}, nil
	}
	return nil, nil
}

func (s *sum) MarshalBinary() ([]byte, error) {
	b := binary.LittleEndian.AppendUint64(nil, s.Total)
	return binary.LittleEndian.AppendUint64(b, s.Last), nil
}

func (s *sum) UnmarshalBinary(b []byte) error {
	if len(b) != 16 {
		return fmt.Errorf("state of %d bytes, want 16", len(b))
	}
	s.Total, s.Last = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	return nil
}

func group(poison int) bus.Group {
	return bus.Group{
		Name: "sum", Stream: event.Metrics, Partitions: 4, ConfigHash: "h1",
		Filters: func(p int) []string {
			return []string{"telemetry.metrics." + event.PartitionToken(p) + ".>", event.MetricsTick.Filter()}
		},
		New:                func(p int) (bus.Fold, error) { return &sum{Partition: p, poison: poison}, nil },
		CheckpointMessages: 7,
	}
}

// feed publishes n steps of four partitions, with a tick for all after each.
func feed(t *testing.T, b *bus.Bus, from, to int) {
	t.Helper()
	var out []event.Outgoing
	for i := from; i < to; i++ {
		at := noon.Add(time.Duration(i) * time.Second)
		for p := range 4 {
			out = append(out, event.MetricsRead.Out(event.MetricBatch{Source: "s", Query: "q", Partition: p, Step: at, Chunk: 10*i + p + 1}))
		}
		out = append(out, event.MetricsTick.Out(event.Tick{Watermark: at}))
	}
	if err := b.Publish(t.Context(), out...); err != nil {
		t.Fatal(err)
	}
}

// digestOf is the outcome of a run: every anomaly, sorted by id.
func digestOf(t *testing.T, b *bus.Bus) string {
	t.Helper()
	var lines []string
	for _, m := range read(t, b, event.Anomalies) {
		if a, ok := m.Data.(event.Anomaly); ok {
			lines = append(lines, fmt.Sprintf("%s %g", m.ID, a.Observed))
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d %x", len(lines), sha256.Sum256([]byte(strings.Join(lines, "\n"))))
}

// undisturbed is the digest of one member folding n steps in peace.
func undisturbed(t *testing.T, n int) string {
	t.Helper()
	b := bustest.Start(t)
	feed(t, b, 0, n)
	run(t, b, group(0), 4*n)
	return digestOf(t, b)
}

// run folds until the stream of anomalies holds want of them.
func run(t *testing.T, b *bus.Bus, g bus.Group, want int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.RunGroup(ctx, g) }()
	eventually(t, fmt.Sprintf("%d anomalies", want), func() bool { return anomalies(t, b) >= want })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("RunGroup ended with %v", err)
	}
}

func anomalies(t *testing.T, b *bus.Bus) int {
	n := 0
	for _, m := range read(t, b, event.Anomalies) {
		if _, ok := m.Data.(event.Anomaly); ok {
			n++
		}
	}
	return n
}

func TestARunEqualsItselfWhateverBefallsItsMembers(t *testing.T) {
	const steps = 30
	want := undisturbed(t, steps)
	for name, disturb := range map[string]func(t *testing.T, b *bus.Bus){
		"a clean restart in the middle": func(t *testing.T, b *bus.Bus) {
			feed(t, b, 0, steps/2)
			run(t, b, group(0), 2*steps)
			feed(t, b, steps/2, steps)
			run(t, b, group(0), 4*steps)
		},
		"input repeated outside the dedupe window": func(t *testing.T, b *bus.Bus) {
			feed(t, b, 0, steps)
			// Under other ids the server does not know the repeats.
			for i := range steps {
				o := event.MetricsRead.Out(event.MetricBatch{Source: "again", Query: "q", Partition: 1, Step: noon.Add(time.Duration(i) * time.Second), Chunk: 10*i + 2})
				if err := b.Publish(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			run(t, b, group(0), 4*steps)
		},
		"a message that is refused and one that cannot be decoded": func(t *testing.T, b *bus.Bus) {
			feed(t, b, 0, steps/2)
			if err := b.Publish(t.Context(), event.MetricsRead.Out(event.MetricBatch{Source: "s", Query: "q", Partition: 2, Step: noon.Add(time.Hour), Chunk: 999})); err != nil {
				t.Fatal(err)
			}
			bad := event.MetricsRead.Out(event.MetricBatch{Source: "s", Query: "x", Step: noon})
			if err := b.Republish(t.Context(), bad.Subject, map[string][]string{"Nats-Msg-Id": {"bad"}, "ce-specversion": {"1.0"}, "ce-id": {bad.ID}, "ce-type": {bad.Type}, "ce-source": {"//x/y"}}, bytes.Repeat([]byte{0xff}, 64)); err != nil {
				t.Fatal(err)
			}
			feed(t, b, steps/2, steps)
			run(t, b, group(0), 4*steps)
			if n := len(read(t, b, event.DeadLetters)); n != 2 {
				t.Errorf("%d dead letters, want 2", n)
			}
		},
		"a corrupt checkpoint": func(t *testing.T, b *bus.Bus) {
			feed(t, b, 0, steps/2)
			run(t, b, group(0), 2*steps)
			kv, err := b.KV(t.Context(), "ckpt")
			if err != nil {
				t.Fatal(err)
			}
			keys, _ := kv.Keys(t.Context(), "sum.")
			if len(keys) != 4 {
				t.Fatalf("checkpoints %v, want 4", keys)
			}
			for i, junk := range []string{"{", `{"seq":5,"state":"AAAA","digest":"00"}`} {
				if _, err := kv.Put(t.Context(), keys[i], []byte(junk)); err != nil {
					t.Fatal(err)
				}
			}
			feed(t, b, steps/2, steps)
			run(t, b, group(0), 4*steps)
		},
		"a fold that panics on one message": func(t *testing.T, b *bus.Bus) {
			// The poison is a batch that the undisturbed run does not have.
			feed(t, b, 0, steps/2)
			if err := b.Publish(t.Context(), event.MetricsRead.Out(event.MetricBatch{Source: "s", Query: "q", Partition: 3, Step: noon.Add(time.Hour), Chunk: 777777})); err != nil {
				t.Fatal(err)
			}
			feed(t, b, steps/2, steps)
			run(t, b, group(777777), 4*steps)
			letters := read(t, b, event.DeadLetters)
			if len(letters) != 1 || !strings.Contains(letters[0].Data.(event.DeadLetter).Reason, "panic: poison") {
				t.Errorf("dead letters %+v, want the panic", letters)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := bustest.Start(t)
			disturb(t, b)
			if got := digestOf(t, b); got != want {
				t.Errorf("digest %s, want that of the undisturbed run %s", got, want)
			}
		})
	}
}

func TestAMemberThatWasAwayTooLongWritesNothing(t *testing.T) {
	var log bytes.Buffer
	s := bustest.Server(t)
	b := bustest.Connect(t, s, nil)
	zombie := bustest.Connect(t, s, slog.New(slog.NewTextHandler(&log, nil)))
	feed(t, b, 0, 2)
	g := group(0)
	g.CheckpointMessages = 1 << 20 // only at the end

	// The zombie folds, and is stopped in the middle of a message.
	stuck, release := make(chan struct{}), make(chan struct{})
	zg := g
	zg.New = func(p int) (bus.Fold, error) {
		return &gate{Fold: &sum{Partition: p}, at: noon.Add(time.Second), partition: p, stuck: stuck, release: release}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = zombie.RunGroup(ctx, zg) }()
	<-stuck

	// Another member does the work and checkpoints, several times over.
	kv, err := b.KV(t.Context(), "members")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kv.Keys(t.Context(), "group.sum.")
	if err != nil || len(keys) != 1 {
		t.Fatalf("members %v, %v", keys, err)
	}
	feed(t, b, 2, 10)
	var saved []byte
	other := bus.Group{Name: g.Name, Stream: g.Stream, Partitions: 4, Filters: g.Filters, ConfigHash: g.ConfigHash, New: g.New, CheckpointMessages: 1}
	ck, err := b.KV(t.Context(), "ckpt")
	if err != nil {
		t.Fatal(err)
	}
	// The hash of names decides who gets what; one of several others gets a share.
	otherCtx, stopOther := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 5 {
		conn := bustest.Connect(t, s, nil)
		others.Go(func() { _ = conn.RunGroup(otherCtx, other) })
	}
	eventually(t, "another member folds a partition", func() bool {
		keys, _ := ck.Keys(t.Context(), "sum.")
		return len(keys) > 0
	})
	stopOther()
	others.Wait()
	keys, _ = ck.Keys(t.Context(), "sum.")
	before := map[string]uint64{}
	for _, k := range keys {
		saved, before[k], _ = ck.Get(t.Context(), k)
		_ = saved
	}
	close(release)
	cancel()
	<-done
	for k, rev := range before {
		if _, now, _ := ck.Get(t.Context(), k); now != rev {
			t.Errorf("the zombie wrote over %s: revision %d, then %d", k, rev, now)
		}
	}
}

// gate stops at a tick until it is released.
type gate struct {
	bus.Fold
	at             time.Time
	partition      int
	stuck, release chan struct{}
}

func (g *gate) Apply(m bus.Message) ([]event.Outgoing, error) {
	if t, ok := m.Data.(event.Tick); ok && t.Watermark.Equal(g.at) {
		select {
		case g.stuck <- struct{}{}:
		case <-g.release:
		}
		<-g.release
	}
	return g.Fold.Apply(m)
}

func TestTwoMembersShareThePartitionsAndOneTakesOver(t *testing.T) {
	const steps = 20
	want := undisturbed(t, steps)
	s := bustest.Server(t)
	b := bustest.Connect(t, s, nil)
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	defer stopSecond()
	doneFirst, doneSecond := make(chan struct{}), make(chan struct{})
	go func() { defer close(doneFirst); _ = bustest.Connect(t, s, nil).RunGroup(first, group(0)) }()
	go func() { defer close(doneSecond); _ = bustest.Connect(t, s, nil).RunGroup(second, group(0)) }()
	feed(t, b, 0, steps/2)
	eventually(t, "the first half", func() bool { return anomalies(t, b) == 2*steps })
	stopFirst()
	<-doneFirst
	feed(t, b, steps/2, steps)
	eventually(t, "the second half, by the one that stays", func() bool { return anomalies(t, b) == 4*steps })
	if got := digestOf(t, b); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	stopSecond()
	<-doneSecond
}

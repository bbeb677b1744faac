//go:build e2e

package fault

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// slow is a pace at which the history takes long enough for a test to get in
// between.
const slow = 100 * time.Millisecond

// readTo waits until the sources were read to a part of the history.
func (r *rig) readTo(share float64) {
	r.t.Helper()
	at := began.Add(time.Duration(share * float64(length)))
	eventually(r.t, time.Minute, "the history read up to "+at.Format(time.TimeOnly), func() bool { return r.sources.read.Load() >= at.UnixMilli() })
}

// TestServicesKilledAtRandom is fault 1. Run it with -kills 100 for the full
// measure, and with another -seed for another order.
func TestServicesKilledAtRandom(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	r.sources.pace.Store(int64(slow))
	r.startAll()
	rng := rand.New(rand.NewPCG(*seed, 0))
	notifiers := 0
	for n := range *kills {
		// Long enough for a service to start and to do something, most times.
		passes(t.Context(), time.Duration(200+rng.IntN(600))*time.Millisecond)
		victim := service.Names[rng.IntN(len(service.Names))]
		t.Logf("kill %d: %s", n+1, victim)
		if victim == "notifier" {
			notifiers++
		}
		r.running[victim].kill()
		r.start(victim)
	}
	r.sources.pace.Store(0)
	// A generic webhook cannot be asked whether it got a delivery whose answer
	// was lost with the process: it gets the same id again, and drops it.
	r.same(want, notifiers)
}

// TestEverythingRunsOutOfMemory is fault 6.
func TestEverythingRunsOutOfMemory(t *testing.T) {
	want := undisturbed(t)
	r := rigOn(t, newServer(t), 1, bus.DefaultConfig().MemberTTL)
	r.sources.pace.Store(int64(slow))
	r.startAll()
	r.readTo(0.5)
	for _, p := range r.running {
		p.kill()
	}
	at := time.UnixMilli(r.sources.read.Load())
	killed := time.Now()
	r.startAll()
	// Watermarks of what was read after the kill mean that the collector holds
	// its lease again and that every partition has a worker.
	eventually(t, 10*time.Second, "every partition at work again after an OOM kill", func() bool {
		return r.watermark("metrics").After(at.Add(2 * step))
	})
	t.Logf("working again after %v", time.Since(killed).Round(time.Millisecond))
	r.sources.pace.Store(0)
	r.same(want, 1)
}

// TestServicesAskedToStopUnderLoad is fault 3.
func TestServicesAskedToStopUnderLoad(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	r.sources.pace.Store(int64(slow))
	r.startAll()
	for i, name := range service.Names {
		r.readTo(0.3 + 0.1*float64(i))
		took, err := r.running[name].stop(25 * time.Second)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s stopped in %v", name, took.Round(time.Millisecond))
		r.start(name)
	}
	r.sources.pace.Store(0)
	r.same(want, 0)
	js, err := jetstream.New(r.bus.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for durable, s := range map[string]*event.Stream{"reasoner": event.Incidents, "notifier": event.Reports, "notifier-hook": event.Notify} {
		c, err := js.Consumer(t.Context(), s.Name, durable)
		if err != nil {
			t.Fatal(err)
		}
		if info := c.CachedInfo(); info.NumRedelivered > 0 || info.NumAckPending > 0 {
			t.Errorf("%s: %d redelivered, %d without an acknowledgement", durable, info.NumRedelivered, info.NumAckPending)
		}
	}
}

// TestAWorkerThatWasStoppedForLongWritesNothing is fault 4.
func TestAWorkerThatWasStoppedForLongWritesNothing(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	r.sources.pace.Store(int64(slow))
	r.startAll()
	r.readTo(0.4)
	r.running["detector"].signal(syscall.SIGSTOP)
	// So long that something is left to be folded once the other has taken over.
	r.sources.pace.Store(int64(2 * slow))
	r.start("detector-2")
	ck := r.kv("ckpt")
	revisions := func() map[string]uint64 {
		out := map[string]uint64{}
		keys, err := ck.Keys(t.Context(), "metrics.")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if _, rev, err := ck.Get(t.Context(), k); err == nil {
				out[k] = rev
			}
		}
		return out
	}
	before := revisions()
	eventually(t, 20*time.Second, "the other worker has written every checkpoint", func() bool {
		now := revisions()
		for k, rev := range before {
			if now[k] <= rev {
				return false
			}
		}
		return len(now) == event.Partitions
	})
	r.running["detector"].signal(syscall.SIGCONT)
	r.sources.pace.Store(0)
	eventually(t, 20*time.Second, "the stopped worker has found out", func() bool {
		return contains(r.logs["detector"].String(), "another member owns the partition, state dropped")
	})
	r.same(want, 0)
}

// TestTwoCorrelatorsAreOne is fault 5.
func TestTwoCorrelatorsAreOne(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	r.sources.pace.Store(int64(slow))
	r.start("correlator-1", "correlator-2", "collector", "detector", "reasoner", "notifier")
	r.readTo(0.6)
	owned := func(name string) float64 { return r.metric(name, `oncall_partitions_owned{group="correlator"}`) }
	eventually(t, 10*time.Second, "one of two correlators folds", func() bool { return owned("correlator-1")+owned("correlator-2") == 1 })
	r.sources.pace.Store(0)
	r.same(want, 0)
	seen := map[string]int{}
	each(r, event.Incidents, func(m bus.Message, _ event.Incident) { seen[m.ID]++ })
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was written %d times", id, n)
		}
	}
}

// TestAnAnswerThatIsLostRepeatsTheSameDelivery is fault 2, with a notifier that
// is killed between the delivery and its acknowledgement, and the far side of
// fault 25: a channel that answers everything but yes.
func TestAnAnswerThatIsLostRepeatsTheSameDelivery(t *testing.T) {
	t.Parallel()
	want := undisturbed(t)
	r := newRig(t)
	var once sync.Once
	kill := make(chan struct{})
	r.receiver.after = (&rudeness{kill: func() { once.Do(func() { close(kill) }) }}).answer
	r.startAll()
	select {
	case <-kill:
		r.running["notifier"].kill()
		r.start("notifier")
	case <-time.After(time.Minute):
		t.Fatal("nothing was delivered")
	}
	r.same(want, 2*len(want.received))
}

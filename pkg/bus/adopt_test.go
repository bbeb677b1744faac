package bus_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// heir is a sum that goes on from another configuration's state, and counts the
// batches that it is shown.
type heir struct {
	*sum
	refuses bool
	batches *atomic.Int64
}

func (h heir) Apply(m bus.Message) ([]event.Outgoing, error) {
	if _, ok := m.Data.(event.MetricBatch); ok {
		h.batches.Add(1)
	}
	return h.sum.Apply(m)
}

func (h heir) Adopt(state []byte) error {
	if h.refuses {
		h.Total = 1 << 60 // may be left half done
		return errors.New("of another version")
	}
	return h.UnmarshalBinary(state)
}

func TestAnotherConfigurationGoesOnFromTheNewestStateThatItCanRead(t *testing.T) {
	const steps = 20
	for _, c := range []struct {
		name    string
		refuses bool
		batches int64 // that the last configuration is shown
	}{
		{"which it takes over where it ended", false, 4 * steps},
		{"or from the beginning, when it can read none", true, 3 * 4 * steps},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bustest.Start(t)
			for i, hash := range []string{"h1", "h2"} { // the second goes on from the first, and is the newest
				feed(t, b, i*steps, (i+1)*steps)
				g := group(0)
				g.ConfigHash = hash
				g.New = func(p int) (bus.Fold, error) { return heir{&sum{Partition: p}, false, &atomic.Int64{}}, nil }
				run(t, b, g, 4*steps*(i+1))
			}
			feed(t, b, 2*steps, 3*steps)
			var seen atomic.Int64
			g := group(0)
			g.ConfigHash = "h3"
			g.New = func(p int) (bus.Fold, error) { return heir{&sum{Partition: p}, c.refuses, &seen}, nil }
			run(t, b, g, 4*steps*3)
			if got, want := digestOf(t, b), undisturbed(t, 3*steps); got != want {
				t.Errorf("found %s, want %s", got, want)
			}
			if seen.Load() != c.batches {
				t.Errorf("was shown %d batches, want %d", seen.Load(), c.batches)
			}
		})
	}
}

package correlator

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// FuzzState: a fold refuses a checkpoint or goes on from it.
func FuzzState(f *testing.F) {
	whole := newTestFold(f)
	s := oom()
	run(f, whole, s.msgs[:len(s.msgs)-3*event.Partitions])
	b, err := whole.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, s := range []string{`{"version":1}`, `{"version":1,"watermarks":null,"incidents":{"a":null},"by_anomaly":{"k":"a"},"topology":{}}`, `{"version":1,"pending":[{}],"claims":{"d":null}}`, `{"version":2}`, `[]`} {
		f.Add([]byte(s))
	}
	empty := newTestFold(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		fold := *empty
		if fold.UnmarshalBinary(b) != nil {
			return
		}
		if r := fold.State.Released; r.Before(at(-24*time.Hour)) && !r.IsZero() || r.After(at(24*time.Hour)) {
			return // as many steps as there are to now
		}
		for p := range event.Partitions {
			for _, g := range fold.groups {
				w := event.Watermark{Group: g, Partition: p, Time: at(40 * time.Minute)}
				if _, err := fold.Apply(bus.Message{Data: w}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := fold.MarshalBinary(); err != nil {
			t.Error(err)
		}
	})
}

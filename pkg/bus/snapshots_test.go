package bus

import (
	"math/rand/v2"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// TestABusOfOneGiBHoldsTheCheckpointsOf200000Series writes them as often as it takes
// for what is written over to count: 42 MB in 32 partitions each time, which no
// compression makes smaller.
func TestABusOfOneGiBHoldsTheCheckpointsOf200000Series(t *testing.T) {
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	cfg := DefaultConfig()
	cfg.MaxBytes = 1 << 30 * 9 / 10
	b, err := Connect(t.Context(), cfg, Settings{InProcess: s, Name: t.Name(), Source: "//test/oncall"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	kv, err := b.KV(t.Context(), bucketCheckpoints)
	if err != nil {
		t.Fatal(err)
	}
	c := &checkpoints{kv: kv, js: b.js, prefix: "metrics.test"}
	r := rand.NewChaCha8([32]byte{1})
	const partitions, bytes = 32, 42_000_000
	revision := make([]uint64, partitions)
	for round := range 4 {
		for p := range partitions {
			state := make([]byte, bytes/partitions)
			_, _ = r.Read(state)
			if revision[p], err = c.save(t.Context(), p, checkpoint{Seq: uint64(round + 1), State: state}, revision[p]); err != nil {
				t.Fatalf("checkpoint %d of partition %d: %v", round+1, p, err)
			}
		}
	}
	for p := range partitions {
		if ck, _, err := c.load(t.Context(), p); err != nil || ck.Seq != 4 || len(ck.State) != bytes/partitions {
			t.Errorf("partition %d: checkpoint %d of %d bytes, %v", p, ck.Seq, len(ck.State), err)
		}
	}
}

func TestSnapshotsHaveAFloorAndAllFits(t *testing.T) {
	total := int64(10 * gib)
	for _, s := range event.Streams() {
		total += s.MaxBytes
	}
	for name, c := range map[string]struct{ bound, snapshots int64 }{
		"no bound":                 {0, allSnapshots},
		"a quarter of a GiB":       {gib / 4, gib / 32},
		"a GiB":                    {gib, gib / 8},
		"as much as oncall up has": {2 * gib * 9 / 10, 2 * gib * 9 / 80},
		"24 GiB":                   {24 * gib, int64(float64(allSnapshots) * float64(24*gib) / float64(total))},
		"more than all":            {1000 * gib, allSnapshots},
	} {
		b := &Bus{cfg: Config{MaxBytes: c.bound}}
		share, snapshots := b.shares()
		if snapshots != c.snapshots || share <= 0 || share > 1 {
			t.Errorf("%s: %d bytes of snapshots and a share of %g, want %d", name, snapshots, share, c.snapshots)
		}
		if all := snapshots + int64(float64(total-allSnapshots)*share); c.bound > 0 && all > c.bound+1 {
			t.Errorf("%s: %d bytes in all, more than %d", name, all, c.bound)
		}
	}
}

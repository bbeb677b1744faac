//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/schemas"
)

// tap validates everything on every stream against its published schema.
func (w *world) tap(t *testing.T) {
	t.Helper()
	seen := map[string]int{}
	for _, s := range event.Streams() {
		if s == event.Advisories || s.WorkQueue { // what is read from a work queue is gone
			continue
		}
		if err := w.bus.Read(t.Context(), s, bus.ReadOptions{}, func(m bus.Message) error {
			seen[m.Type]++
			if err := schemas.Validate(m.Attributes, m.Payload); err != nil {
				t.Errorf("%s %d: %v", s.Name, m.Sequence, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	t.Logf("validated: %v", seen)
}

// settle waits until the pipeline is under way: the correlator's time goes on
// for every signal, and the state of the cluster is being measured.
func (w *world) settle(t *testing.T) {
	t.Helper()
	began := time.Now()
	groups := map[string]bool{}
	from := uint64(1)
	eventually(t, 3*time.Minute, "watermarks of all signals", func() bool {
		_ = w.bus.Read(t.Context(), event.Anomalies, bus.ReadOptions{StartSeq: from}, func(m bus.Message) error {
			from = m.Sequence + 1
			if v, ok := m.Data.(event.Watermark); ok && v.Time.After(began.Add(-time.Minute)) {
				groups[v.Group] = true
			}
			return nil
		})
		return len(groups) == 3
	})
	measured := false
	next := uint64(1)
	eventually(t, 2*time.Minute, "replicas of workloads", func() bool {
		_ = w.bus.Read(t.Context(), event.Metrics, bus.ReadOptions{StartSeq: next}, func(m bus.Message) error {
			next = m.Sequence + 1
			if b, ok := m.Data.(event.MetricBatch); ok && len(b.Series) > 0 && b.Series[0].Labels.Get(event.LabelName) == "replicas_ready" {
				measured = true
			}
			return nil
		})
		return measured
	})
}

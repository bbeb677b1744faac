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
		if s == event.Advisories {
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

// settle waits until the pipeline is under way: every source is read, and the
// correlator's time goes on.
func (w *world) settle(t *testing.T) {
	t.Helper()
	began := time.Now()
	eventually(t, 2*time.Minute, "watermarks of all three signals", func() bool {
		groups := map[string]bool{}
		if err := w.bus.Read(t.Context(), event.Anomalies, bus.ReadOptions{}, func(m bus.Message) error {
			if v, ok := m.Data.(event.Watermark); ok && v.Time.After(began.Add(-time.Minute)) {
				groups[v.Group] = true
			}
			return nil
		}); err != nil {
			return false
		}
		return len(groups) == 3 || w.loki == nil && len(groups) == 2
	})
}

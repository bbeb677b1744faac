package detector

import (
	"encoding/json"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/snapshot"
)

var (
	_ bus.Fold = (*metricFold)(nil)
	_ bus.Fold = (*logFold)(nil)
	_ bus.Fold = (*eventFold)(nil)
)

// previous is the watermark before, or zero.
func (b *bank) previous() time.Time {
	if b.watermark == 0 {
		return time.Time{}
	}
	return time.UnixMilli(b.watermark).UTC()
}

// passed says whether a tick brings nothing new: a repeat, or one that came
// out of order.
func (b *bank) passed(t event.Tick) bool {
	return b.watermark != 0 && t.Watermark.UnixMilli() <= b.watermark
}

// batch is the frame of a window; the telemetry is put in by the fold.
func (b *bank) batch(t event.Tick) event.Batch {
	return event.Batch{Partition: b.partition, Watermark: t.Watermark.UTC(), Previous: b.previous(), Skipped: t.Skipped, Blind: t.Blind}
}

// encodeJSON is for the few things whose own form is JSON.
func encodeJSON(w *snapshot.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Bytes(b)
	return nil
}

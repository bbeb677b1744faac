package reasoner

import (
	"context"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// busRecord keeps answers in the EVIDENCE stream.
type busRecord struct{ bus *bus.Bus }

var _ record = busRecord{}

func (b busRecord) Find(ctx context.Context, incident, hash string) (found event.Evidence, ok bool, err error) {
	err = b.bus.Read(ctx, event.Evidences, bus.ReadOptions{Filters: []string{event.EvidenceOf(incident, SourceModel)}}, func(m bus.Message) error {
		// The first counts: it is what the report was made of.
		if e, is := m.Data.(event.Evidence); is && !ok && sameAnswer(e, hash) {
			found, ok = e, true
		}
		return nil
	})
	return found, ok, err
}

func (b busRecord) Keep(ctx context.Context, e event.Evidence) error {
	return b.bus.Publish(ctx, event.EvidenceFound.Out(e))
}

func (b busRecord) Spent(ctx context.Context, since time.Time) (int, error) {
	total := 0.0
	err := b.bus.Read(ctx, event.Evidences, bus.ReadOptions{Filters: []string{event.EvidenceOf("", SourceModel)}, StartTime: since}, func(m bus.Message) error {
		if e, ok := m.Data.(event.Evidence); ok {
			tokens, _ := e.Values["tokens"].(float64)
			total += tokens
		}
		return nil
	})
	return int(total), err
}

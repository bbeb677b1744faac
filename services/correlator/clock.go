package correlator

import (
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Clock follows, by the watermarks of ANOMALIES alone, how far a correlator that
// folds them has judged: for who wants to know what it had judged when it came to
// a message.
type Clock struct{ f fold }

// NewClock makes the clock of a correlator that begins with a checkpoint of its
// fold; nil for one that begins with nothing.
func NewClock(cfg Config, checkpoint []byte) (*Clock, error) {
	c := &Clock{fold{groups: cfg.Groups, grace: cfg.Grace, State: newState()}}
	if checkpoint == nil {
		return c, nil
	}
	return c, c.f.UnmarshalBinary(checkpoint)
}

// Pass takes in the next watermark.
func (c *Clock) Pass(w event.Watermark) {
	if !c.f.note(w) {
		return
	}
	if limit := c.f.complete(); !limit.IsZero() {
		c.f.State.Released = maxTime(c.f.State.Released, limit.Truncate(grid))
	}
}

// Next is the event time that is judged next: what comes too late for any earlier
// one counts there. It is zero while nothing was judged.
func (c *Clock) Next() time.Time {
	if c.f.State.Released.IsZero() {
		return time.Time{}
	}
	return c.f.State.Released.Add(grid)
}

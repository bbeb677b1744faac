package collector

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
)

// Source reads one place that telemetry comes from.
//
// Run reads on from the cursor (nil the first time) until ctx is done, and
// calls emit with everything it has read, in order. What it emits is a function
// of what the place holds: reading the same again gives events with the same
// ids. A place that cannot be reached is no error of Run: the source says so by
// an Emission with Blind, backs off, and catches up from its cursor. Run
// returns an error only for what a restart would not mend, such as a wrong
// configuration.
type Source interface {
	Name() string
	Run(ctx context.Context, cursor []byte, emit Emit) error
}

// Emit stores an emission: events, then the cursor, then ticks. It returns
// when all of it is stored, which is the back-pressure of the bus; its error
// means that ctx is done, and nothing of the emission may be taken as stored.
type Emit func(context.Context, Emission) error

// Emission is what a source has read since the one before.
type Emission struct {
	Stream *event.Stream // the one stream of all Events
	Events []event.Outgoing
	Cursor []byte // where to read on; nil leaves it
	// Closed says that nothing at or before it will come from this source any
	// more. Zero leaves it.
	Closed  time.Time
	Skipped int              // steps or windows given up, to be said in the next tick
	Blind   *event.Blindness // the source cannot be read now; nil: it can
}

// Env is what a source may take from the collector.
type Env struct {
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Health   *obs.Health
	Policies *policy.Store
	// Publish stores what is not an emission: what receivers were pushed. It
	// returns when everything is stored.
	Publish func(ctx context.Context, events ...event.Outgoing) error
	// Follow reads a stream of the bus: the log of what receivers were pushed.
	Follow  func(ctx context.Context, s *event.Stream, o bus.ReadOptions, h func(bus.Message) error) error
	Now     func() time.Time // this machine's clock; what telemetry is compared with is Time
	Redact  Redactor
	Audit   func(event.Audit)
	Cluster string
	// Workloads is what the Kubernetes sources know; nil for nothing.
	Workloads *Workloads
	// Clocks are those of all that is asked; nil for nobody's.
	Clocks *clock.Servers
}

// Time is the time for what no server stamps, such as what is pushed to us:
// this machine's, unless every server that is asked says that it is wrong. What
// a server stamps is compared with that server's clock.
func (e Env) Time() time.Time {
	if e.Clocks == nil {
		return e.Now()
	}
	return e.Clocks.Now()
}

// Redactor takes secrets and personal data out of text before it leaves the
// process.
type Redactor interface {
	redact.Masker
	// On masks what was written on the day of a time.
	On(time.Time) redact.Masker
}

package notifier

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Thread is what a channel remembers of an incident between its messages: the
// id of the message it edits, the thread it answers in. It is stored for it,
// by incident and channel.
type Thread struct {
	Told
	Ref   string            `json:"ref,omitempty"`   // the channel's id of its first message
	State map[string]string `json:"state,omitempty"` // whatever else the channel needs
	// Pending is the id of a delivery that was begun and not seen to end: a
	// channel whose other side cannot drop repeats looks there before it sends.
	Pending string `json:"pending,omitempty"`
	// Trying is the id of the delivery that was begun last, and Attempts how
	// often it was.
	Trying   string `json:"trying,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
	// Sent are the revisions that were sent last, [maxSent] of them.
	Sent []Sent `json:"sent,omitempty"`
}

// Sent is a revision that a channel took.
type Sent struct {
	Revision int `json:"revision"`
	Attempts int `json:"attempts"`
}

// maxSent is how many revisions a thread remembers: more than can be sent while
// the message of one that a crash has cut short waits to come again.
const maxSent = 8

// attempts is how often a revision was tried until it was sent; false when it
// was not, or too long ago.
func (t Thread) attempts(revision int) (int, bool) {
	i := slices.IndexFunc(t.Sent, func(s Sent) bool { return s.Revision == revision })
	if i < 0 {
		return 0, false
	}
	return t.Sent[i].Attempts, true
}

// Channel tells people about an incident in one place.
//
// Send delivers one report revision and returns the thread to remember, with
// an error too: what was done before it failed. It is called for one incident
// in order of revision, at least once: a call may repeat after a crash, and
// then th.Pending equals the notification's id. Errors follow the bus: a plain
// error is tried again with back-off, bus.Retry says when, bus.Reject gives
// up. An error says [Unsent] when the other side certainly did not act, and
// [Refused] when it would answer any other message the same. It never holds a
// secret: an incoming webhook's address is one. Send honours ctx and is safe
// for concurrent use with different incidents.
type Channel interface {
	Send(ctx context.Context, n event.Notification, th Thread) (Thread, error)
}

// Case is what a channel was told last of an open incident.
type Case struct {
	Notification event.Notification `json:"notification"`
	Thread       Thread             `json:"thread"`
}

// Steady is implemented by a channel that has to repeat itself while an
// incident is open, as Alertmanager's clients do. Repeat is called with every
// open incident, at the interval.
type Steady interface {
	Interval() time.Duration
	Repeat(ctx context.Context, open []Case) error
}

// Silencer is implemented by a channel whose far side keeps silences that all
// channels honour.
type Silencer interface {
	// Silenced returns a description of the silence that matches the report's
	// labels, or "". It may answer from a copy a few seconds old, and returns
	// within seconds.
	Silenced(ctx context.Context, labels map[string]string) (string, error)
}

// Env is what a channel may take from the notifier.
type Env struct {
	Log  *slog.Logger
	HTTP *http.Client     // with the deadline of the configuration
	Out  io.Writer        // standard output
	Now  func() time.Time // wall clock, for signatures and time-outs
}

// Traits are what the notifier must know of a kind of channel.
type Traits struct {
	// Edits says that the channel updates one message per incident in place, so
	// that it may be given every revision; the others are told of what is worth
	// a new message only: opened, severity, cause, resolved.
	Edits bool
	// Alerts says that the far side routes and silences alerts itself: it is
	// given incidents that are silenced, and no digests.
	Alerts bool
	// Raw says that the far side is a program, which gets reports as data and
	// escapes their text itself where it shows it.
	Raw bool
	// Examples are sections as a user writes them, in YAML without the type. The
	// documentation shows them. The conformance suite runs the channel with
	// them, with every address, and every file of an address or a secret,
	// replaced by one of its own.
	Examples []string
}

// Info describes a kind of channel.
type Info struct {
	Name string // as written in the configuration: slack, webhook …
	Doc  string // one sentence
	Traits
	// Check decodes and validates a section without making the channel.
	Check func(file string, section *yaml.Node) error
	New   func(file string, section *yaml.Node, env Env) (Channel, error)
}

// Define builds an Info. def is the configuration of a user who writes nothing
// but the type; C may be a policy.Validator.
func Define[C any](name, doc string, traits Traits, def func() C, build func(C, Env) (Channel, error)) Info {
	decode := func(file string, section *yaml.Node) (C, error) {
		cfg := def()
		return cfg, policy.DecodeNode(file, section, &cfg)
	}
	return Info{
		Name: name, Doc: doc, Traits: traits,
		Check: func(file string, section *yaml.Node) error {
			_, err := decode(file, section)
			return err
		},
		New: func(file string, section *yaml.Node, env Env) (Channel, error) {
			cfg, err := decode(file, section)
			if err != nil {
				return nil, err
			}
			return build(cfg, env)
		},
	}
}

// Builtin holds the kinds of channels compiled into this binary.
var Builtin service.Registry[Info]

// PartName is the name of the kind.
func (i Info) PartName() string { return i.Name }

// Complete says what the registration lacks.
func (i Info) Complete() error {
	if i.Name == "" || i.Doc == "" || i.New == nil || i.Check == nil || len(i.Examples) == 0 {
		return fmt.Errorf("notifier: incomplete channel %q", i.Name)
	}
	return nil
}

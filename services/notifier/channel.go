package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Thread is what a channel remembers of an incident between its messages: the
// id of the message it edits, the thread it answers in. It is stored for it,
// by incident and channel.
type Thread struct {
	Ref      string            `json:"ref,omitempty"`      // the channel's id of its first message
	State    map[string]string `json:"state,omitempty"`    // whatever else the channel needs
	Revision int               `json:"revision,omitempty"` // of the last report delivered
	Priority event.Priority    `json:"priority,omitempty"` // of that report
	Cause    string            `json:"cause,omitempty"`    // top cause of that report
	// Pending is the id of a delivery that was begun and not seen to end: a
	// channel whose other side cannot drop repeats looks there before it sends.
	Pending string `json:"pending,omitempty"`
}

// Channel tells people about an incident in one place.
//
// Send delivers one report revision and returns the thread to remember. It is
// called for one incident in order of revision, at least once: a call may
// repeat after a crash, and then th.Pending equals the notification's id.
// Errors follow the bus: a plain error is tried again with back-off,
// bus.Retry says when, bus.Reject gives up. Send honours ctx and is safe for
// concurrent use with different incidents.
type Channel interface {
	Send(ctx context.Context, n event.Notification, th Thread) (Thread, error)
}

// Steady is implemented by a channel that has to repeat itself while an
// incident is open, as Alertmanager's clients do. Repeat is called with every
// open incident's last notification, at the interval.
type Steady interface {
	Interval() time.Duration
	Repeat(ctx context.Context, n event.Notification) error
}

// Silencer is implemented by a channel whose far side keeps silences that all
// channels honour.
type Silencer interface {
	// Silenced returns a description of the silence that matches the report's
	// labels, or "". It may answer from a copy a few seconds old.
	Silenced(ctx context.Context, labels map[string]string) (string, error)
}

// Env is what a channel may take from the notifier.
type Env struct {
	Log  *slog.Logger
	HTTP *http.Client     // with the deadline of the configuration
	Now  func() time.Time // wall clock, for signatures and time-outs
}

// Info describes a kind of channel.
type Info struct {
	Name string // as written in the configuration: slack, webhook …
	Doc  string // one sentence
	// Edits says that the channel updates one message per incident in place, so
	// that it may be given every revision; the others are told of what is worth
	// a new message only: opened, severity, cause, resolved.
	Edits bool
	New   func(file string, section *yaml.Node, env Env) (Channel, error)
}

// Define builds an Info. def is the configuration of a user who writes nothing
// but the type; C may be a policy.Validator.
func Define[C any](name, doc string, edits bool, def func() C, build func(C, Env) (Channel, error)) Info {
	return Info{Name: name, Doc: doc, Edits: edits, New: func(file string, section *yaml.Node, env Env) (Channel, error) {
		cfg := def()
		if err := policy.DecodeNode(file, section, &cfg); err != nil {
			return nil, err
		}
		return build(cfg, env)
	}}
}

// Registry holds the kinds of channels by name. The zero value is ready to use.
type Registry struct{ infos []Info }

// Builtin holds the channels compiled into this binary.
var Builtin Registry

// Register adds a kind of channel. It panics on a duplicate or incomplete
// Info: a programming error that any test importing the package finds.
func (r *Registry) Register(i Info) {
	if i.Name == "" || i.Doc == "" || i.New == nil {
		panic(fmt.Sprintf("notifier: incomplete channel %q", i.Name))
	}
	if _, ok := r.Lookup(i.Name); ok {
		panic("notifier: channel " + i.Name + " is registered twice")
	}
	r.infos = append(r.infos, i)
}

// Lookup finds a kind of channel by name.
func (r *Registry) Lookup(name string) (Info, bool) {
	i := slices.IndexFunc(r.infos, func(i Info) bool { return i.Name == name })
	if i < 0 {
		return Info{}, false
	}
	return r.infos[i], true
}

// All returns the kinds of channels by name.
func (r *Registry) All() []Info {
	out := slices.Clone(r.infos)
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Names lists the kinds of channels, for error messages.
func (r *Registry) Names() string {
	var names []string
	for _, i := range r.All() {
		names = append(names, i.Name)
	}
	return strings.Join(names, ", ")
}

// ErrUnsent is wrapped by errors about a delivery that certainly did not
// happen, so that a repeat cannot double it.
var ErrUnsent = errors.New("not sent")

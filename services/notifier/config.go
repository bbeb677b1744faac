package notifier

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Mode says how far the notifier may go.
type Mode string

// The modes, in the order users adopt them.
const (
	ModeShadow Mode = "shadow" // send nothing but a daily digest of what would have been sent
	ModeEnrich Mode = "enrich" // send only about incidents that hold a firing alert
	ModePage   Mode = "page"   // send what the routes say
)

// Config is the `notifier:` section of the configuration file.
type Config struct {
	// Mode is shadow, enrich or page. Default: shadow.
	Mode Mode `yaml:"mode"`
	// Digest is the time of day, in UTC, of the daily digest: of what would have
	// been sent in shadow mode, and of what was held back or silenced in the
	// others. HH:MM. Default: 08:00.
	Digest string `yaml:"digest"`
	// Channels are the places that can be told, by a name of your choosing.
	Channels map[string]ChannelConfig `yaml:"channels"`
	// Routes are tried in order; every route that matches applies. Default: one
	// route that gives P1 to P3 to every channel.
	Routes []Route `yaml:"routes"`
	// Timeout bounds one delivery attempt. Default: 20s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxPerMinute bounds the new messages of one channel in a minute; updates
	// of a message are not counted. What is over waits, and a quarter is kept
	// for pages. Default: 20.
	MaxPerMinute int `yaml:"max_per_minute"`
	// GiveUpAfter is how long a channel that fails is tried again with a
	// message. After that the message goes to the dead letters. Default: 6h.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
}

// ChannelConfig is one channel: its type, and the type's own settings beside it.
type ChannelConfig struct {
	Type string
	// Settings is the section without its type; nil when there is nothing else.
	Settings *yaml.Node
}

func (c ChannelConfig) settings() *yaml.Node {
	if c.Settings == nil {
		return &yaml.Node{Kind: yaml.MappingNode}
	}
	return c.Settings
}

// UnmarshalYAML takes the type out and keeps the rest for the channel.
func (c *ChannelConfig) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: a channel is a mapping with a type", n.Line)
	}
	rest := *n
	rest.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "type" {
			c.Type = n.Content[i+1].Value
			continue
		}
		rest.Content = append(rest.Content, n.Content[i], n.Content[i+1])
	}
	c.Settings = &rest
	return nil
}

// Route says which reports go to which channels.
type Route struct {
	Name     string   `yaml:"name"`
	Channels []string `yaml:"channels"`
	// Match limits the route. An empty field matches everything.
	Match struct {
		Teams      []string `yaml:"teams"`
		Namespaces []string `yaml:"namespaces"`
		Clusters   []string `yaml:"clusters"`
	} `yaml:"match"`
	// Least is the least urgent priority that is sent: P1, P2, P3 or P4.
	// Default: P3.
	Least event.Priority `yaml:"least"`
}

// DefaultConfig is the configuration of a user who writes nothing: shadow mode
// and no channel, so that decisions are all there is.
func DefaultConfig() Config {
	return Config{
		Mode: ModeShadow, Digest: "08:00", Timeout: 20 * time.Second, MaxPerMinute: 20, GiveUpAfter: 6 * time.Hour,
	}
}

// Validate checks everything that can be known without the channels.
func (c *Config) Validate() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	if !slices.Contains([]Mode{ModeShadow, ModeEnrich, ModePage}, c.Mode) {
		bad("mode", c.Mode, "is not shadow, enrich or page", "start with shadow")
	}
	if _, err := time.Parse("15:04", c.Digest); err != nil {
		bad("digest", c.Digest, "is not a time of day", "write 08:00")
	}
	if c.Timeout < time.Second || c.Timeout > 5*time.Minute {
		bad("timeout", c.Timeout, "is not between 1s and 5m", "write 20s")
	}
	if c.MaxPerMinute < 1 {
		bad("max_per_minute", c.MaxPerMinute, "is not at least 1", "write 20")
	}
	// The queue keeps a notification for a day.
	if c.GiveUpAfter < time.Minute || c.GiveUpAfter > 23*time.Hour {
		bad("give_up_after", c.GiveUpAfter, "is not between 1m and 23h", "write 6h")
	}
	for _, name := range sortedKeys(c.Channels) {
		path := "channels." + name
		if event.Token(name) != name || name == nowhere {
			bad(path, nil, "is not a name of letters, digits, - and _", "rename the channel")
		}
		info, ok := Builtin.Lookup(c.Channels[name].Type)
		if !ok {
			bad(path, c.Channels[name].Type, "is not a type of channel", "write type: one of "+Builtin.Names())
			continue
		}
		if e, ok := errors.AsType[*policy.Error](info.Check("", c.Channels[name].settings())); ok {
			for _, p := range e.Problems {
				// A problem that begins with a field's path has its own line.
				if field, rest, ok := strings.Cut(p.Text, ": "); ok && !strings.ContainsAny(field, " \"") {
					bad(path+"."+field, nil, rest, "")
					continue
				}
				bad(path, nil, p.Text, "")
			}
		}
	}
	seen := map[string]bool{}
	for i, r := range c.Routes {
		path := fmt.Sprintf("routes[%d]", i)
		switch {
		case r.Name == "":
			bad(path, nil, "has no name", "write name: payments")
		case seen[r.Name]:
			bad(path+".name", r.Name, "is used twice", "rename one of the routes")
		}
		seen[r.Name] = true
		if len(r.Channels) == 0 {
			bad(path, nil, "has no channels", "name one of "+strings.Join(sortedKeys(c.Channels), ", "))
		}
		for _, ch := range r.Channels {
			if _, ok := c.Channels[ch]; !ok {
				bad(path+".channels", ch, "is not a channel", "name one of "+strings.Join(sortedKeys(c.Channels), ", "))
			}
		}
		if r.Least != "" && !slices.Contains([]event.Priority{event.P1, event.P2, event.P3, event.P4}, r.Least) {
			bad(path+".least", r.Least, "is not P1, P2, P3 or P4", "write P3")
		}
	}
	return errors.Join(errs...)
}

// routes are the configured routes with their defaults, or the one default.
func (c *Config) routes() []Route {
	if len(c.Routes) == 0 {
		return []Route{{Name: "default", Channels: sortedKeys(c.Channels), Least: event.P3}}
	}
	out := slices.Clone(c.Routes)
	for i := range out {
		if out[i].Least == "" {
			out[i].Least = event.P3
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

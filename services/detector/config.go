package detector

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config is the `detector:` section of the configuration file. Beside the
// settings below it has a section for every detector, by its name.
type Config struct {
	// Disabled are detectors that are switched off, by name. Default: none.
	Disabled []string `yaml:"disabled"`
	// MaxSeries bounds the series of one namespace in one partition; samples of
	// what is over are dropped, counted and reported as an anomaly, and the
	// series that were there before are not affected. Default: 20000.
	MaxSeries int `yaml:"max_series"`

	sections map[string]*yaml.Node
}

// reserved are the keys of Config that are not detectors.
var reserved = map[string]bool{"disabled": true, "max_series": true}

// DefaultConfig is the configuration of a user who writes nothing: every
// detector with its defaults.
func DefaultConfig() Config { return Config{MaxSeries: 20_000} }

// UnmarshalYAML takes the sections of detectors out and reads the rest.
func (c *Config) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: detector is a mapping of settings and detectors", n.Line)
	}
	rest := *n
	rest.Content = nil
	c.sections = map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i].Value; !reserved[key] {
			c.sections[key] = n.Content[i+1]
			continue
		}
		rest.Content = append(rest.Content, n.Content[i], n.Content[i+1])
	}
	type plain Config
	return rest.Decode((*plain)(c))
}

// Validate checks the settings and the section of every compiled-in detector.
func (c *Config) Validate() error {
	var errs []error
	if c.MaxSeries < 100 {
		errs = append(errs, &policy.FieldError{Path: "max_series", Value: c.MaxSeries, Problem: "is not at least 100", Fix: "write 20000"})
	}
	for i, name := range c.Disabled {
		if _, ok := Builtin.Lookup(name); !ok {
			errs = append(errs, &policy.FieldError{
				Path: fmt.Sprintf("disabled[%d]", i), Value: name,
				Problem: "is not a detector", Fix: "write one of " + Builtin.Names(),
			})
		}
	}
	for _, name := range sortedKeys(c.sections) {
		info, ok := Builtin.Lookup(name)
		if !ok {
			errs = append(errs, &policy.FieldError{
				Path: name, Problem: "is neither a setting nor a detector",
				Fix: "write one of " + Builtin.Names() + ", or max_series, disabled",
			})
			continue
		}
		if _, err := info.Check("", c.sections[name]); err != nil {
			errs = append(errs, below(name, err)...)
		}
	}
	return errors.Join(errs...)
}

// below puts the errors of a section under its name, so that they find their
// lines in the whole document.
func below(name string, err error) []error {
	e, ok := errors.AsType[*policy.Error](err)
	if !ok {
		return []error{&policy.FieldError{Path: name, Problem: err.Error()}}
	}
	out := make([]error, 0, len(e.Problems))
	for _, p := range e.Problems {
		path, text := name, p.Text
		if field, rest, ok := strings.Cut(p.Text, ": "); ok && !strings.Contains(field, " ") {
			path, text = name+"."+field, rest
		}
		out = append(out, &policy.FieldError{Path: path, Problem: text})
	}
	return out
}

// Section is the configuration of a detector that is compiled in: its section,
// or its defaults.
func (c *Config) Section(i Info) (any, error) { return i.Check("", c.sections[i.Name]) }

// enabled says whether a detector is switched on.
func (c *Config) enabled(name string) bool { return !slices.Contains(c.Disabled, name) }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

package service

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config is the configuration file: what all services share, and a section for
// each service by its name.
type Config struct {
	// Cluster is the cluster's name as people know it, shown in every message.
	Cluster string
	// Policies is a folder whose files replace the built-in policies of the same
	// name. Empty: the built-in ones.
	Policies string
	Bus      bus.Config
	Obs      obs.Config

	sections map[string]any // by service name, decoded
}

// Section is the decoded section of a service.
func (c *Config) Section(name string) any { return c.sections[name] }

// SetSection replaces the section of a service, for commands whose flags
// decide.
func (c *Config) SetSection(name string, section any) { c.sections[name] = section }

// DefaultConfig is the configuration of a user who writes nothing.
func DefaultConfig(specs ...Spec) *Config {
	c := &Config{Cluster: "cluster", Bus: bus.DefaultConfig(), Obs: obs.DefaultConfig(), sections: map[string]any{}}
	for _, s := range specs {
		c.sections[s.Name] = s.Default()
	}
	return c
}

// Load reads a configuration file. Sections of services that are not among
// specs are let pass, so that five processes can share one file; other unknown
// keys are errors. Every error names file and line. An empty name gives the
// defaults.
func Load(name string, known []string, specs ...Spec) (*Config, error) {
	if name == "" {
		return DefaultConfig(specs...), nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(name, b, known, specs...)
}

// Parse is [Load] of a file's content.
func Parse(name string, content []byte, known []string, specs ...Spec) (*Config, error) {
	c := DefaultConfig(specs...)
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(content)).Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		return nil, policy.Syntax(name, err)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, &policy.Error{File: name, Problems: []policy.Problem{{Line: root.Line, Text: "is not a mapping of sections"}}}
	}
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch key.Value {
		case "cluster":
			errs = append(errs, policy.DecodeNode(name, value, &c.Cluster))
		case "policies":
			errs = append(errs, policy.DecodeNode(name, value, &c.Policies))
		case "bus":
			errs = append(errs, policy.DecodeNode(name, value, &c.Bus))
		case "obs":
			errs = append(errs, policy.DecodeNode(name, value, &c.Obs))
		default:
			j := slices.IndexFunc(specs, func(s Spec) bool { return s.Name == key.Value })
			if j >= 0 {
				section, err := specs[j].Check(name, value)
				c.sections[key.Value] = section
				errs = append(errs, err)
				continue
			}
			if !slices.Contains(known, key.Value) {
				errs = append(errs, &policy.Error{File: name, Problems: []policy.Problem{{
					Line: key.Line, Text: fmt.Sprintf("%s: unknown section; it is one of bus, cluster, obs, policies, %s", key.Value, strings.Join(known, ", ")),
				}}})
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/internal/fielddoc"
	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func newConfig(o *options) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "The configuration and the policies."}
	c.AddCommand(
		&cobra.Command{
			Use: "validate [FILE]", Short: "Check the configuration file and every policy.", Args: atMostOneFile(o),
			RunE: func(cmd *cobra.Command, _ []string) error { return validate(cmd, o) },
		},
		&cobra.Command{
			Use: "print [FILE]", Short: "Print the configuration in force, with its defaults and what each field means.", Args: atMostOneFile(o),
			Long: `Print the configuration in force, with its defaults and what each field means.

What is printed is a configuration file again. A secret that stands in a file of
its own is printed as that file's name; one that was written into the
configuration is printed as <secret>.`,
			RunE: func(*cobra.Command, []string) error { return printConfig(o) },
		},
	)
	return c
}

// atMostOneFile takes the configuration file as an argument, which people try
// before they look for --config.
func atMostOneFile(o *options) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return hint(&service.UsageError{Err: fmt.Errorf("%s takes one file", cmd.CommandPath())}, service.ExitUsage, "%s --help", cmd.CommandPath())
		}
		if len(args) == 1 {
			o.config = args[0]
		}
		return nil
	}
}

// validated is what `oncall config validate` writes; what is not valid is an
// error.
type validated struct {
	Valid    bool   `json:"valid"`
	Policies string `json:"policies"` // hash of all of them
}

func validate(cmd *cobra.Command, o *options) error {
	s, cfg, err := o.store()
	if err != nil {
		return err
	}
	if err := makeServices(cmd.Context(), cfg); err != nil {
		return err
	}
	for _, load := range []func(*policy.Store) error{ // no service reads these
		func(s *policy.Store) error { _, err := cost.LoadPrices(s); return err },
		func(s *policy.Store) error { _, err := check.LoadExemptions(s); return err },
		func(s *policy.Store) error { _, err := check.LoadPolicy(s); return err },
	} {
		if err := load(s); err != nil {
			return &service.UsageError{Err: err}
		}
	}
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), validated{true, s.Hash()})
	}
	_, err = fmt.Fprintf(o.out, "valid; policies %s\n", s.Hash())
	return err
}

// printConfig writes the configuration as the services will see it.
func printConfig(o *options) error {
	cfg, err := service.Load(o.config, service.Names, pipeline.Services...)
	if err != nil {
		return err
	}
	n, err := configNode(cfg)
	if err != nil {
		return err
	}
	if o.format() == render.JSON {
		var v any
		if err := n.Decode(&v); err != nil {
			return err
		}
		return render.Value(o.out, render.JSON, v)
	}
	enc := yaml.NewEncoder(o.out)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return err
	}
	return enc.Close()
}

func configNode(cfg *service.Config) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	text := func(s string) *yaml.Node {
		n := &yaml.Node{}
		n.SetString(s)
		return n
	}
	fielddoc.Add(out, "cluster", text(cfg.Cluster), "The cluster's name as people know it, shown in every message.")
	fielddoc.Add(out, "policies", text(cfg.Policies), "A folder whose files replace the built-in policies of the same name. Empty: the built-in ones.")
	for _, part := range []struct {
		name, doc string
		cfg       any
	}{
		{"bus", "NATS JetStream, over which the services speak.", cfg.Bus},
		{"obs", "Logs, metrics and traces of the services themselves.", cfg.Obs},
	} {
		n, err := fielddoc.Node(part.cfg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		fielddoc.Add(out, part.name, n, part.doc)
	}
	for _, spec := range pipeline.Services {
		n, err := sectionNode(cfg.Section(spec.Name))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Name, err)
		}
		fielddoc.Add(out, spec.Name, n, "")
	}
	return out, nil
}

// sectionNode is the section of a service. Those that hold what is registered
// elsewhere (sources, detectors, channels) are put together here.
func sectionNode(section any) (*yaml.Node, error) {
	switch c := section.(type) {
	case collector.Config:
		return collectorNode(c)
	case detector.Config:
		n, err := fielddoc.Node(c)
		if err != nil {
			return nil, err
		}
		for _, i := range detector.Builtin.All() {
			d, err := c.Section(i)
			if err != nil {
				return nil, err
			}
			dn, err := fielddoc.Node(d)
			if err != nil {
				return nil, err
			}
			fielddoc.Add(n, i.Name, dn, i.Doc)
		}
		return n, nil
	case notifier.Config:
		n, err := fielddoc.Node(c)
		if err != nil {
			return nil, err
		}
		channels := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range sortedNames(c.Channels) {
			ch := c.Channels[name]
			cn := &yaml.Node{Kind: yaml.MappingNode}
			kind := &yaml.Node{}
			kind.SetString(ch.Type)
			fielddoc.Add(cn, "type", kind, "")
			if ch.Settings != nil {
				cn.Content = append(cn.Content, ch.Settings.Content...)
			}
			fielddoc.Add(channels, name, cn, "")
		}
		replace(n, "channels", channels)
		return n, nil
	}
	return fielddoc.Node(section)
}

func collectorNode(c collector.Config) (*yaml.Node, error) {
	n, err := fielddoc.Node(c)
	if err != nil {
		return nil, err
	}
	byKind := map[string]*yaml.Node{}
	c.Each(func(kind string, cfg any) {
		sn, e := fielddoc.Node(cfg)
		if e != nil {
			err = e
			return
		}
		if byKind[kind] == nil {
			byKind[kind] = &yaml.Node{Kind: yaml.SequenceNode}
		}
		byKind[kind].Content = append(byKind[kind].Content, sn)
	})
	if err != nil {
		return nil, err
	}
	var unused []string
	for _, i := range collector.Builtin.All() {
		if list := byKind[i.Name]; list != nil {
			fielddoc.Add(n, i.Name, list, i.Doc)
		} else {
			unused = append(unused, i.Name)
		}
	}
	if len(unused) > 0 && len(n.Content) > 0 {
		n.Content[len(n.Content)-2].FootComment = "Kinds of sources that are not configured: " + strings.Join(unused, ", ")
	}
	return n, nil
}

// replace puts another value under a key of a mapping.
func replace(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = value
		}
	}
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/detector"
	"github.com/oncall-copilot/oncall/services/detector/foreign"
)

func newVersion(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version.", Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(o.out, "oncall", service.Version())
			return nil
		},
	}
}

func newDetectors(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "detectors", Short: "List the detectors in this binary.", Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			type row struct {
				Name  string            `json:"name"`
				Input string            `json:"input"`
				Class event.SignalClass `json:"class"`
				Doc   string            `json:"doc"`
			}
			var list []row
			var rows [][]string
			for _, i := range detector.Builtin.All() {
				list = append(list, row{i.Name, string(i.Input), i.Class, i.Doc})
				rows = append(rows, []string{i.Name, string(i.Input), string(i.Class), i.Doc})
			}
			if o.format() == render.JSON || o.format() == render.YAML {
				return render.Value(o.out, o.format(), list)
			}
			table(o.out, []string{"name", "reads", "class", "what it finds"}, rows)
			return nil
		},
	}
}

// store reads the policies in force.
func (o *options) store() (*policy.Store, *service.Config, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, nil, err
	}
	if cfg.Policies == "" {
		s, err := policy.NewStore(policies.FS)
		return s, cfg, err
	}
	s, err := policy.NewStore(policies.FS, os.DirFS(cfg.Policies))
	return s, cfg, err
}

func newOwner(o *options) *cobra.Command {
	var labels []string
	c := &cobra.Command{
		Use: "owner NAMESPACE/KIND/NAME", Short: "Say who owns a thing, and by which rule.",
		Example: "  oncall owner shop/deployment/checkout --label team=payments",
		Args:    exactArgs(1, "namespace/kind/name"),
		RunE: func(_ *cobra.Command, args []string) error {
			e, ok := event.ParseEntity(args[0])
			if !ok {
				return &service.UsageError{Err: fmt.Errorf("%q is not namespace/kind/name", args[0])}
			}
			s, _, err := o.store()
			if err != nil {
				return err
			}
			p, err := owner.Load(s)
			if err != nil {
				return err
			}
			set := map[string]string{}
			for _, l := range labels {
				k, v, ok := strings.Cut(l, "=")
				if !ok {
					return &service.UsageError{Err: fmt.Errorf("--label %q is not name=value", l)}
				}
				set[k] = v
			}
			got := p.Of(e, set)
			if o.format() != render.Table {
				return render.Value(o.out, o.format(), got)
			}
			fmt.Fprintf(o.out, "%s: %s (%s)\n", e, orDash(got.Team), render.Plain(got.Rule))
			return nil
		},
	}
	c.Flags().StringArrayVar(&labels, "label", nil, "a label of the workload, `name=value`; may repeat")
	return c
}

func newConfig(o *options) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "The configuration and the policies."}
	c.AddCommand(&cobra.Command{
		Use: "validate [FILE]", Short: "Check the configuration file and every policy.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.config = args[0]
			}
			s, cfg, err := o.store()
			if err != nil {
				return err
			}
			cfg.Obs.Listen = ""
			// Making every service reads every policy; nothing runs.
			cfg.Bus.URL = ""
			h, err := pipeline.Open(cmd.Context(), cfg, pipeline.Options{Log: obs.NewLogger(cmd.ErrOrStderr(), cfg.Obs)})
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			for _, spec := range pipeline.Services {
				if _, err := spec.New(cfg.Section(spec.Name), h.Env(spec.Name)); err != nil {
					return err
				}
			}
			fmt.Fprintf(o.out, "valid; policies %s\n", s.Hash())
			return nil
		},
	})
	return c
}

func newDetector(o *options) *cobra.Command {
	c := &cobra.Command{Use: "detector", Short: "Detectors that are written in any language."}
	cfg := foreign.Config{}
	var command, sel string
	r := &cobra.Command{
		Use: "run", Short: "Run a program as a detector: JSON lines in, anomalies out.",
		Example: `  oncall detector run --name flat --exec 'python3 examples/detector-python/flat.py' --select '{namespace="shop"}'`,
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Exec = strings.Fields(command)
			if sel != "" {
				ls, err := event.ParseLabels(sel)
				if err != nil {
					return &service.UsageError{Err: fmt.Errorf("--select: %w", err)}
				}
				cfg.Select = ls.Map()
			}
			cfg.Defaults()
			if err := cfg.Validate(); err != nil {
				return &service.UsageError{Err: err}
			}
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			return foreign.Run(cmd.Context(), h.Bus, h.Log, cfg)
		},
	}
	r.Flags().StringVar(&cfg.Name, "name", "", "`name` of the detector")
	r.Flags().StringVar(&command, "exec", "", "the `command`; it is not given to a shell")
	r.Flags().StringVar(&sel, "select", "", "labels that a series must have, `{name=\"value\"}`")
	c.AddCommand(r)
	return c
}

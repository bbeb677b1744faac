package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/tabular"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/detector/foreign"
)

// versions is what `oncall version` writes.
type versions struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"` // linux/amd64
}

func newVersion(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version.", Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			v := versions{service.Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if o.format() == render.JSON || o.format() == render.YAML {
				return render.Value(o.out, o.format(), v)
			}
			_, err := fmt.Fprintln(o.out, "oncall", v.Version, v.Platform, v.Go)
			return err
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
	if st, err := os.Stat(cfg.Policies); err != nil || !st.IsDir() {
		return nil, nil, &service.UsageError{Err: fmt.Errorf("%s: policies: %s is not a folder; write the folder of your policy files, or leave it out", o.config, cfg.Policies)}
	}
	s, err := policy.NewStore(policies.FS, os.DirFS(cfg.Policies))
	return s, cfg, err
}

// mask masks with the user's rules, as do the records of what is asked from here on.
func (o *options) mask(store *policy.Store) (*redact.Redactor, error) {
	m, err := redact.Unkeyed(store)
	if err != nil {
		return nil, &service.UsageError{Err: err}
	}
	if o.audits != nil {
		o.audits.maskBy(m)
	}
	return m, nil
}

func newDetector(o *options) *cobra.Command {
	c := &cobra.Command{Use: "detector", Short: "Detectors that are written in any language."}
	cfg := foreign.Config{}
	var command, sel, csv string
	r := &cobra.Command{
		Use: "run", Short: "Run a program as a detector: JSON lines in, anomalies out.",
		Example: `  oncall detector run --name highest --exec examples/detector-python/highest.py --select '{namespace="shop"}'
  oncall detector run --name highest --exec examples/detector-python/highest.py --csv requests.csv`,
		Args: exactArgs(0, "no arguments"),
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
			if csv != "" {
				return o.runOnTable(cmd, cfg, csv)
			}
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			fmt.Fprintf(cmd.ErrOrStderr(), "oncall: %s is asked; what it finds: oncall anomalies watch, or nats sub 'anomalies.*.*.%[1]s'; stop with Ctrl-C\n", cfg.Name)
			return foreign.Run(cmd.Context(), h.Bus, h.Log, cfg)
		},
	}
	r.Flags().StringVar(&cfg.Name, "name", "", "`name` of the detector")
	r.Flags().StringVar(&command, "exec", "", "the `command`; it is not given to a shell")
	r.Flags().StringVar(&sel, "select", "", "labels that a series must have, `{name=\"value\"}`")
	r.Flags().StringVar(&csv, "csv", "", "read this `file` instead of the bus, and print what is found; - is standard input")
	c.AddCommand(r)
	return c
}

// runOnTable tries a detector on a CSV file, without a bus.
func (o *options) runOnTable(cmd *cobra.Command, cfg foreign.Config, name string) error {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	log := obs.NewLogger(cmd.ErrOrStderr(), obs.Config{LogFormat: "text", LogLevel: "info"})
	err := foreign.RunCSV(cmd.Context(), log, cfg, in, func(a event.Anomaly) error {
		return o.each(a, fmt.Sprintf("%s  %-8s %s  %s (p %.2g)", a.WindowEnd.Format(time.RFC3339), a.Severity, render.Plain(a.Entity.Name), render.Plain(a.Summary), a.TailProb))
	})
	if errors.Is(err, tabular.ErrFormat) {
		return &service.UsageError{Err: fmt.Errorf("%s: %w", name, err)}
	}
	return err
}

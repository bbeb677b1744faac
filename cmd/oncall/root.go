package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/notifier/channels/terminal"
)

// options are the flags that every command has.
type options struct {
	config string
	output string
	data   string
	nats   string
	audit  string
	out    io.Writer
	plugin bool           // kubectl called us
	audits *audits        // of what the command asks; nil before it runs
	clocks *clock.Servers // of what the command asks; nil where nobody looks at them
}

func newRoot(o *options) *cobra.Command {
	root := &cobra.Command{
		Use: "oncall", Short: "An on-call engineer's first twenty minutes, done by a machine that only reads.",
		SilenceErrors: true, SilenceUsage: true, Version: service.Version(),
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			o.out = cmd.OutOrStdout()
			if more := cmd.Annotations[moreFormats]; !slices.Contains(formats, o.output) && (more == "" || o.output != more) {
				known := string(render.Formats)
				if more != "" {
					known += " or " + more
				}
				return hint(&service.UsageError{Err: fmt.Errorf("--output %s: is not %s", o.output, known)}, service.ExitUsage, "-o json")
			}
			var err error
			o.audits, err = openAudits(o.audit, cmd.CommandPath(), contextOf(cmd))
			return err
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return hint(&service.UsageError{Err: err}, service.ExitUsage, "%s --help", cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&o.config, "config", os.Getenv("ONCALL_CONFIG"), "configuration `file`; also ONCALL_CONFIG")
	f.StringVarP(&o.output, "output", "o", "table", "`format`: table, json, yaml or markdown")
	f.StringVar(&o.data, "data", defaultData(), "`directory` of the embedded bus")
	f.StringVar(&o.nats, "nats", os.Getenv("ONCALL_NATS"), "`URL` of the NATS servers instead of the embedded bus; also ONCALL_NATS")
	f.StringVar(&o.audit, "audit", os.Getenv("ONCALL_AUDIT"), "`file` to append a line of JSON to for every call to a source or the cluster; also ONCALL_AUDIT")
	root.AddCommand(
		newUp(o), newHealth(o), newTriage(o), newCanaryGate(o), newCanaryProm(o), newServe(o), newSLOProm(o), newSLO(o), newCost(o), newAgentRun(o), newBacktest(o), newAsk(o), newDoctor(o), newDemo(o), newReplay(o), newRecord(o), newEvents(o), newDetectors(o), newDetect(o), newPatterns(o), newDLQ(o), newIncidents(o), newAnomalies(o), newWhy(o), newOwner(o),
		newConfig(o), newVersion(o), newDetector(o), newBus(o),
	)
	for _, c := range append(root.Commands(), root) {
		if c.HasSubCommands() && c.RunE == nil {
			group(c)
		}
	}
	// It fails for an unknown flag only.
	everyCommand(root, completes)
	if o.plugin {
		o.plug(root)
	}
	_ = root.RegisterFlagCompletionFunc("output", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		if more := cmd.Annotations[moreFormats]; more != "" {
			return append(slices.Clone(formats), more), cobra.ShellCompDirectiveNoFileComp
		}
		return formats, cobra.ShellCompDirectiveNoFileComp
	})
	return root
}

// everyCommand calls f with a command and all below it.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, f)
	}
}

// contextOf is the kubeconfig's context that the flags of a command mean; ""
// for a command without, and where there is none.
func contextOf(cmd *cobra.Command) string {
	file, name := cmd.Flags().Lookup("kubeconfig"), cmd.Flags().Lookup("context")
	if file == nil || name == nil {
		return ""
	}
	context, _ := kube.ContextName(kube.Config{Kubeconfig: file.Value.String(), Context: name.Value.String()})
	return context
}

// formats are the values of -o.
var formats = []string{"table", "json", "yaml", "markdown"}

// moreFormats is the annotation of a command that has a format of -o beside
// [formats].
const moreFormats = "formats"

// group makes a command that only holds others print its help, and say of a
// word that is none of them what the user may have meant.
func group(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		err := &service.UsageError{Err: fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])}
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return hint(err, service.ExitUsage, "%s %s", cmd.CommandPath(), near[0])
		}
		return hint(err, service.ExitUsage, "%s --help", cmd.CommandPath())
	}
}

// exactArgs is cobra's, as a usage error.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return hint(&service.UsageError{Err: fmt.Errorf("%s takes %s", cmd.CommandPath(), what)}, service.ExitUsage, "%s --help", cmd.CommandPath())
		}
		return nil
	}
}

func defaultData() string {
	if d := os.Getenv("ONCALL_DATA_DIR"); d != "" {
		return d
	}
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "oncall")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "oncall")
	}
	return "oncall-data"
}

// patience is how long a command waits for the servers of a bus. A service
// waits for ever; a person does not.
const patience = 5 * time.Second

// connect opens an outside bus, if it is there.
func (o *options) connect(ctx context.Context, cfg *service.Config) (*pipeline.Host, error) {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cfg.Obs.LogLevel = "error"
	h, err := pipeline.Open(waiting, cfg, pipeline.Options{Log: obs.NewLogger(os.Stderr, cfg.Obs)})
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return nil, hint(err, service.ExitUnreachable, "is the address right, and the server up? oncall doctor says more")
	}
	return h, err
}

func (o *options) format() render.Format { return render.Format(o.output) }

func (o *options) terminal() render.Options { return terminal.Options(o.out, "") }

// load reads the configuration file, or the defaults, for a command that people
// type: it logs to them what they need to know and no more.
func (o *options) load() (*service.Config, error) {
	cfg, err := o.loadService()
	if err != nil {
		return nil, err
	}
	cfg.Obs.LogFormat, cfg.Obs.LogLevel = "text", "warn"
	return cfg, nil
}

// loadService is load for a command that runs for long, and maybe in a pod: the
// file's own `obs` section counts.
func (o *options) loadService() (*service.Config, error) {
	cfg, err := service.Load(o.config, service.Names, pipeline.Services...)
	if err != nil {
		return nil, err
	}
	if o.nats != "" {
		cfg.Bus.URL = o.nats
	}
	if o.config == "" {
		cfg.Obs.LogFormat, cfg.Obs.LogLevel, cfg.Obs.Listen = "text", "warn", ""
	}
	return cfg, nil
}

// open connects to the bus of a running pipeline, or opens the data directory
// of one that does not run.
func (o *options) open(ctx context.Context) (*pipeline.Host, error) {
	cfg, err := o.load()
	if err != nil {
		return nil, err
	}
	cfg.Obs.Listen = ""
	if cfg.Bus.URL != "" {
		cfg.Bus.ManageStreams = false
		return o.connect(ctx, cfg)
	} else if _, err := os.Stat(o.data); errors.Is(err, os.ErrNotExist) {
		return nil, hint(fmt.Errorf("nothing has been recorded in %s yet", o.data), service.ExitUsage, "start oncall up, or name its bus with --nats or its directory with --data")
	}
	h, err := pipeline.Open(ctx, cfg, pipeline.Options{Data: o.data, Log: obs.NewLogger(os.Stderr, cfg.Obs)})
	if errors.Is(err, embedded.ErrInUse) {
		return nil, hint(err, service.ExitUsage, "start it with: oncall up --listen 127.0.0.1:4222, and add --nats nats://127.0.0.1:4222 here")
	}
	return h, err
}

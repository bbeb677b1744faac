package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/gate"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// promFlags say which Prometheus is asked.
type promFlags struct{ prometheus, source, kubeconfig, context string }

func (f *promFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.prometheus, "prometheus", "", "`URL` of Prometheus, Thanos or Mimir; default: the configured one, else the one in the cluster")
	c.Flags().StringVar(&f.source, "source", "", "`name` of the Prometheus, where several are configured")
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default: as kubectl")
	c.Flags().StringVar(&f.context, "context", "", "kubeconfig `context`; default: the current one")
}

// open finds the Prometheus as oncall up does. stop ends its port forward.
func (f *promFlags) open(ctx context.Context, o *options, notes io.Writer) (client *promql.Client, stop func(), err error) {
	cfg, err := o.load()
	if err != nil {
		return nil, func() {}, err
	}
	var chosen []prometheus.Config
	find := func() {
		c := cfg.Section(collector.Spec.Name).(collector.Config)
		chosen = nil
		c.Each(func(_ string, src any) {
			if p, ok := src.(prometheus.Config); ok && (f.source == "" || p.Name == f.source) {
				chosen = append(chosen, p)
			}
		})
	}
	stop = func() {}
	find()
	switch {
	case f.prometheus != "":
		p := prometheus.Config{}
		p.URL = f.prometheus
		p.Fill()
		if err := p.Validate("--prometheus "); err != nil {
			return nil, stop, &service.UsageError{Err: err}
		}
		chosen = []prometheus.Config{p}
	case len(chosen) == 0:
		up := upFlags{kubeconfig: f.kubeconfig, context: f.context}
		if stop, err = up.sources(ctx, cfg, func(format string, args ...any) {
			if strings.HasPrefix(format, "%s: %s/%s") && args[0] == "prometheus" {
				fmt.Fprintf(notes, "oncall: "+format+"\n", args...)
			}
		}); err != nil {
			return nil, stop, hint(err, service.ExitUnreachable, "name it: --prometheus URL")
		}
		find()
	}
	switch {
	case len(chosen) == 0:
		return nil, stop, hint(errors.New("no Prometheus is configured, named or found"), service.ExitUnreachable, "name it: --prometheus URL")
	case len(chosen) > 1:
		var names []string
		for _, p := range chosen {
			names = append(names, p.Name)
		}
		return nil, stop, hint(&service.UsageError{Err: fmt.Errorf("several Prometheus are configured: %s", strings.Join(names, ", "))}, service.ExitUsage, "--source %s", names[0])
	}
	up, err := upstream.New(chosen[0].Config, upstream.Settings{Service: "cli", Source: "prometheus"})
	if err != nil {
		return nil, stop, err
	}
	return promql.New(up), stop, nil
}

// queryError gives the error of a query its exit code: what the user wrote, or
// a Prometheus that does not answer.
func queryError(err error) error {
	var mismatch *promql.Mismatch
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, gate.ErrName):
		return hint(&service.UsageError{Err: err}, service.ExitUsage, "--namespace NS --name NAME")
	case errors.As(err, &mismatch), upstream.KindOf(err) == upstream.BadQuery:
		return &service.UsageError{Err: err}
	}
	return hint(err, service.ExitUnreachable, "is the address right, and reachable from here? oncall doctor says more")
}

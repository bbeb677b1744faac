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
type promFlags struct {
	clusterFlags
	sourceFlags
	source string
	// adjust changes the configuration of the Prometheus that is asked; nil to take
	// it as it is.
	adjust func(*upstream.Config)
}

func (f *promFlags) register(c *cobra.Command) {
	f.sourceFlags.register(c, "prometheus")
	c.Flags().StringVar(&f.source, "source", "", "`name` of the Prometheus, where several are configured")
	f.clusterFlags.register(c)
}

// open finds the Prometheus as oncall up does. stop ends its port forward.
func (f *promFlags) open(ctx context.Context, o *options, notes io.Writer) (client *promql.Client, stop func(), err error) {
	stop = func() {}
	cfg, err := o.load()
	if err != nil {
		return nil, stop, err
	}
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	if f.source != "" {
		c.Keep(func(kind string, src any) bool {
			p, ok := src.(prometheus.Config)
			return kind != "prometheus" || ok && p.Name == f.source
		})
	}
	x := &finder{o: o, cluster: f.clusterFlags, flags: f.sourceFlags, kinds: []string{"prometheus"}, instead: true, say: func(format string, args ...any) {
		fmt.Fprintf(notes, "oncall: "+format+"\n", args...)
	}}
	if err := x.find(ctx, &c); err != nil {
		if hinted := (*hintError)(nil); errors.As(err, &hinted) {
			return nil, x.stop, err
		}
		if usage := (*service.UsageError)(nil); errors.As(err, &usage) {
			return nil, x.stop, err
		}
		return nil, x.stop, hint(err, service.ExitUnreachable, "name it: --prometheus URL")
	}
	var chosen []prometheus.Config
	c.Each(func(_ string, src any) {
		if p, ok := src.(prometheus.Config); ok {
			chosen = append(chosen, p)
		}
	})
	switch {
	case len(chosen) == 0:
		return nil, x.stop, hint(errors.New("no Prometheus is configured, named or found"), service.ExitUnreachable, "name it: --prometheus URL, or --via-kube svc/NAMESPACE/NAME:PORT")
	case len(chosen) > 1:
		var names []string
		for _, p := range chosen {
			names = append(names, p.Name)
		}
		return nil, x.stop, hint(&service.UsageError{Err: fmt.Errorf("several Prometheus are configured: %s", strings.Join(names, ", "))}, service.ExitUsage, "--source %s", names[0])
	}
	one := chosen[0].Config
	if f.adjust != nil {
		f.adjust(&one)
	}
	up, err := o.sourceClient("prometheus", one)
	if err != nil {
		return nil, x.stop, err
	}
	return promql.New(up), x.stop, nil
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
	case upstream.KindOf(err) == upstream.Forbidden:
		return hint(err, service.ExitUnreachable, "name its credentials with the source in --config; docs/sources.md says how")
	}
	return hint(err, service.ExitUnreachable, "is the address right, and reachable from here? oncall doctor says more")
}

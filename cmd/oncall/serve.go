package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/canary"
	"github.com/oncall-copilot/oncall/pkg/gate"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/service"
)

func newServe(o *options) *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "Answer other programs over HTTP."}
	c.AddCommand(newServeCanary(o))
	return c
}

func newServeCanary(o *options) *cobra.Command {
	var f promFlags
	var listen string
	c := &cobra.Command{
		Use: "canary", Short: "Answer Argo Rollouts' web metrics and Flagger's webhooks with verdicts on canaries.",
		Long: `Answer Argo Rollouts' web metrics and Flagger's webhooks with verdicts on canaries.

The analyses of policies/canary.yaml are asked for by name; who asks cannot send
queries. A canary's requests are counted from the first question about it on:

  GET  /argo/ANALYSIS?namespace=NS&name=NAME&revision=HASH
  POST /flagger/confirm-traffic-increase/ANALYSIS   (also confirm-promotion, rollback, rollout)

docs/canary.md has an AnalysisTemplate and a Canary that use it. There is neither
TLS nor a password: keep it on loopback, or let a network policy say who may ask.`,
		Example: "  oncall serve canary --prometheus http://localhost:9090\n  curl 'http://127.0.0.1:8474/argo/http?namespace=shop&name=web&revision=7d4b9c6f5'",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serveCanary(cmd.Context(), o, &f, listen, cmd.ErrOrStderr())
		},
	}
	f.register(c)
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8474", "`address` to listen on")
	return c
}

func serveCanary(ctx context.Context, o *options, f *promFlags, listen string, notes io.Writer) error {
	p, err := o.canaryPolicy()
	if err != nil {
		return err
	}
	usage := func(err error, format string, args ...any) error {
		return hint(&service.UsageError{Err: err}, service.ExitUsage, format, args...)
	}
	switch {
	case len(p.Analyses) == 0:
		return usage(errors.New("policies/canary.yaml: analyses: is empty: there is nothing to answer with"), "docs/canary.md shows one; name the folder of your policies in --config: policies: DIR")
	case p.Looks == canary.OneLook:
		return usage(errors.New("policies/canary.yaml: looks: once is right for one look only, and both controllers look often"), "write looks: any")
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return usage(fmt.Errorf("--listen %s: %w", listen, err), "--listen 127.0.0.1:8474")
	}
	client, stop, err := f.open(ctx, o, notes)
	defer stop()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	log := obs.NewLogger(notes, obs.Config{LogFormat: "text", LogLevel: "info"})
	server := &http.Server{
		Handler:           gate.NewServer(gate.Gate{Prometheus: client, Policy: p}, log, time.Now),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	fmt.Fprintf(notes, "oncall: canaries are judged at http://%s; stop with Ctrl-C\n", l.Addr())
	done := make(chan error, 1) // so that Serve can end when nobody waits
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// finding is one line of `oncall doctor`.
type finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Said string `json:"said"`
	Do   string `json:"do,omitempty"` // what to do about it
}

func newDoctor(o *options) *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use: "doctor", Short: "Check configuration, policies, bus, sources and rights, and say what to do.",
		Long: `Check configuration, policies, bus, sources and rights, and say what to do.
Exit code 0 when everything works, 3 when a source or the bus does not.`,
		Example: "  oncall doctor --prometheus http://localhost:9090",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := examine(cmd.Context(), o, &f)
			if err != nil {
				return err
			}
			if o.format() != render.Table {
				if err := render.Value(o.out, o.format(), found); err != nil {
					return err
				}
			}
			sick := 0
			for _, x := range found {
				if !x.OK {
					sick++
				}
				if o.format() == render.Table {
					mark := "ok  "
					if !x.OK {
						mark = "FAIL"
					}
					fmt.Fprintf(o.out, "%s  %-12s %s\n", mark, x.What, render.Plain(x.Said))
					if x.Do != "" {
						fmt.Fprintf(o.out, "      %-12s do: %s\n", "", render.Plain(x.Do))
					}
				}
			}
			if sick > 0 {
				return hint(fmt.Errorf("%d of %d checks failed", sick, len(found)), service.ExitUnreachable, "each line above says what to do")
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.prometheus, "prometheus", "", "`URL` of Prometheus, Thanos or Mimir")
	c.Flags().StringVar(&f.loki, "loki", "", "`URL` of Loki")
	c.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default: as kubectl")
	c.Flags().StringVar(&f.context, "context", "", "kubeconfig `context`; default: the current one")
	return c
}

func examine(ctx context.Context, o *options, f *upFlags) ([]finding, error) {
	var out []finding
	add := func(what string, err error, said, do string) {
		x := finding{What: what, OK: err == nil, Said: said}
		if err != nil {
			x.Said, x.Do = firstLine(err), do
		}
		out = append(out, x)
	}
	store, cfg, err := o.store()
	if err != nil {
		return nil, err // a configuration that cannot be read stops here, with its lines
	}
	add("policies", nil, "hash "+store.Hash(), "")
	if cfg.Bus.URL != "" {
		cfg.Obs.Listen, cfg.Bus.ManageStreams = "", false
		busCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		h, err := pipeline.Open(busCtx, cfg, pipeline.Options{Log: obs.NewLogger(io.Discard, cfg.Obs)})
		cancel()
		if err == nil {
			err = h.Close()
		}
		add("bus", err, cfg.Bus.URL, "is the address right, and the server up? Credentials: bus.credentials or bus.nkey")
	} else {
		add("bus", nil, "embedded, in "+o.data, "")
	}
	if f.prometheus != "" {
		err := askPrometheus(ctx, f.prometheus)
		add("prometheus", err, f.prometheus+" answers", advice(err))
	}
	if f.loki != "" {
		up, err := upstream.New(upstream.Config{URL: f.loki}, upstream.Settings{Service: "cli", Source: "loki"})
		if err == nil {
			_, err = up.Get(ctx, "/loki/api/v1/labels", nil, upstream.Query{Operation: "labels"})
		}
		add("loki", err, f.loki+" answers", advice(err))
	}
	out = append(out, rights(ctx, f)...)
	return out, nil
}

func askPrometheus(ctx context.Context, url string) error {
	up, err := upstream.New(upstream.Config{URL: url}, upstream.Settings{Service: "cli", Source: "prometheus"})
	if err != nil {
		return err
	}
	v, err := promql.New(up).Instant(ctx, "count(up)", time.Now())
	if err == nil && len(v) == 0 {
		err = errors.New("it answers, and scrapes nothing")
	}
	return err
}

// advice says what to do about an error of a source.
func advice(err error) string {
	switch upstream.KindOf(err) {
	case upstream.Forbidden:
		return "look at http.authorization, basic_auth and tenant in the configuration"
	case upstream.Busy:
		return "lower max_query_qps, or raise the source's own limit"
	case upstream.BadQuery:
		return "is the path prefix right? Mimir's is /prometheus"
	}
	return "is the address right, and reachable from here?"
}

// rights asks the API server what this identity may do of what is needed.
func rights(ctx context.Context, f *upFlags) []finding {
	kc := kube.DefaultConfig()
	kc.Kubeconfig, kc.Context = f.kubeconfig, f.context
	client, err := kube.New(kc, kube.Settings{Service: "cli"})
	if err != nil {
		return []finding{{What: "kubernetes", Said: firstLine(err), Do: "name a kubeconfig with --kubeconfig, or watch metrics alone"}}
	}
	version, err := client.Version(ctx)
	if err != nil {
		return []finding{{What: "kubernetes", Said: firstLine(err), Do: "does kubectl get nodes work with the same kubeconfig?"}}
	}
	out := []finding{{What: "kubernetes", OK: true, Said: client.Host() + " " + version}}
	r, err := kube.NewReviewer(kc, kube.Settings{Service: "cli"})
	if err != nil {
		return append(out, finding{What: "rights", Said: firstLine(err)})
	}
	var missing []string
	n := 0
	for _, need := range kube.Needed() {
		n++
		ok, _, err := r.Allowed(ctx, need)
		if err != nil {
			return append(out, finding{What: "rights", Said: firstLine(err), Do: "ask for create selfsubjectaccessreviews, or skip this check"})
		}
		if !ok {
			missing = append(missing, need.String())
		}
	}
	if missing != nil {
		return append(out, finding{What: "rights", Said: "missing: " + strings.Join(missing, ", "), Do: "apply deploy/kustomize/rbac, or bind the view role; what is missing is left out of reports and named there"})
	}
	return append(out, finding{What: "rights", OK: true, Said: fmt.Sprintf("all %d that are needed, to read", n)})
}

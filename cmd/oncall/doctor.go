package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/alertmanager"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/reasoner"
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
	var coverage bool
	c := &cobra.Command{
		Use: "doctor", Short: "Check configuration, policies, bus, sources, rights and links, and say what to do.",
		Long: `Check configuration, policies, bus, sources, rights and links, and say what to do.

It looks where oncall up would: at the configuration file, the flags, and what it
finds in the cluster. With --coverage it also reads a few minutes of telemetry,
as oncall up does, and shows which workloads are seen by which signal and which
are not, and what we cost the sources. Exit code 0 when everything works, 3 when
a source or the bus does not.`,
		Example: "  oncall doctor\n  oncall doctor --coverage --prometheus http://localhost:9090",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if coverage {
				return showCoverage(cmd.Context(), o, &f, cmd.ErrOrStderr())
			}
			found, err := examine(cmd.Context(), o, &f)
			if err != nil {
				return err
			}
			return o.diagnosis(found)
		},
	}
	f.register(c)
	c.Flags().BoolVar(&coverage, "coverage", false, "show which workloads are seen by which signal, and our load on the sources")
	return c
}

func (o *options) diagnosis(found []finding) error {
	var rows [][]string
	sick := 0
	for _, x := range found {
		mark := "ok"
		if !x.OK {
			mark = "FAIL"
			sick++
		}
		rows = append(rows, []string{mark, x.What, x.Said, x.Do})
	}
	if o.format() != render.Table {
		if err := o.list(found, []string{"state", "what", "said", "do"}, rows); err != nil {
			return err
		}
	} else {
		for _, r := range rows {
			fmt.Fprintf(o.out, "%-4s  %-12s %s\n", r[0], r[1], render.Plain(r[2]))
			if r[3] != "" {
				fmt.Fprintf(o.out, "      %-12s do: %s\n", "", render.Plain(r[3]))
			}
		}
	}
	if sick > 0 {
		return hint(fmt.Errorf("%d of %d checks failed", sick, len(found)), service.ExitUnreachable, "each line above says what to do")
	}
	return nil
}

func examine(ctx context.Context, o *options, f *upFlags) ([]finding, error) {
	o.clocks = clock.NewServers(nil)
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
	if err := makeServices(ctx, cfg); err != nil {
		return nil, err // so do policies
	}
	add("policies", nil, "hash "+store.Hash(), "")
	if cfg.Bus.URL != "" {
		cfg.Obs.Listen, cfg.Bus.ManageStreams = "", false
		h, err := o.connect(ctx, cfg)
		if err == nil {
			err = h.Close()
		}
		add("bus", err, cfg.Bus.URL, "is the address right, and the server up? Credentials: bus.credentials or bus.nkey")
	} else {
		add("bus", nil, "embedded, in "+o.data, "")
	}
	var chosen []string
	stop, err := f.sources(ctx, o, cfg, func(format string, args ...any) { chosen = append(chosen, fmt.Sprintf(format, args...)) })
	defer stop()
	if err != nil {
		do := "name the sources: oncall doctor --prometheus URL --kubeconfig FILE"
		if h, ok := errors.AsType[*hintError](err); ok {
			do = h.hint
		}
		add("sources", err, "", do)
	}
	for _, c := range chosen {
		if strings.Contains(c, ": none") {
			what, said, _ := strings.Cut(c, ": ")
			out = append(out, finding{What: what, OK: true, Said: said})
		}
	}
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	var cluster *kube.Config
	var measured []*promql.Client
	c.Each(func(kind string, src any) {
		if k, ok := src.(kubernetes.Config); ok {
			cluster = &k.Cluster
			return
		}
		err := reach(ctx, o, kind, src)
		add(sourceName(kind, src), err, sourceURL(src)+" answers", advice(err))
		if s, ok := src.(prometheus.Config); ok && err == nil {
			if up, err := o.sourceClient(kind, s.Config); err == nil {
				measured = append(measured, promql.New(up))
			}
		}
	})
	out = append(out, judgeableObjectives(ctx, store, measured)...)
	out = append(out, declaredDetectors(ctx, store, measured)...)
	if cluster != nil {
		out = append(out, rights(ctx, o, *cluster)...)
	}
	if skew := o.clocks.Report(); skew != "" {
		out = append(out, finding{What: "clock", Said: skew, Do: "set it, by NTP; until then each source is read by its own clock"})
	}
	return append(out, links(ctx, cfg)...), nil
}

// makeServices makes every service, which reads every policy; nothing runs.
func makeServices(ctx context.Context, cfg *service.Config) error {
	mine := *cfg
	mine.Bus.URL, mine.Obs.Listen = "", ""
	h, err := pipeline.Open(ctx, &mine, pipeline.Options{Log: obs.NewLogger(io.Discard, cfg.Obs)})
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	for _, spec := range pipeline.Services {
		if _, err := spec.New(mine.Section(spec.Name), h.Env(spec.Name)); err != nil {
			return err
		}
	}
	return nil
}

// sourceName is a source as it is called in findings: its kind, and its name
// where that is another.
func sourceName(kind string, src any) string {
	name := kind
	switch s := src.(type) {
	case prometheus.Config:
		name = s.Name
	case loki.Config:
		name = s.Name
	case alertmanager.Config:
		name = s.Name
	case kubernetes.Config:
		name = s.Name
	}
	if name == "" || name == kind {
		return kind
	}
	return kind + " " + name
}

func sourceURL(src any) string {
	switch s := src.(type) {
	case prometheus.Config:
		return s.URL
	case loki.Config:
		return s.URL
	case alertmanager.Config:
		return strings.Join(append(s.URLs, s.URL), " ")
	}
	return "it"
}

// reach asks a source whether it answers. A Prometheus need not scrape anything
// now: it may have a past, or be written to. What pushes to us cannot be asked.
func reach(ctx context.Context, o *options, kind string, src any) error {
	switch s := src.(type) {
	case prometheus.Config:
		up, err := o.sourceClient(kind, s.Config)
		if err != nil {
			return err
		}
		_, err = promql.New(up).Instant(ctx, "vector(1)", time.Now())
		return err
	case loki.Config:
		return reachable(ctx, o, s.Config, kind, "/loki/api/v1/labels")
	case alertmanager.Config:
		for _, u := range s.URLs {
			one := s.Config
			one.URL = u
			if err := reachable(ctx, o, one, kind, "/api/v2/status"); err != nil {
				return err
			}
		}
		if s.URL != "" {
			return reachable(ctx, o, s.Config, kind, "/api/v2/status")
		}
	case kubernetes.Config:
		client, err := o.clusterClient(s.Cluster)
		if err != nil {
			return err
		}
		_, err = client.Version(ctx)
		return err
	}
	return nil
}

func reachable(ctx context.Context, o *options, cfg upstream.Config, kind, path string) error {
	up, err := o.sourceClient(kind, cfg)
	if err != nil {
		return err
	}
	_, err = up.Get(ctx, path, nil, upstream.Query{Operation: "probe"})
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
func rights(ctx context.Context, o *options, kc kube.Config) []finding {
	client, err := o.clusterClient(kc)
	if err != nil {
		return []finding{{What: "kubernetes", Said: firstLine(err), Do: "name a kubeconfig with --kubeconfig, or watch metrics alone"}}
	}
	version, err := client.Version(ctx)
	if err != nil {
		return []finding{{What: "kubernetes", Said: firstLine(err), Do: "does kubectl get nodes work with the same kubeconfig?"}}
	}
	out := []finding{{What: "kubernetes", OK: true, Said: client.Host() + " " + version.GitVersion}}
	r, err := kube.NewReviewer(kc, o.kubeSettings())
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

// links asks the pages that reports lead to. A login page is an answer too.
func links(ctx context.Context, cfg *service.Config) []finding {
	r, _ := cfg.Section(reasoner.Spec.Name).(reasoner.Config)
	client := &http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var out []finding
	for _, l := range []struct{ field, url string }{
		{"prometheus", r.Links.Prometheus}, {"grafana", r.Links.Grafana}, {"alertmanager", r.Links.Alertmanager},
	} {
		if l.url == "" {
			continue
		}
		x := finding{What: "links", OK: true, Said: l.url}
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, l.url, nil)
		if err == nil {
			var res *http.Response
			if res, err = client.Do(req); err == nil {
				err = res.Body.Close()
				if res.StatusCode >= 500 || res.StatusCode == http.StatusNotFound {
					err = fmt.Errorf("%s answered %s", l.url, res.Status)
				}
			}
		}
		if err != nil {
			x = finding{What: "links", Said: firstLine(err), Do: "correct reasoner.links." + l.field + ": it is what a browser opens"}
		}
		out = append(out, x)
	}
	if out == nil {
		out = append(out, finding{What: "links", OK: true, Said: "none configured: reports name queries and commands; reasoner.links makes them links"})
	}
	return out
}

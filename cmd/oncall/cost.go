package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/cost"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// costFlags are the flags of `oncall cost`.
type costFlags struct {
	kubeFlags
	prom     promFlags
	matchers string
	all      bool // namespaces
	rest     bool // items
	days     int
	by       string
	patch    string
	prices   string
	opencost string
	timeout  time.Duration
}

// maxDays bounds the window: Prometheus seldom keeps more, and asking costs.
const maxDays = 90

// csv is the format of -o that cost has beside the others.
const csvFormat = "csv"

func newCost(o *options) *cobra.Command {
	var f costFlags
	c := &cobra.Command{
		Use: "cost", Short: "Say what is requested and never used, what has too little, and what would be enough.",
		Long: `Say what is requested and never used, what has too little, and what would be enough.

It reads pods, nodes, workloads, autoscalers, claims and load balancers from the
cluster, and from Prometheus what every container used over --days, aggregated by
workload in a few queries. A recommended request is never below the highest use
that was seen in any pod, start-up included, nor a memory limit at or below one at
which a container was killed. What an HPA or VPA scales is left alone. Below seven
days of history nothing is recommended.

Money is that of policies/prices.yaml or --prices, or of OpenCost's API; without
either it tells cores and GiB. It changes nothing: --patch prints patches.

Exit code 0 when it could look, whatever it found; 2 for a wrong flag or price
file; 3 when the cluster, or a Prometheus or OpenCost that a flag names, does not
answer.`,
		Example: `  oncall cost -A
  oncall cost -n shop --all
  oncall cost --by team -o csv > teams.csv
  oncall cost -n shop --patch kustomize > kustomization.yaml`,
		Args:        exactArgs(0, "no arguments"),
		Annotations: map[string]string{moreFormats: csvFormat},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(o); err != nil {
				return err
			}
			return runCost(cmd.Context(), o, &f, cmd.ErrOrStderr())
		},
	}
	f.kubeFlags.register(c)
	f.prom.sourceFlags.register(c, "prometheus")
	fl := c.Flags()
	fl.StringVar(&f.prom.source, "source", "", "`name` of the Prometheus, where several are configured")
	fl.StringVar(&f.matchers, "matchers", "", "`matchers` of this cluster's series, where Prometheus has those of several: 'cluster=\"eu-1\"'")
	fl.BoolVarP(&f.all, "all-namespaces", "A", false, "all namespaces, which is the default")
	fl.BoolVar(&f.rest, "all", false, "everything that was found, and not the ten largest")
	fl.IntVar(&f.days, "days", 14, "how many `days` of use to read")
	fl.StringVar(&f.by, "by", "", "sums by `team` in place of things")
	fl.StringVar(&f.patch, "patch", "", "print patches for what is recommended, for `kubectl` or kustomize; nothing is applied")
	fl.StringVar(&f.prices, "prices", "", "price `file` in place of policies/prices.yaml")
	fl.StringVar(&f.opencost, "opencost", "", "`URL` of OpenCost's API, whose prices of nodes, disks and load balancers count")
	fl.DurationVar(&f.timeout, "timeout", time.Minute, "how long one query of Prometheus may take")
	// They fail for an unknown flag only.
	_ = c.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]string{"team"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("patch", cobra.FixedCompletions([]string{"kubectl", "kustomize"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// check finds what is wrong with the flags.
func (f *costFlags) check(o *options) error {
	wrong := func(fix, format string, args ...any) error {
		return hint(&service.UsageError{Err: fmt.Errorf(format, args...)}, service.ExitUsage, "%s", fix)
	}
	switch {
	case f.all && f.namespace != "":
		return wrong("oncall cost -n "+rule.Quote(f.namespace), "--all-namespaces and --namespace exclude each other")
	case f.days < 1 || f.days > maxDays:
		return wrong("--days 14", "--days %d: is not between 1 and %d", f.days, maxDays)
	case f.by != "" && f.by != "team":
		return wrong("--by team", "--by %s: is not team", f.by)
	case f.patch != "" && !slices.Contains([]string{"kubectl", "kustomize"}, f.patch):
		return wrong("--patch kubectl", "--patch %s: is not kubectl or kustomize", f.patch)
	case f.patch != "" && o.format() != render.Table:
		return wrong("leave out one of them", "--patch prints patches, and not %s", o.output)
	case f.patch != "" && f.by != "":
		return wrong("leave out one of them", "--patch and --by exclude each other")
	case f.prices != "" && f.opencost != "":
		return wrong("leave out one of them", "--prices and --opencost exclude each other")
	case f.timeout < time.Second || f.timeout > 5*time.Minute:
		return wrong("--timeout 1m", "--timeout %s: is not between 1s and 5m", f.timeout)
	}
	if _, err := upstream.ParseMatchers(f.matchers); err != nil {
		return wrong(`--matchers 'cluster="eu-1"'`, "--matchers %s: %w", f.matchers, err)
	}
	if f.opencost != "" {
		if err := upstream.CheckURL(f.opencost); err != nil {
			return wrong("--opencost http://opencost:9003", "--opencost %q: %w", f.opencost, err)
		}
	}
	return nil
}

// costed is a report with what it took.
type costed struct {
	*cost.Report
	Requests int64   `json:"requests"` // to the cluster
	Queries  int64   `json:"queries"`  // to Prometheus
	Seconds  float64 `json:"seconds"`
}

// loadPrices are those of the flag, or of the policy.
func (f *costFlags) loadPrices(o *options) (prices cost.Prices, owners owner.Policy, err error) {
	store, _, err := o.store()
	if err != nil {
		return prices, owners, err
	}
	if owners, err = owner.Load(store); err != nil {
		return prices, owners, &service.UsageError{Err: err}
	}
	if f.prices == "" {
		prices, err = cost.LoadPrices(store)
	} else {
		var b []byte
		if b, err = os.ReadFile(f.prices); err != nil {
			return prices, owners, hint(&service.UsageError{Err: fmt.Errorf("--prices: %w", err)}, service.ExitUsage, "--prices FILE; policies/prices.yaml is an example")
		}
		prices, err = cost.ParsePrices(f.prices, b)
	}
	if err != nil {
		err = &service.UsageError{Err: err}
	}
	return prices, owners, err
}

func runCost(ctx context.Context, o *options, f *costFlags, notes io.Writer) error {
	prices, owners, err := f.loadPrices(o)
	if err != nil {
		return err
	}
	store, _, err := o.store()
	if err != nil {
		return err
	}
	mask, err := o.mask(store)
	if err != nil {
		return err
	}
	var requests, queries atomic.Int64
	client, name, err := f.client(o, &requests)
	if err != nil {
		return err
	}
	began := time.Now()
	space, err := f.space(ctx, client)
	if err != nil {
		return err
	}
	// The cluster, Prometheus and OpenCost are asked at the same time.
	var wg sync.WaitGroup
	var usage *cost.Usage
	var noUsage, noPrices error
	wg.Go(func() { usage, noUsage = f.usage(ctx, o, notes, began, &queries) })
	if f.opencost != "" {
		wg.Go(func() {
			var asked cost.Prices
			if asked, noPrices = f.askOpenCost(ctx, o, prices.Currency); noPrices == nil {
				prices = asked
			} else {
				prices = cost.Prices{}
			}
		})
	}
	cluster, err := check.ReadSome(ctx, client, f.namespace, began, cost.Resources()...)
	wg.Wait()
	if err != nil {
		return hint(fmt.Errorf("%s: %s", name, kube.Reason(err)), service.ExitUnreachable, "kubectl --context %s get nodes", rule.Quote(name))
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if usageErr := (*service.UsageError)(nil); errors.As(noUsage, &usageErr) {
		return noUsage
	}
	cluster.Namespaces = append(cluster.Namespaces, space...)
	x := &costed{Report: cost.Examine(cluster, cost.Options{Prices: prices, Usage: usage, Days: f.days, Owners: owners, Redact: mask, Context: f.context})}
	x.Cluster = name
	for _, not := range []struct {
		what string
		err  error
	}{{"use of containers, and so no advice", noUsage}, {"money", noPrices}} {
		if not.err != nil {
			x.Unchecked = append([]check.Unchecked{check.NotRead(not.what, not.err)}, x.Unchecked...)
		}
	}
	x.Requests, x.Queries, x.Seconds = requests.Load(), queries.Load(), time.Since(began).Seconds()
	if err := x.print(o, f, notes); err != nil {
		return err
	}
	// Who names a source wants its answer.
	none := (*cost.NoUsageError)(nil)
	switch {
	case noPrices != nil:
		return hint(noPrices, service.ExitUnreachable, "is the address right, and reachable from here? --prices FILE does without")
	case noUsage != nil && (f.prom.named("prometheus") || len(f.prom.via) > 0) && !errors.As(noUsage, &none):
		return hint(noUsage, service.ExitUnreachable, "is the address right, and reachable from here? oncall doctor says more")
	}
	return nil
}

// space is the one namespace, for its labels name a team; it finds a name that was
// mistyped. Whoever may not read it may well read what is in it.
func (f *costFlags) space(ctx context.Context, client *kube.Client) ([]*corev1.Namespace, error) {
	if f.namespace == "" {
		return nil, nil // all are listed
	}
	var ns corev1.Namespace
	switch err := client.Get(ctx, "/api/v1/namespaces/"+f.namespace, nil, &ns); {
	case kube.NotFound(err):
		return nil, hint(&service.UsageError{Err: fmt.Errorf("--namespace %s: the cluster has no such namespace", f.namespace)}, service.ExitUsage, "kubectl get namespaces")
	case err == nil && ns.Name != "":
		return []*corev1.Namespace{&ns}, nil
	}
	return nil, nil
}

// usage asks Prometheus.
func (f *costFlags) usage(ctx context.Context, o *options, notes io.Writer, now time.Time, queries *atomic.Int64) (*cost.Usage, error) {
	f.prom.clusterFlags = f.clusterFlags
	f.prom.adjust = func(c *upstream.Config) {
		c.Timeout = max(c.Timeout, f.timeout)
		if f.matchers != "" {
			c.ExtraMatchers = f.matchers
		}
	}
	if f.prom.prometheus == nowhere {
		return nil, errors.New("not asked: --prometheus none")
	}
	search, cancel := context.WithTimeoutCause(ctx, searchTime, fmt.Errorf("not found in %s", searchTime))
	defer cancel()
	client, stop, err := f.prom.open(search, o, notes)
	defer stop()
	if err != nil {
		return nil, err
	}
	u, err := cost.ReadUsage(ctx, client, cost.Question{Namespace: f.namespace, Days: f.days, Now: now})
	if u != nil {
		queries.Store(u.Asked())
	}
	return u, err
}

// askOpenCost reads the prices that OpenCost knows.
func (f *costFlags) askOpenCost(ctx context.Context, o *options, currency string) (cost.Prices, error) {
	c := upstream.Config{URL: f.opencost, Timeout: f.timeout}
	c.Fill("opencost")
	up, err := o.sourceClient("opencost", c)
	if err != nil {
		return cost.Prices{}, err
	}
	var first error // the assets' own, when nothing is there
	for _, call := range cost.OpenCostCalls() {
		body, err := up.Get(ctx, call.Path, call.Params, upstream.Query{Operation: "get", Text: call.Path})
		if err == nil {
			return call.Read(body, currency)
		}
		first = cmp.Or(first, err)
		if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Status != http.StatusNotFound {
			return cost.Prices{}, err
		}
	}
	return cost.Prices{}, first
}

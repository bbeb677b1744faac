package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/runbook"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/triage"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// triageFlags are the flags of `oncall triage`.
type triageFlags struct {
	kubeFlags
	sourceFlags
	watchFlags
	pod, workload, alert string
	lines                int
	since, timeout       time.Duration
	find                 bool
}

func newTriage(o *options) *cobra.Command {
	var f triageFlags
	c := &cobra.Command{
		Use: "triage --workload NAME|--pod NAME|--alert MATCHERS", Short: "Look closely at one workload, pod or alert: how it is, why, since when, and what to do next.",
		Long: `Look closely at one workload, pod or alert: how it is, why, since when, and what to
do next.

It reads at once what an on-call engineer would read one after the other: status,
restarts and how containers ended, failed probes, events, the other pods, the
node, what the last rollouts changed, the errors in the logs of present and
crashed containers, metrics, and incidents of before. It changes nothing, reads
nothing of Secrets, and masks what looks like one. Every statement cites its
evidence (E1 …, in full with -o json); what could not be read is said.

A name is shop/checkout, shop/deploy/checkout, or checkout with -n shop. Matchers
are Alertmanager's: alertname="KubePodCrashLooping",namespace="shop",pod=~"web-.*".

Prometheus, Loki and Alertmanager are those of the flags or the configuration
file, else those that oncall up would find in the cluster. Incidents of before are
those in --data or on --nats.

Exit code 0 when it could look, whatever it found; 2 when the name or the matchers
mean nothing here; 3 when the cluster could not be reached. With --watch it looks
once in every interval until Ctrl-C (130); what a pipe gets is what has changed.`,
		Example: "  oncall triage --workload shop/checkout\n  oncall triage --pod web-7d4b9c6f5-x2x8q -n shop --since 3h\n  oncall triage --alert 'alertname=\"KubePodCrashLooping\",namespace=\"shop\"' --alertmanager http://localhost:9093",
		Args:    exactArgs(0, "no arguments; name the workload with --workload"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return runTriage(cmd.Context(), o, &f, cmd.ErrOrStderr())
		},
	}
	f.kubeFlags.register(c)
	c.Flags().StringVar(&f.pod, "pod", "", "`name` of a pod")
	c.Flags().StringVar(&f.workload, "workload", "", "`name` of a workload")
	c.Flags().StringVar(&f.alert, "alert", "", "`matchers` of an alert")
	c.Flags().IntVar(&f.lines, "lines", 300, "`lines` of each container's log, from its end")
	c.Flags().DurationVar(&f.since, "since", time.Hour, "how far `back` to read events, logs and metrics")
	c.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to take at `most`")
	f.sourceFlags.register(c, sourceKinds...)
	f.watchFlags.register(c)
	c.Flags().BoolVar(&f.find, "find", true, "find those of Prometheus, Loki and Alertmanager that are neither named nor configured in the cluster, and forward a port to them")
	return c
}

// check finds what is wrong with the flags.
func (f *triageFlags) check() error {
	named := 0
	for _, s := range []string{f.pod, f.workload, f.alert} {
		if s != "" {
			named++
		}
	}
	switch {
	case named == 0:
		return hint(&service.UsageError{Err: errors.New("triage of what? --workload, --pod or --alert is missing")}, service.ExitUsage, "oncall triage --workload shop/checkout; oncall health shows what is in trouble")
	case named > 1:
		return hint(&service.UsageError{Err: errors.New("--workload, --pod and --alert exclude each other")}, service.ExitUsage, "oncall triage --workload shop/checkout")
	case f.lines < 1 || f.lines > evidence.MaxLimit:
		return hint(&service.UsageError{Err: fmt.Errorf("--lines %d: is not between 1 and %d", f.lines, evidence.MaxLimit)}, service.ExitUsage, "--lines 300")
	case f.since < time.Minute || f.since > 7*24*time.Hour:
		return hint(&service.UsageError{Err: fmt.Errorf("--since %s: is not between 1m and 168h", f.since)}, service.ExitUsage, "--since 1h")
	case f.timeout < time.Second:
		return hint(&service.UsageError{Err: fmt.Errorf("--timeout %s: is not at least 1s", f.timeout)}, service.ExitUsage, "--timeout 30s")
	}
	if err := f.watchFlags.check(); err != nil {
		return err
	}
	_, err := f.sourceFlags.check(sourceKinds)
	return err
}

// outside are the sources that triage reads beside the cluster.
func (f *triageFlags) outside(o *options, notes io.Writer) outside {
	return outside{o: o, cluster: f.clusterFlags, flags: f.sourceFlags, kinds: sourceKinds, search: f.find, notes: notes}
}

// triaged is a result with what it took.
type triaged struct {
	*triage.Result
	Requests int64   `json:"requests"` // to the API server
	Seconds  float64 `json:"seconds"`
	// kubeconfig is the file that kubectl would not take by itself; "" when it would.
	kubeconfig string
}

func runTriage(ctx context.Context, o *options, f *triageFlags, notes io.Writer) error {
	var matchers []upstream.Matcher
	var err error
	if f.alert != "" {
		if matchers, err = triage.ParseMatchers(f.alert); err != nil {
			return hint(&service.UsageError{Err: fmt.Errorf("--alert: %w", err)}, service.ExitUsage, `--alert 'alertname="KubePodCrashLooping",namespace="shop"'`)
		}
	}
	want, err := f.want()
	if err != nil {
		return err
	}
	s, err := o.triageSources(f)
	if err != nil {
		return err
	}
	var requests atomic.Int64
	client, name, err := f.client(o, &requests)
	if err != nil {
		return err
	}
	// The outside sources are looked for while the names are read.
	out := f.outside(o, notes)
	defer out.close()
	look := func(ctx context.Context) (*triaged, error) {
		requests.Store(0)
		began := time.Now()
		ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("not everything was read in %s; give it a longer --timeout", f.timeout))
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { out.once(ctx) })
		things, err := triage.Things(ctx, client, want.Namespace)
		wg.Wait()
		if out.err != nil {
			return nil, out.err
		}
		if err != nil {
			return nil, hint(fmt.Errorf("%s: %s", name, kube.Reason(err)), service.ExitUnreachable, "kubectl --context %s get pods -A", rule.Quote(name))
		}
		entity, alert, err := f.subject(ctx, client, &out, want, matchers, things)
		if err != nil {
			return nil, f.nameHint(ctx, client, alert, err)
		}
		s := s
		s.Kube, s.Ask, s.Context = client, evidence.NewKubernetes(client, s.Redact), f.context
		out.into(&s)
		x := &triaged{}
		x.Result, err = triage.Run(ctx, s, entity, alert, triage.Options{Lines: f.lines, Since: f.since, Now: began})
		if err != nil {
			if ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled) {
				err = context.Cause(ctx)
			}
			if errors.Is(err, context.Canceled) {
				return nil, err
			}
			return nil, hint(fmt.Errorf("%s: %s", name, kube.Reason(err)), service.ExitUnreachable, "kubectl --context %s -n %s get pods", rule.Quote(name), rule.Quote(entity.Namespace))
		}
		x.Cluster = name
		if f.kubeconfig != os.Getenv("KUBECONFIG") {
			x.kubeconfig = f.kubeconfig
		}
		x.Requests, x.Seconds = requests.Load(), time.Since(began).Seconds()
		return x, nil
	}
	if !f.watch {
		x, err := look(ctx)
		if err != nil {
			return err
		}
		return x.print(o)
	}
	return o.newWatcher(notes).run(ctx, f.every, func(ctx context.Context) (*watched, error) {
		x, err := look(ctx)
		if err != nil {
			return nil, err
		}
		return &watched{value: x, page: func() error { return x.print(o) }, lines: x.lines()}, nil
	})
}

// lines are how it is, why, and how its pods are, for --watch.
func (x *triaged) lines() []watchedLine {
	name := check.Name(x.Entity)
	word := cmp.Or(strings.ToUpper(string(x.Urgency)), "OK")
	status := x.Status
	if !x.Began.IsZero() {
		status = strings.Replace(status, " "+span(x.Time.Sub(x.Began)), "", 1) // without its age, which grows with every look
	}
	out := []watchedLine{
		{"status", word + " " + status, fmt.Sprintf("%s  %s  %s", word, name, x.Status)},
		{"verdict", string(x.Verdict.Confidence) + x.Verdict.Text, "verdict: " + x.Verdict.Text},
	}
	for _, p := range x.Pods {
		out = append(out, watchedLine{"pod " + p.Name, p.State, "pod " + p.Name + "  " + p.State})
	}
	return out
}

// want is what --workload or --pod names.
func (f *triageFlags) want() (triage.Want, error) {
	if f.alert != "" {
		return triage.Want{Namespace: f.namespace}, nil
	}
	flag, text, kind := "--workload", f.workload, ""
	if f.pod != "" {
		flag, text, kind = "--pod", f.pod, "Pod"
	}
	w, err := triage.ParseName(text, f.namespace, kind)
	if err != nil {
		return w, hint(&service.UsageError{Err: fmt.Errorf("%s: %w", flag, err)}, service.ExitUsage, "oncall triage %s shop/checkout", flag)
	}
	return w, nil
}

// subject is what is to be looked at.
func (f *triageFlags) subject(ctx context.Context, client *kube.Client, out *outside, want triage.Want, matchers []upstream.Matcher, things []event.Entity) (event.Entity, *triage.Alert, error) {
	if f.alert == "" {
		e, err := triage.Resolve(want, things)
		return e, nil, err
	}
	alert := &triage.Alert{Matchers: f.alert, Labels: triage.Labels(matchers)}
	if err := out.alert(ctx, alert, matchers); err != nil {
		return event.Entity{}, nil, err
	}
	e, err := triage.About(alert.Labels, matchers, things)
	if service := alert.Labels["service"]; err != nil && service != "" {
		if behind, ok := triage.Behind(ctx, client, triage.NamespaceOf(alert.Labels), service, things); ok {
			return behind, alert, nil
		}
	}
	return e, alert, err
}

// nameHint says of a name that means nothing what to do about it.
func (f *triageFlags) nameHint(ctx context.Context, client *kube.Client, alert *triage.Alert, err error) error {
	var n *triage.NameError
	if !errors.As(err, &n) {
		if alert == nil {
			return err
		}
		labels := make([]string, 0, len(alert.Labels))
		for _, l := range sortedNames(alert.Labels) {
			labels = append(labels, l+"="+alert.Labels[l])
		}
		try := "name the workload itself: oncall triage --workload shop/checkout"
		if ns := triage.NamespaceOf(alert.Labels); ns != "" {
			try = "oncall health -n " + rule.Quote(ns) + " shows what is in trouble there; or name the workload: oncall triage --workload " + rule.Quote(ns) + "/NAME"
		}
		return hint(&service.UsageError{Err: fmt.Errorf("--alert: %w (%s)", err, strings.Join(labels, ", "))}, service.ExitUsage, "%s", try)
	}
	if gone := namespaceExists(ctx, client, n.Want.Namespace); gone != nil && !n.Several {
		return gone
	}
	flag := "--workload"
	if n.Want.Kind == "Pod" {
		flag = "--pod"
	}
	usage := &service.UsageError{Err: n}
	if len(n.Near) == 0 {
		return hint(usage, service.ExitUsage, "oncall health shows what is in trouble; kubectl get deployments,statefulsets,daemonsets -A what there is")
	}
	near := n.Near[0]
	if near.Kind == "Pod" {
		flag = "--pod"
		return hint(usage, service.ExitUsage, "oncall triage %s %s/%s", flag, near.Namespace, near.Name)
	}
	return hint(usage, service.ExitUsage, "oncall triage %s %s", flag, check.Name(near))
}

// triageSources are the policies that triage goes by.
func (o *options) triageSources(_ *triageFlags) (triage.Sources, error) {
	var s triage.Sources
	store, _, err := o.store()
	if err != nil {
		return s, err
	}
	var errs [5]error
	s.Redact, errs[4] = o.mask(store)
	s.Rules, errs[0] = rule.Load(store)
	s.Runbooks, errs[1] = runbook.Load(store)
	s.Owners, errs[2] = owner.Load(store)
	s.Exempt, errs[3] = check.LoadExemptions(store)
	if err := errors.Join(errs[:]...); err != nil {
		return s, &service.UsageError{Err: err}
	}
	return s, nil
}

// incidentsOfBefore reads those that a pipeline has recorded, if one has.
func (o *options) incidentsOfBefore(ctx context.Context) ([]event.Incident, error) {
	h, err := o.open(ctx)
	if err != nil {
		return nil, errors.New(firstLine(err))
	}
	defer func() { _ = h.Close() }()
	return incidents(ctx, h)
}

// recorded says whether there is anywhere that incidents may be recorded.
func (o *options) recorded(busURL string) bool {
	if busURL != "" {
		return true
	}
	_, err := os.Stat(o.data)
	return err == nil
}

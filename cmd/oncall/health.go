package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/internal/signals"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// healthFlags are the flags of `oncall health`.
type healthFlags struct {
	kubeFlags
	sourceFlags
	watchFlags
	find                  bool
	all, hygiene, verbose bool
	since                 time.Duration
	failOn                string
}

// healthKinds are the sources that health reads beside the cluster.
var healthKinds = []string{"prometheus", "loki"}

// kubeFlags say which cluster, and which part of it.
type kubeFlags struct {
	clusterFlags
	namespace string
}

func (f *kubeFlags) register(c *cobra.Command) {
	f.clusterFlags.register(c)
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "one `namespace`; default: all")
}

// client is a read-only client that counts its requests.
func (f *kubeFlags) client(o *options, requests *atomic.Int64) (*kube.Client, string, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, "", err
	}
	// A person waits: a few dozen requests at once, and then no more.
	cfg.QPS, cfg.Burst = 50, 100
	name, err := kube.ContextName(cfg)
	if err != nil {
		return nil, "", hint(err, service.ExitUnreachable, "oncall health --kubeconfig FILE --context NAME")
	}
	set := o.kubeSettings()
	audit := set.Audit
	set.Audit = func(a event.Audit) { requests.Add(1); audit(a) }
	client, err := kube.New(cfg, set)
	if err != nil {
		return nil, "", hint(err, service.ExitUnreachable, "oncall health --kubeconfig FILE --context NAME")
	}
	return client, name, nil
}

func newHealth(o *options) *cobra.Command {
	var f healthFlags
	c := &cobra.Command{
		Use: "health", Short: "Look once over a cluster: what is broken now, what will be soon, and why.",
		Long: `Look once over a cluster: what is broken now, what will be soon, and why.

It lists every kind of objects once, reads nothing of Secrets and no content of
ConfigMaps, changes nothing, and needs neither a running oncall nor a bus. There
is one line for each thing that somebody would have to mend. What is untidy and
not broken is only counted, unless --hygiene asks for it; declared exemptions are
in policies/exemptions.yaml, and policies/health.yaml says which registries,
load balancers and node ports are allowed. docs/health-checks.md lists what is
checked. Roles and bindings are listed for --hygiene alone.

What no object shows is read from Prometheus and Loki, with a few queries: latency
and errors that left what is usual, name look-ups that fail, volumes that fill up,
and what logs have not said before. They are those of the flags or the
configuration file, else those that oncall up would find in the cluster; without
them the output says what was not checked.

Exit code 0 when it could look, whatever it found; 1 with --fail-on, when there
is something of that urgency; 3 when the cluster could not be reached. With
--watch it looks once in every interval until Ctrl-C (130), or until there is
something of --fail-on (1); what a pipe gets is what has changed, with the time.`,
		Example: "  oncall health -A\n  oncall health -n shop -o json\n  oncall health --since 24h --fail-on broken\n  oncall health --watch --every 1m",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.all && f.namespace != "" {
				return hint(&service.UsageError{Err: errors.New("--all-namespaces and --namespace exclude each other")}, service.ExitUsage, "oncall health -n %s", f.namespace)
			}
			if !slices.Contains([]string{"", "broken", "soon", "hygiene"}, f.failOn) {
				return hint(&service.UsageError{Err: fmt.Errorf("--fail-on %s: is not broken, soon or hygiene", f.failOn)}, service.ExitUsage, "--fail-on broken")
			}
			if f.since < 0 {
				return hint(&service.UsageError{Err: fmt.Errorf("--since %s: is not a time back from now", f.since)}, service.ExitUsage, "--since 24h")
			}
			if err := f.watchFlags.check(); err != nil {
				return err
			}
			if _, err := f.sourceFlags.check(healthKinds); err != nil {
				return err
			}
			return health(cmd.Context(), o, &f, cmd.ErrOrStderr())
		},
	}
	f.kubeFlags.register(c)
	f.sourceFlags.register(c, healthKinds...)
	f.watchFlags.register(c)
	c.Flags().BoolVar(&f.find, "find", true, "find those of Prometheus and Loki that are neither named nor configured in the cluster, and forward a port to them")
	c.Flags().BoolVarP(&f.all, "all-namespaces", "A", false, "all namespaces, which is the default")
	c.Flags().BoolVar(&f.hygiene, "hygiene", false, "show what is untidy, too")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show every finding with its evidence and next checks")
	c.Flags().DurationVar(&f.since, "since", 0, "only what began within this `time`")
	c.Flags().StringVar(&f.failOn, "fail-on", "", "exit with 1 if something is at least this `urgent`: broken, soon or hygiene")
	return c
}

// examination is a result with what it took.
type examination struct {
	*check.Result
	Hygiene  int     `json:"hygiene"` // things that are merely untidy
	Older    int     `json:"older,omitempty"`
	Requests int64   `json:"requests"`
	Seconds  float64 `json:"seconds"`
}

func health(ctx context.Context, o *options, f *healthFlags, notes io.Writer) error {
	store, _, err := o.store()
	if err != nil {
		return err
	}
	rules, err := rule.Load(store)
	if err != nil {
		return &service.UsageError{Err: err}
	}
	exempt, err := check.LoadExemptions(store)
	if err != nil {
		return &service.UsageError{Err: err}
	}
	agreed, err := check.LoadPolicy(store)
	if err != nil {
		return &service.UsageError{Err: err}
	}
	var requests atomic.Int64
	client, name, err := f.client(o, &requests)
	if err != nil {
		return err
	}
	mask, err := o.mask(store)
	if err != nil {
		return err
	}
	beyond, err := newSignals(o, f.namespace, outside{o: o, cluster: f.clusterFlags, flags: f.sourceFlags, kinds: healthKinds, search: f.find, notes: notes})
	if err != nil {
		return &service.UsageError{Err: err}
	}
	defer beyond.close()
	look := func(ctx context.Context) (*examination, event.Urgency, error) {
		requests.Store(0)
		x, began := &examination{}, time.Now()
		if err := namespaceExists(ctx, client, f.namespace); err != nil {
			return nil, "", err
		}
		// What is measured is read while the objects are.
		var wg sync.WaitGroup
		var measured *signals.Reading
		wg.Go(func() { measured = beyond.read(ctx) })
		var also []string
		if f.hygiene || f.failOn == string(event.Hygiene) {
			also = check.ForHygiene
		}
		cluster, err := check.Read(ctx, client, f.namespace, began, also...)
		wg.Wait()
		if beyond.err != nil {
			return nil, "", beyond.err
		}
		if err != nil {
			try := "kubectl --context " + rule.Quote(name) + " get nodes"
			why := kube.Reason(err)
			if f.namespace == "" && strings.HasPrefix(why, "forbidden") {
				try = "oncall health -n NAMESPACE reads what is in one, where you may"
			}
			return nil, "", hint(fmt.Errorf("%s: %s", name, why), service.ExitUnreachable, "%s", try)
		}
		cluster.Policy = agreed
		var unmeasured []check.Unchecked
		cluster.Signals, unmeasured = measured.Judge(ctx, cluster, event.Entity{})
		x.Result, err = check.Examine(ctx, cluster, check.Options{Rules: rules, Redact: mask, Ask: evidence.NewKubernetes(client, mask), Context: f.context, Exempt: exempt})
		if err != nil {
			return nil, "", err
		}
		x.Cluster = name
		x.NotChecked = append(x.NotChecked, unmeasured...)
		x.Requests, x.Seconds = requests.Load(), time.Since(began).Seconds()
		return x, x.choose(f, began), nil
	}
	if !f.watch {
		x, worst, err := look(ctx)
		if err != nil {
			return err
		}
		if err := x.print(o, f); err != nil {
			return err
		}
		return f.gate(worst)
	}
	return o.newWatcher(notes).run(ctx, f.every, func(ctx context.Context) (*watched, error) {
		x, worst, err := look(ctx)
		if err != nil {
			return nil, err
		}
		return &watched{value: x, page: func() error { return x.print(o, f) }, lines: x.lines(), end: f.gate(worst)}, nil
	})
}

// gate is the error of --fail-on.
func (f *healthFlags) gate(worst event.Urgency) error {
	if f.failOn != "" && worst != "" && rank(worst) <= rank(event.Urgency(f.failOn)) {
		return hint(fmt.Errorf("something is %s", worst), service.ExitGate, "oncall health -v shows the evidence")
	}
	return nil
}

// lines are the roots, and what could not be checked, for --watch.
func (x *examination) lines() []watchedLine {
	var out []watchedLine
	for _, r := range x.Roots {
		name := check.Name(r.Entity)
		text := fmt.Sprintf("%-7s  %s  %s", strings.ToUpper(string(r.Urgency)), name, r.Line(x.Time))
		// How it is without its age, which grows with every look.
		out = append(out, watchedLine{name, string(r.Urgency) + " " + r.Line(r.Since), text})
	}
	for _, u := range x.NotChecked {
		out = append(out, watchedLine{"not checked " + u.What, u.Why, "not checked: " + u.What + ": " + u.Why})
	}
	if len(x.Roots) == 0 {
		out = append(out, watchedLine{"", "well", "nothing is broken"})
	}
	return out
}

// namespaceExists finds a name that was mistyped before an empty namespace is
// called healthy.
func namespaceExists(ctx context.Context, c *kube.Client, namespace string) error {
	if namespace == "" {
		return nil
	}
	var ns struct{}
	err := c.Get(ctx, "/api/v1/namespaces/"+namespace, nil, &ns)
	if kube.NotFound(err) {
		return hint(&service.UsageError{Err: fmt.Errorf("--namespace %s: the cluster has no such namespace", namespace)}, service.ExitUsage, "kubectl get namespaces")
	}
	return nil // whoever may not read it may well read what is in it
}

func rank(u event.Urgency) int {
	return slices.Index([]event.Urgency{event.Broken, event.Soon, event.Hygiene}, u)
}

// choose keeps what the flags ask for and counts the rest. It gives the worst
// urgency of what is kept.
func (x *examination) choose(f *healthFlags, now time.Time) (worst event.Urgency) {
	var kept []check.Root
	for _, r := range x.Roots {
		switch {
		case f.since > 0 && !r.Since.IsZero() && now.Sub(r.Since) > f.since:
			x.Older++
			continue
		case r.Urgency == event.Hygiene:
			x.Hygiene++
			if !f.hygiene && f.failOn != string(event.Hygiene) {
				continue
			}
		}
		kept = append(kept, r)
		if worst == "" {
			worst = r.Urgency // they are in order
		}
	}
	x.Roots = kept
	if kept == nil {
		x.Roots = []check.Root{}
	}
	cited := map[string]bool{}
	for _, r := range x.Roots {
		for _, f := range r.Findings {
			for _, id := range f.Evidence {
				cited[id] = true
			}
		}
	}
	x.Evidence = slices.DeleteFunc(x.Evidence, func(e event.Evidence) bool { return !cited[e.ID] })
	return worst
}

func (x *examination) print(o *options, f *healthFlags) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), x)
	}
	if o.format() == render.MD {
		return x.markdown(o)
	}
	count := map[event.Urgency]int{}
	for _, r := range x.Roots {
		count[r.Urgency]++
	}
	found := "nothing is broken"
	if count[event.Broken]+count[event.Soon] > 0 {
		found = fmt.Sprintf("%d broken, %d soon", count[event.Broken], count[event.Soon])
	}
	where := x.Cluster
	if x.Namespace != "" {
		where += "/" + x.Namespace
	}
	size := counted(x.Pods, "pod")
	if x.Nodes > 0 {
		size += ", " + counted(x.Nodes, "node")
	}
	fmt.Fprintf(o.out, "%s  %s  %.1f s  %s\n", render.Plain(where), size, x.Seconds, found)
	width := 0
	for _, r := range x.Roots {
		width = max(width, len(check.Name(r.Entity)))
	}
	t := o.terminal()
	for _, r := range x.Roots {
		name := check.Name(r.Entity)
		color := map[event.Urgency]string{event.Broken: "31;1", event.Soon: "33;1", event.Hygiene: "2"}[r.Urgency]
		fmt.Fprintf(o.out, "%s  %s  %s\n", t.Paint(color, fmt.Sprintf("%-7s", strings.ToUpper(string(r.Urgency)))), render.Plain(name)+strings.Repeat(" ", min(width, 48)-min(len(name), min(width, 48))), render.Plain(r.Line(x.Time)))
		if f.verbose {
			x.detail(o.out, r, f.hygiene)
		}
	}
	if !f.verbose {
		x.next(o, f.context)
	}
	for _, u := range x.NotChecked {
		fmt.Fprintf(o.out, "not checked: %s: %s\n", render.Plain(u.What), render.Plain(u.Why))
	}
	var hidden []string
	if x.Hygiene > 0 && !f.hygiene {
		hidden = append(hidden, fmt.Sprintf("%d hygiene (--hygiene)", x.Hygiene))
	}
	if x.Exempt > 0 {
		hidden = append(hidden, fmt.Sprintf("%d exempt", x.Exempt))
	}
	if x.Older > 0 {
		hidden = append(hidden, fmt.Sprintf("%d older than %s", x.Older, span(f.since)))
	}
	if len(hidden) > 0 {
		fmt.Fprintf(o.out, "hidden: %s\n", strings.Join(hidden, ", "))
	}
	for _, e := range x.Ending {
		fmt.Fprintln(o.out, render.Plain(e))
	}
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// nextShown bounds the next checks below the lines.
const nextShown = 5

// next prints the first check of what is worst, after the command that looks
// closely at the worst workload.
func (x *examination) next(o *options, kubeContext string) {
	w := o.out
	shown := 0
	for _, r := range x.Roots {
		flag := map[string]string{"Pod": "--pod", "Deployment": "--workload", "StatefulSet": "--workload", "DaemonSet": "--workload", "CronJob": "--workload", "Job": "--workload", "Rollout": "--workload"}[r.Entity.Kind]
		if flag == "" || r.Urgency == event.Hygiene {
			continue
		}
		name := r.Entity.Namespace + "/" + r.Entity.Name
		if slices.ContainsFunc(x.Roots, func(o check.Root) bool {
			return o.Entity != r.Entity && o.Entity.Namespace == r.Entity.Namespace && o.Entity.Name == r.Entity.Name
		}) {
			name = check.Name(r.Entity)
		}
		command := "oncall triage " + flag + " " + rule.Quote(name)
		if kubeContext != "" {
			command += " --context " + rule.Quote(kubeContext)
		}
		fmt.Fprintf(w, "Next checks:\n  %s   # all there is to know about it\n", render.Plain(o.called(command)))
		shown++
		break
	}
	for _, r := range x.Roots {
		c, ok := r.Next()
		if !ok || r.Urgency == event.Hygiene || shown == nextShown {
			continue
		}
		if shown++; shown == 1 {
			fmt.Fprintln(w, "Next checks:")
		}
		fmt.Fprintf(w, "  %s   # %s\n", render.Plain(c.Command), render.Plain(c.Why))
	}
}

// detail prints the findings of a root. What is untidy about a thing that is
// broken explains nothing, and is left to --hygiene.
func (x *examination) detail(w io.Writer, r check.Root, hygiene bool) {
	cited := map[string]event.Evidence{}
	for _, e := range x.Evidence {
		cited[e.ID] = e
	}
	told := map[string]bool{} // what a check and a rule both would look at
	for _, f := range r.Findings {
		if f.Urgency == event.Hygiene && r.Urgency != event.Hygiene && !hygiene {
			continue
		}
		fmt.Fprintf(w, "  %s (%s, %s) [%s]\n", render.Plain(f.Title), f.Rule, f.Confidence, strings.Join(f.Evidence, ", "))
		if f.Detail != "" {
			fmt.Fprintf(w, "    %s\n", render.Plain(f.Detail))
		}
		for _, id := range f.Evidence {
			e := cited[id]
			for _, l := range e.Excerpt[:min(len(e.Excerpt), 6)] {
				fmt.Fprintf(w, "    [%s] %s\n", id, render.Plain(l))
			}
		}
		for _, c := range f.Checks {
			if told[c.Command] {
				continue
			}
			told[c.Command] = true
			fmt.Fprintf(w, "    next: %s   # %s\n", render.Plain(c.Command), render.Plain(c.Why))
		}
		for _, c := range f.Rollback {
			fmt.Fprintf(w, "    rollback (human): %s   # %s\n", render.Plain(c.Command), render.Plain(c.Why))
		}
	}
}

func (x *examination) markdown(o *options) error {
	var rows [][]string
	for _, r := range x.Roots {
		next := ""
		if c, ok := r.Next(); ok {
			next = c.Command
		}
		rows = append(rows, []string{string(r.Urgency), check.Name(r.Entity), r.Line(x.Time), next})
	}
	if err := markdownTable(o.out, []string{"urgency", "what", "state", "next check"}, rows); err != nil {
		return err
	}
	for _, u := range x.NotChecked {
		fmt.Fprintf(o.out, "\nNot checked: %s: %s\n", render.Markdown(u.What), render.Markdown(u.Why))
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/survey"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// agentFlags are the flags of `oncall agent-run`.
type agentFlags struct {
	upFlags
	once                    bool
	since, history, timeout time.Duration
	namespace               string
	incident, bundle        string
}

func newAgentRun(o *options) *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use: "agent-run --once", Short: "Look once at everything: what is wrong now, why, and what to do next.",
		Long: `Look once at everything: what is wrong now, why, and what to do next.

It reads the look-back window, and the hours before it to learn what is normal,
from the same sources as oncall up, through the same detectors, correlator and
rules, on a temporary bus of its own; examines the cluster's objects as oncall
health does; and tells both as one list, with causes, evidence, recent changes,
commands to check further, and a status draft. It tells nobody but you, changes
nothing, leaves nothing behind, and ends. Metrics are read in steps of a minute.

With --incident it takes an incident that a pipeline recorded (in --data, on
--nats, or in --bundle), looks at its evidence again, and says what has changed
since its last report and whether it is over.

Exit code 0 when it could look, whatever it found; 2 for flags, or an incident,
that mean nothing; 3 when a source that is named, configured or found could not
be read: what the others show is printed all the same.`,
		Example: "  oncall agent-run --once\n  oncall agent-run --once -n shop --since 2h -o markdown\n  oncall agent-run --once --incident 7Q2",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.Flags().Changed("since")); err != nil {
				return err
			}
			f.beside = true
			if f.incident != "" {
				return againIncident(cmd.Context(), o, &f, cmd.ErrOrStderr())
			}
			return agentRun(cmd.Context(), o, &f, cmd.ErrOrStderr())
		},
	}
	f.register(c)
	c.Flags().BoolVar(&f.once, "once", false, "look once")
	c.Flags().DurationVar(&f.since, "since", time.Hour, "how far `back` what is told may have begun or ended")
	c.Flags().DurationVar(&f.history, "history", 3*time.Hour, "how `long` before that to learn what is normal; logs at most an hour of it")
	c.Flags().DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to take at most; what was found by then is printed")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", "", "one `namespace`, and nothing else is asked about; default: all")
	c.Flags().StringVar(&f.incident, "incident", "", "`id` of a recorded incident to look at again")
	c.Flags().StringVar(&f.bundle, "bundle", "", "bundle `file` that holds the incident")
	return c
}

// check finds what is wrong with the flags.
func (f *agentFlags) check(since bool) error {
	wrong := func(fix, format string, args ...any) error {
		return hint(&service.UsageError{Err: fmt.Errorf(format, args...)}, service.ExitUsage, "%s", fix)
	}
	switch {
	case !f.once:
		return wrong("oncall agent-run --once", "agent-run goes over the past once; what watches on is oncall up")
	case f.since < 5*time.Minute || f.since > 24*time.Hour:
		return wrong("--since 1h", "--since %s: is not between 5m and 24h", f.since)
	case f.history < 0 || f.history > 24*time.Hour:
		return wrong("--history 3h", "--history %s: is not between 0 and 24h", f.history)
	case f.timeout < time.Second:
		return wrong("--timeout 2m", "--timeout %s: is not at least 1s", f.timeout)
	case f.namespace != "" && len(validation.IsDNS1123Label(f.namespace)) > 0:
		return wrong("-n shop", "--namespace %q: is not a name that Kubernetes allows", f.namespace)
	case f.incident != "" && (since || f.namespace != ""):
		return wrong("oncall agent-run --once --incident "+f.incident, "--incident has its own time and namespace; --since and --namespace do not go with it")
	case f.bundle != "" && f.incident == "":
		return wrong("oncall agent-run --once --incident ID --bundle FILE; oncall replay FILE lists its incidents", "--bundle goes with --incident")
	}
	return nil
}

func agentRun(ctx context.Context, o *options, f *agentFlags, notes io.Writer) error {
	began := time.Now()
	p, err := newPass(ctx, o, &f.upFlags, window{since: f.since, history: f.history, namespace: f.namespace, coarse: true}, notes)
	if err != nil {
		return err
	}
	defer p.close()
	l, err := p.lookups()
	if err != nil {
		return err
	}
	if l.kube != nil {
		if err := namespaceExists(ctx, l.kube, f.namespace); err != nil {
			return err
		}
	}
	fmt.Fprintf(notes, "oncall: reading the last %s, and %s before it for what is normal\n", span(f.since), span(f.history))
	// The objects are examined while the past is read.
	var wg sync.WaitGroup
	var health *check.Result
	var failed error
	if l.kube != nil {
		wg.Go(func() { health, failed = l.examine(ctx, f.namespace) })
	}
	late := p.run(ctx, f.timeout, notes)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if failed != nil {
		p.dead = append(p.dead, check.Unchecked{What: "the cluster's objects", Why: kube.Reason(failed)})
	}
	x, err := p.found(ctx, l, health, began)
	if err != nil {
		return errors.Join(err, late)
	}
	x.Seconds = time.Since(began).Seconds()
	if failed != nil && x.Read == (survey.Read{}) && len(x.Things) == 0 {
		return hint(fmt.Errorf("%s: %s", x.Cluster, kube.Reason(failed)), service.ExitUnreachable, "oncall doctor says which rights are missing; -n NAMESPACE reads what is in one, where you may")
	}
	if late == nil && x.Read == (survey.Read{}) && len(x.Things) == 0 {
		// Having seen nothing is not the same as nothing being wrong.
		return hint(fmt.Errorf("nothing was read in the last %s: the sources answer, and hold no signal that is known here", span(f.since)), service.ExitUnreachable, "oncall doctor --coverage shows who is seen by what; policies/queries says which metrics are looked for")
	}
	if err := printSurvey(o, x); err != nil {
		return err
	}
	if late == nil && len(p.dead) > 0 {
		return hint(fmt.Errorf("not everything could be looked at: %s: %s", p.dead[0].What, p.dead[0].Why), service.ExitUnreachable, "oncall doctor says what to do about it")
	}
	return late
}

// found puts together what the pass and the examination found.
func (p *pass) found(ctx context.Context, l *lookups, health *check.Result, began time.Time) (*survey.Result, error) {
	got, err := p.outcome(ctx)
	if err != nil {
		return nil, err
	}
	draft, err := l.drafter()
	if err != nil {
		return nil, err
	}
	x := survey.Make(survey.Found{
		Incidents: got.now, Odd: got.odd, Health: health, Changes: got.changes,
		Draft: func(i event.Incident) (event.Report, bool) {
			r, err := draft.Draft(ctx, i)
			return r, err == nil
		},
	}, began)
	x.Cluster, x.Namespace = p.host.Config.Cluster, p.window.namespace
	x.Since, x.Until = p.since.UTC().Truncate(time.Second), p.until.UTC().Truncate(time.Second)
	if p.window.history > 0 {
		x.Learnt = p.since.Add(-p.window.history).UTC().Truncate(time.Second)
	}
	x.Over, x.Read = got.over, got.read
	if health != nil {
		x.Read.Pods, x.Read.Nodes = health.Pods, health.Nodes
	}
	// Having seen nothing is not the same as nothing being wrong.
	if l.prometheus != nil && x.Read.Series == 0 {
		p.absent = append(p.absent, check.Unchecked{What: "metrics", Why: "the source answers, and held no signal that is known here: oncall doctor --coverage"})
	}
	if l.loki != nil && x.Read.Lines == 0 {
		p.absent = append(p.absent, check.Unchecked{What: "logs", Why: "the source answers, and held no line"})
	}
	for _, b := range got.blind {
		p.dead = append(p.dead, check.Unchecked{What: b.Source, Why: fmt.Sprintf("blind since %s: %s", b.Since.UTC().Format("15:04"), b.Reason)})
	}
	x.NotLooked = append(p.dead[:len(p.dead):len(p.dead)], append(p.absent, x.NotLooked...)...)
	return x, nil
}

// harvest is what the pass left on its bus.
type harvest struct {
	read    survey.Read
	blind   []event.Blindness
	changes []event.Change
	now     []survey.Incident
	odd     []event.Incident
	over    int
}

// outcome reads from the bus what was read and found.
func (p *pass) outcome(ctx context.Context) (*harvest, error) {
	out := &harvest{}
	series := map[uint64]bool{}
	blind := map[string][]event.Blindness{}
	for _, s := range []*event.Stream{event.Metrics, event.Logs, event.KubeEvents} {
		err := p.host.Bus.Read(ctx, s, bus.ReadOptions{}, func(m bus.Message) error {
			switch v := m.Data.(type) {
			case event.MetricBatch:
				for _, s := range v.Series {
					series[s.ID] = true
				}
			case event.LogBatch:
				for _, s := range v.Streams {
					out.read.Lines += len(s.Lines)
				}
			case event.KubeEvent:
				out.read.Events++
			case event.Change:
				if v.Time.After(p.since.Add(-p.window.history)) {
					out.changes = append(out.changes, v)
				}
			case event.Tick:
				blind[s.Name] = v.Blind // the last one counts
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	out.read.Series = len(series)
	for _, name := range sortedNames(blind) {
		out.blind = append(out.blind, blind[name]...)
	}
	reports := map[string]event.Report{}
	err := p.host.Bus.Read(ctx, event.Reports, bus.ReadOptions{}, func(m bus.Message) error {
		if r, ok := m.Data.(event.Report); ok && r.Revision >= reports[r.Incident].Revision {
			reports[r.Incident] = r
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all, err := incidents(ctx, p.host)
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		r, drafted := reports[i.ID]
		switch {
		case i.Entity.Kind == "Source":
			// It stands among what could not be looked at.
		case i.State != event.Open:
			if i.ResolvedAt == nil || i.ResolvedAt.After(p.since) {
				out.over++
			}
		case i.Priority == event.P4 || !drafted:
			out.odd = append(out.odd, i)
		default:
			out.now = append(out.now, survey.Incident{Incident: i, Report: r})
		}
	}
	return out, nil
}

// drafter drafts reports with the command's own look-ups, by the same rules as
// the pipeline's.
func (l *lookups) drafter() (*reasoner.Reasoner, error) {
	cfg := l.cfg.Section(reasoner.Spec.Name).(reasoner.Config)
	return reasoner.NewReasoner(cfg, l.mux, l.store)
}

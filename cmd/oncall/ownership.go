package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
)

// ownerFlags are the flags of `oncall owner` and `oncall owner ls`.
type ownerFlags struct {
	kubeconfig, context, namespace string
	labels                         []string
	none                           bool
}

func newOwner(o *options) *cobra.Command {
	f := &ownerFlags{}
	c := &cobra.Command{
		Use: "owner NAMESPACE/KIND/NAME", Short: "Say who owns a thing, and by which rule.",
		Long: `Say who owns a thing, and by which rule.

It reads the labels and annotations of the workload and of its namespace from the
cluster, as the collector does, and applies policies/ownership.yaml to them. A
pod, a ReplicaSet or a Job is its workload's. With --label nothing is asked of
the cluster: it answers what the policy would say.`,
		Example: "  oncall owner shop/deployment/checkout\n  oncall owner ls --none\n  oncall owner shop/deployment/checkout --label team=payments",
		Args:    exactArgs(1, "namespace/kind/name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ownerOf(cmd.Context(), o, f, args[0], cmd.ErrOrStderr())
		},
	}
	c.PersistentFlags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default: as kubectl")
	c.PersistentFlags().StringVar(&f.context, "context", "", "kubeconfig `context`; default: the current one")
	c.Flags().StringArrayVar(&f.labels, "label", nil, "a label of the workload, `name=value`, instead of those in the cluster; may repeat")
	ls := &cobra.Command{
		Use: "ls", Short: "List the workloads of the cluster with their owners.",
		Example: "  oncall owner ls\n  oncall owner ls --none -n shop -o json",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return listOwners(cmd.Context(), o, f, cmd.ErrOrStderr()) },
	}
	ls.Flags().BoolVar(&f.none, "none", false, "only workloads without an owner")
	ls.Flags().StringVarP(&f.namespace, "namespace", "n", "", "one `namespace`; default: all")
	c.AddCommand(ls)
	return c
}

// owned is a workload and whose it is.
type owned struct {
	Entity string `json:"entity"`
	event.Owner
}

func ownerOf(ctx context.Context, o *options, f *ownerFlags, what string, notes io.Writer) error {
	e, ok := event.ParseEntity(what)
	if !ok {
		return &service.UsageError{Err: fmt.Errorf("%q is not namespace/kind/name", what)}
	}
	set := map[string]string{}
	for _, l := range f.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			return &service.UsageError{Err: fmt.Errorf("--label %q is not name=value", l)}
		}
		set[k] = v
	}
	c, err := f.ownership(ctx, o)
	var none *noClusterError
	switch {
	case errors.As(err, &none):
		if len(f.labels) == 0 {
			fmt.Fprintf(notes, "oncall: no cluster (%v): the policy alone, without labels\n", none)
		}
	case err != nil:
		return err
	default:
		if e, err = c.workload(e); err != nil {
			return err
		}
	}
	labels := owner.Labels{Own: set}
	if c.entities != nil {
		labels = c.labels(e)
	}
	got := owned{e.String(), c.policy.Of(e, labels)}
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), got)
	}
	fmt.Fprintf(o.out, "%s: %s (%s)\n", render.Plain(got.Entity), render.Plain(orDash(got.Team)), render.Plain(got.Rule))
	return nil
}

func listOwners(ctx context.Context, o *options, f *ownerFlags, notes io.Writer) error {
	c, err := f.ownership(ctx, o)
	if none, ok := errors.AsType[*noClusterError](err); ok {
		return hint(none, service.ExitUnreachable, "oncall owner ls --kubeconfig FILE --context NAME")
	}
	if err != nil {
		return err
	}
	list, rows := []owned{}, [][]string{}
	for _, t := range c.topology {
		if t.Entity.Namespace == "" || f.namespace != "" && t.Entity.Namespace != f.namespace {
			continue
		}
		got := owned{t.Entity.String(), c.policy.Of(t.Entity, c.labels(t.Entity))}
		if f.none && got.Team != "" {
			continue
		}
		list = append(list, got)
		rows = append(rows, []string{got.Entity, orDash(got.Team), got.Rule})
	}
	if len(rows) == 0 && o.format() == render.Table {
		what := "the cluster has no workloads"
		if f.none {
			what = "every workload has an owner"
		}
		_, err := fmt.Fprintln(notes, "oncall: "+what)
		return err
	}
	return o.list(list, []string{"workload", "owner", "rule"}, rows)
}

// ownership is what decides who owns a thing: the policy, and the labels that
// the collector would see.
type ownership struct {
	policy   owner.Policy
	topology []event.Topology
	entities map[string]event.Topology // by entity; nil without a cluster
}

// noClusterError says that no cluster is configured or asked for.
type noClusterError struct{ err error }

func (e *noClusterError) Error() string { return e.err.Error() }
func (e *noClusterError) Unwrap() error { return e.err }

// ownership reads the policy and the cluster. With a noClusterError the policy
// alone is good.
func (f *ownerFlags) ownership(ctx context.Context, o *options) (*ownership, error) {
	store, cfg, err := o.store()
	if err != nil {
		return nil, err
	}
	out := &ownership{}
	mask, err := o.mask(store)
	if err != nil {
		return nil, err
	}
	if out.policy, err = owner.Load(store); err != nil {
		return nil, err
	}
	if len(f.labels) > 0 {
		return out, &noClusterError{errors.New("--label stands for it")}
	}
	var k kubernetes.Config
	section := cfg.Section(collector.Spec.Name).(collector.Config)
	section.Each(func(_ string, src any) {
		if c, ok := src.(kubernetes.Config); ok {
			k = c
		}
	})
	k.Fill()
	named := f.kubeconfig != "" || f.context != "" || k.Cluster.Kubeconfig != ""
	k.Cluster.Kubeconfig, k.Cluster.Context = cmp.Or(f.kubeconfig, k.Cluster.Kubeconfig), cmp.Or(f.context, k.Cluster.Context)
	if err := k.Cluster.Validate(); err != nil {
		return nil, &service.UsageError{Err: fmt.Errorf("--%w", err)}
	}
	client, err := o.clusterClient(k.Cluster)
	if err != nil {
		if named {
			return nil, hint(err, service.ExitUnreachable, "oncall owner --kubeconfig FILE --context NAME")
		}
		return out, &noClusterError{errors.New(firstLine(err))}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	log := obs.NewLogger(io.Discard, cfg.Obs)
	out.topology, err = kubernetes.Snapshot(ctx, k, client, collector.Env{
		Log: log, Health: obs.NewHealth(time.Now), Policies: store, Now: time.Now, Redact: mask,
	})
	if err != nil {
		return nil, hint(err, service.ExitUnreachable, "does kubectl get deployments -A work? With --label name=value no cluster is asked")
	}
	out.entities = map[string]event.Topology{}
	for _, t := range out.topology {
		out.entities[t.Entity.String()] = t
	}
	return out, nil
}

// labels are those of an entity and its namespace, as the correlator has them.
func (c *ownership) labels(e event.Entity) owner.Labels {
	return owner.Labels{Own: c.entities[e.String()].Labels, Namespace: c.entities[event.Entity{Kind: "Namespace", Name: e.Namespace}.String()].Labels}
}

// workload is what an entity belongs to, if it is part of a workload. The error
// says what is not in the cluster: an owner of something mistyped is no answer.
func (c *ownership) workload(e event.Entity) (event.Entity, error) {
	if _, ok := c.entities[e.String()]; ok || !slices.Contains([]string{"Pod", "ReplicaSet", "Job", "Deployment", "StatefulSet", "DaemonSet", "CronJob", "Workload"}, e.Kind) {
		return e, nil
	}
	for _, t := range c.topology {
		if t.Entity.Namespace != e.Namespace {
			continue
		}
		if e.Kind == "Workload" && t.Entity.Name == e.Name {
			return t.Entity, nil
		}
		for _, p := range t.Pods {
			if e.Kind == "Pod" && p.Pod == e.Name || e.Kind != "Pod" && p.Via == e.Name {
				return t.Entity, nil
			}
		}
	}
	return e, hint(&service.UsageError{Err: fmt.Errorf("%s is not in the cluster", e)}, service.ExitUsage, "oncall owner ls -n %s", e.Namespace)
}

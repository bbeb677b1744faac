// Package kubernetes brings in what the Kubernetes API knows: events, changes
// (rollouts, scaling, configuration, nodes, autoscalers) and topology (owners,
// placement, services). It only lists and watches, and a resource that it may
// not read costs that part and nothing else.
package kubernetes

import (
	"errors"
	"slices"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/owner"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/collector"
)

// Config is one cluster in the `collector.kubernetes:` section.
type Config struct {
	// Name tells clusters apart: letters, digits, - and _. Default: kubernetes.
	Name string `yaml:"name"`
	// Cluster says which API server and how hard it may be asked.
	Cluster kube.Config `yaml:",inline"`
	// Namespaces are the only ones watched; with rights in them alone nothing of
	// the cluster as a whole is asked. Default: all.
	Namespaces []string `yaml:"namespaces"`
	// ExcludeNamespaces are left out. Default: none.
	ExcludeNamespaces []string `yaml:"exclude_namespaces"`
	// History is how far back events and rollouts are reported at the first
	// start. Default: 1h.
	History time.Duration `yaml:"history"`
	// Lateness is how long after its time an event may arrive and still be
	// counted. Default: 5s.
	Lateness time.Duration `yaml:"lateness"`
	// OwnershipLabels are labels and annotations of workloads and namespaces that
	// say whose they are; beside them only those that policies/ownership.yaml
	// names leave the cluster with topology. Default: team, owner, oncall/team,
	// app.kubernetes.io/name, part-of, component and managed-by, app,
	// helm.sh/chart, and runbook and dashboard annotations.
	OwnershipLabels []string `yaml:"ownership_labels"`
	// Observe is called with every state of every object that is read, in turn;
	// for recordings. It is not for the configuration file.
	Observe func(Observation) `yaml:"-"`
}

var ownershipLabels = []string{
	"team", "owner", "oncall/team", "oncall.dev/team", "oncall.dev/owner", "app", "app.kubernetes.io/name", "app.kubernetes.io/instance",
	"app.kubernetes.io/part-of", "app.kubernetes.io/component", "app.kubernetes.io/managed-by", "app.kubernetes.io/version",
	"helm.sh/chart", "oncall.dev/runbook", "runbook_url", "argocd.argoproj.io/instance",
}

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill() {
	if c.Name == "" {
		c.Name = "kubernetes"
	}
	d := kube.DefaultConfig()
	if c.Cluster.QPS == 0 {
		c.Cluster.QPS = d.QPS
	}
	if c.Cluster.Burst == 0 {
		c.Cluster.Burst = d.Burst
	}
	if c.Cluster.Timeout == 0 {
		c.Cluster.Timeout = d.Timeout
	}
	if c.History == 0 {
		c.History = time.Hour
	}
	if c.Lateness == 0 {
		c.Lateness = 5 * time.Second
	}
	if c.OwnershipLabels == nil {
		c.OwnershipLabels = ownershipLabels
	}
}

// own adds the labels that the ownership policy reads: what does not leave the
// cluster can name no team.
func (c *Config) own(store *policy.Store) error {
	if store == nil {
		return nil
	}
	p, err := owner.Load(store)
	if err != nil {
		return err
	}
	c.OwnershipLabels = slices.Clone(c.OwnershipLabels)
	for _, l := range p.Labels {
		if !slices.Contains(c.OwnershipLabels, l) {
			c.OwnershipLabels = append(c.OwnershipLabels, l)
		}
	}
	return nil
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	var errs []error
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path + field, Value: value, Problem: problem, Fix: fix})
	}
	if event.Token(c.Name) != c.Name {
		bad("name", c.Name, "has characters other than letters, digits, - and _", "write prod-eu-1")
	}
	if c.History < 0 || c.History > 24*time.Hour {
		bad("history", c.History, "is not between 0 and 24h", "write 1h")
	}
	if c.Lateness < 0 || c.Lateness > 5*time.Minute {
		bad("lateness", c.Lateness, "is not between 0 and 5m", "write 5s")
	}
	for _, ns := range c.Namespaces {
		if slices.Contains(c.ExcludeNamespaces, ns) {
			bad("exclude_namespaces", ns, "is in namespaces too", "take it out of one of the two")
		}
	}
	if err := c.Cluster.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Info is this kind of source.
var Info = collector.Define("kubernetes", "Events, changes and topology from the Kubernetes API, by list and watch alone.", build)

func init() { collector.Builtin.Register(Info) }

func build(cfg Config, env collector.Env) (collector.Built, error) {
	if err := cfg.own(env.Policies); err != nil {
		return collector.Built{}, err
	}
	client, err := kube.New(cfg.Cluster, kube.Settings{Service: "collector", Name: cfg.Name, Audit: env.Audit, Now: env.Now})
	if err != nil {
		return collector.Built{}, err
	}
	return collector.Built{
		Sources:   []collector.Running{{Source: New(cfg, client, env), Streams: []*event.Stream{event.KubeEvents}}},
		Retriever: evidence.NewKubernetes(client, env.Redact), Kind: evidence.Kubernetes, Instance: cfg.Name,
	}, nil
}

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/services/collector"
)

// placing are the resources that say which workloads there are, whose they are,
// and which pods are theirs.
var placing = []string{"pods", "nodes", "namespaces", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs"}

// Snapshot is the topology of a cluster as it is now, in the order of its
// entities: what the source itself would tell first, for commands that need to
// know it once. A resource that may not be read is missing from it, and the log
// says so. The error says why the cluster could not be read.
func Snapshot(ctx context.Context, cfg Config, client *kube.Client, env collector.Env) ([]event.Topology, error) {
	cfg.Fill()
	if err := cfg.own(env.Policies); err != nil {
		return nil, err
	}
	if _, err := client.Version(ctx); err != nil {
		return nil, fmt.Errorf("kubernetes: %s", kube.Reason(err)) // a watch would go on trying
	}
	s := New(cfg, client, env)
	s.only = placing
	var out []event.Topology
	done := errors.New("read")
	err := s.Run(ctx, nil, func(_ context.Context, e collector.Emission) error {
		for _, o := range e.Events {
			if t, ok := o.Data().(event.Topology); ok {
				out = append(out, t)
			}
		}
		switch {
		case e.Cursor != nil: // it is kept as soon as everything has been listed
			return done
		case e.Blind != nil:
			return fmt.Errorf("kubernetes: %s", e.Blind.Reason)
		}
		return nil
	})
	if !errors.Is(err, done) {
		return nil, err
	}
	slices.SortFunc(out, func(a, b event.Topology) int { return a.Entity.Compare(b.Entity) })
	return out, nil
}

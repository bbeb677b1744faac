package detector

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// Spec is the service.
var Spec = service.Define("detector", DefaultConfig, New)

// Service folds the partitions that fall to this process.
type Service struct {
	env     service.Env
	cfg     Config
	members map[Input][]member
	metrics *metrics
}

// New makes the service with every compiled-in detector that is not switched
// off, and those that policies declare.
func New(cfg Config, env service.Env) (service.Runner, error) { return newService(cfg, env, &Builtin) }

func newService(cfg Config, env service.Env, reg *service.Registry[Info]) (*Service, error) {
	set := Settings{Policies: env.Policies}
	declared, err := Declared(env.Policies)
	if err != nil {
		return nil, err
	}
	infos := reg.All()
	for _, d := range declared {
		if _, ok := reg.Lookup(d.Name); ok {
			return nil, fmt.Errorf("policies/detectors: %s is the name of a compiled-in detector; rename it", d.Name)
		}
		infos = append(infos, d)
	}
	s := &Service{env: env, cfg: cfg, members: map[Input][]member{}, metrics: newMetrics(env.Metrics, infos)}
	s.metrics.late = env.Bus.CountLate
	for _, i := range infos {
		if !cfg.enabled(i.Name) {
			continue
		}
		own, err := i.Check("detector."+i.Name, cfg.sections[i.Name])
		if err != nil {
			return nil, err
		}
		hash, err := i.hash(own, env.Policies)
		if err != nil {
			return nil, err
		}
		m := member{info: i, cfg: own, hash: hash, set: set}
		// A detector that cannot be made is an error at start, not in a partition.
		d, err := i.New(own, set)
		if err != nil {
			return nil, fmt.Errorf("detector %s: %w", i.Name, err)
		}
		if _, ok := d.(Rationer); ok {
			s.metrics.rationed.WithLabelValues(i.Name)
		}
		s.members[i.Input] = append(s.members[i.Input], m)
	}
	return s, nil
}

// Run folds until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	groups := s.groups()
	g, ctx := errgroup.WithContext(ctx)
	for _, group := range groups {
		g.Go(func() error {
			err := s.env.Bus.RunGroup(ctx, group)
			if err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("detector group %s: %w", group.Name, err)
			}
			return nil
		})
	}
	if s.env.Health != nil {
		s.env.Health.Ready("detector")
	}
	s.env.Log.Info("started", "metric_detectors", len(s.members[Metrics]), "log_detectors", len(s.members[Logs]), "event_detectors", len(s.members[Events]))
	return g.Wait()
}

// groups are the three consumer groups, a stream each.
func (s *Service) groups() []bus.Group {
	return []bus.Group{
		s.group(Metrics, event.Metrics, event.MetricsRead.Filter(), event.MetricsTick.Filter()),
		s.group(Logs, event.Logs, event.LogsRead.Filter(), event.LogsTick.Filter()),
		s.group(Events, event.KubeEvents, event.KubeEventSeen.Filter(), event.ChangeSeen.Filter(),
			event.TopologySeen.Filter(), event.AlertSeen.Filter(), event.EventsTick.Filter()),
	}
}

func (s *Service) group(in Input, stream *event.Stream, filters ...string) bus.Group {
	return bus.Group{
		Name: string(in), Stream: stream, Partitions: event.Partitions, ConfigHash: s.hash(in),
		Filters: func(p int) []string { return inPartition(filters, p) },
		New:     func(p int) (bus.Fold, error) { return s.fold(in, p) },
	}
}

// inPartition narrows filters, whose third token is the partition, to one
// partition; what follows it is left open, and filters that become the same
// are one, since a consumer's filters must not overlap. A tick has no partition
// and is for all of them.
func inPartition(filters []string, p int) []string {
	var out []string
	for _, f := range filters {
		narrowed := f
		if tok := strings.SplitN(f, ".", 4); len(tok) == 4 {
			narrowed = tok[0] + "." + tok[1] + "." + event.PartitionToken(p) + ".>"
		}
		if !slices.Contains(out, narrowed) {
			out = append(out, narrowed)
		}
	}
	return out
}

// hash names the state of a group: detectors, their configuration and limits.
func (s *Service) hash(in Input) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d\x00", stateVersions[in], in, s.cfg.MaxSeries)
	for _, m := range s.members[in] {
		fmt.Fprintf(h, "%s:%s\x00", m.info.Name, m.hash)
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

func (s *Service) fold(in Input, partition int) (bus.Fold, error) {
	b, err := newBank(in, partition, s.members[in], s.metrics)
	if err != nil {
		return nil, err
	}
	switch in {
	case Metrics:
		return newMetricFold(b, s.cfg.MaxSeries)
	case Logs:
		return newLogFold(b), nil
	}
	return newEventFold(b), nil
}

// asks says whether a series that names its detectors, separated by commas,
// names this one. A series that names none is for every detector that wants
// it.
func asks(list, name string) bool {
	if list == "" {
		return true
	}
	for n := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(n) == name {
			return true
		}
	}
	return false
}

// NewFold makes the fold of one partition outside the service: for replays,
// backtests and tests.
func NewFold(in Input, partition int, cfg Config, policies *policy.Store, reg prometheus.Registerer) (bus.Fold, error) {
	s, err := newService(cfg, service.Env{Policies: policies, Metrics: reg}, &Builtin)
	if err != nil {
		return nil, err
	}
	return s.fold(in, partition)
}

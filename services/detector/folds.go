package detector

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// NewFolds makes the folds of partitions outside the service, as [NewFold] does,
// for who needs all of them: the configuration and policies are read once.
func NewFolds(cfg Config, policies *policy.Store, reg prometheus.Registerer) (func(in Input, partition int) (bus.Fold, error), error) {
	s, err := newService(cfg, service.Env{Policies: policies, Metrics: reg}, &Builtin)
	if err != nil {
		return nil, err
	}
	return s.fold, nil
}

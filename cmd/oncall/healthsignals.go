package main

import (
	"context"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/internal/signals"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/detector"
)

// watchedSignals read what no object shows from the sources that there are.
type watchedSignals struct {
	outside
	reader signals.Reader
}

// newSignals prepares the reading. Nothing is asked yet.
func newSignals(o *options, namespace string, x outside) (*watchedSignals, error) {
	store, cfg, err := o.store()
	if err != nil {
		return nil, err
	}
	ents, err := entities.Load(store)
	if err != nil {
		return nil, err
	}
	mask, err := o.mask(store)
	if err != nil {
		return nil, err
	}
	return &watchedSignals{x, signals.Reader{
		Entities: ents, Policies: store, Detectors: cfg.Section(detector.Spec.Name).(detector.Config), Redact: mask, Namespace: namespace,
	}}, nil
}

// read finds the sources at the first look and asks them; what is not told for
// want of one is said with the flags that name one.
func (s *watchedSignals) read(ctx context.Context) *signals.Reading {
	s.once(ctx)
	r := s.ask(ctx)
	switch {
	case s.prometheus == nil && s.loki == nil:
		r.Missing = append(r.Missing, check.Unchecked{What: signals.OfMetrics + ", " + signals.OfLogs, Why: s.why("prometheus", "loki")})
	case s.prometheus == nil:
		r.Missing = append([]check.Unchecked{{What: signals.OfMetrics, Why: s.why("prometheus")}}, r.Missing...)
	case s.loki == nil:
		r.Missing = append(r.Missing, check.Unchecked{What: signals.OfLogs, Why: s.why("loki")})
	}
	return r
}

// ask asks those sources that were found.
func (s *watchedSignals) ask(ctx context.Context) *signals.Reading {
	s.reader.Prometheus, s.reader.Loki, s.reader.Families = s.prometheus, s.loki, s.families
	return s.reader.Read(ctx)
}

// why says why there is no source of these kinds.
func (s *watchedSignals) why(kinds ...string) string {
	var none, flags []string
	for _, k := range kinds {
		if *s.flags.address(k) == nowhere {
			none = append(none, "--"+k+" none")
		}
		flags = append(flags, "--"+k+" URL")
	}
	if len(none) == len(kinds) {
		return "not asked: " + strings.Join(none, ", ")
	}
	for _, u := range s.missing {
		if strings.HasPrefix(u.What, "the search") || slices.Contains(kinds, u.What) {
			return u.Why + "; name it: " + strings.Join(flags, ", ")
		}
	}
	return "none is configured or found: " + strings.Join(flags, ", ")
}

package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/internal/signals"
	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/promql"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	kubernetes "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// lookups answer a command's own questions to the sources of a configuration:
// bounded, redacted, recorded, and read-only, as the collector answers those of
// the services.
type lookups struct {
	o     *options
	cfg   *service.Config
	store *policy.Store
	mask  *redact.Redactor
	mux   *evidence.Mux
	// The first source of each kind; nil where there is none.
	kube       *kube.Client
	prometheus *promql.Client
	loki       *upstream.Client
}

// lookups opens those of the sources of the pass.
func (p *pass) lookups() (*lookups, error) { return p.lookupsOf(p.host.Config) }

// lookupsOf opens those of a configuration, and a cluster of which only the objects
// may be read.
func (p *pass) lookupsOf(cfg *service.Config) (*lookups, error) {
	l, err := p.o.lookups(cfg)
	if err == nil && p.objects != nil && l.kube == nil {
		err = l.add(*p.objects)
	}
	return l, err
}

// add opens a cluster.
func (l *lookups) add(s kubernetes.Config) error {
	k := s.Cluster
	k.QPS, k.Burst = max(k.QPS, 50), max(k.Burst, 100) // a person waits
	client, err := l.o.clusterClient(k)
	if err != nil {
		return err
	}
	l.mux.Add(evidence.Kubernetes, s.Name, evidence.NewKubernetes(client, l.mask))
	if l.kube == nil {
		l.kube = client
	}
	return nil
}

// lookups opens the sources of a configuration. None is asked anything yet.
func (o *options) lookups(cfg *service.Config) (*lookups, error) {
	store, _, err := o.store()
	if err != nil {
		return nil, err
	}
	mask, err := o.mask(store)
	if err != nil {
		return nil, err
	}
	l := &lookups{o: o, cfg: cfg, store: store, mask: mask, mux: evidence.NewMux()}
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	c.Each(func(kind string, src any) {
		if err != nil {
			return
		}
		var up *upstream.Client
		switch s := src.(type) {
		case kubernetes.Config:
			err = l.add(s)
		case prometheus.Config:
			if up, err = o.sourceClient(kind, s.Config); err != nil {
				return
			}
			client := promql.New(up)
			l.mux.Add(evidence.Prometheus, s.Name, evidence.NewPrometheus(client, l.mask))
			if l.prometheus == nil {
				l.prometheus = client
			}
		case loki.Config:
			if up, err = o.sourceClient(kind, s.Config); err != nil {
				return
			}
			l.mux.Add(evidence.Loki, s.Name, evidence.NewLoki(up, l.mask))
			if l.loki == nil {
				l.loki = up
			}
		}
	})
	return l, err
}

// examine is `oncall health` of a namespace, or of all, with the sources that there
// are. Who calls it says which there are none of.
func (l *lookups) examine(ctx context.Context, namespace string) (*check.Result, error) {
	rules, err := rule.Load(l.store)
	if err != nil {
		return nil, &service.UsageError{Err: err}
	}
	exempt, err := check.LoadExemptions(l.store)
	if err != nil {
		return nil, &service.UsageError{Err: err}
	}
	beyond, err := l.signals(namespace)
	if err != nil {
		return nil, &service.UsageError{Err: err}
	}
	var wg sync.WaitGroup
	var measured *signals.Reading
	wg.Go(func() { measured = beyond.read(ctx) })
	cluster, err := check.Read(ctx, l.kube, namespace, time.Now())
	wg.Wait()
	if err != nil {
		return nil, err
	}
	measured.Missing = slices.DeleteFunc(measured.Missing, func(u check.Unchecked) bool {
		return l.prometheus == nil && strings.HasPrefix(u.What, signals.OfMetrics) || l.loki == nil && u.What == signals.OfLogs
	})
	var unmeasured []check.Unchecked
	cluster.Signals, unmeasured = measured.Judge(ctx, cluster, event.Entity{})
	x, err := check.Examine(ctx, cluster, check.Options{
		Rules: rules, Redact: l.mask, Ask: evidence.NewKubernetes(l.kube, l.mask), Context: l.context(), Exempt: exempt,
	})
	if err != nil {
		return nil, err
	}
	x.Cluster = l.cfg.Cluster
	x.NotChecked = append(x.NotChecked, unmeasured...)
	return x, nil
}

// signals read what no object shows from the sources that were opened.
func (l *lookups) signals(namespace string) (*watchedSignals, error) {
	x := outside{o: l.o, prometheus: l.prometheus, loki: l.loki, finder: &finder{}}
	var err error
	if x.families, err = prometheus.LoadFamilies(l.store); err != nil {
		return nil, err
	}
	return newSignals(l.o, namespace, x)
}

// context is the kubectl context that commands name; "" for none.
func (l *lookups) context() string {
	return l.cfg.Section(reasoner.Spec.Name).(reasoner.Config).KubeContext
}

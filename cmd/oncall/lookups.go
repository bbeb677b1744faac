package main

import (
	"context"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
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
func (p *pass) lookups() (*lookups, error) { return p.o.lookups(p.host.Config) }

// lookups opens the sources of a configuration. None is asked anything yet.
func (o *options) lookups(cfg *service.Config) (*lookups, error) {
	store, _, err := o.store()
	if err != nil {
		return nil, err
	}
	l := &lookups{cfg: cfg, store: store, mask: redact.New(redact.Options{}), mux: evidence.NewMux()}
	c := cfg.Section(collector.Spec.Name).(collector.Config)
	c.Each(func(kind string, src any) {
		if err != nil {
			return
		}
		var up *upstream.Client
		switch s := src.(type) {
		case kubernetes.Config:
			k := s.Cluster
			k.QPS, k.Burst = max(k.QPS, 50), max(k.Burst, 100) // a person waits
			var client *kube.Client
			if client, err = o.clusterClient(k); err != nil {
				return
			}
			l.mux.Add(evidence.Kubernetes, s.Name, evidence.NewKubernetes(client, l.mask))
			if l.kube == nil {
				l.kube = client
			}
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

// examine is `oncall health` of a namespace, or of all.
func (l *lookups) examine(ctx context.Context, namespace string) (*check.Result, error) {
	rules, err := rule.Load(l.store)
	if err != nil {
		return nil, &service.UsageError{Err: err}
	}
	exempt, err := check.LoadExemptions(l.store)
	if err != nil {
		return nil, &service.UsageError{Err: err}
	}
	cluster, err := check.Read(ctx, l.kube, namespace, time.Now())
	if err != nil {
		return nil, err
	}
	x, err := check.Examine(ctx, cluster, check.Options{
		Rules: rules, Redact: l.mask, Ask: evidence.NewKubernetes(l.kube, l.mask), Context: l.context(), Exempt: exempt,
	})
	if err != nil {
		return nil, err
	}
	x.Cluster = l.cfg.Cluster
	return x, nil
}

// context is the kubectl context that commands name; "" for none.
func (l *lookups) context() string {
	return l.cfg.Section(reasoner.Spec.Name).(reasoner.Config).KubeContext
}

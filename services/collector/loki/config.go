// Package loki reads log lines from Loki in aligned, closed windows: the same
// window read again gives the same batches with the same ids. Loki's tail is
// only a doorbell, which makes it read a window early; its lines are never
// published, since a tail has no cursor to resume from.
package loki

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
)

// Config is one Loki in the collector's section.
type Config struct {
	upstream.Config `yaml:",inline"`
	// Selector chooses the streams. Default: {namespace=~".+"}.
	Selector string `yaml:"selector"`
	// ExcludeNamespaces are left out. Default: our own, oncall.
	ExcludeNamespaces []string `yaml:"exclude_namespaces"`
	// Window is the time that one reading covers. Default: 5s.
	Window time.Duration `yaml:"window"`
	// Delay is how long after its end a window is read, so that lines have
	// arrived. Default: 5s.
	Delay time.Duration `yaml:"delay"`
	// MaxCatchUp is how far back missed windows are read after an outage. What
	// is older is skipped and counted. Default: 30m.
	MaxCatchUp time.Duration `yaml:"max_catch_up"`
	// BytesPerDay bounds what is published. Of what is more than the share of it
	// that falls on a window, the loudest statements are sampled. Default: 20 GiB.
	BytesPerDay int64 `yaml:"log_bytes_per_day"`
	// NamespaceBytesPerDay bounds what is published of one namespace.
	// Default: half of log_bytes_per_day.
	NamespaceBytesPerDay int64 `yaml:"namespace_log_bytes_per_day"`
	// StreamBytesPerDay bounds what is published of one stream: a container of a
	// pod. Default: a fifth of log_bytes_per_day.
	StreamBytesPerDay int64 `yaml:"stream_log_bytes_per_day"`
	// Limit is the most lines asked for at once; Loki's own default limit is
	// 5000. Default: 5000.
	Limit int `yaml:"limit"`
	// Tail is the doorbell.
	Tail Tail `yaml:"tail"`
	// WarmStart is what the first start reads of the past, so that detectors know
	// from the first window on what is usually said.
	WarmStart WarmStart `yaml:"warm_start"`
	// KubernetesEvents reads the lines of an event exporter as events.
	KubernetesEvents KubernetesEvents `yaml:"kubernetes_events"`
}

// Tail says which lines make a window be read before its delay is over. Where
// Loki or what stands before it allows no tail, windows are read as ever.
type Tail struct {
	// Off keeps no tail open. Default: false.
	Off bool `yaml:"off"`
	// Filter is the part of a LogQL query behind the selector that chooses the
	// lines that ring. Few lines are little load.
	// Default: |~ "(?i)\\b(error|fatal|panic|exception|critical|oom)".
	Filter string `yaml:"filter"`
	// Least is the least time after its end at which a window is read. It is
	// waited longer while lines take longer to arrive, at most delay. Default: 2s.
	Least time.Duration `yaml:"least"`
}

// KubernetesEvents names the streams of an exporter of Kubernetes events:
// kubernetes-event-exporter, Alloy's loki.source.kubernetes_events,
// OpenTelemetry's k8s_events or k8sobjects, eventrouter.
type KubernetesEvents struct {
	// Selector chooses the streams. Default: none, events are not read.
	Selector string `yaml:"selector"`
	// Alone says that the Kubernetes API is not watched: then events are taken
	// too that lack the uid or resource version by which those of the API are
	// recognised. Default: false.
	Alone bool `yaml:"alone"`
}

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill() {
	c.Config.Fill("loki")
	c.Selector = cmp.Or(c.Selector, `{namespace=~".+"}`)
	if c.ExcludeNamespaces == nil {
		c.ExcludeNamespaces = []string{"oncall"}
	}
	c.Window = cmp.Or(c.Window, 5*time.Second)
	c.Delay = cmp.Or(c.Delay, 5*time.Second)
	c.MaxCatchUp = cmp.Or(c.MaxCatchUp, 30*time.Minute)
	c.BytesPerDay = cmp.Or(c.BytesPerDay, 20<<30)
	c.NamespaceBytesPerDay = cmp.Or(c.NamespaceBytesPerDay, c.BytesPerDay/2)
	c.StreamBytesPerDay = cmp.Or(c.StreamBytesPerDay, c.BytesPerDay/5)
	c.Limit = cmp.Or(c.Limit, 5000)
	c.Tail.Filter = cmp.Or(c.Tail.Filter, `|~ "(?i)\\b(error|fatal|panic|exception|critical|oom)"`)
	c.WarmStart.fill()
	c.Tail.Least = cmp.Or(c.Tail.Least, min(2*time.Second, c.Delay))
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	errs := []error{c.Config.Validate(path)}
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path + field, Value: value, Problem: problem, Fix: fix})
	}
	for field, s := range map[string]string{"selector": c.Selector, "kubernetes_events.selector": c.KubernetesEvents.Selector} {
		if s != "" && !selector(s) {
			bad(field, s, "is not a stream selector", `write {namespace=~".+"}`)
		}
	}
	if c.Window < time.Second || c.Window > 5*time.Minute {
		bad("window", c.Window, "is not between 1s and 5m", "write 5s")
	}
	if c.Delay < 0 || c.Delay > 5*time.Minute {
		bad("delay", c.Delay, "is not between 0 and 5m", "write 5s")
	}
	if c.Tail.Least < 0 || c.Tail.Least > c.Delay {
		bad("tail.least", c.Tail.Least, "is not between 0 and delay", "write 2s")
	}
	if c.Limit < 100 || c.Limit > 100_000 {
		bad("limit", c.Limit, "is not between 100 and 100000", "write 5000")
	}
	if c.BytesPerDay < 1<<20 {
		bad("log_bytes_per_day", c.BytesPerDay, "is less than 1 MiB", "write 21474836480")
	}
	for field, n := range map[string]int64{"namespace_log_bytes_per_day": c.NamespaceBytesPerDay, "stream_log_bytes_per_day": c.StreamBytesPerDay} {
		if n < 1<<16 || n > c.BytesPerDay {
			bad(field, n, "is not between 65536 and log_bytes_per_day", "leave it out for a part of that")
		}
	}
	return errors.Join(append(errs, c.WarmStart.validate(path)...)...)
}

// selector says whether s is {…} with matchers that can be read.
func selector(s string) bool {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "{") || !strings.HasSuffix(s, "}") {
		return false
	}
	ms, err := upstream.ParseMatchers(strings.TrimSuffix(s[1:], "}"))
	return err == nil && len(ms) > 0
}

func init() {
	collector.Builtin.Register(collector.Define[Config]("loki", "Log lines from Loki, in closed windows.", build))
}

func build(cfg Config, env collector.Env) (collector.Built, error) {
	s, err := New(cfg, env)
	if err != nil {
		return collector.Built{}, err
	}
	b := collector.Built{
		Sources:   []collector.Running{{Source: s, Streams: []*event.Stream{event.Logs}}},
		Retriever: evidence.NewLoki(s.up, env.Redact), Kind: evidence.Loki, Instance: cfg.Name,
	}
	if cfg.KubernetesEvents.Selector != "" {
		b.Sources = append(b.Sources, collector.Running{Source: s.events(), Streams: []*event.Stream{event.KubeEvents}})
	}
	return b, nil
}

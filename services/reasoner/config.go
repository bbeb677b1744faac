package reasoner

import (
	"errors"
	"net/url"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config is the `reasoner:` section of the configuration file.
type Config struct {
	// Deadline bounds the gathering of evidence for one report. What has not
	// answered by then is listed as unknown. Default: 20s.
	Deadline time.Duration `yaml:"deadline"`
	// LookupTimeout bounds one look-up. Default: 8s.
	LookupTimeout time.Duration `yaml:"lookup_timeout"`
	// EveryRevision drafts a report of every revision of an incident, also of one
	// that a later one has overtaken: for a replay, whose outcome must not depend
	// on how fast it goes. Default: false.
	EveryRevision bool `yaml:"every_revision"`
	// KubeContext is printed in commands, so that they cannot hit another
	// cluster. Default: none.
	KubeContext string `yaml:"kube_context"`
	// Links are the external URLs of consoles, for people's browsers.
	Links Links `yaml:"links"`
	// Model is a language model that may word reports. Default: none.
	Model ModelConfig `yaml:"model"`
}

// Links are base URLs as people's browsers reach them.
type Links struct {
	Prometheus string `yaml:"prometheus"` // https://prometheus.example.com
	Grafana    string `yaml:"grafana"`    // https://grafana.example.com
	// GrafanaPrometheus and GrafanaLoki are the UIDs of the data sources in
	// Grafana, for Explore. Default: prometheus and loki.
	GrafanaPrometheus string `yaml:"grafana_prometheus"`
	GrafanaLoki       string `yaml:"grafana_loki"`
	Alertmanager      string `yaml:"alertmanager"`
}

// DefaultConfig is the configuration of a user who writes nothing.
func DefaultConfig() Config {
	return Config{
		Deadline: 20 * time.Second, LookupTimeout: 8 * time.Second,
		Links: Links{GrafanaPrometheus: "prometheus", GrafanaLoki: "loki"},
		Model: ModelConfig{Timeout: 30 * time.Second, MaxTokens: 1500, DailyTokens: 200_000, Least: event.P2},
	}
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	if c.Deadline < time.Second || c.Deadline > 5*time.Minute {
		errs = append(errs, &policy.FieldError{Path: "deadline", Value: c.Deadline, Problem: "is not between 1s and 5m", Fix: "write 20s"})
	}
	if c.LookupTimeout < 100*time.Millisecond || c.LookupTimeout > c.Deadline {
		errs = append(errs, &policy.FieldError{Path: "lookup_timeout", Value: c.LookupTimeout, Problem: "is not between 100ms and deadline", Fix: "write 8s"})
	}
	for path, s := range map[string]string{"links.prometheus": c.Links.Prometheus, "links.grafana": c.Links.Grafana, "links.alertmanager": c.Links.Alertmanager} {
		if s == "" {
			continue
		}
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			errs = append(errs, &policy.FieldError{Path: path, Value: s, Problem: "is not a URL", Fix: "write https://host/path"})
		}
	}
	return errors.Join(append(errs, c.Model.validate())...)
}

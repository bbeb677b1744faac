// Package alertmanager brings in the alerts of the user's own Alertmanager, by
// polling its API, which changes nothing there, and by taking its webhooks.
// Both give the same events with the same ids, so that one may have both.
//
// An alert is folded in the window in which it is read, whatever its own time,
// so the source closes its stream by the clock and never holds it back.
package alertmanager

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
	"github.com/oncall-copilot/oncall/services/collector/receiver"
)

// Config is one Alertmanager, or one cluster of replicas, in the collector's
// section. It is polled when it has a URL, and pushes when webhook.listen is
// set; it may do both.
type Config struct {
	upstream.Config `yaml:",inline"`
	// URLs are the base URLs of the replicas, instead of url: each is asked, and
	// an alert counts once.
	URLs []string `yaml:"urls"`
	// Every is the time between two polls. Default: 15s.
	Every time.Duration `yaml:"every"`
	// Settle is how long an alert must be away before it counts as ended: an
	// Alertmanager that was restarted knows nothing until Prometheus has sent its
	// alerts again, a minute later. The end is dated back. Default: 90s.
	Settle time.Duration `yaml:"settle"`
	// Webhook takes the notifications of a webhook_config; its path is /alerts.
	Webhook receiver.Config `yaml:"webhook"`
}

// Path is where webhooks are taken.
const Path = "/alerts"

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill() {
	c.Config.Fill("alertmanager")
	c.Webhook.Fill()
	if c.Every == 0 {
		c.Every = 15 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 90 * time.Second
	}
	if len(c.URLs) == 0 && c.URL != "" {
		c.URLs = []string{c.URL}
	}
}

// replicas are the configurations of the clients, one a replica.
func (c *Config) replicas() []upstream.Config {
	var out []upstream.Config
	for _, u := range c.URLs {
		one := c.Config
		one.URL, one.ExternalURL = u, u
		out = append(out, one)
	}
	return out
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	var errs []error
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path + field, Value: value, Problem: problem, Fix: fix})
	}
	switch {
	case len(c.URLs) == 0 && c.URL == "" && c.Webhook.Listen == "":
		bad("url", nil, "is missing, and webhook.listen too", "write http://alertmanager:9093")
	case c.URL != "" && len(c.URLs) > 0 && (len(c.URLs) != 1 || c.URLs[0] != c.URL):
		bad("urls", nil, "and url exclude each other", "write all of them into urls")
	}
	if len(c.URLs) == 0 && c.URL == "" {
		// Only the name is used.
		if event.Token(c.Name) != c.Name {
			bad("name", c.Name, "has characters other than letters, digits, - and _", "write prod-eu-1")
		}
	} else {
		one := c.Config
		if one.URL == "" {
			one.URL, one.ExternalURL = c.URLs[0], ""
		}
		errs = append(errs, one.Validate(path))
		for i, u := range c.URLs[min(1, len(c.URLs)):] {
			if err := upstream.CheckURL(u); err != nil {
				bad(fmt.Sprintf("urls[%d]", i+1), u, err.Error(), "write http://alertmanager-1:9093")
			}
		}
	}
	if c.Every < time.Second || c.Every > 5*time.Minute {
		bad("every", c.Every, "is not between 1s and 5m", "write 15s")
	}
	if c.Settle < 0 || c.Settle > time.Hour {
		bad("settle", c.Settle, "is not between 0 and 1h", "write 90s")
	}
	return errors.Join(append(errs, c.Webhook.Validate(path+"webhook."))...)
}

func init() {
	collector.Builtin.Register(collector.Define[Config]("alertmanager", "Alerts of your own Alertmanager, by polling or by webhook.", build))
}

func build(cfg Config, env collector.Env) (collector.Built, error) {
	names, err := entities.Load(env.Policies)
	if err != nil {
		return collector.Built{}, err
	}
	s, err := New(cfg, env, names)
	if err != nil {
		return collector.Built{}, err
	}
	b := collector.Built{Sources: []collector.Running{{Source: s, Streams: []*event.Stream{event.KubeEvents}}}}
	if cfg.Webhook.Listen != "" {
		b.Serve = append(b.Serve, s.Webhook().Run)
	}
	return b, nil
}

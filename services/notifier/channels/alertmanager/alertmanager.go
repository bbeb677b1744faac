// Package alertmanager hands incidents to the user's own Alertmanager as
// alerts, so that their routes, silences, inhibitions and pagers work
// unchanged. An alert is sent to every replica and repeated until the incident
// is resolved, as Prometheus does.
package alertmanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/config"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("alertmanager",
		"Alerts to your own Alertmanager, which routes, silences and pages as it always does.", true,
		func() Config {
			return Config{Repeat: time.Minute, Patience: 5 * time.Minute, HTTP: config.DefaultHTTPClientConfig}
		}, New))
}

// Config is a channel of type alertmanager.
type Config struct {
	// URLs are the base URLs of every replica.
	URLs []string `yaml:"urls"`
	// Repeat is how often an open incident is sent again. Default: 1m.
	Repeat time.Duration `yaml:"repeat"`
	// Patience is how long Alertmanager keeps an alert that is not repeated: its
	// endsAt lies this far ahead. At least three times Repeat. Default: 5m.
	Patience time.Duration `yaml:"patience"`
	// Labels are added to every alert.
	Labels map[string]string `yaml:"labels"`
	// HTTP are Prometheus' own client options: tls_config, basic_auth,
	// authorization, proxy_url …
	HTTP config.HTTPClientConfig `yaml:"http"`
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	if len(c.URLs) == 0 {
		errs = append(errs, &policy.FieldError{Path: "urls", Problem: "names no Alertmanager", Fix: "write urls: [http://alertmanager:9093]"})
	}
	for i, s := range c.URLs {
		if u, err := url.Parse(s); err != nil || u.Host == "" {
			errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("urls[%d]", i), Value: s, Problem: "is not a URL", Fix: "write http://alertmanager:9093"})
		}
	}
	if c.Repeat < time.Second || c.Patience < 3*c.Repeat {
		errs = append(errs, &policy.FieldError{Path: "patience", Value: c.Patience, Problem: "is less than three times repeat", Fix: fmt.Sprintf("write %v", 3*c.Repeat)})
	}
	if err := c.HTTP.Validate(); err != nil {
		errs = append(errs, &policy.FieldError{Path: "http", Problem: err.Error()})
	}
	return errors.Join(errs...)
}

type channel struct {
	cfg    Config
	env    notifier.Env
	client *http.Client

	mu       sync.Mutex
	silences []silence
	read     time.Time
}

var (
	_ notifier.Steady   = (*channel)(nil)
	_ notifier.Silencer = (*channel)(nil)
)

// New makes the channel.
func New(cfg Config, env notifier.Env) (notifier.Channel, error) {
	client, err := config.NewClientFromConfig(cfg.HTTP, "alertmanager")
	if err != nil {
		return nil, fmt.Errorf("alertmanager: http: %w", err)
	}
	client.Timeout = env.HTTP.Timeout
	client.CheckRedirect = env.HTTP.CheckRedirect
	return &channel{cfg: cfg, env: env, client: client}, nil
}

// alert is one alert of POST /api/v2/alerts.
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// severityKey is where the thread keeps the severity label sent last: with
// another label it would be another alert, so the old one has to be ended.
const severityKey = "severity"

// Send posts the incident's alert. When its severity label has changed, the
// alert with the old label is ended in the same request.
func (c *channel) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	a := c.alert(n)
	alerts := []alert{a}
	if old := th.State[severityKey]; old != "" && old != a.Labels["severity"] {
		ended := a
		ended.Labels = map[string]string{}
		for k, v := range a.Labels {
			ended.Labels[k] = v
		}
		ended.Labels["severity"] = old
		ended.EndsAt = c.env.Now().UTC()
		alerts = append(alerts, ended)
	}
	if err := c.post(ctx, alerts); err != nil {
		return th, err
	}
	th.Ref = n.Incident
	th.State = map[string]string{severityKey: a.Labels["severity"]}
	return th, nil
}

// Interval is how often Repeat is called.
func (c *channel) Interval() time.Duration { return c.cfg.Repeat }

// Repeat sends the alert of an open incident again.
func (c *channel) Repeat(ctx context.Context, n event.Notification) error {
	return c.post(ctx, []alert{c.alert(n)})
}

func (c *channel) alert(n event.Notification) alert {
	r := n.Report
	labels := notifier.Labels(r)
	for k, v := range c.cfg.Labels {
		labels[k] = v
	}
	a := alert{
		Labels: labels, StartsAt: r.Onset.UTC(), EndsAt: c.env.Now().UTC().Add(c.cfg.Patience),
		Annotations: map[string]string{
			"summary": r.Headline, "description": r.TLDR, "priority": string(r.Priority),
			"incident": event.ShortID(r.Incident),
		},
	}
	if len(r.Causes) > 0 {
		a.Annotations["likely_cause"] = fmt.Sprintf("%s (%s)", r.Causes[0].Text, r.Causes[0].Confidence)
	}
	if len(r.Checks) > 0 {
		a.Annotations["next_check"] = r.Checks[0].Command
	}
	if len(r.Runbooks) > 0 && strings.HasPrefix(r.Runbooks[0].Path, "http") {
		a.Annotations["runbook_url"] = r.Runbooks[0].Path
	}
	for _, l := range r.Links {
		if a.GeneratorURL == "" {
			a.GeneratorURL = l.URL
		}
	}
	if r.State == event.Resolved {
		a.EndsAt = c.env.Now().UTC()
		if r.ResolvedAt != nil && r.ResolvedAt.Before(a.EndsAt) {
			a.EndsAt = r.ResolvedAt.UTC()
		}
	}
	return a
}

// post gives the alerts to every replica at once. It succeeds when one has
// them, since replicas gossip notifications, not alerts: the others get them
// with the next repeat.
func (c *channel) post(ctx context.Context, alerts []alert) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return bus.Reject(fmt.Errorf("alertmanager: %w", err))
	}
	errs := make([]error, len(c.cfg.URLs))
	var wg sync.WaitGroup
	for i, base := range c.cfg.URLs {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(base, "/")+"/api/v2/alerts", bytes.NewReader(body))
			if err != nil {
				errs[i] = bus.Reject(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			if _, err := notifier.Post(ctx, c.client, req, c.env.Now()); err != nil {
				errs[i] = fmt.Errorf("alertmanager %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errs[0]
}

// silence is one silence of GET /api/v2/silences.
type silence struct {
	ID       string    `json:"id"`
	Comment  string    `json:"comment"`
	StartsAt time.Time `json:"startsAt"`
	EndsAt   time.Time `json:"endsAt"`
	Status   struct {
		State string `json:"state"`
	} `json:"status"`
	Matchers []struct {
		Name    string `json:"name"`
		Value   string `json:"value"`
		IsRegex bool   `json:"isRegex"`
		IsEqual *bool  `json:"isEqual"`
	} `json:"matchers"`
}

// Silenced returns the id of the active silence that mutes an alert with the
// labels, from a copy at most 15 seconds old.
func (c *channel) Silenced(ctx context.Context, labels map[string]string) (string, error) {
	all, err := c.activeSilences(ctx)
	if err != nil {
		return "", err
	}
	set := map[string]string{}
	for k, v := range labels {
		set[k] = v
	}
	for k, v := range c.cfg.Labels {
		set[k] = v
	}
	now := c.env.Now()
	for _, s := range all {
		if s.Status.State == "active" && !now.Before(s.StartsAt) && now.Before(s.EndsAt) && s.mutes(set) {
			return s.ID, nil
		}
	}
	return "", nil
}

func (c *channel) activeSilences(ctx context.Context) ([]silence, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read.IsZero() && c.env.Now().Sub(c.read) < 15*time.Second {
		return c.silences, nil
	}
	var last error
	for _, base := range c.cfg.URLs {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/api/v2/silences", nil)
		if err != nil {
			return nil, fmt.Errorf("alertmanager: %w", err)
		}
		body, err := notifier.Post(ctx, c.client, req, c.env.Now())
		if err == nil {
			var list []silence
			if err = json.Unmarshal(body, &list); err == nil {
				c.silences, c.read = list, c.env.Now()
				return list, nil
			}
		}
		last = err
	}
	return nil, fmt.Errorf("alertmanager silences: %w", last)
}

// mutes applies Alertmanager's matching: every matcher, a missing label being
// empty, regular expressions anchored at both ends.
func (s silence) mutes(labels map[string]string) bool {
	if len(s.Matchers) == 0 {
		return false
	}
	for _, m := range s.Matchers {
		v := labels[m.Name]
		ok := v == m.Value
		if m.IsRegex {
			re, err := regexp.Compile("^(?:" + m.Value + ")$")
			if err != nil {
				return false
			}
			ok = re.MatchString(v)
		}
		if m.IsEqual != nil && !*m.IsEqual {
			ok = !ok
		}
		if !ok {
			return false
		}
	}
	return true
}

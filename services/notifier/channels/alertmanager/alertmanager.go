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
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("alertmanager",
		"Alerts to your own Alertmanager, which routes, silences and pages as it always does.",
		notifier.Traits{Edits: true, Alerts: true, Examples: []string{example}},
		func() Config {
			return Config{Repeat: time.Minute, Patience: 5 * time.Minute, HTTP: config.DefaultHTTPClientConfig}
		}, New))
}

const example = `# Every replica, as in Prometheus' own alerting section.
urls:
  - http://alertmanager-0.alertmanager:9093
  - http://alertmanager-1.alertmanager:9093
repeat: 1m
patience: 5m
labels: {source: oncall}
http:
  basic_auth:
    username: oncall
    password_file: /etc/oncall/secrets/alertmanager-password
`

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
		if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			errs = append(errs, &policy.FieldError{Path: fmt.Sprintf("urls[%d]", i), Value: s, Problem: "is not an http or https URL", Fix: "write http://alertmanager:9093"})
		}
	}
	if c.Repeat < time.Second {
		errs = append(errs, &policy.FieldError{Path: "repeat", Value: c.Repeat, Problem: "is less than a second", Fix: "write 1m"})
	} else if c.Patience < 3*c.Repeat {
		errs = append(errs, &policy.FieldError{Path: "patience", Value: c.Patience, Problem: "is less than three times repeat", Fix: fmt.Sprintf("write %v", 3*c.Repeat)})
	}
	for k := range c.Labels {
		if !model.LegacyValidation.IsValidLabelName(k) {
			errs = append(errs, &policy.FieldError{Path: "labels." + k, Problem: "is not a label name", Fix: "use letters, digits and _"})
		}
	}
	if err := c.HTTP.Validate(); err != nil {
		errs = append(errs, &policy.FieldError{Path: "http", Problem: err.Error()})
	}
	return errors.Join(errs...)
}

type channel struct {
	cfg      Config
	env      notifier.Env
	client   *http.Client
	silences silences
	now      func() time.Time // by Alertmanager's clock, which ends alerts and silences
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
	its := clock.NewServer(env.Now)
	client.Transport = its.Transport(client.Transport)
	return &channel{cfg: cfg, env: env, client: client, now: its.Now}, nil
}

// Send posts the incident's alert. When its severity label has risen, the
// alert with the old label is ended in the same request.
func (c *channel) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	if n.Update == "digest" {
		return th, nil // nothing that could be routed
	}
	labels, before, err := c.identify(n, th)
	if err != nil {
		return th, bus.Reject(notifier.Unsent(err))
	}
	alerts := []alert{c.alert(n, labels)}
	if before != nil {
		old := alerts[0]
		old.Labels, old.EndsAt = before, c.now().UTC()
		alerts = append(alerts, old)
	}
	state, err := json.Marshal(labels)
	if err != nil {
		return th, bus.Reject(notifier.Unsent(fmt.Errorf("alertmanager: %w", err)))
	}
	if err := c.post(ctx, alerts, grace); err != nil {
		return th, err
	}
	th.Ref = n.Incident
	th.State = map[string]string{labelsKey: string(state)}
	return th, nil
}

// Interval is how often Repeat is called.
func (c *channel) Interval() time.Duration { return c.cfg.Repeat }

// Repeat sends the alerts of all open incidents again, in one request.
func (c *channel) Repeat(ctx context.Context, open []notifier.Case) error {
	var alerts []alert
	for _, o := range open {
		labels, _, err := c.identify(o.Notification, o.Thread)
		if err != nil {
			return err
		}
		alerts = append(alerts, c.alert(o.Notification, labels))
	}
	return c.post(ctx, alerts, c.env.HTTP.Timeout)
}

// grace is how long a delivery waits for the slower replicas once one has the
// alert. They get it with the next repeat.
const grace = 2 * time.Second

// post gives the alerts to every replica at once. It succeeds when one has
// them: replicas share what they have notified of, and each gets all alerts.
func (c *channel) post(ctx context.Context, alerts []alert, grace time.Duration) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return bus.Reject(notifier.Unsent(fmt.Errorf("alertmanager: %w", err)))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(c.cfg.URLs))
	var wg sync.WaitGroup
	var first sync.Once
	late := time.NewTimer(time.Hour) // until one has the alerts, ctx bounds the wait
	defer late.Stop()
	for i, base := range c.cfg.URLs {
		wg.Go(func() {
			if errs[i] = c.postTo(ctx, base, body); errs[i] == nil {
				first.Do(func() { late.Reset(grace) })
			}
		})
	}
	answered := make(chan struct{})
	go func() { wg.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-late.C:
		cancel()
		<-answered
	}
	var worst error
	for i, err := range errs {
		if err == nil {
			return nil
		}
		// What may pass by itself decides over what will not.
		if _, rejected := errors.AsType[*bus.RejectError](err); worst == nil || !rejected {
			worst = fmt.Errorf("alertmanager %d of %d: %w", i+1, len(errs), err)
		}
	}
	return worst
}

func (c *channel) postTo(ctx context.Context, base string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(base, "/")+"/api/v2/alerts", bytes.NewReader(body))
	if err != nil {
		return bus.Reject(notifier.Refused(errors.New("not a URL")))
	}
	req.Header.Set("Content-Type", "application/json")
	_, err = notifier.Post(ctx, c.client, req, c.now())
	return err
}

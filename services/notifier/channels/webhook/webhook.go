// Package webhook delivers reports as CloudEvents over HTTP, signed as
// Standard Webhooks describes (standardwebhooks.com): the receiver checks
// webhook-signature and drops a webhook-id that it has seen.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("webhook",
		"CloudEvents over HTTP, signed as Standard Webhooks.", true,
		func() Config { return Config{} }, New))
}

// Config is a channel of type webhook.
type Config struct {
	// URL receives the reports by POST.
	URL string `yaml:"url"`
	// SecretFile holds the signing secret, whsec_ and base64. Two secrets, one a
	// line, sign twice, so that the receiver can change over. Read at every
	// delivery.
	SecretFile string `yaml:"secret_file"`
	// Headers are sent with every request.
	Headers map[string]string `yaml:"headers"`
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, &policy.FieldError{Path: "url", Value: c.URL, Problem: "is not an http or https URL", Fix: "write https://host/path"})
	}
	for k := range c.Headers {
		if strings.HasPrefix(strings.ToLower(k), "webhook-") {
			errs = append(errs, &policy.FieldError{Path: "headers." + k, Problem: "is set by the signature", Fix: "remove it"})
		}
	}
	return errors.Join(errs...)
}

type channel struct {
	cfg Config
	env notifier.Env
}

// New makes the channel.
func New(cfg Config, env notifier.Env) (notifier.Channel, error) {
	return &channel{cfg: cfg, env: env}, nil
}

// Send posts the report in CloudEvents' structured mode: the signature covers
// the body, and so the attributes have to be in it.
func (c *channel) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	id := event.NotificationID(n.Incident, n.Revision, n.Channel)
	body, err := encode(id, n)
	if err != nil {
		return th, bus.Reject(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return th, bus.Reject(fmt.Errorf("webhook: %w", err))
	}
	for k, v := range c.cfg.Headers {
		req.Header.Set(k, v)
	}
	req.Header.Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
	if err := c.sign(req, id, body); err != nil {
		return th, err
	}
	if _, err := notifier.Post(ctx, c.env.HTTP, req, c.env.Now()); err != nil {
		return th, fmt.Errorf("webhook: %w", err)
	}
	th.Ref = id
	return th, nil
}

func encode(id string, n event.Notification) ([]byte, error) {
	e := cloudevents.New()
	e.SetID(id)
	e.SetType("dev.oncall.notification.v1")
	e.SetSource("//" + orDefault(n.Report.Cluster, "cluster") + "/notifier")
	e.SetSubject(n.Report.Entity.String())
	e.SetTime(n.Report.Time)
	e.SetDataSchema(event.SchemaURL("notification/v1.json"))
	if err := e.SetData("application/json", n); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return body, nil
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

func (c *channel) sign(req *http.Request, id string, body []byte) error {
	now := c.env.Now()
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	if c.cfg.SecretFile == "" {
		return nil
	}
	secrets, err := os.ReadFile(c.cfg.SecretFile)
	if err != nil {
		return fmt.Errorf("webhook: secret_file: %w", err)
	}
	var sigs []string
	for line := range strings.Lines(string(secrets)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		w, err := standardwebhooks.NewWebhook(line)
		if err != nil {
			return fmt.Errorf("webhook: secret_file %s: a line is not whsec_ and base64", c.cfg.SecretFile)
		}
		sig, err := w.Sign(id, now, body)
		if err != nil {
			return fmt.Errorf("webhook: sign: %w", err)
		}
		sigs = append(sigs, sig)
	}
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(sigs, " "))
	return nil
}

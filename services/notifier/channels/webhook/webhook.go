// Package webhook delivers reports as CloudEvents over HTTP, signed as
// Standard Webhooks describes (standardwebhooks.com): the receiver checks
// webhook-signature and drops a webhook-id that it has seen.
package webhook

import (
	"bytes"
	"cmp"
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
		"CloudEvents over HTTP, signed as Standard Webhooks.", notifier.Traits{Edits: true, Raw: true, Examples: []string{example}},
		func() Config { return Config{} }, New))
}

const example = `url: https://hooks.example.com/oncall
# whsec_ and base64; a second line signs a second time, while you change over.
secret_file: /etc/oncall/secrets/webhook-secret
headers: {X-Environment: production}
header_files: {Authorization: /etc/oncall/secrets/webhook-authorization}
`

// Config is a channel of type webhook.
type Config struct {
	// URL receives the reports by POST.
	URL string `yaml:"url"`
	// SecretFile holds the signing secret, whsec_ and base64 of 24 to 64 bytes.
	// Two secrets, one a line, sign twice, so that the receiver can change over.
	// Read at every delivery. Without it nothing is signed.
	SecretFile string `yaml:"secret_file"`
	// Headers are sent with every request. A secret belongs into header_files.
	Headers map[string]string `yaml:"headers"`
	// HeaderFiles are headers whose values are secrets, such as Authorization,
	// each in a file. Read at every delivery.
	HeaderFiles map[string]string `yaml:"header_files"`
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, &policy.FieldError{Path: "url", Value: c.URL, Problem: "is not an http or https URL", Fix: "write https://host/path"})
	}
	for k := range c.Headers {
		if l := strings.ToLower(k); strings.HasPrefix(l, "webhook-") || l == "content-type" {
			errs = append(errs, &policy.FieldError{Path: "headers." + k, Problem: "is set by the channel", Fix: "remove it"})
		}
	}
	for k := range c.HeaderFiles {
		if l := strings.ToLower(k); strings.HasPrefix(l, "webhook-") || l == "content-type" {
			errs = append(errs, &policy.FieldError{Path: "header_files." + k, Problem: "is set by the channel", Fix: "remove it"})
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
// the body, and so the attributes have to be in it. A receiver that has seen
// the webhook-id drops the repeat.
func (c *channel) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	id := event.NotificationID(n.Incident, n.Revision, n.Channel)
	body, err := encode(id, n)
	if err != nil {
		return th, bus.Reject(notifier.Unsent(err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return th, bus.Reject(notifier.Refused(errors.New("webhook: url is not a URL")))
	}
	for k, v := range c.cfg.Headers {
		req.Header.Set(k, v)
	}
	for k, file := range c.cfg.HeaderFiles {
		v, err := os.ReadFile(file)
		if err != nil {
			return th, notifier.Unsent(fmt.Errorf("webhook: header_files.%s: %w", k, err))
		}
		req.Header.Set(k, strings.TrimSpace(string(v)))
	}
	req.Header.Set("Content-Type", cloudevents.ApplicationCloudEventsJSON)
	if err := c.sign(req, id, body); err != nil {
		return th, notifier.Unsent(err)
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
	e.SetType(event.NotificationQueued.Type)
	e.SetSource("//" + cmp.Or(n.Report.Cluster, "cluster") + "/notifier")
	e.SetSubject(n.Report.Entity.String())
	e.SetTime(n.Report.Time)
	e.SetDataSchema(event.SchemaURL(event.NotificationQueued.Schema))
	if err := e.SetData("application/json", n); err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return body, nil
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
	if len(sigs) == 0 {
		return fmt.Errorf("webhook: secret_file %s is empty", c.cfg.SecretFile)
	}
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(sigs, " "))
	return nil
}

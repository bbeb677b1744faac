// Package slack tells a Slack channel about incidents.
//
// With a bot token there is one message an incident: it is edited in place
// until the incident is resolved, its details are in its thread, and the
// thread is answered (which notifies, as an edit does not) when the severity
// rises, the likely cause changes, or the incident is resolved. With an
// incoming webhook, which can neither edit nor thread, there is a message for
// each of these.
//
// Slack drops no repeats. A bot's messages carry the notification's id as
// metadata, and the channel is searched for it before anything is sent again
// after an attempt whose end was not seen. An incoming webhook cannot search:
// such an attempt may repeat one message.
package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/slack-go/slack"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("slack",
		"One Slack message per incident, edited in place until resolved, with details in its thread.", notifier.Traits{Edits: true, Examples: []string{exampleBot, exampleWebhook}},
		func() Config { return Config{} }, New))
}

const (
	exampleBot = `# One message an incident, edited in place; details and news in its thread.
token_file: /etc/oncall/secrets/slack-token
channel: C0123456789
api_url: https://slack.com/api/
`
	exampleWebhook = `# A message for each piece of news: a webhook can neither edit nor thread.
webhook_url_file: /etc/oncall/secrets/slack-webhook-url
`
)

// Config is a channel of type slack. Either token_file and channel, or
// webhook_url_file.
type Config struct {
	// TokenFile holds a bot token with chat:write and channels:history (or
	// groups:history). Read at every delivery.
	TokenFile string `yaml:"token_file"`
	// Channel is the id of the channel, such as C0123456789.
	Channel string `yaml:"channel"`
	// WebhookURLFile holds the URL of an incoming webhook, which is a secret.
	WebhookURLFile string `yaml:"webhook_url_file"`
	// APIURL is the base of Slack's API. Default: https://slack.com/api/
	APIURL string `yaml:"api_url"`
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	bot, hook := c.TokenFile != "", c.WebhookURLFile != ""
	switch {
	case bot == hook:
		errs = append(errs, &policy.FieldError{Problem: "needs either token_file and channel, or webhook_url_file"})
	case bot && c.Channel == "":
		errs = append(errs, &policy.FieldError{Path: "channel", Problem: "is missing", Fix: "write the channel's id, such as C0123456789"})
	case bot && strings.HasPrefix(c.Channel, "#"):
		// A name finds no history, and messages could not be looked for.
		errs = append(errs, &policy.FieldError{Path: "channel", Value: c.Channel, Problem: "is a name", Fix: "write the channel's id, such as C0123456789"})
	case hook && c.Channel != "":
		errs = append(errs, &policy.FieldError{Path: "channel", Value: c.Channel, Problem: "is decided by the webhook", Fix: "remove it"})
	}
	if c.APIURL != "" {
		if u, err := url.Parse(c.APIURL); err != nil || u.Host == "" || !strings.HasSuffix(c.APIURL, "/") {
			errs = append(errs, &policy.FieldError{Path: "api_url", Value: c.APIURL, Problem: "is not a URL that ends in /", Fix: "write https://slack.com/api/"})
		}
	}
	return errors.Join(errs...)
}

// New makes the channel.
func New(cfg Config, env notifier.Env) (notifier.Channel, error) {
	if cfg.WebhookURLFile != "" {
		return &webhook{cfg: cfg, env: env}, nil
	}
	return &bot{cfg: cfg, env: env}, nil
}

type webhook struct {
	cfg Config
	env notifier.Env
}

// Send posts a message for what is worth one: an edit is not possible.
func (c *webhook) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	if n.Update == "updated" || n.Update == "quiet" {
		return th, nil
	}
	hook, err := readSecret("webhook_url_file", c.cfg.WebhookURLFile)
	if err != nil {
		return th, err
	}
	m := message(n)
	body, err := json.Marshal(slack.WebhookMessage{Text: m.text, Blocks: &slack.Blocks{BlockSet: m.blocks}})
	if err != nil {
		return th, bus.Reject(fmt.Errorf("slack: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook, bytes.NewReader(body))
	if err != nil {
		// The error of a bad URL would hold the URL.
		return th, bus.Reject(notifier.Refused(errors.New("slack: webhook_url_file does not hold a URL")))
	}
	req.Header.Set("Content-Type", "application/json")
	if _, err := notifier.Post(ctx, c.env.HTTP, req, c.env.Now()); err != nil {
		return th, fmt.Errorf("slack: webhook: %w", err)
	}
	th.Ref = n.Incident
	return th, nil
}

// readSecret reads a file at every delivery, so that a new secret needs no
// restart. A file that is not there may come: it is a mount.
func readSecret(field, file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", notifier.Unsent(fmt.Errorf("slack: %s: %w", field, err))
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", notifier.Unsent(fmt.Errorf("slack: %s: %s is empty", field, file))
	}
	return s, nil
}

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
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/slack-go/slack"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("slack",
		"One Slack message per incident, edited in place until resolved, with details in its thread.", true,
		func() Config { return Config{} }, New))
}

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

// metadataType marks our messages in Slack.
const metadataType = "oncall_incident"

type bot struct {
	cfg Config
	env notifier.Env
}

// Send posts or edits the incident's message, and answers its thread when a
// person should look again.
func (c *bot) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	token, err := readSecret("token_file", c.cfg.TokenFile)
	if err != nil {
		return th, err
	}
	opts := []slack.Option{slack.OptionHTTPClient(c.env.HTTP), slack.OptionRetry(0)}
	if c.cfg.APIURL != "" {
		opts = append(opts, slack.OptionAPIURL(c.cfg.APIURL))
	}
	api := slack.New(token, opts...)
	repeated := th.Pending != ""
	if th.Ref == "" && repeated {
		if th.Ref, err = c.find(ctx, api, n); err != nil {
			return th, classify("search for an earlier attempt", err)
		}
	}
	text, blocks := message(n.Report)
	body := []slack.MsgOption{
		slack.MsgOptionText(text, false), slack.MsgOptionBlocks(blocks...),
		slack.MsgOptionMetadata(metadata(n, "main")), slack.MsgOptionDisableLinkUnfurl(),
	}
	if th.Ref == "" {
		if _, th.Ref, err = api.PostMessageContext(ctx, c.cfg.Channel, body...); err != nil {
			return th, classify("post message", err)
		}
	} else if _, _, _, err = api.UpdateMessageContext(ctx, c.cfg.Channel, th.Ref, body...); err != nil {
		return th, classify("update message", err)
	}
	reply := thread(n)
	if reply == "" {
		return th, nil
	}
	if repeated {
		done, err := c.replied(ctx, api, n, th.Ref)
		if err != nil {
			return th, classify("search the thread for an earlier attempt", err)
		}
		if done {
			return th, nil
		}
	}
	_, _, err = api.PostMessageContext(ctx, c.cfg.Channel, slack.MsgOptionTS(th.Ref), slack.MsgOptionText(reply, false),
		slack.MsgOptionMetadata(metadata(n, "thread")), slack.MsgOptionDisableLinkUnfurl())
	if err != nil {
		return th, classify("answer thread", err)
	}
	return th, nil
}

func metadata(n event.Notification, part string) slack.SlackMetadata {
	return slack.SlackMetadata{EventType: metadataType, EventPayload: map[string]any{
		"id": event.NotificationID(n.Incident, n.Revision, n.Channel), "incident": n.Incident, "channel": n.Channel, "part": part,
	}}
}

// find looks for the incident's message among the channel's latest.
func (c *bot) find(ctx context.Context, api *slack.Client, n event.Notification) (string, error) {
	res, err := api.GetConversationHistoryContext(ctx, &slack.GetConversationHistoryParameters{
		ChannelID: c.cfg.Channel, Limit: 200, IncludeAllMetadata: true,
		Oldest: strconv.FormatInt(c.env.Now().Add(-lookback).Unix(), 10),
	})
	if err != nil {
		return "", err
	}
	for _, m := range res.Messages {
		if m.Metadata.EventType == metadataType && m.Metadata.EventPayload["incident"] == n.Incident && m.Metadata.EventPayload["part"] == "main" {
			return m.Timestamp, nil
		}
	}
	return "", nil
}

// replied looks for this very notification in the incident's thread.
func (c *bot) replied(ctx context.Context, api *slack.Client, n event.Notification, ts string) (bool, error) {
	id := event.NotificationID(n.Incident, n.Revision, n.Channel)
	msgs, _, _, err := api.GetConversationRepliesContext(ctx, &slack.GetConversationRepliesParameters{
		ChannelID: c.cfg.Channel, Timestamp: ts, Limit: 200, IncludeAllMetadata: true,
	})
	if err != nil {
		return false, err
	}
	for _, m := range msgs {
		if m.Metadata.EventType == metadataType && m.Metadata.EventPayload["id"] == id && m.Metadata.EventPayload["part"] == "thread" {
			return true, nil
		}
	}
	return false, nil
}

// classify sorts Slack's errors as notifier.Channel wants them.
func classify(doing string, err error) error {
	if limited, ok := errors.AsType[*slack.RateLimitedError](err); ok {
		return bus.Retry(errors.Join(fmt.Errorf("slack: %s: rate limited", doing), notifier.ErrUnsent), limited.RetryAfter)
	}
	if answer, ok := errors.AsType[slack.SlackErrorResponse](err); ok {
		switch answer.Err {
		case "internal_error", "fatal_error", "service_unavailable", "request_timeout", "ratelimited":
			return fmt.Errorf("slack: %s: %s", doing, answer.Err)
		}
		return bus.Reject(fmt.Errorf("slack: %s: %s", doing, answer.Err))
	}
	if status, ok := errors.AsType[slack.StatusCodeError](err); ok {
		err := fmt.Errorf("slack: %s: answered %d %s", doing, status.Code, http.StatusText(status.Code))
		if status.Code/100 == 3 || status.Code/100 == 4 {
			return bus.Reject(err)
		}
		return err
	}
	return fmt.Errorf("slack: %s: %w", doing, err)
}

type webhook struct {
	cfg Config
	env notifier.Env
}

// Send posts a message for what is worth one: an edit is not possible.
func (c *webhook) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	if n.Update == "updated" {
		return th, nil
	}
	hook, err := readSecret("webhook_url_file", c.cfg.WebhookURLFile)
	if err != nil {
		return th, err
	}
	text, blocks := message(n.Report)
	if err := slack.PostWebhookCustomHTTPContext(ctx, hook, c.env.HTTP, &slack.WebhookMessage{
		Text: text, Blocks: &slack.Blocks{BlockSet: blocks},
	}); err != nil {
		return th, classify("post to webhook", withoutURL(err))
	}
	th.Ref = n.Incident
	return th, nil
}

// withoutURL takes the address out of an HTTP client's error: a webhook's
// address is its secret.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func readSecret(field, file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("slack: %s: %w", field, err)
	}
	return strings.TrimSpace(string(b)), nil
}

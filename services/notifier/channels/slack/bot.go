package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/slack-go/slack"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
)

const (
	// metadataType marks our messages in Slack.
	metadataType = "oncall_incident"
	// lookback is how far back an earlier attempt is searched for: the queue
	// gives a notification up after a day.
	lookback = 25 * time.Hour
	// maxPages bounds a search, newest first. An earlier attempt is as old as
	// its retry, and so among the latest.
	maxPages = 10
)

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
	opts := []slack.Option{slack.OptionHTTPClient(transport{c.env})}
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
	if th.Ref, err = c.show(ctx, api, n, th.Ref); err != nil {
		return th, err
	}
	reply, ok := thread(n, th)
	if !ok {
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
	_, err = c.post(ctx, api, n, reply, "thread", slack.MsgOptionTS(th.Ref))
	return th, classify("answer thread", err)
}

// show posts the incident's message, or edits the one at ts. It returns where
// the message is.
func (c *bot) show(ctx context.Context, api *slack.Client, n event.Notification, ts string) (string, error) {
	m := message(n)
	if ts == "" {
		ts, err := c.post(ctx, api, n, m, "main")
		return ts, classify("post message", err)
	}
	_, _, _, err := api.UpdateMessageContext(ctx, c.cfg.Channel, ts, options(n, m, "main")...)
	switch {
	case answered(err, "message_not_found"): // somebody deleted it
		ts, err := c.post(ctx, api, n, m, "main")
		return ts, classify("post message", err)
	case answered(err, "edit_window_closed", "cant_update_message"):
		return ts, nil // it stays as it is; its thread goes on
	}
	return ts, classify("update message", err)
}

// post posts a message. One whose blocks Slack does not take goes as text: a
// page must not be lost to its layout.
func (c *bot) post(ctx context.Context, api *slack.Client, n event.Notification, m content, part string, more ...slack.MsgOption) (string, error) {
	_, ts, err := api.PostMessageContext(ctx, c.cfg.Channel, append(options(n, m, part), more...)...)
	if answered(err, "invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long") {
		c.env.Log.Warn("blocks of a message refused, sending its text", "incident", n.Incident, "err", err)
		m.blocks = nil
		_, ts, err = api.PostMessageContext(ctx, c.cfg.Channel, append(options(n, m, part), more...)...)
	}
	return ts, err
}

func options(n event.Notification, m content, part string) []slack.MsgOption {
	opts := []slack.MsgOption{
		slack.MsgOptionText(m.text, false), slack.MsgOptionDisableLinkUnfurl(), slack.MsgOptionDisableMediaUnfurl(),
		slack.MsgOptionMetadata(slack.SlackMetadata{EventType: metadataType, EventPayload: map[string]any{
			"id": notificationID(n), "incident": n.Incident, "channel": n.Channel, "part": part,
		}}),
	}
	if len(m.blocks) > 0 {
		opts = append(opts, slack.MsgOptionBlocks(m.blocks...))
	}
	return opts
}

func notificationID(n event.Notification) string {
	return event.NotificationID(n.Incident, n.Revision, n.Channel)
}

// find looks for the incident's message among the channel's latest.
func (c *bot) find(ctx context.Context, api *slack.Client, n event.Notification) (string, error) {
	q := &slack.GetConversationHistoryParameters{
		ChannelID: c.cfg.Channel, Limit: 200, IncludeAllMetadata: true,
		Oldest: strconv.FormatInt(c.env.Now().Add(-lookback).Unix(), 10),
	}
	for range maxPages {
		res, err := api.GetConversationHistoryContext(ctx, q)
		if err != nil {
			return "", err
		}
		for _, m := range res.Messages {
			if ours(m, "incident", n.Incident, n.Channel, "main") {
				return m.Timestamp, nil
			}
		}
		if q.Cursor = res.ResponseMetaData.NextCursor; q.Cursor == "" {
			break
		}
	}
	return "", nil
}

// replied looks for this very notification in the incident's thread.
func (c *bot) replied(ctx context.Context, api *slack.Client, n event.Notification, ts string) (bool, error) {
	q := &slack.GetConversationRepliesParameters{ChannelID: c.cfg.Channel, Timestamp: ts, Limit: 200, IncludeAllMetadata: true}
	for range maxPages {
		msgs, _, next, err := api.GetConversationRepliesContext(ctx, q)
		if err != nil {
			return false, err
		}
		for _, m := range msgs {
			if ours(m, "id", notificationID(n), n.Channel, "thread") {
				return true, nil
			}
		}
		if q.Cursor = next; next == "" {
			break
		}
	}
	return false, nil
}

func ours(m slack.Message, key, value, channel, part string) bool {
	p := m.Metadata.EventPayload
	return m.Metadata.EventType == metadataType && p[key] == value && p["channel"] == channel && p["part"] == part
}

// transport gives Slack's client the sorted errors of notifier.Do, instead of
// its own that hold addresses and know no limit.
type transport struct{ env notifier.Env }

// Do sends a request.
func (t transport) Do(req *http.Request) (*http.Response, error) {
	res, err := notifier.Do(req.Context(), t.env.HTTP, req, t.env.Now())
	if err != nil {
		return nil, err
	}
	// Slack may say it in the body of a 200, too.
	if wait := notifier.RetryAfter(res.Header, t.env.Now()); wait > 0 {
		var answer slack.SlackResponse
		body, _ := io.ReadAll(res.Body) // from memory
		if json.Unmarshal(body, &answer) == nil && !answer.Ok {
			return nil, bus.Retry(notifier.Unsent(errors.New("answered 200 OK, and to wait")), wait)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
	}
	return res, nil
}

// The errors that pass, and those that every message would get. What is in
// neither is about the message.
var (
	passing = []string{
		"internal_error", "fatal_error", "service_unavailable", "request_timeout", "ratelimited", "rate_limited", "team_added_to_org",
	}
	refusing = []string{
		"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "no_permission", "missing_scope",
		"not_allowed_token_type", "org_login_required", "ekm_access_denied", "access_denied", "two_factor_setup_required",
		"team_access_not_granted", "channel_not_found", "not_in_channel", "is_archived", "restricted_action",
		"restricted_action_read_only_channel", "restricted_action_thread_only_channel", "restricted_action_non_threadable_channel",
	}
)

func answered(err error, codes ...string) bool {
	answer, ok := errors.AsType[slack.SlackErrorResponse](err)
	return ok && slices.Contains(codes, answer.Err)
}

// classify sorts the errors of Slack's client as notifier.Channel wants them.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	if answer, ok := errors.AsType[slack.SlackErrorResponse](err); ok {
		err := fmt.Errorf("slack: %s: %s", doing, notifier.Clip(strconv.QuoteToASCII(answer.Err), 80))
		switch {
		case slices.Contains(refusing, answer.Err):
			return bus.Reject(notifier.Refused(err))
		case answer.Err == "ratelimited", answer.Err == "rate_limited":
			return notifier.Unsent(err)
		case slices.Contains(passing, answer.Err):
			return err
		}
		return bus.Reject(notifier.Unsent(err))
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("slack: %s: the answer is not Slack's", doing) // a proxy's page, or cut
	}
	return fmt.Errorf("slack: %s: %w", doing, err)
}

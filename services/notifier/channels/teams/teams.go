// Package teams tells a Microsoft Teams channel about incidents, through a
// Workflows webhook ("When a Teams webhook request is received"). A workflow's
// card cannot be edited afterwards, so there is a new card when an incident
// opens, when its severity rises, when the likely cause changes, and when it
// is resolved; a repeat after a crash may show one card twice.
package teams

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("teams",
		"Adaptive cards to Microsoft Teams through a Workflows webhook.", notifier.Traits{Examples: []string{example}},
		func() Config { return Config{} }, New))
}

const example = `# The file holds the URL of the workflow
# "Post to a channel when a webhook request is received".
url_file: /etc/oncall/secrets/teams-url
`

// Config is a channel of type teams.
type Config struct {
	// URLFile holds the workflow's URL, which is a secret. Read at every delivery.
	URLFile string `yaml:"url_file"`
}

// Validate checks the fields.
func (c *Config) Validate() error {
	if c.URLFile == "" {
		return &policy.FieldError{Path: "url_file", Problem: "is missing", Fix: "write the file that holds the workflow's URL"}
	}
	return nil
}

type channel struct {
	cfg Config
	env notifier.Env
}

// New makes the channel.
func New(cfg Config, env notifier.Env) (notifier.Channel, error) {
	return &channel{cfg: cfg, env: env}, nil
}

// Send posts a card. A workflow answers 202 Accepted, or an error of its own.
func (c *channel) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	if n.Update == "updated" || n.Update == "quiet" {
		return th, nil
	}
	secret, err := os.ReadFile(c.cfg.URLFile)
	if err != nil {
		return th, notifier.Unsent(fmt.Errorf("teams: url_file: %w", err)) // a mount may come
	}
	body, err := message(n)
	if err != nil {
		return th, bus.Reject(notifier.Unsent(fmt.Errorf("teams: %w", err)))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSpace(string(secret)), bytes.NewReader(body))
	if err != nil {
		// The error of a bad URL would hold the URL.
		return th, bus.Reject(notifier.Refused(errors.New("teams: url_file does not hold a URL")))
	}
	req.Header.Set("Content-Type", "application/json")
	if _, err := notifier.Post(ctx, c.env.HTTP, req, c.env.Now()); err != nil {
		return th, fmt.Errorf("teams: %w", err)
	}
	th.Ref = n.Incident
	return th, nil
}

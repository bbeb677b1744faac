// Package teams tells a Microsoft Teams channel about incidents, through a
// Workflows webhook ("When a Teams webhook request is received"). A workflow's
// card cannot be edited afterwards, so there is a new card when an incident
// opens, when its severity rises, when the likely cause changes, and when it
// is resolved; a repeat after a crash may show one card twice.
package teams

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/atc0005/go-teams-notify/v2/adaptivecard"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/services/notifier"
)

func init() {
	notifier.Builtin.Register(notifier.Define("teams",
		"Adaptive cards to Microsoft Teams through a Workflows webhook.", false,
		func() Config { return Config{} }, New))
}

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

// Send posts a card.
func (c *channel) Send(ctx context.Context, n event.Notification, th notifier.Thread) (notifier.Thread, error) {
	secret, err := os.ReadFile(c.cfg.URLFile)
	if err != nil {
		return th, fmt.Errorf("teams: url_file: %w", err)
	}
	msg, err := message(n)
	if err != nil {
		return th, bus.Reject(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSpace(string(secret)), msg.Payload())
	if err != nil {
		// The error of a bad URL would hold the URL.
		return th, bus.Reject(errors.New("teams: url_file does not hold a URL"))
	}
	req.Header.Set("Content-Type", "application/json")
	if _, err := notifier.Post(ctx, c.env.HTTP, req, c.env.Now()); err != nil {
		return th, fmt.Errorf("teams: %w", err)
	}
	th.Ref = n.Incident
	return th, nil
}

// escape makes telemetry text inert in the Markdown subset of cards, and in
// the <at> mentions of Teams.
func escape(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1
		}
		return r
	}, s)
	return strings.NewReplacer("<", "‹", ">", "›", "[", `\[`, "]", `\]`, "*", `\*`, "_", `\_`, "`", "ˋ", "#", `\#`).Replace(s)
}

func message(n event.Notification) (*adaptivecard.Message, error) {
	r := n.Report
	card := adaptivecard.NewCard()
	card.SetFullWidth()
	title := r.Headline
	if r.State == event.Resolved {
		title = "Resolved: " + title
	}
	elements := []adaptivecard.Element{adaptivecard.NewTitleTextBlock(escape(title), true)}
	text := func(s string) {
		if s != "" {
			elements = append(elements, adaptivecard.NewTextBlock(s, true))
		}
	}
	text(escape(r.TLDR))
	if len(r.Causes) == 0 {
		text("**Likely cause**: no cause stands out")
	} else {
		var b strings.Builder
		b.WriteString("**Likely cause**")
		for _, c := range r.Causes[:min(3, len(r.Causes))] {
			fmt.Fprintf(&b, "\n\n- %s (%s)", escape(c.Text), c.Confidence)
		}
		text(b.String())
	}
	if len(r.Checks) > 0 {
		text("**Next check** (read only): " + escape(r.Checks[0].Why))
		text(escape(r.Checks[0].Command))
	}
	if len(r.Rollback) > 0 && r.State == event.Open {
		text("**Rollback (needs a human)**")
		text(escape(r.Rollback[0].Command))
	}
	text("oncall why " + event.ShortID(r.Incident))
	if err := card.AddElement(false, elements...); err != nil {
		return nil, fmt.Errorf("teams: %w", err)
	}
	for _, l := range r.Links[:min(3, len(r.Links))] {
		a, err := adaptivecard.NewActionOpenURL(l.URL, l.Title)
		if err != nil {
			continue // a link that Teams refuses is not worth losing the card
		}
		if err := card.AddAction(false, a); err != nil {
			return nil, fmt.Errorf("teams: %w", err)
		}
	}
	msg, err := adaptivecard.NewMessageFromCard(card)
	if err != nil {
		return nil, fmt.Errorf("teams: %w", err)
	}
	if err := msg.Prepare(); err != nil {
		return nil, fmt.Errorf("teams: %w", err)
	}
	return msg, nil
}

package teams

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/atc0005/go-teams-notify/v2/adaptivecard"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/services/notifier"
)

const (
	// maxMessage is the size that Teams takes, 28 KB, less some air.
	maxMessage = 27 << 10
	// maxLinks is how many buttons a card shows before it hides them.
	maxLinks = 3
)

// markdown is the subset that cards read. Telemetry text must not write any of
// it: a link, an emphasis, a list, a mention.
var markdown = strings.NewReplacer(
	`\`, `\\`, "[", `\[`, "]", `\]`, "*", `\*`, "_", `\_`, "#", `\#`, "`", "ˋ", "<", "‹", ">", "›", "~", `\~`, "|", `\|`,
)

// text is telemetry as one line of at most n bytes before it is escaped.
func text(s string, n int) string {
	s = markdown.Replace(notifier.Clip(render.Plain(s), n))
	// A bare address becomes a link in some clients.
	return strings.ReplaceAll(s, "://", ":/\u2060/")
}

// message is a card in the envelope of a Workflows webhook. What does not fit
// is left out from the end: the title always fits.
func message(n event.Notification) ([]byte, error) {
	elements := incident(n.Report)
	if n.Update == "digest" {
		elements = digest(n.Report)
	}
	for {
		body, err := encode(n, elements)
		if err != nil || len(body) <= maxMessage || len(elements) <= 1 {
			return body, err
		}
		elements = elements[:len(elements)-1]
	}
}

func encode(n event.Notification, elements []adaptivecard.Element) ([]byte, error) {
	card := adaptivecard.NewCard()
	card.SetFullWidth()
	// Shown in the notification and in the list of chats, where there is no card.
	card.FallbackText = text(headline(n.Report), 300)
	if err := card.AddElement(false, elements...); err != nil {
		return nil, err
	}
	links := 0
	for _, l := range n.Report.Links {
		u, err := url.Parse(l.URL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(l.URL) > 2000 || links == maxLinks {
			continue
		}
		a, err := adaptivecard.NewActionOpenURL(u.String(), notifier.Clip(render.Plain(l.Title), 40))
		if err != nil {
			continue // a link that Teams refuses is not worth losing the card
		}
		if err := card.AddAction(false, a); err != nil {
			return nil, err
		}
		links++
	}
	msg, err := adaptivecard.NewMessageFromCard(card)
	if err != nil {
		return nil, err
	}
	if err := msg.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(msg)
}

func headline(r event.Report) string {
	switch {
	case r.State != event.Resolved || r.Reason == "digest":
		return r.Headline
	case r.ResolvedAt == nil || r.ResolvedAt.Before(r.Onset):
		return "Resolved: " + r.Headline
	}
	return "Resolved after " + strings.TrimSuffix(r.ResolvedAt.Sub(r.Onset).Round(time.Minute).String(), "0s") + ": " + r.Headline
}

// block is a paragraph of Markdown that is ours, with escaped telemetry in it.
func block(s string) adaptivecard.Element { return adaptivecard.NewTextBlock(s, true) }

// command is shown as it is, to be copied.
func command(s string) adaptivecard.Element {
	return adaptivecard.NewCodeBlock(notifier.Clip(render.Plain(s), 600), "Bash", 1)
}

func incident(r event.Report) []adaptivecard.Element {
	title := adaptivecard.NewTitleTextBlock(text(headline(r), 300), true)
	switch {
	case r.State == event.Resolved:
		title.Color = adaptivecard.ColorGood
	case r.Priority.Pages():
		title.Color = adaptivecard.ColorAttention
	default:
		title.Color = adaptivecard.ColorWarning
	}
	out := []adaptivecard.Element{title}
	if r.TLDR != "" {
		out = append(out, block(text(r.TLDR, 2000)))
	}
	likely := "**Likely cause**: no cause stands out"
	if len(r.Causes) > 0 {
		likely = "**Likely cause**"
		for _, c := range r.Causes[:min(3, len(r.Causes))] {
			likely += fmt.Sprintf("\n\n- %s (%s)", text(c.Text, 500), c.Confidence)
		}
	}
	out = append(out, block(likely))
	if len(r.Checks) > 0 && r.State == event.Open {
		out = append(out, block("**Next checks** (read only)"))
		for _, c := range r.Checks[:min(3, len(r.Checks))] {
			out = append(out, block(text(c.Why, 200)), command(c.Command))
		}
	}
	if len(r.Rollback) > 0 && r.State == event.Open {
		out = append(out, block("**Rollback (needs a human)**"), command(r.Rollback[0].Command))
	}
	if len(r.Alerts) > 0 && r.State == event.Open {
		out = append(out, block("Also firing: "+text(strings.Join(r.Alerts, ", "), 500)))
	}
	small := block("oncall why " + event.ShortID(r.Incident))
	small.Size, small.Spacing = adaptivecard.SizeSmall, adaptivecard.SpacingMedium
	return append(out, small)
}

// digest lists what was not sent. Its headings have no reference.
func digest(r event.Report) []adaptivecard.Element {
	out := []adaptivecard.Element{adaptivecard.NewTitleTextBlock(text(r.Headline, 300), true), block(text(r.TLDR, 500))}
	var list strings.Builder
	flush := func() {
		if list.Len() > 0 {
			out = append(out, block(list.String()))
		}
		list.Reset()
	}
	for _, e := range r.Timeline {
		if e.Ref == "" {
			flush()
			list.WriteString("**" + text(e.What, 200) + "**")
			continue
		}
		list.WriteString("\n\n- " + text(e.What, 300) + " (oncall why " + event.ShortID(e.Ref) + ")")
	}
	flush()
	return out
}

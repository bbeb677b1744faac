package slack

import (
	"fmt"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/oncall-copilot/oncall/pkg/event"
)

const (
	// maxSection is Slack's limit for the text of a section, less some air.
	maxSection = 2900
	// lookback is how far back an earlier attempt is searched for: the queue
	// gives a notification up after a day.
	lookback = 25 * time.Hour
)

// escape makes telemetry text inert in Slack's markup: without < there is no
// mention, no link and no date. Backquotes would end a code span.
func escape(s string) string {
	s = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "ˋ").Replace(s)
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return -1 // control characters and text direction overrides
		}
		return r
	}, s)
}

func code(s string) string { return "`" + strings.ReplaceAll(escape(s), "\n", " ") + "`" }

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

// message is the incident's one message: what a phone shows first, then what
// it is, what caused it, what to look at, and what a human may do.
func message(r event.Report) (text string, blocks []slack.Block) {
	text = escape(r.Headline)
	section := func(s string) {
		blocks = append(blocks, slack.NewSectionBlock(slack.NewTextBlockObject(slack.MarkdownType, clip(s, maxSection), false, false), nil, nil))
	}
	mark := map[event.Priority]string{event.P1: ":red_circle:", event.P2: ":large_orange_circle:", event.P3: ":large_yellow_circle:", event.P4: ":white_circle:"}[r.Priority]
	if r.State == event.Resolved {
		mark = ":large_green_circle: *Resolved*"
	}
	section(mark + " *" + text + "*")
	if r.TLDR != "" {
		section(escape(r.TLDR))
	}
	section(causes(r))
	if len(r.Checks) > 0 {
		var b strings.Builder
		b.WriteString("*Next checks* (read only)\n")
		for _, c := range r.Checks[:min(3, len(r.Checks))] {
			fmt.Fprintf(&b, "• %s\n%s\n", escape(c.Why), code(c.Command))
		}
		section(b.String())
	}
	if len(r.Rollback) > 0 && r.State == event.Open {
		section("*Rollback (needs a human)*\n" + code(r.Rollback[0].Command))
	}
	if foot := footer(r); foot != "" {
		blocks = append(blocks, slack.NewContextBlock("", slack.NewTextBlockObject(slack.MarkdownType, clip(foot, maxSection), false, false)))
	}
	return text, blocks
}

func causes(r event.Report) string {
	if len(r.Causes) == 0 {
		return "*Likely cause*: no cause stands out"
	}
	var b strings.Builder
	b.WriteString("*Likely cause*")
	for _, c := range r.Causes[:min(3, len(r.Causes))] {
		fmt.Fprintf(&b, "\n• %s (%s) [%s]", escape(c.Text), c.Confidence, escape(strings.Join(c.Evidence, ", ")))
	}
	return b.String()
}

func footer(r event.Report) string {
	var parts []string
	for _, l := range r.Links {
		if strings.HasPrefix(l.URL, "https://") || strings.HasPrefix(l.URL, "http://") {
			parts = append(parts, "<"+strings.NewReplacer("|", "%7C", ">", "%3E", "<", "%3C").Replace(l.URL)+"|"+escape(l.Title)+">")
		}
	}
	if len(r.Alerts) > 0 {
		parts = append(parts, "also firing: "+escape(strings.Join(r.Alerts, ", ")))
	}
	parts = append(parts, "oncall why "+event.ShortID(r.Incident))
	return strings.Join(parts, "  |  ")
}

// thread is the answer in the incident's thread, or "" when nobody needs to be
// notified again.
func thread(n event.Notification) string {
	r := n.Report
	switch n.Update {
	case "opened":
		var b strings.Builder
		b.WriteString("*Findings*\n")
		for _, f := range r.Findings {
			fmt.Fprintf(&b, "• %s: %s (%s) [%s]\n", escape(f.Entity.String()), escape(f.Title), f.Confidence, escape(strings.Join(f.Evidence, ", ")))
		}
		for _, e := range r.Evidence {
			if len(e.Excerpt) > 0 {
				fmt.Fprintf(&b, "%s %s: %s\n", escape(e.ID), escape(e.Source), code(clip(e.Excerpt[0], 200)))
			}
		}
		for _, u := range r.Unknown {
			fmt.Fprintf(&b, "? %s\n", escape(u))
		}
		if r.Status != "" {
			fmt.Fprintf(&b, "*Status draft*\n%s\n", escape(r.Status))
		}
		return clip(b.String(), 12000)
	case "severity":
		return "Severity rose to *" + string(r.Priority) + "*: " + escape(r.Symptom)
	case "cause":
		return causes(r)
	case "resolved":
		return ":large_green_circle: Resolved. " + escape(r.TLDR)
	}
	return ""
}

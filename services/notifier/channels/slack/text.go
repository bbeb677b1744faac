package slack

import (
	"strings"

	"github.com/slack-go/slack"

	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/services/notifier"
)

const (
	// maxSection is Slack's limit for the text of a section, 3000, less some air.
	maxSection = 2900
	// maxBlocks is Slack's limit for the blocks of a message.
	maxBlocks = 50
)

// markup makes telemetry text inert in Slack's markup: without < there is no
// mention, no link and no date. Backquotes would end a code span.
var markup = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "`", "ˋ")

// text is telemetry as one line of at most n bytes before it is escaped.
func text(s string, n int) string { return markup.Replace(notifier.Clip(render.Plain(s), n)) }

func code(s string, n int) string { return "`" + text(s, n) + "`" }

// writer collects lines into sections that Slack takes: no line is cut, and
// none is lost before the last block of a message.
type writer struct {
	blocks []slack.Block
	lines  []string
	size   int
}

func (w *writer) line(s string) {
	if w.size+len(s)+1 > maxSection {
		w.flush()
	}
	w.lines = append(w.lines, s)
	w.size += len(s) + 1
}

// flush ends the section. Text is verbatim: Slack makes links and mentions of
// nothing in it but what is in angle brackets.
func (w *writer) flush() {
	if len(w.lines) > 0 && len(w.blocks) < maxBlocks-1 {
		w.blocks = append(w.blocks, slack.NewSectionBlock(
			slack.NewTextBlockObject(slack.MarkdownType, strings.Join(w.lines, "\n"), false, true), nil, nil))
	}
	w.lines, w.size = nil, 0
}

// context ends the section and adds a line in small print.
func (w *writer) context(s string) {
	w.flush()
	w.blocks = append(w.blocks, slack.NewContextBlock("", slack.NewTextBlockObject(slack.MarkdownType, s, false, true)))
}

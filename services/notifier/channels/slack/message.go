package slack

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/slack-go/slack"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
)

var marks = map[event.Priority]string{
	event.P1: ":red_circle:", event.P2: ":large_orange_circle:", event.P3: ":large_yellow_circle:", event.P4: ":white_circle:",
}

// content is one message: the text that a phone's lock screen and a screen
// reader have, and the blocks that the channel shows.
type content struct {
	text   string
	blocks []slack.Block
}

// message is the incident's one message: what a phone shows first, then what
// it is, what caused it, what to look at, and what a human may do.
func message(n event.Notification) content {
	if n.Update == "digest" {
		return digest(n.Report)
	}
	r := n.Report
	headline := text(r.Headline, 300)
	mark := marks[r.Priority]
	if r.State == event.Resolved {
		mark, headline = ":large_green_circle:", resolved(r)+": "+headline
	}
	var w writer
	w.line(mark + " *" + headline + "*")
	w.flush()
	if r.TLDR != "" {
		w.line(text(r.TLDR, 2000))
		w.flush()
	}
	causes(&w, r)
	w.flush()
	if len(r.Checks) > 0 && r.State == event.Open {
		w.line("*Next checks* (read only)")
		for _, c := range r.Checks[:min(3, len(r.Checks))] {
			w.line("• " + text(c.Why, 200) + "\n" + code(c.Command, 600))
		}
		w.flush()
	}
	if len(r.Rollback) > 0 && r.State == event.Open {
		w.line("*Rollback (needs a human)*\n" + code(r.Rollback[0].Command, 600))
	}
	w.context(footer(r))
	return content{headline, w.blocks}
}

// resolved says that it is over, and how long it took.
func resolved(r event.Report) string {
	if r.ResolvedAt == nil || r.ResolvedAt.Before(r.Onset) {
		return "Resolved"
	}
	return "Resolved after " + strings.TrimSuffix(r.ResolvedAt.Sub(r.Onset).Round(time.Minute).String(), "0s")
}

func causes(w *writer, r event.Report) {
	if len(r.Causes) == 0 {
		w.line("*Likely cause*: no cause stands out")
		return
	}
	w.line("*Likely cause*")
	for _, c := range r.Causes[:min(3, len(r.Causes))] {
		w.line(fmt.Sprintf("• %s (%s)%s", text(c.Text, 500), c.Confidence, refs(c.Evidence)))
	}
}

func refs(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return " [" + text(strings.Join(ids, ", "), 80) + "]"
}

func footer(r event.Report) string {
	parts := []string{"oncall why " + event.ShortID(r.Incident)}
	size := len(parts[0])
	add := func(s string) {
		if size+len(s)+5 <= maxSection {
			parts = append(parts, s)
			size += len(s) + 5
		}
	}
	for _, l := range r.Links {
		if u, ok := link(l); ok {
			add(u)
		}
	}
	if len(r.Runbooks) > 0 {
		if u, ok := link(event.Link{Title: "Runbook", URL: r.Runbooks[0].Path}); ok {
			add(u)
		}
	}
	if len(r.Alerts) > 0 && r.State == event.Open {
		add("also firing: " + text(strings.Join(r.Alerts, ", "), 500))
	}
	return strings.Join(parts, "  |  ")
}

// link writes a link to a web page; anything else is none.
func link(l event.Link) (string, bool) {
	u, err := url.Parse(l.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(l.URL) > 2000 {
		return "", false
	}
	return "<" + strings.NewReplacer("|", "%7C", ">", "%3E", "<", "%3C").Replace(u.String()) + "|" + text(l.Title, 60) + ">", true
}

// thread is the answer in the incident's thread; false when nobody needs to be
// disturbed again.
func thread(n event.Notification, th notifier.Thread) (content, bool) {
	r := n.Report
	var w writer
	var say string
	switch {
	case n.Update == "opened" && th.Revision > 0:
		say = "Open again: " + text(r.Headline, 300)
		w.line(marks[r.Priority] + " " + say)
		causes(&w, r)
	case n.Update == "opened":
		say = "Details of " + text(r.Headline, 300)
		details(&w, r)
	case n.Update == "severity":
		say = "Severity rose to " + string(r.Priority) + ": " + text(r.Symptom, 300)
		w.line(marks[r.Priority] + " " + say)
	case n.Update == "cause":
		say = "The likely cause changed"
		w.line(say)
		causes(&w, r)
	case n.Update == "resolved":
		say = resolved(r) + ". " + text(r.TLDR, 1000)
		w.line(":large_green_circle: " + say)
	default:
		return content{}, false
	}
	w.flush()
	return content{say, w.blocks}, true
}

// details are what does not fit a glance: every finding with its evidence,
// what was not looked at, and the draft for stakeholders.
func details(w *writer, r event.Report) {
	w.line("*Findings*")
	if len(r.Findings) == 0 {
		w.line("none beside the symptom")
	}
	for _, f := range r.Findings[:min(20, len(r.Findings))] {
		w.line(fmt.Sprintf("• %s: %s (%s)%s", text(f.Entity.String(), 150), text(f.Title, 400), f.Confidence, refs(f.Evidence)))
	}
	for _, e := range r.Evidence[:min(20, len(r.Evidence))] {
		switch {
		case e.Failed != "":
			w.line(fmt.Sprintf("%s %s: not answered: %s", text(e.ID, 20), text(e.Source, 30), text(e.Failed, 200)))
		case len(e.Excerpt) > 0:
			w.line(fmt.Sprintf("%s %s: %s", text(e.ID, 20), text(e.Source, 30), code(e.Excerpt[0], 200)))
		}
	}
	if len(r.Checked) > 0 {
		w.line("– checked, normal: " + text(strings.Join(r.Checked, ", "), 500))
	}
	for _, u := range r.Unknown[:min(10, len(r.Unknown))] {
		w.line("? " + text(u, 300))
	}
	if r.Status != "" {
		w.flush()
		w.line("*Status draft*\n" + text(r.Status, 1500))
	}
}

// digest lists what was not sent. Its headings have no reference.
func digest(r event.Report) content {
	var w writer
	w.line(":spiral_note_pad: *" + text(r.Headline, 300) + "*")
	w.line(text(r.TLDR, 500))
	for _, e := range r.Timeline {
		if e.Ref == "" {
			w.flush()
			w.line("*" + text(e.What, 200) + "*")
			continue
		}
		w.line("• " + text(e.What, 300) + "  `oncall why " + event.ShortID(e.Ref) + "`")
	}
	w.flush()
	return content{text(r.Headline, 300), w.blocks}
}

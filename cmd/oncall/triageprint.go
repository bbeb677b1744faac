package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/rule"
	"github.com/oncall-copilot/oncall/pkg/triage"
)

func (x *triaged) print(o *options) error {
	if o.format() == render.JSON || o.format() == render.YAML {
		return render.Value(o.out, o.format(), x)
	}
	p := &triagePage{page: &page{now: x.Time, o: o.terminal(), md: o.format() == render.MD}, x: x}
	p.whole()
	_, err := io.WriteString(o.out, p.b.String())
	return err
}

// triagePage writes a result.
type triagePage struct {
	*page
	x *triaged
}

func (p *triagePage) whole() {
	p.top()
	p.pods()
	p.around()
	p.changes()
	p.happened()
	p.logs()
	p.metrics()
	p.past()
	p.next()
	p.left()
}

func (p *triagePage) top() {
	x := p.x
	name := check.Name(x.Entity)
	owner := "no owner"
	if x.Owner.Team != "" {
		owner = "owner " + x.Owner.Team
	}
	if p.md {
		fmt.Fprintf(&p.b, "# %s\n\n", p.show(name))
	}
	word, color := "OK", "32;1"
	if x.Ready < x.Wanted {
		word, color = "UNREADY", "33;1"
	}
	if len(x.Doubts) > 0 {
		word, color = "UNCLEAR", "33;1"
	}
	if x.Urgency != "" {
		word = strings.ToUpper(string(x.Urgency))
		color = map[event.Urgency]string{event.Broken: "31;1", event.Soon: "33;1"}[x.Urgency]
	}
	status := p.show(name + "  " + x.Status)
	if p.md {
		fmt.Fprintf(&p.b, "**%s** %s\n\n", word, status)
	} else {
		lines := render.Wrap(word+"  "+status, p.o.Columns(), "", "    ")
		lines[0] = p.o.Paint(color, word) + strings.TrimPrefix(lines[0], word)
		fmt.Fprintln(&p.b, strings.Join(lines, "\n"))
	}
	fmt.Fprintf(&p.b, "%s  %s  %s UTC  %.1f s\n", p.show(x.Cluster), p.show(owner), x.Time.Format("2006-01-02 15:04"), x.Seconds)
	if a := x.Alert; a != nil {
		state := "as its labels say"
		if a.Firing {
			state = "fires since " + p.when(a.Since)
		}
		text := "alert " + cmp.Or(a.Labels["alertname"], a.Matchers) + ": " + state
		if a.Summary != "" {
			text += ": " + a.Summary
		}
		if a.Others > 0 {
			text += fmt.Sprintf(" (%d more match)", a.Others)
		}
		p.text(text)
	}
	if x.Pod != "" {
		p.text("asked about pod " + x.Pod + "; its containers, logs and probes are its own")
	}
	v := x.Verdict
	text := v.Text
	switch {
	case v.Confidence != "":
		text = fmt.Sprintf("Likely (%s): %s", v.Confidence, text)
	case x.Urgency != "":
		text = strings.ToUpper(text[:1]) + text[1:] + "; what there is to go on stands below"
	default:
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	p.b.WriteString("\n")
	p.text(text, v.Evidence...)
	if v.Detail != "" {
		p.item(v.Detail, nil)
	}
	for _, s := range v.Besides {
		text := "+ " + s.Text
		if s.Confidence != "" {
			text += fmt.Sprintf(" (%s)", s.Confidence)
		}
		p.item(text, s.Evidence)
	}
}

// when is a time of the last hours, or a day.
func (p *triagePage) when(t time.Time) string {
	switch {
	case t.IsZero():
		return "?"
	case p.x.Time.Sub(t) < 20*time.Hour:
		return t.UTC().Format("15:04:05")
	}
	return t.UTC().Format("01-02 15:04")
}

func (p *triagePage) ago(t time.Time) string { return check.Age(p.x.Time.Sub(t)) }

// between is when something was first and last seen.
func (p *triagePage) between(first, last time.Time) string {
	a, b := p.when(first), p.when(last)
	if a == b {
		return a
	}
	return a + "-" + b
}

// shownPods is how many pods are shown; the rest is counted by its state.
const shownPods = 6

func (p *triagePage) pods() {
	x := p.x
	if len(x.Pods) == 0 {
		return
	}
	ready := fmt.Sprintf("%d/%d ready, ", x.Ready, x.Wanted)
	if x.Wanted == 0 && x.Ready == 0 {
		ready = "" // what has ended is not waited for
	}
	p.head("Pods", ready+counted(x.Restarts, "restart")+refs(x.Pods[0].Evidence))
	rest := map[string]int{}
	var order []string
	for i, pod := range x.Pods {
		if i >= shownPods {
			if rest[pod.State]++; rest[pod.State] == 1 {
				order = append(order, pod.State)
			}
			continue
		}
		text := pod.Name + "  " + pod.State
		if !pod.Since.IsZero() {
			text += " " + p.ago(pod.Since)
		}
		if pod.Node != "" {
			text += "  on " + pod.Node
		}
		p.item(text, nil)
		for _, c := range pod.Containers {
			text, quoted := p.container(c, pod.State)
			p.below(text)
			for _, l := range quoted {
				p.quote(l)
			}
		}
	}
	for _, s := range order {
		p.item(fmt.Sprintf("and %d more %s", rest[s], s), nil)
	}
}

// container says how a container is and how it last ended, and what others wrote
// of it.
func (p *triagePage) container(c triage.Container, state string) (text string, quoted []string) {
	text = c.Name + ": " + counted(c.Restarts, "restart")
	if c.Init {
		text = "init " + text
	}
	if e := c.Last; e != nil {
		why := cmp.Or(e.Reason, "ended")
		if why == "Error" {
			why = "failed"
		}
		text += fmt.Sprintf("; %s with exit code %d", why, e.ExitCode)
		if !e.Finished.IsZero() {
			text += " " + p.ago(e.Finished) + " ago"
		}
		if ran := e.Finished.Sub(e.Started); !e.Started.IsZero() && ran >= 0 {
			text += ", after " + check.Age(ran)
		}
		if e.Message != "" {
			quoted = append(quoted, "its last words: "+e.Message)
		}
	}
	if c.Waiting != "" && c.Waiting != state {
		text += "; waits: " + c.Waiting
	}
	if c.Message != "" && !strings.HasPrefix(strings.ToLower(c.Message), "back-off") {
		quoted = append(quoted, c.Message)
	}
	return text, quoted
}

// below is a line of ours below an item.
func (p *triagePage) below(text string) {
	if p.md {
		fmt.Fprintf(&p.b, "  - %s\n", p.show(text))
		return
	}
	for _, l := range render.Wrap(p.show(text), p.o.Columns(), "      ", "        ") {
		fmt.Fprintln(&p.b, l)
	}
}

// around are nodes and neighbours.
func (p *triagePage) around() {
	x := p.x
	if len(x.Nodes) > 0 {
		p.head("Nodes", "")
	}
	for _, n := range x.Nodes {
		text := fmt.Sprintf("%s  %s; %s of it here", n.Name, n.State, counted(n.Pods, "pod"))
		if n.Troubled > 0 {
			text += fmt.Sprintf(", %s of others in trouble", counted(n.Troubled, "pod"))
		}
		p.item(text, n.Evidence)
	}
	if len(x.Around) > 0 {
		p.head("Around it", "what is in trouble and has to do with it")
	}
	for _, n := range x.Around {
		p.item(check.Name(n.Entity)+"  "+n.Status, n.Evidence)
	}
	if len(x.Neighbours) == 0 {
		return
	}
	p.head("Also in trouble", "")
	if x.More > 0 {
		defer p.item(fmt.Sprintf("and %d more: oncall health -n %s", x.More, x.Entity.Namespace), nil)
	}
	for _, n := range x.Neighbours {
		where := ""
		if n.Where != x.Entity.Namespace {
			where = " on " + n.Where
		}
		p.item(fmt.Sprintf("%s%s  %s", check.Name(n.Entity), where, n.Status), n.Evidence)
	}
}

// shownChanges is how many changes are shown.
const shownChanges = 4

func (p *triagePage) changes() {
	x := p.x
	if len(x.Changes) == 0 {
		return
	}
	p.head("Changes", "newest first; edits of ConfigMaps and Secrets are not among them")
	for _, c := range x.Changes[:min(len(x.Changes), shownChanges)] {
		p.item(fmt.Sprintf("%s ago (%s)  revision %s: %s", p.ago(c.Time), p.when(c.Time), c.Revision, c.Summary), c.Evidence)
	}
	if n := len(x.Changes) - shownChanges; n > 0 {
		p.item(fmt.Sprintf("and %d older", n), nil)
	}
}

// shownEvents is how many groups of events are shown; warnings before others.
const shownEvents = 8

func (p *triagePage) happened() {
	x := p.x
	if len(x.Probes) > 0 {
		p.head("Failed probes", "")
		for _, f := range x.Probes {
			text := fmt.Sprintf("%s  %s x%d", p.between(f.First, f.Last), f.Kind, f.Count)
			if f.Pods > 1 {
				text += fmt.Sprintf(" in %d pods", f.Pods)
			}
			p.item(text, f.Evidence)
			p.quote(f.Message)
		}
	}
	if len(x.Events) == 0 {
		return
	}
	shown := slices.Clone(x.Events)
	left := 0
	for len(shown) > shownEvents { // the oldest of what is normal goes first
		i := slices.IndexFunc(shown, func(e triage.EventGroup) bool { return e.Type == "Normal" })
		shown = slices.Delete(shown, max(i, 0), max(i, 0)+1)
		left++
	}
	note := "newest last"
	if left > 0 {
		note += fmt.Sprintf("; %d more with -o json", left)
	}
	p.head("Events", note+refs(x.Events[0].Evidence))
	for _, e := range shown {
		text := p.between(e.First, e.Last) + "  "
		if e.Type != "Normal" {
			text += e.Type + " "
		}
		text += e.Reason
		if e.Count > 1 {
			text += fmt.Sprintf(" x%d", e.Count)
		}
		text += " " + e.About
		if e.Objects > 1 {
			text += fmt.Sprintf(" and %d more", e.Objects-1)
		}
		p.item(text, nil)
		p.quote(e.Message)
	}
}

func (p *triagePage) logs() {
	l := p.x.Logs
	if l.Lines == 0 {
		return
	}
	var of []string
	if l.Containers > 0 {
		of = append(of, counted(l.Containers, "container"))
	}
	if l.Previous > 0 {
		of = append(of, fmt.Sprintf("%d before the last restart", l.Previous))
	}
	switch {
	case l.Newest:
		of = append(of, "Loki, which has more")
	case l.Loki > 0:
		of = append(of, "Loki")
	}
	read := counted(l.Lines, "line") + " of " + strings.Join(of, " and ")
	if l.Errors == 0 {
		p.head("Logs", read+"; none looks like an error. The commonest:")
	} else {
		p.head("Logs", fmt.Sprintf("%s; %d look like errors", read, l.Errors))
	}
	shown := 0
	for _, f := range l.Patterns {
		if l.Errors > 0 && !f.Trouble || shown == 5 || l.Errors == 0 && shown == 3 {
			break
		}
		shown++
		text := fmt.Sprintf("x%d", f.Count)
		if !f.First.IsZero() {
			text += "  " + p.between(f.First, f.Last)
		}
		if f.Level != "" {
			text += "  " + f.Level
		}
		text += "  " + f.Where
		if f.Previous {
			text += " before its last restart"
		}
		p.item(text, f.Evidence)
		p.quote(f.Example)
		if h := f.History; h != nil {
			p.item(strings.TrimSpace(h.Text+"  "+h.Sparkline), h.Evidence)
		}
		if like := f.Like; like != nil {
			p.item(fmt.Sprintf("%.0f %% like %q, seen in incident %s of %s", 100*like.Ratio, render.Clip(like.Template, 120), like.Incident, like.Onset.Format("Jan 2 15:04")), []string{like.Evidence})
		}
	}
}

// signalNames are the names of signals for people.
var signalNames = map[string]string{
	"request_rate": "requests", "error_ratio": "errors", "latency_p99": "latency p99", "cpu_usage": "CPU", "cpu_throttling_ratio": "CPU throttled",
	"memory_usage": "memory", "memory_limit_ratio": "memory of limit", "restarts": "restarts/5m",
}

func (p *triagePage) metrics() {
	x := p.x
	if len(x.Metrics) == 0 {
		return
	}
	p.head("Metrics", "since "+p.when(x.Since)+"; left to right, lowest to highest")
	var rows [][]string
	for _, m := range x.Metrics {
		q := func(v float64) string { return triage.Quantity(v, m.Unit) }
		now := q(m.Last)
		if m.Ended(x.Time, x.Since) {
			now = "none since " + p.when(m.LastAt) // what was is not what is
		}
		rows = append(rows, []string{cmp.Or(signalNames[m.Signal], m.Signal), m.Sparkline, now, q(m.Min) + " - " + q(m.Max), strings.TrimSpace(refs(m.Evidence))})
	}
	var b strings.Builder
	if p.md {
		_ = markdownTable(&p.b, []string{"metric", "course", "now", "range", "evidence"}, rows)
		return
	}
	_ = table(&b, []string{"", "", "now", "range", ""}, rows)
	for l := range strings.Lines(b.String()) {
		p.b.WriteString("  " + l)
	}
}

func (p *triagePage) past() {
	x := p.x
	if len(x.Similar) > 0 {
		p.head("Incidents like it", "")
		for _, s := range x.Similar {
			text := fmt.Sprintf("%s %s %s", s.ID, s.Priority, s.Onset.Format("Jan 2 15:04"))
			if s.Lasted != "" {
				text += ", lasted " + s.Lasted
			} else {
				text += ", open"
			}
			text += ": " + s.Title
			if s.Cause != "" {
				text += "; then it was: " + s.Cause
			}
			p.item(text+" ("+s.Why+")", s.Evidence)
		}
	}
	if len(x.Runbooks) > 0 {
		p.head("Runbooks", "")
		for _, r := range x.Runbooks {
			p.item(fmt.Sprintf("%s (policies/%s)", r.Title, r.Path), nil)
		}
	}
}

func (p *triagePage) next() {
	with := ""
	if p.x.kubeconfig != "" {
		with = "; with KUBECONFIG=" + rule.Quote(p.x.kubeconfig)
	}
	p.commands("Next checks", "they only read"+with, p.x.Checks)
	p.commands("Rollback", "changes the cluster; for a human to decide"+with, p.x.Rollback)
}

// left is what could not be read, and where the rest is.
func (p *triagePage) left() {
	p.b.WriteString("\n")
	for _, u := range p.x.NotRead {
		if why, ok := strings.CutPrefix(u.Why, "not asked: "); ok {
			p.text("not asked: " + u.What + ": " + why)
			continue
		}
		p.text("not read: " + u.What + ": " + u.Why)
	}
	p.evidence(p.x.Evidence)
}

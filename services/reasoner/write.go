package reasoner

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/runbook"
)

// maxHeadline is what a phone's lock screen shows, in characters.
const maxHeadline = 120

// write puts the report into words.
func (d *draft) write() error {
	r := &d.report
	d.causes()
	d.commands()
	d.alerts()
	for _, b := range d.inc.Blind {
		if d.inc.Entity.Kind == "Source" {
			break // that is what the report says
		}
		r.Unknown = append(r.Unknown, fmt.Sprintf("%s cannot be read since %s: %s", b.Source, clock(b.Since), b.Reason))
	}
	if n := d.inc.Dropped; n > 0 {
		r.Unknown = append(r.Unknown, fmt.Sprintf("%d more of its anomalies are left out here, to keep the report small", n))
	}
	r.Headline = d.headline()
	r.TLDR = d.tldr()
	r.Status = d.status()
	r.Links = d.links()
	d.trim()
	return d.runbooks()
}

// runbooks finds what fits; the alert's own comes first: its author knew what
// it is for.
func (d *draft) runbooks() error {
	r := &d.report
	if d.inc.Entity.Kind == "Source" {
		return nil // nothing is wrong with the cluster
	}
	for _, a := range d.inc.Anomalies {
		if a.Detector == "burn_rate" {
			d.tags = append(d.tags, "slo", "error", "budget")
			break
		}
	}
	books, err := d.in.books.Find(runbook.Query{Rules: d.rules, Alerts: d.alertNames(), Tags: d.tags, Text: headSymptom(d.inc)})
	if err != nil {
		return err
	}
	for _, a := range d.inc.Anomalies {
		if a.RunbookURL != "" && !slices.ContainsFunc(r.Runbooks, func(b event.Runbook) bool { return b.Path == a.RunbookURL }) && len(r.Runbooks) < 2 {
			r.Runbooks = append(r.Runbooks, event.Runbook{Title: cmp.Or(a.Alert, a.Detector), Path: a.RunbookURL})
		}
	}
	r.Runbooks = append(r.Runbooks, books...)
	return nil
}

func (d *draft) alertNames() []string {
	var out []string
	for _, a := range d.inc.Anomalies {
		if a.Alert != "" && !slices.Contains(out, a.Alert) {
			out = append(out, a.Alert)
		}
	}
	return out
}

func (d *draft) alerts() {
	number := map[string]int{}
	for _, a := range d.inc.Anomalies {
		if a.Alert != "" {
			number[a.Alert]++
			d.report.Firing = d.report.Firing || a.Ended == nil
		}
	}
	for _, name := range d.alertNames() {
		if n := number[name]; n > 1 {
			name = fmt.Sprintf("%s x%d", name, n)
		}
		d.report.Alerts = append(d.report.Alerts, name)
	}
}

// symptom is what is wrong, in words: why it may page, else its title.
func symptom(i event.Incident) string {
	return cmp.Or(i.Symptom, strings.TrimPrefix(i.Title, i.Entity.String()+": "))
}

// headSymptom is the part of the symptom that fits a headline: up to what
// explains it.
func headSymptom(i event.Incident) string {
	s, _, _ := strings.Cut(symptom(i), ";")
	return strings.TrimSpace(lasted.ReplaceAllString(s, ""))
}

// lasted is how long a symptom says that it lasts, which the headline says too.
var lasted = regexp.MustCompile(` for \d+[ dhms\d]*$`)

// headline is severity, cluster, entity, symptom, since, owner. Of what is too
// long the names are cut, and since when is not.
func (d *draft) headline() string {
	i := d.inc
	tail := " since " + clock(i.Onset)
	if end := d.end(); end.After(i.Onset) {
		if i.State == event.Resolved {
			tail = fmt.Sprintf(" %s-%s", clock(i.Onset), clock(end))
		}
		tail += " (" + age(end.Sub(i.Onset)) + ")"
	}
	if i.Owner.Team != "" {
		tail += " @" + clip(i.Owner.Team, 24)
	}
	head := string(i.Priority)
	if i.Cluster != "" {
		head += " " + clip(i.Cluster, 20)
	}
	left := maxHeadline - len([]rune(head)) - len([]rune(tail)) - len(" : ")
	what := headSymptom(i)
	if i.Entity.Kind == "Source" {
		what = strings.Replace(what, " since "+clock(i.Onset), "", 1)
		return clip(head+" "+clip(what, left)+tail, maxHeadline) // the title names the source
	}
	entity := clip(i.Entity.String(), max(20, left-min(len([]rune(what)), 40)))
	return clip(head+" "+entity+": "+clip(what, max(8, left-len([]rune(entity))))+tail, maxHeadline)
}

// end is when the incident was over, or the time of this revision.
func (d *draft) end() time.Time {
	if d.inc.State == event.Resolved && d.inc.ResolvedAt != nil {
		return *d.inc.ResolvedAt
	}
	return d.inc.Updated
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimRight(string(r[:max(0, n-1)]), " ,;:") + "…"
}

func clock(t time.Time) string { return t.UTC().Format("15:04") }

// tldr is what, why and what next, a sentence each.
func (d *draft) tldr() string {
	r, i := d.report, d.inc
	var s []string
	what := trimDot(symptom(i))
	others := 0
	for _, e := range i.Related {
		if e != i.Entity {
			others++
		}
	}
	switch {
	case i.Entity.Kind == "Source":
		what = "The pipeline is blind: " + strings.TrimPrefix(what, "blind: ")
		if i.State == event.Resolved {
			return fmt.Sprintf("Over since %s: %s.", clock(d.end()), what)
		}
		return what + ". What it shows is unknown meanwhile; that nothing is reported does not mean that nothing is wrong."
	case i.State == event.Resolved:
		s = append(s, fmt.Sprintf("Resolved at %s after %s: %s.", clock(d.end()), age(d.end().Sub(i.Onset)), trimDot(headSymptom(i))))
	case lasted.MatchString(what):
		s = append(s, what+".")
	default:
		s = append(s, fmt.Sprintf("For %s: %s.", age(i.Updated.Sub(i.Onset)), what))
	}
	if p, ok := d.doubtOf(what); ok {
		s = append(s, "That is in doubt: "+p.doubt+".")
	}
	if others > 0 && i.State == event.Open {
		s = append(s, countIs(others, "other")+" affected.")
	}
	switch {
	case len(r.Causes) == 0 && i.Symptom != "" && slices.ContainsFunc(r.Findings, func(f event.Finding) bool { return f.Cause && strings.Contains(f.Title, i.Symptom) }):
		// A disk that fills up says itself what is wrong.
	case len(r.Causes) == 0:
		s = append(s, "No cause stands out.")
	case r.Causes[0].Confidence == event.Low:
		s = append(s, fmt.Sprintf("A weak hint, no more: %s.", trimDot(r.Causes[0].Text)))
	default:
		s = append(s, fmt.Sprintf("Likely cause (%s): %s.", r.Causes[0].Confidence, trimDot(r.Causes[0].Text)))
	}
	switch {
	case i.State == event.Resolved:
	case i.Held != "":
		s = append(s, fmt.Sprintf("Held back from paging: %s.", trimDot(i.Held)))
	case len(r.Rollback) > 0:
		what := "A step that changes something"
		if strings.Contains(r.Rollback[0].Command, " undo ") {
			what = "A roll-back"
		}
		s = append(s, what+" is given below; it needs a human.")
	}
	return strings.Join(s, " ")
}

func countIs(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

func trimDot(s string) string { return strings.TrimRight(strings.TrimSpace(s), ".") }

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%.1f days", d.Hours()/24)
}

// status is for people who do not run the system: what they may notice, since
// when, that it is worked on. No guesses, no figures, and no names but the
// service's.
func (d *draft) status() string {
	i := d.inc
	if i.Entity.Kind == "Source" {
		if i.State == event.Resolved {
			return fmt.Sprintf("Monitoring works fully again since %s UTC.", clock(d.end()))
		}
		return fmt.Sprintf("Since %s UTC part of our monitoring is impaired. No effect on users is known. The team on call has been informed. Next update in 30 minutes.", clock(i.Onset))
	}
	who := i.Entity.Name
	switch i.Entity.Kind {
	case "Deployment", "StatefulSet", "DaemonSet", "Rollout", "Workload", "Service", "Job", "CronJob", "Ingress":
	default:
		// The name of a node or a volume says nothing to them.
		if who = "a part of the platform"; i.Entity.Namespace != "" {
			who = "a part of " + i.Entity.Namespace
		}
	}
	if i.State == event.Resolved {
		return fmt.Sprintf("The problem with %s that began at %s UTC is over since %s UTC. We are looking into its cause and will follow up.", who, clock(i.Onset), clock(d.end()))
	}
	next := "The team on call has been informed and is investigating. Next update in 30 minutes."
	if !i.Priority.Pages() {
		next = "No urgent effect on users is known. The owning team will look into it."
	}
	return fmt.Sprintf("Since %s UTC %s %s. %s", clock(i.Onset), who, effect(i), next)
}

// effect is what people may notice, by the worst symptom.
func effect(i event.Incident) string {
	for _, a := range i.Anomalies {
		if a.Class != event.ClassSymptom {
			continue
		}
		switch {
		case strings.Contains(a.Signal, "latency"):
			return "is slower than usual"
		case strings.Contains(a.Signal, "error") || a.Detector == "burn_rate":
			return "answers some requests with errors"
		case strings.Contains(a.Signal, "replicas"):
			return "is running with less capacity than it should"
		case strings.Contains(a.Signal, "node"):
			return "is running with less capacity than it should"
		case strings.HasPrefix(a.Signal, "pvc_") || strings.Contains(a.Signal, "disk"):
			return "is running out of storage space"
		case strings.HasPrefix(a.Signal, "cert_"):
			return "has a certificate that needs to be renewed"
		}
		break
	}
	if i.Symptom == "" {
		return "shows unusual behaviour"
	}
	return "is not working as it should"
}

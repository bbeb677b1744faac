package alertmanager

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/services/notifier"
)

const (
	severity = "severity"
	// labelsKey is where the thread keeps the labels sent last. An alert is its
	// labels: with others it would be another alert, and page again.
	labelsKey = "labels"
	// maxAnnotation bounds an annotation, which ends in messages of the user's
	// own templates.
	maxAnnotation = 4 << 10
)

// alert is one alert of POST /api/v2/alerts.
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// rank sorts the severities.
var rank = map[string]int{"critical": 3, "warning": 2, "info": 1}

// identify returns the labels of an incident's alert: those it was sent with
// first, whatever the report says by now, with the severity that only rises.
// When it has risen, before are the labels of the alert to be ended.
func (c *channel) identify(n event.Notification, th notifier.Thread) (labels, before map[string]string, err error) {
	now := notifier.Labels(n.Report)
	maps.Copy(now, c.cfg.Labels)
	kept := th.State[labelsKey]
	if kept == "" {
		return now, nil, nil
	}
	if err := json.Unmarshal([]byte(kept), &labels); err != nil {
		return nil, nil, fmt.Errorf("alertmanager: labels of incident %s: %w", n.Incident, err)
	}
	if rank[now[severity]] > rank[labels[severity]] {
		before = maps.Clone(labels)
		labels[severity] = now[severity]
	}
	return labels, before, nil
}

// alert writes the alert of a report.
func (c *channel) alert(n event.Notification, labels map[string]string) alert {
	r := n.Report
	now := c.now().UTC()
	a := alert{
		Labels: labels, StartsAt: r.Onset.UTC(), EndsAt: now.Add(c.cfg.Patience),
		Annotations: map[string]string{
			"summary": text(r.Headline), "description": text(r.TLDR), "priority": text(string(r.Priority)),
			"incident": event.ShortID(r.Incident), "why": "oncall why " + event.ShortID(r.Incident),
		},
	}
	if len(r.Causes) > 0 {
		a.Annotations["likely_cause"] = text(fmt.Sprintf("%s (%s)", r.Causes[0].Text, r.Causes[0].Confidence))
	}
	if len(r.Checks) > 0 {
		a.Annotations["next_check"] = text(r.Checks[0].Command)
	}
	for _, rb := range r.Runbooks {
		if isWeb(rb.Path) {
			a.Annotations["runbook_url"] = rb.Path
			break
		}
	}
	for k, v := range a.Annotations {
		if v == "" {
			delete(a.Annotations, k)
		}
	}
	for _, l := range r.Links {
		if isWeb(l.URL) {
			a.GeneratorURL = l.URL
			break
		}
	}
	if r.State == event.Resolved {
		a.EndsAt = now
		if r.ResolvedAt != nil && r.ResolvedAt.Before(now) {
			a.EndsAt = r.ResolvedAt.UTC()
		}
	}
	if a.StartsAt.After(a.EndsAt) {
		a.StartsAt = a.EndsAt // Alertmanager refuses the request otherwise
	}
	return a
}

func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && len(s) <= 2000
}

// markup of the places where people's own templates put annotations: Slack,
// which Alertmanager does not escape for, and mail.
var markup = strings.NewReplacer("<", "‹", ">", "›", "@here", "＠here", "@channel", "＠channel", "@everyone", "＠everyone", "@all", "＠all")

// text makes telemetry inert wherever an annotation may be shown.
func text(s string) string { return notifier.Clip(markup.Replace(render.Plain(s)), maxAnnotation) }

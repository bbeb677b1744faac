package backtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

const (
	// alertStep is how exactly beginnings and ends of alerts are known.
	alertStep = time.Minute
	// rejoined is how long an alert may be away and still be the same firing: a
	// Prometheus that restarts forgets for a moment what it was about to say.
	rejoined = 5 * time.Minute
)

// theirAlerts is everything that fires.
const theirAlerts = `ALERTS{alertstate="firing"}`

// firings reads the alerts of a slice. What is too much at once is read in
// halves.
func (r *run) firings(ctx context.Context, from, to time.Time) error {
	lines, err := r.source.Range(ctx, theirAlerts, from.Add(alertStep), to, alertStep, r.o.Patience)
	if half := to.Sub(from) / 2; err != nil && upstream.KindOf(err) == upstream.TooLarge && half >= 10*alertStep {
		middle := from.Add(half).Truncate(alertStep)
		if err := r.firings(ctx, from, middle); err != nil {
			return err
		}
		return r.firings(ctx, middle, to)
	}
	if err != nil {
		return fmt.Errorf("your alerts: %w", err)
	}
	r.h.alerts(lines, r.mask)
	return nil
}

// alerts joins the points at which alerts fire to firings. labels says what one
// is about, and what of its labels may be told; false for one that is no trouble.
func (h *harvest) alerts(lines []prometheus.Line, about func(map[string]string) (Firing, bool)) {
	for _, l := range lines {
		labels := map[string]string{}
		for k, v := range l.Labels {
			if k != event.LabelName && k != "alertstate" {
				labels[k] = v
			}
		}
		f, ok := about(labels)
		if !ok {
			continue
		}
		key := event.SeriesHash(event.LabelsOf(labels).Hash())
		for _, p := range l.Points {
			at := p.Time()
			if i, ok := h.Open[key]; ok && at.Sub(*h.Firings[i].End) <= rejoined {
				h.Firings[i].End = &at
				continue
			}
			if len(h.Firings) == maxFirings {
				h.note(Missing{What: "your alerts", Why: fmt.Sprintf("more than %d firings; the later ones are left out", maxFirings), Fix: "a shorter --since, or --namespace"})
				return
			}
			one := f
			one.Start, one.End = at, &at
			h.Open[key] = len(h.Firings)
			h.Firings = append(h.Firings, one)
		}
	}
}

// settle ends the reading of alerts: what fires at the very end goes on.
func (h *harvest) settle(until time.Time) []Firing {
	out := slices.Clone(h.Firings)
	for i := range out {
		if until.Sub(*out[i].End) <= rejoined {
			out[i].End = nil
		}
	}
	slices.SortStableFunc(out, func(a, b Firing) int {
		if c := a.Start.Compare(b.Start); c != 0 {
			return c
		}
		if c := strings.Compare(a.Alert, b.Alert); c != 0 {
			return c
		}
		return strings.Compare(event.LabelsOf(a.Labels).String(), event.LabelsOf(b.Labels).String())
	})
	return out
}

// mask is what may be told of an alert, and what it is about.
func (r *run) mask(labels map[string]string) (Firing, bool) {
	name := labels["alertname"]
	if slices.Contains(r.o.Alerts.Ignore, name) || name == "DeadMansSwitch" || labels["severity"] == "none" || name == "OncallIncident" || labels["oncall_incident"] != "" {
		return Firing{}, false
	}
	told := r.env.Redact.Labels(event.LabelsOf(labels)).Map()
	e := r.names.Object(told)
	if e.IsZero() {
		e = event.LabelsOf(told).Entity()
	}
	if e.Kind == "Cluster" {
		e = event.Entity{}
	}
	return Firing{Alert: told["alertname"], Severity: told["severity"], Entity: e, Labels: told}, true
}

// pages says whether a firing of this severity pages.
func (r *run) pages(f Firing) bool { return slices.Contains(r.o.Alerts.Page, f.Severity) }

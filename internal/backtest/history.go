package backtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector/prometheus"
)

// plan is what is read. It is part of the state: who goes on goes on with it.
type plan struct {
	From    time.Time `json:"from"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Missing []Missing `json:"missing"`
	Alerts  bool      `json:"alerts"` // some fire at a full hour
}

// coarse is how exactly it is known what a Prometheus holds.
const coarse = time.Hour

// up is there wherever something is scraped.
const up = "up"

// inspect finds out what history there is, and plans to read it.
func (r *run) inspect(ctx context.Context) (plan, error) {
	until := r.o.Now.Add(-r.o.Prometheus.Delay).Truncate(r.o.Prometheus.Step).UTC()
	from := until.Add(-r.o.Since - r.o.Learn).Truncate(coarse)
	guards := r.source.Guards()
	metrics := []string{up, "ALERTS"}
	for _, c := range prometheus.ChangeMetrics {
		metrics = append(metrics, c.Metric)
	}
	metrics = append(metrics, slices.Collect(maps.Values(guards))...)
	slices.Sort(metrics)
	metrics = slices.Compact(metrics)
	held, err := r.source.Held(ctx, metrics, from, until, coarse, r.o.Patience)
	if err != nil {
		return plan{}, fmt.Errorf("what history there is: %w", err)
	}
	p := plan{From: from, Until: until, Missing: []Missing{}}
	first := until
	for _, m := range metrics {
		if points := held[m]; len(points) > 0 && m != "ALERTS" && points[0].Time().Before(first) {
			first = points[0].Time()
		}
	}
	families := 0
	for _, g := range guards {
		if len(held[g]) > 0 {
			families++
		}
	}
	if families == 0 {
		return p, &NothingError{From: from, Until: until}
	}
	if late := first.Sub(from); late > coarse {
		p.From = first.Add(-coarse).UTC()
		p.Missing = append(p.Missing, Missing{
			What: "metrics before " + p.From.Format("2006-01-02 15:04 MST"),
			Why:  fmt.Sprintf("%s keeps %s, and %s with %s before them to learn from were asked for", r.source.Name(), Span(until.Sub(p.From)), Span(r.o.Since), Span(r.o.Learn)),
			Fix:  "a longer --storage.tsdb.retention.time, or a Thanos or Mimir that keeps more: --prometheus URL",
		})
	}
	p.Since = until.Add(-r.o.Since).Truncate(time.Minute)
	// Who has little history learns from a quarter of it at most.
	if learnt := p.From.Add(min(r.o.Learn, until.Sub(p.From)/4)).Truncate(time.Minute); learnt.After(p.Since) {
		p.Since = learnt
	}
	r.absent(&p, held, guards)
	return p, nil
}

// absent says which metrics are not there, or not all the time, and what is not
// known for it.
func (r *run) absent(p *plan, held map[string][]event.Point, guards map[string]string) {
	p.Alerts = len(held["ALERTS"]) > 0
	if len(held["kube_pod_owner"]) == 0 && len(held["kube_pod_info"]) == 0 {
		p.Missing = append(p.Missing, Missing{
			What: "kube-state-metrics", Why: "not one of its metrics is there: past rollouts and scaling, replicas, restarts and whose a pod is are not known", Fix: "install it, as kube-prometheus-stack does",
		})
	} else {
		var lost []string
		for _, c := range prometheus.ChangeMetrics {
			if len(held[c.Metric]) == 0 && !slices.Contains(lost, c.Tells) {
				lost = append(lost, c.Tells)
			}
		}
		if len(lost) > 0 {
			p.Missing = append(p.Missing, Missing{What: "past changes", Why: "kube-state-metrics tells nothing of " + strings.Join(lost, ", "), Fix: "its --metric-allowlist, unless there are none of these"})
		}
	}
	var partly []string
	for _, family := range slices.Sorted(maps.Keys(guards)) {
		points := held[guards[family]]
		if len(points) == 0 {
			continue
		}
		if first, last := points[0].Time(), points[len(points)-1].Time(); first.Sub(p.From) > 2*coarse || p.Until.Sub(last) > 2*coarse {
			partly = append(partly, fmt.Sprintf("%s from %s to %s", family, first.Format("01-02 15:04"), last.Format("01-02 15:04 MST")))
		}
	}
	if len(partly) > 0 {
		p.Missing = append(p.Missing, Missing{What: "metrics of a part of the time", Why: strings.Join(partly, "; ")})
	}
	switch {
	case r.o.Loki == nil:
		p.Missing = append(p.Missing, Missing{What: "logs", Why: "no Loki is named, configured or found", Fix: "--loki URL"}, Missing{What: "Kubernetes events", Why: "the API server keeps an hour of them, and no Loki is read that an exporter may have written them to", Fix: "--loki URL, with collector.loki.kubernetes_events.selector in the configuration"})
	case r.o.Loki.KubernetesEvents.Selector == "":
		p.Missing = append(p.Missing, Missing{What: "Kubernetes events", Why: "the API server keeps an hour of them, and no exporter writes them to Loki that the configuration names", Fix: "collector.loki.kubernetes_events.selector"})
	}
}

// noAlerts is said where nothing has fired.
var noAlerts = Missing{
	What: "your pages", Why: "there is no ALERTS series: this Prometheus evaluates no alerting rules, or nothing has fired",
	Fix: "read the one that evaluates them, or a Thanos or Mimir that holds the ruler's series",
}

// NothingError says that there is no history at all.
type NothingError struct{ From, Until time.Time }

func (e *NothingError) Error() string {
	return fmt.Sprintf("there is no metric that policies/queries reads from %s to %s", e.From.Format("2006-01-02 15:04"), e.Until.Format("2006-01-02 15:04 MST"))
}

// Span is a duration as people write it, in its two greatest units.
func Span(d time.Duration) string {
	d = d.Round(time.Minute)
	days, hours, minutes := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60
	switch {
	case days > 0 && hours == 0:
		return fmt.Sprintf("%d d", days)
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0 && minutes == 0:
		return fmt.Sprintf("%d h", hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d m", hours, minutes)
	}
	return fmt.Sprintf("%d m", minutes)
}

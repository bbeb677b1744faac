//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// repeat tells each story so often, for percentiles of how long it takes.
var repeat = flag.Int("repeat", 1, "how `often` each story is told, in namespaces of its own")

// apart is how far apart the times of one story begin: at various moments of the
// steps in which metrics and logs are read.
const apart = 7 * time.Second

// story is one failure, in a namespace of its own, and what the report about
// it has to say.
type story struct {
	namespace string
	// once is of those that are told no more often: what nobody feels and
	// Kubernetes does not state is held by the page budget the second time.
	once bool
	// fail makes it happen.
	fail func(t *testing.T, w *world, namespace string)
	// limit is how long the report may take to say it all.
	limit time.Duration
	// want are texts that the report has to hold, each in its place.
	want want
}

type want struct {
	priority []event.Priority // one of them
	entity   string           // namespace/kind/name
	headline string           // part of it
	cause    string           // part of the first cause
	finding  string           // part of a finding's title
	also     string           // part of another's
	rollback bool             // a roll-back is offered
	evidence string           // part of an excerpt that is cited
	check    string           // part of a command among the next checks
}

// lacks says what of it a report lacks; "" when nothing.
func (w want) lacks(r event.Report) string {
	switch {
	case len(w.priority) > 0 && !slices.Contains(w.priority, r.Priority):
		return fmt.Sprintf("priority %s is not among %v", r.Priority, w.priority)
	case w.entity != "" && r.Entity.String() != w.entity:
		return fmt.Sprintf("it is about %s, not %s", r.Entity, w.entity)
	case !strings.Contains(r.Headline, w.headline):
		return fmt.Sprintf("headline %q lacks %q", r.Headline, w.headline)
	case w.cause != "" && (len(r.Causes) == 0 || !strings.Contains(r.Causes[0].Text, w.cause)):
		return fmt.Sprintf("the first cause does not say %q", w.cause)
	case !finds(r, w.finding):
		return fmt.Sprintf("no finding says %q", w.finding)
	case !finds(r, w.also):
		return fmt.Sprintf("no finding says %q", w.also)
	case w.rollback && len(r.Rollback) == 0:
		return "no roll-back is offered"
	case !slices.ContainsFunc(r.Evidence, func(e event.Evidence) bool { return strings.Contains(strings.Join(e.Excerpt, "\n"), w.evidence) }):
		return fmt.Sprintf("no evidence holds %q", w.evidence)
	case !slices.ContainsFunc(r.Checks, func(c event.Check) bool { return strings.Contains(c.Command, w.check) }):
		return fmt.Sprintf("no next check holds %q", w.check)
	}
	return ""
}

func finds(r event.Report, text string) bool {
	return slices.ContainsFunc(r.Findings, func(f event.Finding) bool { return strings.Contains(f.Title, text) })
}

var stories = []story{
	{
		namespace: "oom", limit: 90 * time.Second,
		fail: rollout(testbed.Deployment{Version: "v2", Fault: "oom", Memory: "128Mi"}),
		want: want{
			priority: []event.Priority{event.P1, event.P2, event.P3}, entity: "oom/deployment/web", headline: "web", cause: "v1 -> v2", finding: "OOM",
			also: "Memory limit lowered from 256Mi to 128Mi", rollback: true, evidence: "OOMKilled", check: "kubectl",
		},
	},
	{
		namespace: "crash", limit: 90 * time.Second,
		fail: rollout(testbed.Deployment{Version: "v2", Fault: "crashloop"}),
		want: want{
			priority: []event.Priority{event.P1, event.P2, event.P3}, entity: "crash/deployment/web", cause: "v1 -> v2", finding: "exit",
			rollback: true, evidence: "exit code 1", check: "kubectl",
		},
	},
	{
		namespace: "image", limit: 90 * time.Second,
		fail: rollout(testbed.Deployment{Version: "v2", Fault: "imagepull"}),
		want: want{
			priority: []event.Priority{event.P1, event.P2, event.P3}, entity: "image/deployment/web", cause: "v1 -> v2", finding: "mage",
			rollback: true, evidence: "not found", check: "kubectl",
		},
	},
	{
		namespace: "sched", limit: 90 * time.Second,
		fail: rollout(testbed.Deployment{Version: "v2", CPU: "64"}),
		want: want{
			priority: []event.Priority{event.P1, event.P2, event.P3}, entity: "sched/deployment/web", finding: "cpu",
			evidence: "Insufficient cpu", check: "kubectl",
		},
	},
	{
		namespace: "slo", limit: 3 * time.Minute,
		fail: func(_ *testing.T, w *world, ns string) { w.shops[ns].Fail("web", 0.9, 0) },
		want: want{
			priority: []event.Priority{event.P1}, entity: "slo/deployment/web", headline: "requests fail", finding: "fail", check: "promtool",
		},
	},
	{
		namespace: "logs", limit: 2 * time.Minute, once: true,
		fail: func(_ *testing.T, w *world, ns string) {
			w.shops[ns].Log("web", slices.Repeat([]string{`level=error msg="payment ledger rejected entry" err="constraint violated" shard=7`}, 60)...)
		},
		want: want{
			entity: "logs/deployment/web", finding: "ledger", evidence: "payment ledger rejected entry", check: "logcli",
		},
	},
	{
		namespace: "flood", limit: 3 * time.Minute,
		fail: func(t *testing.T, w *world, ns string) {
			t.Helper()
			w.shops[ns].Fail("web", 0.9, 0)
			for i := range 8 { // Loki takes less than 4 MB of a stream at once
				lines := make([]string, 1500)
				for k := range lines {
					lines[k] = fmt.Sprintf(`level=error msg="gave up on the inventory" try=%d backoff=%dms host=10.0.0.%d`, i*1500+k, k, k%250)
				}
				w.shops[ns].Log("web", append(lines, slices.Repeat([]string{`level=error msg="reservation table is corrupt" page=7`}, 8)...)...)
			}
		},
		want: want{
			priority: []event.Priority{event.P1}, entity: "flood/deployment/web", headline: "requests fail", finding: " sampled)", also: "reservation table is corrupt",
		},
	},
	{
		namespace: "planted", limit: 2 * time.Minute,
		fail: plant,
		want: want{
			priority: []event.Priority{event.P1, event.P2, event.P3}, entity: "planted/deployment/web", finding: "cannot reach the ledger", also: "is away", evidence: "password=<secret", check: "kubectl",
		},
	},
	{
		namespace: "alert", limit: 2 * time.Minute,
		fail: func(_ *testing.T, w *world, ns string) { w.shops[ns].Fail("web", 0.3, 0) },
		want: want{
			priority: []event.Priority{event.P1}, entity: "alert/deployment/web", headline: "checkouts fail", finding: "checkouts fail",
		},
	},
	{
		// Three minutes of being down; a container that crashes is up for two seconds
		// of twelve, for longer on a slow machine, and that time does not count.
		namespace: "down", limit: 10 * time.Minute,
		fail: rollout(testbed.Deployment{Version: "v2", Fault: "crashloop"}),
		want: want{
			priority: []event.Priority{event.P1}, entity: "down/deployment/web", headline: "0/2 ready", cause: "v1 -> v2", rollback: true,
			evidence: "2 ready", check: "kubectl",
		},
	},
}

// again is the story at a later time, in a namespace of its own; the first is the
// story itself.
func (s story) again(time int) story {
	if time > 0 {
		ns := fmt.Sprintf("%s-%d", s.namespace, time+1)
		s.want.entity = strings.Replace(s.want.entity, s.namespace+"/", ns+"/", 1)
		s.namespace = ns
	}
	return s
}

// times is how often the story is told.
func (s story) times() int {
	if s.once {
		return 1
	}
	return *repeat
}

// rollout rolls a version of web out.
func rollout(d testbed.Deployment) func(*testing.T, *world, string) {
	return func(t *testing.T, w *world, ns string) {
		t.Helper()
		d := d
		d.Namespace, d.Name = ns, "web"
		check(t, w.cluster.Deploy(t.Context(), d))
	}
}

func TestFailuresBecomeReportsThatNameTheirCause(t *testing.T) {
	t.Parallel()
	namespaces := map[string][]string{calm: {"web", "cart"}}
	for _, s := range stories {
		for i := range s.times() {
			namespaces[s.again(i).namespace] = []string{"web"}
		}
	}
	w := start(t, namespaces)
	w.settle(t)
	stop := w.inBackground(t, calm)
	defer stop()
	lat := &latencies{}
	t.Run("stories", func(t *testing.T) {
		for _, s := range stories {
			for i := range s.times() {
				t.Run(s.again(i).namespace, func(t *testing.T) {
					t.Parallel()
					if i > 0 {
						<-time.After(time.Duration(i) * apart)
					}
					first, complete := s.again(i).tell(t, w)
					lat.add(s.namespace, first, complete)
				})
			}
		}
	})
	stop()
	t.Log(lat)
	w.quiet(t, calm)
	w.tap(t)
	w.leaks(t)
}

// tell lets the failure happen, and waits for the report that says it all. It
// returns how long the first report and that one took.
func (s story) tell(t *testing.T, w *world) (toFirst, toComplete time.Duration) {
	t.Helper()
	began := time.Now()
	s.fail(t, w, s.namespace)
	why := "nothing"
	d := w.receiver.wait(t, s.namespace, s.limit, "what is wrong, and why", func(r event.Report) bool {
		lacks := s.want.lacks(r)
		if lacks != why {
			why = lacks
			t.Log(event.ShortID(r.Incident), r.Revision, lacks)
		}
		return lacks == ""
	})
	first := w.receiver.about(s.namespace)[0]
	toFirst, toComplete = first.at.Sub(began), d.at.Sub(began)
	t.Logf("first told after %v, complete after %v\n%s", toFirst.Round(time.Millisecond), toComplete.Round(time.Millisecond), describe(d.Report))
	sound(t, d.Report)
	w.paged(t, d.Report)
	w.answered(t, d.Report)
	return toFirst, toComplete
}

// inBackground churns a namespace until the returned function is called.
func (w *world) inBackground(t *testing.T, namespace string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		did, err := w.churn(ctx, namespace)
		if err != nil {
			t.Errorf("churn of %s: %v", namespace, err)
		}
		t.Logf("churn of %s for %v: %v", namespace, time.Since(began).Round(time.Second), did)
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// paged checks that the incident is an alert in the user's Alertmanager too,
// with what their routes and pagers show.
func (w *world) paged(t *testing.T, r event.Report) {
	t.Helper()
	var last alert
	eventually(t, 30*time.Second, "an alert in Alertmanager for "+r.Headline, func() bool {
		for _, a := range w.alertmanagerAlerts(t) {
			if a.Annotations["incident"] == event.ShortID(r.Incident) {
				last = a
				return a.Annotations["summary"] != "" && a.Annotations["description"] != ""
			}
		}
		return false
	})
	for name, want := range map[string]string{"alertname": "OncallIncident", "namespace": r.Entity.Namespace, "team": r.Owner.Team} {
		if last.Labels[name] != want {
			t.Errorf("the alert's label %s is %q, want %q; all: %v", name, last.Labels[name], want, last.Labels)
		}
	}
	if len(r.Causes) > 0 && last.Annotations["likely_cause"] == "" {
		t.Errorf("the alert does not say the likely cause: %v", last.Annotations)
	}
}

// answered runs the PromQL among a report's next checks: a command that finds
// nothing helps nobody.
func (w *world) answered(t *testing.T, r event.Report) {
	t.Helper()
	for _, c := range r.Checks {
		if !strings.HasPrefix(c.Command, "promtool query instant") {
			continue
		}
		_, query, ok := strings.Cut(c.Command, "$PROMETHEUS ")
		if !ok {
			t.Errorf("no server in %s", c.Command)
			continue
		}
		query = strings.ReplaceAll(strings.Trim(query, "'"), `'\''`, "'")
		if got, err := w.prom.Query(t.Context(), query); err != nil || len(got) == 0 {
			t.Errorf("next check %s finds nothing: %v", query, err)
		}
	}
}

// sound checks what holds for every report.
func sound(t *testing.T, r event.Report) {
	t.Helper()
	if n := len([]rune(r.Headline)); n > 120 {
		t.Errorf("headline of %d characters: %s", n, r.Headline)
	}
	cited := map[string]bool{}
	for _, e := range r.Evidence {
		cited[e.ID] = true
	}
	for _, f := range r.Findings {
		if len(f.Evidence) == 0 {
			t.Errorf("finding %q cites nothing", f.Title)
		}
		for _, id := range f.Evidence {
			if !cited[id] {
				t.Errorf("finding %q cites %s, which is not in the report", f.Title, id)
			}
		}
	}
	for _, c := range r.Causes {
		if len(c.Evidence) == 0 {
			t.Errorf("cause %q cites nothing", c.Text)
		}
	}
	for _, c := range r.Checks {
		for _, verb := range []string{" delete ", " apply ", " patch ", " edit ", " scale ", " undo ", " restart "} {
			if strings.Contains(c.Command, verb) {
				t.Errorf("a next check changes something: %s", c.Command)
			}
		}
	}
}

package triage

import (
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/check"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/evidence"
)

var web = event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}

// measured is a series of an hour that ends so many points before noon.
func measured(t *testing.T, signal, unit string, before, now float64, missing int) Metric {
	t.Helper()
	of := Measured{Entity: web, Start: noon.Add(-time.Hour), End: noon}
	values := make([]float64, 31)
	for i := range values {
		values[i] = before
		if i >= 28 {
			values[i] = now
		}
		if i >= len(values)-missing {
			values[i] = math.NaN()
		}
	}
	m, _, ok := metric(Series{Signal: signal, Unit: unit, Values: values}, of)
	if !ok {
		t.Fatal("no value")
	}
	m.Evidence = []string{"E1"}
	return m
}

func TestWhatIsMeasuredSpeaksAgainstAWorkloadThatNoCheckComplainsOf(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		m    Metric
		want string // the doubt; "" for none
	}{
		"many requests that fail":                      {measured(t, "error_ratio", "1", 0.001, 0.3, 0), "30 % of its requests fail, 0.1 % before"},
		"many that fail, and nobody knows of before":   {measured(t, "error_ratio", "1", nan, 0.3, 0), "30 % of its requests fail"},
		"as many as before is usual":                   {measured(t, "error_ratio", "1", 0.25, 0.3, 0), ""},
		"few that fail are few":                        {measured(t, "error_ratio", "1", 0, 0.04, 0), ""},
		"failures of a series that has ended are over": {measured(t, "error_ratio", "1", 0.3, 0.3, 6), ""},
		"latency many times as high":                   {measured(t, "latency_p99", "s", 0.2, 1.5, 0), "the 99th percentile of its latency is 1.5 s, 200 ms before"},
		"latency in milliseconds":                      {measured(t, "latency_p99", "ms", 200, 1500, 0), "the 99th percentile of its latency is 1.5 s, 200 ms before"},
		"some milliseconds are fast":                   {measured(t, "latency_p99", "s", 0.002, 0.03, 0), ""},
		"latency whose past nobody knows":              {measured(t, "latency_p99", "s", nan, 3, 0), ""},
		"a CPU limit that throttles":                   {measured(t, "cpu_throttling_ratio", "1", 0.1, 0.7, 0), "its CPU limit throttles it 70 % of the time, 10 % before"},
		"memory near its limit":                        {measured(t, "memory_limit_ratio", "1", 0.6, 0.97, 0), "it uses 97 % of its memory limit, 60 % before"},
		"memory that is well used":                     {measured(t, "memory_limit_ratio", "1", 0.6, 0.9, 0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Result{Time: noon, Since: noon.Add(-time.Hour), Status: "2/2 ready", Metrics: []Metric{c.m}, Ready: 2, Wanted: 2}
			a := &assembly{r: r, g: &gathered{c: check.Assemble(noon, "shop", nil), root: web}}
			a.doubts()
			got := strings.Join(texts(r.Doubts), "; ")
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			a.verdict(event.Evidence{})
			if well := strings.HasPrefix(r.Verdict.Text, "nothing is wrong"); well != (c.want == "") || r.Verdict.Confidence != "" {
				t.Errorf("with doubt %q the verdict is %+v", got, r.Verdict)
			}
		})
	}
}

func TestASeriesThatEndedHasNoValueNow(t *testing.T) {
	for missing, want := range map[int]bool{0: false, 2: false, 6: true, 20: true} {
		m := measured(t, "request_rate", "{request}/s", 5, 5, missing)
		if got := m.Ended(noon, noon.Add(-time.Hour)); got != want {
			t.Errorf("without the last %d points it ended: %v, want %v", missing, got, want)
		}
		if at := noon.Add(-time.Duration(missing) * 2 * time.Minute); !m.LastAt.Equal(at) {
			t.Errorf("its last value is of %s, want %s", m.LastAt, at)
		}
	}
}

func TestLinesOfLokiAreTheLastWordsOfACrashThatTheClusterForgot(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "shop"},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "app", RestartCount: 2, LastTerminationState: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, StartedAt: metav1.NewTime(noon.Add(-time.Minute)), FinishedAt: metav1.NewTime(noon.Add(-30 * time.Second))},
		}}}},
	}
	g := &gathered{c: check.Assemble(noon, "shop", nil), root: web, pods: []*corev1.Pod{pod}, loki: event.Evidence{Source: evidence.Loki, Query: "{}"}}
	lines := []line{
		{at: noon.Add(-10 * time.Minute), text: "error of a run before", pod: "web-1", loki: true},
		{at: noon.Add(-31 * time.Second), text: "panic: no such table", pod: "web-1", loki: true},
		{at: noon.Add(-40 * time.Second), text: "error: cannot migrate", pod: "web-1", loki: true},
		{at: noon.Add(-35 * time.Second), text: "error of another", pod: "web-2", loki: true},
		{at: noon.Add(-5 * time.Second), text: "error of the run since", pod: "web-1", loki: true},
	}
	e, ok := g.crash(lines)
	if want := "2026-11-24T11:59:20.000Z error: cannot migrate\n2026-11-24T11:59:29.000Z panic: no such table"; !ok || e.Source != evidence.Loki || strings.Join(e.Excerpt, "\n") != want {
		t.Errorf("got %v %+v, want\n%s", ok, e, want)
	}
	if _, ok := g.crash(lines[3:]); ok {
		t.Error("lines of others and of other runs are no last words")
	}
}

func TestWhatIsSaidByNameIsNotSaidAgainInGeneral(t *testing.T) {
	finding := func(rule, title string) event.Finding {
		return event.Finding{Rule: rule, Title: title, Confidence: event.High, Cause: true, Urgency: event.Broken, Severity: event.Critical, Evidence: []string{"E1"}}
	}
	r := &Result{Urgency: event.Broken, Status: "0/1 ready", Findings: []event.Finding{
		finding("pod_creation", "ServiceAccount nobody does not exist, so no pod can be created"),
		finding("references", "ServiceAccount nobody does not exist"),
		finding("service_account_missing", "The pods' service account does not exist"),
		finding("quota_near", "The quota is nearly used up"),
	}}
	a := &assembly{r: r, g: &gathered{c: check.Assemble(noon, "shop", nil), root: web}}
	a.verdict(event.Evidence{})
	if r.Verdict.Rule != "pod_creation" || strings.Join(texts(r.Verdict.Besides), "; ") != "The quota is nearly used up" {
		t.Errorf("got %+v", r.Verdict)
	}
}

func TestWhatOneReasonKeptFromBeingReadIsToldOnce(t *testing.T) {
	a := &assembly{r: &Result{}}
	a.notRead("metrics", "unreachable: refused")
	a.notRead("latency and errors", "unreachable: refused")
	a.notRead("metrics", "unreachable: refused")
	a.notRead("loki", "timeout")
	if got := a.r.NotRead; len(got) != 2 || got[0].What != "metrics; latency and errors" {
		t.Errorf("got %+v", got)
	}
}

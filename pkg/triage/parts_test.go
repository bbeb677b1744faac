package triage

import (
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func same(s string) string { return s }

func template(image, memory string) corev1.PodTemplateSpec {
	var t corev1.PodTemplateSpec
	t.Spec.Containers = []corev1.Container{{Name: "app", Image: "r/web:" + image, Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}}}}
	return t
}

func TestHistorySaysWhatEachRevisionChanged(t *testing.T) {
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for name, c := range map[string]struct {
		revisions []revision
		returned  time.Time
		want      []string // newest first
	}{
		"a rollout is compared with the one before": {
			revisions: []revision{{number: 2, created: ago(time.Hour), template: template("v2", "256Mi")}, {number: 1, created: ago(9 * time.Hour), template: template("v1", "512Mi")}},
			want:      []string{"2 11:00 image v1 -> v2, memory limit 512Mi -> 256Mi", "1 03:00 first rollout"},
		},
		"a return to an earlier template is as old as the return": {
			revisions: []revision{{number: 3, created: ago(9 * time.Hour), template: template("v1", "1Gi")}, {number: 2, created: ago(time.Hour), template: template("v2", "1Gi")}},
			returned:  ago(10 * time.Minute),
			want:      []string{"3 11:50 back to an earlier template: image v2 -> v1"},
		},
		"a template that is rolled out again after its return is not as old as it was": {
			revisions: []revision{{number: 3, created: ago(9 * time.Hour), template: template("v1", "1Gi")}, {number: 4, created: ago(time.Hour), template: template("v2", "1Gi"), again: true}},
			returned:  ago(5 * time.Minute),
			want:      []string{"4 11:55 back to an earlier template: image v1 -> v2"},
		},
		"the only revision that is kept need not be the first": {
			revisions: []revision{{number: 7, created: ago(time.Hour), template: template("v2", "1Gi")}},
			want:      []string{"7 11:00 the first that is kept"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, ch := range history(web, c.revisions, c.returned, same) {
				got = append(got, ch.Revision+" "+ch.Time.Format("15:04")+" "+ch.Summary)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestARolloutExplainsOnlyWhatFollowsItClosely(t *testing.T) {
	changes := []Change{{Change: event.Change{Time: noon, Revision: "2", Summary: "image v1 -> v2"}}}
	for name, c := range map[string]struct {
		began time.Time
		first bool
		want  bool
	}{
		"what begins minutes later":         {began: noon.Add(5 * time.Minute), want: true},
		"what begins hours later":           {began: noon.Add(3 * time.Hour)},
		"what began before":                 {began: noon.Add(-10 * time.Minute)},
		"nothing began":                     {},
		"a first rollout explains nothing":  {began: noon.Add(time.Minute), first: true},
		"clocks may differ by some seconds": {began: noon.Add(-20 * time.Second), want: true},
	} {
		t.Run(name, func(t *testing.T) {
			changes[0].First = c.first
			if text, got := rolledOut(changes, c.began, noon.Add(5*time.Hour)); (got != nil) != c.want {
				t.Errorf("rolledOut = %q, want one: %v", text, c.want)
			}
		})
	}
}

func TestPatternsPutTroubleFirstAndCountIt(t *testing.T) {
	var lines []line
	add := func(n int, text string) {
		for i := range n {
			lines = append(lines, line{at: noon.Add(time.Duration(len(lines)) * time.Second), text: strings.ReplaceAll(text, "#", string(rune('0'+i%10))), where: "web-1 app"})
		}
	}
	add(30, `level=info msg="GET /item/#" status=200`)
	add(4, `level=error msg="connect to 10.0.0.#:5432: connection refused"`)
	add(2, `request done, 0 errors, error=nil`)
	add(1, `panic: runtime error: index out of range`)
	got, trouble := patterns(lines)
	if len(trouble) != 5 {
		t.Errorf("%d lines look like trouble, want 5: a line that says that there is none does not", len(trouble))
	}
	if len(got) < 3 || !got[0].Trouble || !got[1].Trouble || got[2].Trouble {
		t.Fatalf("got %+v, want the two troubles first", got)
	}
	for _, p := range got {
		if strings.Contains(p.Example, "refused") && (p.Count != 4 || p.Last.Sub(p.First) != 3*time.Second || !strings.Contains(p.Example, "10.0.0.3")) {
			t.Errorf("got %+v, want 4 lines in 3s and the last as example", p)
		}
	}
}

func TestEventsThatSayTheSameAreOneGroup(t *testing.T) {
	ev := func(kind, name, reason, message string, count int, at time.Duration) event.KubeEvent {
		return event.KubeEvent{InvolvedObject: event.KubeRef{Kind: kind, Name: name}, Reason: reason, Message: message, Type: "Warning", Count: count, FirstTimestamp: noon, LastTimestamp: noon.Add(at)}
	}
	all := []event.KubeEvent{
		ev("Pod", "web-1", "BackOff", "Back-off restarting failed container", 5, 3*time.Minute),
		ev("Pod", "web-2", "BackOff", "Back-off restarting failed container", 7, time.Minute),
		ev("Pod", "web-1", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 500", 3, time.Minute),
		ev("Pod", "web-2", "Unhealthy", "Readiness probe failed: connection refused", 4, 2*time.Minute),
		ev("Pod", "web-2", "Unhealthy", "Liveness probe failed: timeout", 1, time.Minute),
	}
	g := groupEvents(all)
	if len(g) != 1 || g[0].Count != 12 || g[0].Objects != 2 || g[0].About != "pod/web-1" {
		t.Errorf("got %+v, want one group of 12 about 2 pods", g)
	}
	p := probes(all, "")
	if len(p) != 2 || p[1].Kind != "Readiness" || p[1].Count != 7 || p[1].Pods != 2 || p[1].Message != "connection refused" {
		t.Errorf("got %+v, want liveness, then readiness 7 times with the last message", p)
	}
	if p := probes(all, "web-1"); len(p) != 1 || p[0].Count != 3 {
		t.Errorf("of one pod: got %+v, want its 3", p)
	}
}

func TestSparkline(t *testing.T) {
	nan := math.NaN()
	for want, values := range map[string][]float64{
		"▁▅█":  {0, 5, 10},
		"▁▁▁":  {7, 7, 7},
		"▁ █":  {1, nan, 2},
		"":     {},
		"  ":   {nan, nan},
		"█▁":   {-1, -2},
		"▁▁▁█": {0, 0, 0, 1e-12},
	} {
		if got := Sparkline(values); got != want {
			t.Errorf("Sparkline(%v) = %q, want %q", values, got, want)
		}
	}
}

func TestQuantity(t *testing.T) {
	for want, c := range map[string]struct {
		v    float64
		unit string
	}{"231 MiB": {231 << 20, "By"}, "1.5 GiB": {1.5 * (1 << 30), "By"}, "99.5 ms": {0.0995, "s"}, "2.5 s": {2.5, "s"}, "12.5 %": {0.125, "1"}, "250m": {0.25, "{cpu}"}, "40/s": {40, "{request}/s"}, "3": {3, "{restart}"}} {
		if got := Quantity(c.v, c.unit); got != want {
			t.Errorf("Quantity(%g, %s) = %q, want %q", c.v, c.unit, got, want)
		}
	}
}

func TestSimilarIncidentsAreThoseOfTheSameThing(t *testing.T) {
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	ended := noon.Add(-time.Hour)
	all := []event.Incident{
		{ID: "aaaaaaaaaaaaa", Entity: event.Entity{Namespace: "lab", Kind: "Deployment", Name: "web"}, Onset: noon, Title: "elsewhere"},
		{ID: "bbbbbbbbbbbbb", Entity: web, Onset: noon.Add(-2 * time.Hour), ResolvedAt: &ended, Title: "errors"},
		{ID: "ccccccccccccc", Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "cart"}, Suspects: []event.Suspect{{Entity: web, Why: "its rollout"}}, Onset: noon, Title: "cart is slow"},
		{ID: "ddddddddddddd", Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "pay"}, Onset: noon, Title: "another"},
	}
	got := similar(all, web, noon, func(event.Evidence) string { return "E1" }, same)
	var titles []string
	for _, s := range got {
		titles = append(titles, s.Title)
	}
	if strings.Join(titles, ", ") != "errors, cart is slow, elsewhere" || got[0].Lasted != "60m" {
		t.Errorf("got %v, %+v", titles, got)
	}
}

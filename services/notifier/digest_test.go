package notifier

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

var due = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func digestOf(mode Mode) DigestOf {
	return DigestOf{Channel: "slack", Cluster: "prod", Mode: mode, From: due.Add(-24 * time.Hour), Due: due}
}

func decided(incident string, o event.Outcome, p event.Priority, channel, rule string) event.Decision {
	return event.Decision{Incident: incident, Revision: 1, Outcome: o, Priority: p, Channel: channel, Rule: rule, Headline: string(p) + " prod " + incident, Time: due.Add(-time.Hour)}
}

func lines(r event.Report) string {
	var out []string
	for _, e := range r.Timeline {
		out = append(out, e.What)
	}
	return strings.Join(out, "\n")
}

func TestADigestGroupsWhatAChannelWasNotTold(t *testing.T) {
	ds := []event.Decision{
		decided("aaaaa", event.Shadow, event.P3, "slack", "notify.mode=shadow"),
		decided("bbbbb", event.HeldBack, event.P3, "slack", "flapping"),
		decided("bbbbb", event.Shadow, event.P1, "slack", "notify.mode=shadow"),
		decided("bbbbb", event.Shadow, event.P2, "slack", "notify.mode=shadow"),
		decided("ccccc", event.Silenced, event.P1, "slack", "silence s1"),
		decided("ddddd", event.HeldBack, event.P4, "slack", "route all: P4 is less urgent than P3"),
		decided("eeeee", event.Shadow, event.P1, "teams", "notify.mode=shadow"), // another's
		decided("fffff", event.HeldBack, event.P2, nowhere, "no route matches"), // everybody's
		decided("ggggg", event.Sent, event.P2, "slack", "route all"),
		decided("ggggg", event.HeldBack, event.P2, "slack", ruleNothingNew+"slack cannot edit"),
		decided("hhhhh", event.HeldBack, event.P2, "slack", ruleNothingNew+"slack cannot edit"), // told days ago
		decided("iiiii", event.HeldBack, event.P2, "slack", ruleElsewhere+"all"),
	}
	r, ok := Digest(ds, digestOf(ModeShadow))
	if !ok {
		t.Fatal("no digest")
	}
	if want := "Digest prod 2026-11-22: 1 would have paged, 1 would have been sent, 1 silenced, 2 held back"; r.Headline != want {
		t.Errorf("got %q, want %q", r.Headline, want)
	}
	want := `Would have paged (1)
P1 prod bbbbb
Would have been sent (1)
P3 prod aaaaa
Silenced (1)
P1 prod ccccc (silence s1)
Held back (2)
P2 prod fffff (no route matches)
P4 prod ddddd (route all: P4 is less urgent than P3)`
	if got := lines(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAnEmptyDigestIsALifeSignInShadowModeOnly(t *testing.T) {
	told := []event.Decision{decided("ggggg", event.Sent, event.P2, "slack", "route all")}
	r, ok := Digest(told, digestOf(ModeShadow))
	if !ok || r.Headline != "Digest prod 2026-11-22: nothing would have been sent" || len(r.Timeline) != 0 {
		t.Errorf("shadow: got %v, %q", ok, r.Headline)
	}
	r, ok = Digest([]event.Decision{decided("ddddd", event.HeldBack, event.P4, "slack", "x")}, digestOf(ModeShadow))
	if !ok || r.Headline != "Digest prod 2026-11-22: nothing would have been sent, 1 held back" {
		t.Errorf("shadow with a held one: got %v, %q", ok, r.Headline)
	}
	for _, mode := range []Mode{ModeEnrich, ModePage} {
		if r, ok := Digest(told, digestOf(mode)); ok {
			t.Errorf("%s: got %q, want none", mode, r.Headline)
		}
	}
}

func TestALongDigestListsTheWorstAndCountsAll(t *testing.T) {
	var ds []event.Decision
	for i := range 300 {
		ds = append(ds, decided(fmt.Sprintf("held%03d", i), event.HeldBack, event.P4, "slack", "no symptom"))
	}
	ds = append(ds, decided("page1", event.Shadow, event.P1, "slack", "notify.mode=shadow"))
	r, _ := Digest(ds, digestOf(ModeShadow))
	if got := len(r.Timeline); got != maxDigestLines+2 {
		t.Errorf("got %d lines, want %d and two headings", got, maxDigestLines)
	}
	if got := lines(r); !strings.HasPrefix(got, "Would have paged (1)\nP1 prod page1\nHeld back (24 of 300)\n") {
		t.Errorf("got %q", Clip(got, 200))
	}
	if len(r.Headline) > 120 || !strings.Contains(r.Headline, "300 held back") {
		t.Errorf("got %q, want the count of all in 120 characters", r.Headline)
	}
}

func TestLastDigest(t *testing.T) {
	at, _ := time.Parse("15:04", "08:00")
	for now, want := range map[string]string{
		"2026-11-22T08:00:00Z": "2026-11-22T08:00:00Z",
		"2026-11-22T07:59:59Z": "2026-11-21T08:00:00Z",
		"2026-11-22T23:00:00Z": "2026-11-22T08:00:00Z",
		"2026-03-01T00:00:00Z": "2026-02-28T08:00:00Z",
	} {
		n, _ := time.Parse(time.RFC3339, now)
		if got := lastDigest(n, at).Format(time.RFC3339); got != want {
			t.Errorf("at %s: got %s, want %s", now, got, want)
		}
	}
}

package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

func drawnIncident() event.Incident {
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 10, minute, 0, 0, time.UTC) }
	web := event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}
	ended, resolved := at(20), at(30)
	return event.Incident{
		Priority: event.P1, Entity: web, Title: "web </text><script>alert(1)</script> \x1b[31m", Onset: at(5), Opened: at(6), Updated: at(30), ResolvedAt: &resolved,
		Changes: []event.Change{
			{Kind: event.Rollout, Entity: web, Time: at(4), Summary: "image v2 -> v3"},
			{Kind: event.Rollout, Entity: web, Time: at(5).Add(-2 * time.Hour), Summary: "image v1 -> v2"},
		},
		Anomalies: []event.Anomaly{
			{Detector: "burn_rate", Entity: web, Severity: event.Critical, Onset: at(7), Summary: "30 % & <more> of requests fail"},
			{Detector: "event_surge", Entity: web, Severity: event.Warning, Onset: at(5), Ended: &ended, Summary: "BackOff x3"},
		},
	}
}

func TestAPictureHasTheChangesOfTheHourBeforeAndEachAnomalyFromItsOnsetToItsEnd(t *testing.T) {
	var got []string
	for _, l := range lanes(drawnIncident()) {
		got = append(got, fmt.Sprintf("%s: %s %s-%s", l.who, l.what, l.from.Format("15:04"), l.to.Format("15:04")))
	}
	want := []string{
		"rollout  web: image v2 -> v3 10:04-10:04",
		"event_surge  web: BackOff x3 10:05-10:20",
		"burn_rate  web: 30 % & <more> of requests fail 10:07-10:30",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestAPictureOfHostileTextIsAPicture(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.svg")
	if err := plotIncident(name, drawnIncident()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var text strings.Builder
	for d := xml.NewDecoder(f); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := tok.(type) {
		case xml.StartElement:
			if x.Name.Local == "script" {
				t.Error("a script is in it")
			}
		case xml.CharData:
			text.Write(x)
		}
	}
	for _, want := range []string{"event_surge  web", "BackOff x3", "<more>", "opened", "resolved", "10:10"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in it", want)
		}
	}
	if strings.ContainsRune(text.String(), 0x1b) {
		t.Error("an escape is in it")
	}
}

func TestTicksAreRoundTimesAndFew(t *testing.T) {
	first := time.Date(2026, 3, 1, 10, 3, 7, 0, time.UTC)
	for span, want := range map[time.Duration]string{
		40 * time.Second: "10:03:10 10:03:20 10:03:30 10:03:40", 30 * time.Minute: "10:05 10:10 10:15 10:20 10:25 10:30",
		5 * time.Hour: "10:30 11:00 11:30 12:00 12:30 13:00 13:30 14:00 14:30 15:00", 40 * time.Hour: "12:00 18:00 00:00 06:00 12:00 18:00 00:00",
		30 * 24 * time.Hour: "3 Mar 6 Mar 9 Mar 12 Mar 15 Mar 18 Mar 21 Mar 24 Mar 27 Mar 30 Mar",
	} {
		var got []string
		for _, tick := range clockTicks(first, first.Add(span)) {
			got = append(got, tick.Label)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("over %s: %s, want %s", span, s, want)
		}
	}
}

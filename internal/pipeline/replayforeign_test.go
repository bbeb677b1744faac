package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/detector/foreign"
)

// theirs is a detector in a language of its own, which answers every window that
// holds an error rate of 30.
const theirs = `/,30\]/{s/.*/[{"entity":"shop\/deployment\/web","class":"symptom","severity":"warning","tail_prob":1e-6,"observed":30,"summary":"thirty"}]/;b
}
s/.*/[]/`

// TestWhatAThirdPartyFoundIsPartOfAReplay runs a third party's detector beside
// ours, as oncall detector run does, records it, and replays it without that
// detector.
func TestWhatAThirdPartyFoundIsPartOfAReplay(t *testing.T) {
	t.Parallel()
	h := host(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- foreign.Run(ctx, h.Bus, slog.New(slog.DiscardHandler), foreign.Config{Name: "theirs", Exec: []string{"sed", "-u", theirs}, Hold: time.Minute})
	}()
	b := outage(t)
	live := &Replay{Host: h, Bundle: b, Speed: 2000}
	// Another writes to the bus by itself, when the incident is open, of a time
	// before it was.
	says := b.Manifest.Start.Add(40 * time.Minute)
	late := event.Anomaly{
		Detector: "late", ConfigHash: "1", Series: event.SeriesHash(1), Entity: event.Entity{Namespace: "shop", Kind: "Deployment", Name: "web"}, Signal: "late", Foreign: true,
		Class: event.ClassSymptom, Severity: event.Warning, Onset: says.Add(-4 * time.Minute), WindowEnd: says.Add(-3 * time.Minute), TailProb: 1e-6, Summary: "noticed late",
	}
	late.Key = event.AnomalyKey(late.Detector, late.Series, late.Onset)
	var once sync.Once
	live.Clock = func(at time.Time, _ float64) {
		if at.Before(says) {
			return
		}
		once.Do(func() {
			// The third party's detector may be slower than the replay; the incident
			// must not be over before it has spoken.
			spoken := errors.New("spoken")
			o := bus.ReadOptions{Filters: []string{"anomalies.*.*.theirs"}, Follow: true}
			if err := h.Bus.Read(t.Context(), event.Anomalies, o, func(bus.Message) error { return spoken }); !errors.Is(err, spoken) {
				t.Error(err)
			}
			if err := h.Bus.Publish(t.Context(), event.AnomalyDetected.Out(late)); err != nil {
				t.Error(err)
			}
		})
	}
	if err := live.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	within := map[string]bool{}
	if err := h.Bus.Read(t.Context(), event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
		if i, ok := m.Data.(event.Incident); ok {
			for _, a := range i.Anomalies {
				within[a.Detector] = true
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !within["theirs"] || !within["late"] {
		t.Fatalf("the incidents hold anomalies of %v, want those of both third parties", within)
	}
	dir := filepath.Join(t.TempDir(), "bundle")
	if _, err := Record(t.Context(), h.Bus, dir, Recording{Manifest: bundle.Manifest{Name: "theirs", Start: b.Manifest.Start, End: b.Manifest.End}}); err != nil {
		t.Fatal(err)
	}
	recorded, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Digest(t.Context(), h.Bus)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Replay{
		"from the streams":         {},
		"from the sources":         {From: FromSources},
		"from what was found":      {From: FromAnomalies},
		"up to before it was said": {Span: Span{To: says.Add(-time.Minute)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.Bundle = recorded
			played(t, r)
			c, err := r.Compare(t.Context())
			if err != nil || !c.Comparable || c.Difference != "" {
				t.Errorf("%s, %v", c, err)
			}
			if got, err := r.Digest(t.Context()); r.Span == (Span{}) && (err != nil || got != want) || strings.HasPrefix(got, "0 ") {
				t.Errorf("digest %s, %v; the recorded run's is %s", got, err, want)
			}
		})
	}
}

package pipeline_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// aged runs every service over a Prometheus whose history holds an incident an
// hour after its beginning, and then lets go of the telemetry of before the
// incident's checkpoints, as age does.
func aged(t *testing.T) (h *pipeline.Host, incident event.Incident) {
	t.Helper()
	start := time.Now().Add(-80 * time.Minute).Truncate(time.Minute)
	prom := shop(t, start.Add(57*time.Minute))
	h = open(t, t.TempDir())
	t.Cleanup(func() { _ = h.Close() })
	catchUp(t, h, prom.URL, start)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	eventually(t, "a report that pages about shop/web", func() bool {
		return slices.ContainsFunc(reports(t, h.Bus), func(r event.Report) bool { return r.Priority.Pages() && r.Entity.Name == "web" })
	})
	var at time.Time
	read := uint64(0)
	eventually(t, "the present", func() bool {
		o := bus.ReadOptions{Filters: []string{event.WatermarkPassed.Filter()}, StartSeq: read + 1}
		_ = h.Bus.Read(t.Context(), event.Anomalies, o, func(m bus.Message) error {
			at, read = m.Time, m.Sequence
			return nil
		})
		return time.Since(at) < 2*time.Minute
	})
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("the pipeline ended with %v", err)
	}
	if err := h.Bus.Read(t.Context(), event.Incidents, bus.ReadOptions{}, func(m bus.Message) error {
		if i, ok := m.Data.(event.Incident); ok && i.Entity.Name == "web" && i.Priority.Pages() {
			incident = i
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if incident.ID == "" {
		t.Fatal("no incident")
	}
	return h, incident
}

// forget removes the messages of a stream up to a position.
func forget(t *testing.T, b *bus.Bus, stream *event.Stream, upTo uint64) {
	t.Helper()
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(upTo+1)); err != nil {
		t.Fatal(err)
	}
}

// from is the lowest position of the checkpoints of before an onset.
func from(t *testing.T, b *bus.Bus, onset time.Time) uint64 {
	t.Helper()
	kept, err := b.Kept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	low := uint64(0)
	for _, k := range kept {
		if k.Stream == event.Metrics.Name && k.Slot.Equal(bus.Before(onset)) && (low == 0 || k.Sequence < low) {
			low = k.Sequence
		}
	}
	if low == 0 {
		t.Fatalf("no checkpoints of %s among %d", bus.Before(onset), len(kept))
	}
	return low
}

func record(t *testing.T, h *pipeline.Host, r pipeline.Recording) (string, bundle.Manifest) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bundle")
	m, err := pipeline.Record(t.Context(), h.Bus, dir, r)
	if err != nil {
		t.Fatal(err)
	}
	return dir, m
}

func TestAnIncidentThatBeganInTheMiddleOfARunReplaysExactly(t *testing.T) {
	t.Parallel()
	h, inc := aged(t)
	forget(t, h.Bus, event.Metrics, from(t, h.Bus, inc.Onset))
	dir, m := record(t, h, pipeline.Recording{Incident: inc.ID, Manifest: bundle.Manifest{Name: "warm", Cluster: "of who records"}})
	if m.Cluster != inc.Cluster {
		t.Errorf("the recording is of cluster %q, want that of the incident, %q", m.Cluster, inc.Cluster)
	}
	if m.State != bundle.Warm || m.ExactFrom != string(pipeline.FromTelemetry) {
		t.Fatalf("recorded %s from %q, want %s from %s", m.State, m.ExactFrom, bundle.Warm, pipeline.FromTelemetry)
	}
	digests := map[string]string{}
	for name, r := range map[string]pipeline.Replay{
		"once":             {},
		"by three workers": {Workers: 3},
	} {
		d, c := replay(t, dir, r)
		digests[d] = name
		if got, want := c.String(), "replayed 1 incident from the recorded checkpoints: equal to the recording"; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if len(digests) != 1 {
		t.Errorf("replays of one bundle differ: %v", digests)
	}
	if _, c := replay(t, dir, pipeline.Replay{From: pipeline.FromAnomalies}); c.Difference != "" || c.Fidelity.State != bundle.Warm {
		t.Errorf("from anomalies: %s (%s)", c, c.Fidelity.State)
	}

	// The whole of what the bus still holds, too.
	all, m := record(t, h, pipeline.Recording{Manifest: bundle.Manifest{Name: "rest"}})
	if m.State != bundle.Warm {
		t.Fatalf("all of the bus recorded %s, want %s", m.State, bundle.Warm)
	}
	if _, c := replay(t, all, pipeline.Replay{}); !c.Comparable || c.Difference != "" {
		t.Errorf("all of the bus: %s", c)
	}

	t.Run("without its states it is another story, and cold", func(t *testing.T) {
		cold(t, dir, "holds no checkpoint of the correlator", func(state string) error { return os.RemoveAll(state) })
	})
	t.Run("a state that was damaged makes it cold", func(t *testing.T) {
		cold(t, dir, "metrics.7.bin", func(state string) error {
			return os.WriteFile(filepath.Join(state, "metrics.7.bin.zst"), []byte("not zstd"), 0o644)
		})
	})
	t.Run("a state of another configuration makes it cold", func(t *testing.T) {
		cold(t, dir, "another version or configuration", func(state string) error {
			index := filepath.Join(state, "checkpoints.jsonl")
			b, err := os.ReadFile(index)
			if err != nil {
				return err
			}
			return os.WriteFile(index, []byte(strings.ReplaceAll(string(b), `"config":"`, `"config":"x`)), 0o644)
		})
	})

	t.Run("what is gone from the telemetry is exact from the anomalies", func(t *testing.T) {
		forget(t, h.Bus, event.Metrics, from(t, h.Bus, inc.Onset)+50)
		dir, m := record(t, h, pipeline.Recording{Incident: inc.ID, Manifest: bundle.Manifest{Name: "anomalies"}})
		if m.State != bundle.Warm || m.ExactFrom != string(pipeline.FromAnomalies) {
			t.Fatalf("recorded %s from %q", m.State, m.ExactFrom)
		}
		if _, c := replay(t, dir, pipeline.Replay{From: pipeline.FromAnomalies}); !c.Comparable || c.Difference != "" {
			t.Errorf("from anomalies: %s", c)
		}
		if _, c := replay(t, dir, pipeline.Replay{}); c.Comparable || !strings.Contains(c.Why, "--from anomalies") {
			t.Errorf("from telemetry: %s", c)
		}
	})
}

// cold replays a bundle whose state/ was tampered with.
func cold(t *testing.T, dir, why string, tamper func(state string) error) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "bundle")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := tamper(filepath.Join(copied, "state")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	_, c := replay(t, copied, pipeline.Replay{})
	if c.Comparable || c.Fidelity.State != bundle.Cold || !strings.Contains(c.Why, why) {
		t.Errorf("got %s (%s), want cold because of %q", c, c.Fidelity.State, why)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// TestTheSubscriberInPythonPrintsCloudEvents runs the example against a bus
// that listens, and publishes an anomaly and an incident on it.
func TestTheSubscriberInPythonPrintsCloudEvents(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	cfg := service.DefaultConfig(pipeline.Services...)
	cfg.Obs.Listen, cfg.Obs.LogLevel = "", "error"
	h, err := pipeline.Open(t.Context(), cfg, pipeline.Options{Data: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	all := sample(time.Date(2026, 3, 1, 2, 51, 0, 0, time.UTC))
	for subject, want := range map[string]event.Outgoing{"anomalies.>": all[0], "incidents.>": all[1]} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c := exec.CommandContext(ctx, python, filepath.Join("..", "..", "examples", "subscriber-python", "subscribe.py"), h.Address(), subject, "--count", "1")
		var out strings.Builder
		c.Stdout = &out
		said, err := c.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(said)
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "subscribed to ") {
			t.Fatalf("%s: said %q", subject, lines.Text())
		}
		if err := publish(h, []event.Outgoing{want}); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			t.Errorf("%s: said %q", subject, lines.Text())
		}
		if err := c.Wait(); err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
			t.Fatalf("%s: %v: %s", subject, err, out.String())
		}
		if got["id"] != want.ID || got["specversion"] != "1.0" || !strings.HasPrefix(got["type"].(string), "dev.oncall.") {
			t.Errorf("%s: attributes %v, want id %s", subject, got, want.ID)
		}
		data, ok := got["data"].(map[string]any)
		if !ok || data["entity"].(map[string]any)["name"] != "checkout" {
			t.Errorf("%s: data %v, want the event's own", subject, got["data"])
		}
	}
}

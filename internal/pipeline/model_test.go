package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bundle"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// TestAReplayTellsWhatAModelSaidWithoutAskingIt records a run with a model, and
// replays it when the model is gone.
func TestAReplayTellsWhatAModelSaidWithoutAskingIt(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	entity := regexp.MustCompile(`\\"entity\\":\\"([^"\\]+)\\"`)
	model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		about := entity.FindSubmatch(body)
		if about == nil {
			http.Error(w, "no data", http.StatusBadRequest)
			return
		}
		content := fmt.Sprintf(`{"summary":[],"status":"","causes":[],"findings":[{"text":"Something fails that worked before","entity":%q,"evidence":["E1"]}]}`, about[1])
		_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{"finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": content}}}})
	}))
	defer model.Close()
	start := time.Now().Add(-30 * time.Minute)
	prom := shop(t, start.Add(22*time.Minute))
	h := open(t, t.TempDir())
	defer func() { _ = h.Close() }()
	catchUp(t, h, prom.URL, start)
	rc := h.Config.Section("reasoner").(reasoner.Config)
	rc.Model.URL, rc.Model.Name = model.URL+"/v1", "local"
	h.Config.SetSection("reasoner", rc)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	eventually(t, "a revision of the model", func() bool { return len(worded(reports(t, h.Bus))) > 0 })
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the pipeline ended with %v", err)
	}
	live := worded(reports(t, h.Bus))
	dir := filepath.Join(t.TempDir(), "bundle")
	if _, err := pipeline.Record(t.Context(), h.Bus, dir, pipeline.Recording{Manifest: bundle.Manifest{Name: "model"}}); err != nil {
		t.Fatal(err)
	}
	model.Close()
	before := asked.Load()

	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, "")
	defer func() { _ = again.Close() }()
	if err := (&pipeline.Replay{Host: again, Bundle: b}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != before {
		t.Error("the replay asked the model")
	}
	replayed := worded(reports(t, again.Bus))
	for _, l := range live {
		want, _ := json.Marshal(l)
		if !slices.ContainsFunc(replayed, func(r event.Report) bool { got, _ := json.Marshal(r); return string(got) == string(want) }) {
			t.Errorf("the replay has no revision %d of %s as the model worded it; it has %d of the model", l.Revision, l.Incident, len(replayed))
		}
	}
}

// worded are the reports that a model had a hand in.
func worded(rs []event.Report) []event.Report {
	return slices.DeleteFunc(rs, func(r event.Report) bool { return r.Model == nil })
}

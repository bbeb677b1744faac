//go:build e2e

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/test/testbed"
)

// answered is what the test reads of ask.
type answered struct {
	By     string   `json:"by"`
	Scope  []string `json:"scope"`
	Answer []struct {
		Text     string   `json:"text"`
		Evidence []string `json:"evidence"`
	} `json:"answer"`
	Dropped map[string]int `json:"dropped"`
	Failed  string         `json:"model_failed"`
	Steps   []struct {
		Tool    string `json:"tool"`
		Outcome string `json:"outcome"`
	} `json:"steps"`
	Evidence []struct {
		Source  string   `json:"source"`
		Excerpt []string `json:"excerpt"`
	} `json:"evidence"`
}

// TestAQuestionIsAnsweredFromWhatIsThere asks of a real cluster, without a model
// and with one that follows a script: it looks, asks for what it may not have,
// and says one thing that nothing shows.
func TestAQuestionIsAnsweredFromWhatIsThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	b := start(ctx, t)
	if err := b.cluster.Deploy(ctx, testbed.Deployment{Namespace: "shop", Name: "web", Version: "v2", Fault: "oom"}); err != nil {
		t.Fatal(err)
	}
	question := []string{"ask", "why is web broken?"}
	until(ctx, t, b, "an answer by rules", question, func(a answered) string {
		if a.By != "rules" || !slices.Equal(a.Scope, []string{"shop"}) || !strings.Contains(fmt.Sprint(a.Answer), "OOMKilled") {
			return fmt.Sprintf("%+v", a)
		}
		return ""
	})

	about := `{"kind":"Deployment","namespace":"shop","name":"web"}`
	m := model(t,
		turn{calls: [][2]string{{"triage", about}, {"promql", `{"expr":"sum(rate(http_requests_total[5m]))"}`}, {"promql", `{"expr":"sum(rate(http_requests_total[5m] offset 30d))"}`}}},
		turn{calls: [][2]string{{"logs", about}, {"describe", `{"kind":"Secret","namespace":"shop","name":"db"}`}}},
		turn{text: "The pods of web are OOMKilled [e1]. 4711 customers have left [e1]."},
	)
	out := b.run(ctx, t, append([]string{"--config", m}, append(question, "-o", "json")...)...)
	var a answered
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("%v\n%.500s", err, out)
	}
	if a.By != "model" || a.Failed != "" || len(a.Answer) != 1 || !strings.Contains(a.Answer[0].Text, "OOMKilled") || len(a.Dropped) != 1 {
		t.Errorf("%s", out)
	}
	var steps []string
	for _, s := range a.Steps {
		steps = append(steps, s.Tool+" "+s.Outcome)
	}
	if want := []string{"triage answered", "promql answered", "promql refused", "logs answered", "describe refused"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	sources := map[string]bool{}
	for _, e := range a.Evidence {
		sources[e.Source] = true
	}
	if !sources["kubernetes"] {
		t.Errorf("evidence of %v", sources)
	}
}

// turn is one answer of a model.
type turn struct {
	calls [][2]string // tools and their arguments
	text  string
}

// model serves the turns one after the other, as models are served, and gives a
// configuration that names it.
func model(t *testing.T, turns ...turn) string {
	t.Helper()
	var mu sync.Mutex
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		now := turns[min(n, len(turns)-1)]
		n++
		message := map[string]any{"role": "assistant", "content": now.text}
		var calls []any
		for i, c := range now.calls {
			calls = append(calls, map[string]any{"id": fmt.Sprintf("call_%d_%d", n, i), "type": "function", "function": map[string]string{"name": c[0], "arguments": c[1]}})
		}
		if calls != nil {
			message["tool_calls"] = calls
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": "stop"}}, "usage": map[string]int{"total_tokens": 500},
		})
	}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "oncall.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "reasoner:\n  model: {url: %s/v1, name: local-7b, timeout: 5s}\n", s.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

//go:build e2e

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/ask/asktest"
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
		asktest.Turn{Calls: [][2]string{{"triage", about}, {"promql", `{"expr":"sum(rate(http_requests_total[5m]))"}`}, {"promql", `{"expr":"sum(rate(http_requests_total[5m] offset 30d))"}`}}},
		asktest.Turn{Calls: [][2]string{{"logs", about}, {"describe", `{"kind":"Secret","namespace":"shop","name":"db"}`}}},
		asktest.Turn{Text: "The pods of web are OOMKilled [e1]. 4711 customers have left [e1]."},
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

// model serves the turns one after the other, and gives a configuration that
// names it.
func model(t *testing.T, turns ...asktest.Turn) string {
	t.Helper()
	s := httptest.NewServer(asktest.Model(turns...))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "oncall.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "reasoner:\n  model: {url: %s/v1, name: local-7b, timeout: 5s}\n", s.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

package reasoner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

// endpoint is an OpenAI-compatible server that answers as it is told.
type endpoint struct {
	*httptest.Server
	mu       sync.Mutex
	requests []map[string]any
	keys     []string
	answer   http.HandlerFunc
}

func newEndpoint(t *testing.T, answer http.HandlerFunc) *endpoint {
	t.Helper()
	e := &endpoint{answer: answer}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var req map[string]any
		if err := json.Unmarshal(body, &req); err != nil || r.URL.Path != "/v1/chat/completions" {
			http.Error(w, "bad request", http.StatusTeapot)
			return
		}
		e.mu.Lock()
		e.requests = append(e.requests, req)
		e.keys = append(e.keys, r.Header.Get("Authorization"))
		e.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		e.answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) asked() []map[string]any {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.requests)
}

// says answers with a text, as a chat completion.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"id": "c1", "object": "chat.completion",
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": text}}},
			"usage":   map[string]any{"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000},
		})
	}
}

func fails(code int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "x"}})
	}
}

func modelConfig(e *endpoint) reasoner.ModelConfig {
	c := reasoner.DefaultConfig().Model
	c.URL, c.Name = e.URL+"/v1", "local-7b"
	return c
}

var night = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

func advisor(c reasoner.ModelConfig, now func() time.Time) *reasoner.Advisor {
	return reasoner.NewAdvisor(c, reasoner.NewOpenAI(c), nil, now)
}

func still() time.Time { return night }

// said is an answer by the schema.
func said(t *testing.T, v map[string]any) string {
	t.Helper()
	for _, k := range []string{"summary", "causes", "findings"} {
		if v[k] == nil {
			v[k] = []any{}
		}
	}
	if v["status"] == nil {
		v["status"] = ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func claimOf(text, entity string, ids ...string) map[string]any {
	c := map[string]any{"text": text, "evidence": append([]string{}, ids...)}
	if entity != "" {
		c["entity"] = entity
	}
	return c
}

const checkout = "shop/deployment/checkout"

func TestAGoodAnswerRewordsTheReportAndAddsGroundedHypotheses(t *testing.T) {
	r := draft(t, stories(t)["oom_after_rollout"])
	good := said(t, map[string]any{
		"summary":  []any{claimOf("12 % of requests fail since 02:51", "", "E1"), claimOf("The rollout to v412 lowered the memory limit from 512Mi to 256Mi, and all 6 pods are OOMKilled", "", "E2", "E3")},
		"status":   "Since 02:51 UTC checkout answers some requests with errors. We are working on it.",
		"causes":   []any{claimOf("The new memory limit of 256Mi is too low for v412", checkout, "E3")},
		"findings": []any{claimOf("There were 18 restarts in all", checkout, "E2")},
	})
	e := newEndpoint(t, says(good))
	c := modelConfig(e)
	c.APIKeyFile = filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		t.Helper()
		if err := os.WriteFile(c.APIKeyFile, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	a := advisor(c, still)
	out, gained, err := a.Advise(t.Context(), r)
	if err != nil || !gained {
		t.Fatalf("gained %t, %v; claims %v", gained, err, a.Claims())
	}
	if want := map[string]float64{"kept": 5}; !maps.Equal(a.Claims(), want) {
		t.Errorf("claims %v, want %v", a.Claims(), want)
	}
	if out.TLDR != "12 % of requests fail since 02:51. The rollout to v412 lowered the memory limit from 512Mi to 256Mi, and all 6 pods are OOMKilled." {
		t.Errorf("summary %s", out.TLDR)
	}
	last := out.Causes[len(out.Causes)-1]
	if last.Confidence != event.Low || last.Text != "The new memory limit of 256Mi is too low for v412" {
		t.Errorf("cause %+v", last)
	}
	if f := out.Findings[len(out.Findings)-1]; !f.Model || f.Confidence != event.Low || f.Cause {
		t.Errorf("finding %+v", f)
	}
	if out.Revision != r.Revision+1 || out.Revision%2 != 0 || out.IncidentRevision != r.IncidentRevision || out.Reason != "model" {
		t.Errorf("revision %d of %d, reason %s", out.Revision, out.IncidentRevision, out.Reason)
	}
	if out.Model == nil || out.Model.Name != "local-7b" || out.Model.Tokens != 1000 {
		t.Errorf("model %+v", out.Model)
	}
	unmoved(t, r, out)
	sound(t, out)

	req := e.asked()[0]
	if temp, ok := req["temperature"].(float64); !ok || temp > 1e-6 {
		t.Errorf("temperature %v", req["temperature"])
	}
	if f, _ := req["response_format"].(map[string]any); f["type"] != "json_schema" {
		t.Errorf("format %v", req["response_format"])
	}
	if req["max_tokens"] != float64(c.MaxTokens) || req["model"] != "local-7b" {
		t.Errorf("request %v %v", req["max_tokens"], req["model"])
	}

	// A rotated key is taken over.
	write("two")
	b := advisor(c, still)
	if _, _, err := b.Advise(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if want := []string{"Bearer one", "Bearer two"}; !slices.Equal(e.keys, want) {
		t.Errorf("keys %q, want %q", e.keys, want)
	}
}

// unmoved checks that what the rules said stands, in its order, and that every
// command is theirs.
func unmoved(t *testing.T, rules, out event.Report) {
	t.Helper()
	js := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	if js(out.Findings[:len(rules.Findings)]) != js(rules.Findings) || js(out.Causes[:len(rules.Causes)]) != js(rules.Causes) {
		t.Error("findings or causes of the rules have changed")
	}
	for what, pair := range map[string][2]any{
		"checks": {rules.Checks, out.Checks}, "roll-back": {rules.Rollback, out.Rollback}, "links": {rules.Links, out.Links}, "headline": {rules.Headline, out.Headline},
		"evidence": {rules.Evidence, out.Evidence}, "runbooks": {rules.Runbooks, out.Runbooks}, "priority": {rules.Priority, out.Priority}, "owner": {rules.Owner, out.Owner}, "unknown": {rules.Unknown, out.Unknown},
	} {
		if js(pair[0]) != js(pair[1]) {
			t.Errorf("%s changed to %s", what, js(pair[1]))
		}
	}
}

func TestAnAnswerThatIsNoneLeavesTheReportByRules(t *testing.T) {
	r := draft(t, stories(t)["oom_after_rollout"])
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		asked  string
	}{
		"empty":             {says(""), "invalid"},
		"prose":             {says("The cause is obvious: somebody should roll back."), "invalid"},
		"cut JSON":          {says(`{"summary": [{"text": "12 %`), "invalid"},
		"another schema":    {says(`{"verdict": "roll back"}`), "invalid"},
		"a list":            {says(`[]`), "invalid"},
		"wrong types":       {says(`{"summary": "x", "status": 3, "causes": {}, "findings": null}`), "invalid"},
		"text behind":       {says(said(t, map[string]any{}) + " and more"), "invalid"},
		"nothing new":       {says(said(t, map[string]any{})), "nothing"},
		"in a fence":        {says("```json\n" + said(t, map[string]any{}) + "\n```"), "nothing"},
		"too many requests": {fails(429, "slow down"), "failed"},
		"an error":          {fails(500, "boom"), "failed"},
		"a wrong key":       {fails(401, "invalid key"), "failed"},
		"garbage":           {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "failed"},
		"no choices":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"choices":[]}`) }, "failed"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, "failed"},
		"a hang": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, "failed"},
		"a connection cut off": {func(w http.ResponseWriter, _ *http.Request) { c, _, _ := w.(http.Hijacker).Hijack(); _ = c.Close() }, "failed"},
		"a huge answer": {func(w http.ResponseWriter, r *http.Request) {
			says(said(t, map[string]any{"status": strings.Repeat("x", 4<<20)}))(w, r)
		}, "failed"},
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"","refusal":"I cannot help with that."}}]}`)
		}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, tc.answer)
			c := modelConfig(e)
			c.Timeout = 5 * time.Second
			if name == "a hang" {
				c.Timeout = time.Second
			}
			a := advisor(c, still)
			out, gained, _ := a.Advise(t.Context(), r)
			if gained || out.Revision != r.Revision || out.TLDR != r.TLDR {
				t.Errorf("gained %t, revision %d", gained, out.Revision)
			}
			if got := a.Asked(); !maps.Equal(got, map[string]float64{tc.asked: 1}) {
				t.Errorf("asked %v, want %s", got, tc.asked)
			}
		})
	}
}

func TestRecordedAnswersAreReadAndNotAskedAgain(t *testing.T) {
	r := draft(t, stories(t)["oom_after_rollout"])
	e := newEndpoint(t, says(said(t, map[string]any{"findings": []any{claimOf("There were 18 restarts in all", checkout, "E2")}})))
	live := advisor(modelConfig(e), still)
	first, gained, err := live.Advise(t.Context(), r)
	if err != nil || !gained {
		t.Fatalf("%t, %v", gained, err)
	}
	if len(live.Kept()) != 1 || live.Kept()[0].Source != "model" || live.Kept()[0].Incident != r.Incident {
		t.Fatalf("recorded %+v", live.Kept())
	}
	// As it comes back from the stream.
	b, err := json.Marshal(live.Kept())
	if err != nil {
		t.Fatal(err)
	}
	var kept []event.Evidence
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	replay := reasoner.NewAdvisor(reasoner.ModelConfig{Recorded: true, MaxTokens: 1}, nil, kept, still)
	again, gained, err := replay.Advise(t.Context(), r)
	if err != nil || !gained {
		t.Fatalf("replay: %t, %v, %v", gained, err, replay.Asked())
	}
	x, _ := json.Marshal(first)
	y, _ := json.Marshal(again)
	if !bytes.Equal(x, y) {
		t.Errorf("a replay words it otherwise:\n%s\n%s", x, y)
	}
	if _, _, err := live.Advise(t.Context(), r); err != nil || len(e.asked()) != 1 {
		t.Errorf("asked %d times for one report, %v", len(e.asked()), err)
	}
	// Another report is another question.
	other := draft(t, stories(t)["dependency"])
	if _, gained, err := replay.Advise(t.Context(), other); gained || err != nil || replay.Asked()["missing"] != 1 {
		t.Errorf("an answer that was not recorded: %t, %v, %v", gained, err, replay.Asked())
	}
}

func TestAServerWithoutSchemasIsAskedForJSONAndThenForText(t *testing.T) {
	answer := said(t, map[string]any{"findings": []any{claimOf("There were 18 restarts in all", checkout, "E2")}})
	for name, refused := range map[string][]string{"no schemas": {"json_schema"}, "no formats": {"json_schema", "json_object"}} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				for _, f := range refused {
					if strings.Contains(string(body), `"`+f+`"`) {
						fails(400, "response_format "+f+" is not supported")(w, r)
						return
					}
				}
				says(answer)(w, r)
			})
			a := advisor(modelConfig(e), still)
			for i, story := range []string{"oom_after_rollout", "oom_after_rollout"} {
				r := draft(t, stories(t)[story])
				r.Incident += fmt.Sprint(i)
				if _, gained, err := a.Advise(t.Context(), r); err != nil || !gained {
					t.Fatalf("%t, %v", gained, err)
				}
			}
			// What it refuses is tried once.
			if n := len(e.asked()); n != len(refused)+2 {
				t.Errorf("%d requests, want %d", n, len(refused)+2)
			}
		})
	}
}

func TestAnEndpointThatIsDownIsLeftAloneForAWhile(t *testing.T) {
	down := true
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if down {
			fails(503, "overloaded")(w, r)
			return
		}
		says(said(t, map[string]any{}))(w, r)
	})
	now := night
	a := advisor(modelConfig(e), func() time.Time { return now })
	r := draft(t, stories(t)["oom_after_rollout"])
	ask := func() { _, _, _ = a.Advise(t.Context(), r) }
	for range 10 {
		ask()
	}
	if n := len(e.asked()); n != 3 {
		t.Errorf("%d requests to an endpoint that is down, want 3", n)
	}
	if a.Asked()["open"] != 7 {
		t.Errorf("asked %v", a.Asked())
	}
	now = now.Add(61 * time.Second)
	ask()
	ask()
	if n := len(e.asked()); n != 4 {
		t.Errorf("%d requests after a minute, want one more", n)
	}
	now = now.Add(3 * time.Minute)
	down = false
	ask()
	if a.Asked()["nothing"] != 1 {
		t.Errorf("after it came back: %v", a.Asked())
	}
}

func TestTheDaysTokensAreABound(t *testing.T) {
	e := newEndpoint(t, says(said(t, map[string]any{})))
	c := modelConfig(e)
	c.MaxTokens, c.DailyTokens = 500, 5500
	now := night
	a := advisor(c, func() time.Time { return now })
	r := draft(t, stories(t)["slo_burn_unknown_cause"])
	ask := func(i int) { r.Incident = fmt.Sprint("incident", i); _, _, _ = a.Advise(t.Context(), r) }
	for i := range 20 {
		ask(i)
	}
	got := a.Asked()
	if got["budget"] == 0 || got["nothing"] == 0 || got["nothing"]*1000 > 5500 {
		t.Errorf("asked %v with 1000 tokens each and 5500 a day", got)
	}
	// A restart reads what was spent from the record.
	b := reasoner.NewAdvisor(c, reasoner.NewOpenAI(c), a.Kept(), func() time.Time { return now })
	before := len(e.asked())
	r.Incident = "another"
	_, _, _ = b.Advise(t.Context(), r)
	if len(e.asked()) != before {
		t.Error("a restart renews the day's tokens")
	}
}

func TestAStopWhileAskingIsAskedAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	e := newEndpoint(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	a := advisor(modelConfig(e), still)
	if _, _, err := a.Advise(ctx, draft(t, stories(t)["oom_after_rollout"])); err == nil {
		t.Error("a stop counts as an answer")
	}
	if len(a.Kept()) != 0 {
		t.Errorf("recorded %v", a.Kept())
	}
}

func TestOnlyUrgentReportsOfTheRulesAreAskedAbout(t *testing.T) {
	a := advisor(reasoner.DefaultConfig().Model, still)
	for name, tc := range map[string]struct {
		r    event.Report
		want bool
	}{
		"a page":                 {event.Report{Revision: 1, Priority: event.P1}, true},
		"the least":              {event.Report{Revision: 3, Priority: event.P2}, true},
		"a ticket":               {event.Report{Revision: 1, Priority: event.P3}, false},
		"the model's own":        {event.Report{Revision: 2, Priority: event.P1}, false},
		"a source that is blind": {event.Report{Revision: 1, Priority: event.P1, Entity: event.Entity{Kind: "Source"}}, false},
	} {
		if got := a.Wants(tc.r); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAModelConfigurationThatIsWrongSaysWhere(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*reasoner.ModelConfig)
		want   string
	}{
		"no name":            {func(c *reasoner.ModelConfig) { c.Name = "" }, "model.name: is missing"},
		"no URL":             {func(c *reasoner.ModelConfig) { c.URL = "localhost:11434" }, "model.url: localhost:11434 is not a URL; write https://host/v1"},
		"a password in it":   {func(c *reasoner.ModelConfig) { c.URL = "https://u:p@host/v1" }, "model.url: holds a password; put the key into a file"},
		"no time":            {func(c *reasoner.ModelConfig) { c.Timeout = 0 }, "model.timeout: 0s is not between 1s and 5m; write 30s"},
		"few tokens":         {func(c *reasoner.ModelConfig) { c.MaxTokens = 10 }, "model.max_tokens: 10 is not between 200 and 16000"},
		"a day of no answer": {func(c *reasoner.ModelConfig) { c.DailyTokens = 100 }, "model.daily_tokens: 100 is less than max_tokens"},
		"a priority":         {func(c *reasoner.ModelConfig) { c.Least = "high" }, "model.least: high is not P1, P2, P3 or P4"},
	} {
		c := reasoner.DefaultConfig()
		c.Model.URL, c.Model.Name = "https://host/v1", "m"
		tc.change(&c.Model)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	if c := reasoner.DefaultConfig(); c.Model.On() || c.Validate() != nil {
		t.Error("a model is on by default")
	}
}

func FuzzAdopt(f *testing.F) {
	f.Add(`{"summary":[{"text":"12 % of requests fail","evidence":["E1"]}],"status":"","causes":[],"findings":[]}`)
	f.Add("```json\n{\"summary\":[],\"status\":\"<!here>\",\"causes\":[{\"text\":\"x\",\"entity\":\"shop/deployment/checkout\",\"evidence\":[\"E2\"]}],\"findings\":[]}\n```")
	b, err := os.ReadFile("testdata/reports/oom_after_rollout.json")
	if err != nil {
		f.Fatal(err)
	}
	var r event.Report
	if err := json.Unmarshal(b, &r); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, _, err := reasoner.Adopt(r, text)
		if err != nil {
			return
		}
		unmoved(t, r, out)
		sound(t, out)
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, line string) {
		for _, r := range reasoner.Template(line) {
			if r < ' ' || r > '~' {
				t.Errorf("%q lets %U through", line, r)
			}
		}
	})
}

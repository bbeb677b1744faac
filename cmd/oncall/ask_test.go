package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/oncall-copilot/oncall/pkg/ask/asktest"
)

// modelTurn is one line of a model's script.
type modelTurn struct {
	asktest.Turn
	Status int    `json:"status"` // of HTTP, instead of an answer
	Raw    string `json:"raw"`    // instead of an answer
	Hang   bool   `json:"hang"`   // no answer at all
}

// scriptModel starts an OpenAI-compatible server whose n-th answer is the n-th
// line of a file, and whose last line is its answer for ever. It writes what it
// is asked to asked.jsonl, and the keys it is given to keys.txt.
func scriptModel(ts *testscript.TestScript, _ bool, args []string) {
	var turns []modelTurn
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		var t modelTurn
		ts.Check(json.Unmarshal([]byte(line), &t))
		turns = append(turns, t)
	}
	asked, keys := ts.MkAbs("asked.jsonl"), ts.MkAbs("keys.txt")
	for _, f := range []string{asked, keys} {
		ts.Check(os.WriteFile(f, nil, 0o600))
	}
	note := func(file, line string) {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
		if err == nil {
			_, _ = fmt.Fprintln(f, line)
			_ = f.Close()
		}
	}
	var mu sync.Mutex
	n := 0
	done := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		k := n
		t := turns[min(k, len(turns)-1)]
		n++
		mu.Unlock()
		var body json.RawMessage
		_ = json.NewDecoder(r.Body).Decode(&body)
		note(asked, string(body))
		note(keys, r.Header.Get("Authorization"))
		switch {
		case t.Hang:
			select {
			case <-done:
			case <-r.Context().Done():
			}
			return
		case t.Status != 0:
			w.WriteHeader(t.Status)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": "slow down", "type": "rate_limit"}})
			return
		case t.Raw != "":
			_, _ = w.Write([]byte(t.Raw))
			return
		}
		t.Write(w, k)
	}))
	ts.Defer(func() { close(done); s.Close() })
	ts.Setenv("MODEL", s.URL+"/v1")
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "model.yaml"), fmt.Appendf(nil, "reasoner:\n  model: {url: %s/v1, name: local-7b, timeout: 5s}\n", s.URL), 0o600))
}

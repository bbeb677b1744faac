// Package asktest speaks as a model does, for tests of what asks one.
package asktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
)

// Tokens is what each turn costs.
const Tokens = 500

// Turn is what a model says at once.
type Turn struct {
	Calls [][2]string `json:"calls"` // of tools: name and arguments
	Text  string      `json:"text"`
}

// Write answers with the n-th turn as an OpenAI-compatible server does.
func (t Turn) Write(w http.ResponseWriter, n int) {
	message := map[string]any{"role": "assistant", "content": t.Text}
	var calls []any
	for i, c := range t.Calls {
		calls = append(calls, map[string]any{"id": fmt.Sprintf("call_%d_%d", n, i), "type": "function", "function": map[string]string{"name": c[0], "arguments": c[1]}})
	}
	if calls != nil {
		message["tool_calls"] = calls
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // who no longer listens has no answer
		"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": "stop"}}, "usage": map[string]int{"total_tokens": Tokens},
	})
}

// Model says one turn after the other, and the last for ever.
func Model(turns ...Turn) http.Handler {
	var mu sync.Mutex
	n := 0
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		turns[min(n, len(turns)-1)].Write(w, n)
		n++
	})
}

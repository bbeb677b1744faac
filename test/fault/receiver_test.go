//go:build e2e

package fault

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// receiver is what the webhook channel of a run talks to. It counts every
// call, and knows repeats by their webhook-id, as Standard Webhooks asks of a
// receiver.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	calls  map[string]int // by webhook-id
	bodies map[string]string
	got    map[string]int // accepted, by incident, revision and channel
	bad    []string
	// after is called when a delivery was recorded and before it is answered; it
	// may take the answer over.
	after func(id string, call int, w http.ResponseWriter) (answered bool)
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{calls: map[string]int{}, bodies: map[string]string{}, got: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var e struct {
		ID   string             `json:"id"`
		Data event.Notification `json:"data"`
	}
	err := json.Unmarshal(body, &e)
	id := req.Header.Get("webhook-id")
	r.mu.Lock()
	if err != nil || id == "" || id != e.ID {
		r.bad = append(r.bad, fmt.Sprintf("delivery %q with body %.80s: %v", id, body, err))
	}
	r.calls[id]++
	call := r.calls[id]
	if old, ok := r.bodies[id]; ok && old != string(body) {
		r.bad = append(r.bad, "delivery "+id+" came again with another body")
	}
	r.bodies[id] = string(body)
	if call == 1 {
		r.got[fmt.Sprintf("%s %d %s", e.Data.Incident, e.Data.Revision, e.Data.Channel)]++
	}
	after := r.after
	r.mu.Unlock()
	if after != nil && after(id, call, w) {
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// once checks that each revision of each incident was received once. Calls
// that repeat an id that was received are allowed up to repeats, which is what
// a channel without an acknowledgement of its own cannot avoid.
func (r *receiver) once(t *testing.T, repeats int) (received []string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bad {
		t.Error(b)
	}
	again := 0
	for id, n := range r.calls {
		again += n - 1
		if n > 1 && repeats == 0 {
			t.Errorf("delivery %s was sent %d times", id, n)
		}
	}
	if again > repeats {
		t.Errorf("%d deliveries were sent again, want at most %d", again, repeats)
	}
	for what, n := range r.got {
		if n != 1 {
			t.Errorf("%s was received under %d ids", what, n)
		}
		received = append(received, what)
	}
	slices.Sort(received)
	return received
}

//go:build e2e

package fault

import (
	"net/http"
	"strings"
	"sync"
)

// rudeness answers the first call of every delivery as a bad channel would, each
// in another way, and the second well.
type rudeness struct {
	kill func() // ends the notifier before it has an answer

	mu sync.Mutex
	n  int
}

func (r *rudeness) answer(_ string, call int, w http.ResponseWriter) bool {
	if call > 1 {
		return false
	}
	r.mu.Lock()
	n := r.n
	r.n++
	r.mu.Unlock()
	switch n % 6 {
	case 0: // the process dies before the acknowledgement
		r.kill()
		hangUp(w)
	case 1: // the answer is lost on the way
		hangUp(w)
	case 2:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case 3:
		w.WriteHeader(http.StatusBadGateway)
	case 4:
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(strings.Repeat("\x00\xff<html>", 4096)))
	case 5:
		return false
	}
	return true
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}

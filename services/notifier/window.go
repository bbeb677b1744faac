package notifier

import (
	"sync"
	"time"
)

// window admits a number of messages in any span of time.
type window struct {
	mu    sync.Mutex
	limit int
	span  time.Duration
	taken []time.Time
}

func newWindow(limit int, span time.Duration) *window { return &window{limit: limit, span: span} }

// take admits one message at now and returns 0, or returns how long to wait.
func (w *window) take(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.taken) > 0 && now.Sub(w.taken[0]) >= w.span {
		w.taken = w.taken[1:]
	}
	if len(w.taken) >= w.limit {
		return w.span - now.Sub(w.taken[0])
	}
	w.taken = append(w.taken, now)
	return 0
}

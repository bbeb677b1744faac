package notifier

import (
	"slices"
	"sync"
	"time"
)

// window admits a number of messages in any span of time, a quarter of them
// for urgent ones only.
type window struct {
	mu    sync.Mutex
	limit int
	span  time.Duration
	taken []time.Time // oldest first
}

func newWindow(limit int, span time.Duration) *window { return &window{limit: limit, span: span} }

// take admits one message at now and returns 0, or returns how long to wait.
func (w *window) take(now time.Time, urgent bool) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.taken) > 0 && now.Sub(w.taken[0]) >= w.span {
		w.taken = w.taken[1:]
	}
	limit := w.limit
	if !urgent {
		limit -= w.limit / 4
	}
	if n := len(w.taken); n >= limit {
		return w.span - now.Sub(w.taken[n-limit])
	}
	w.taken = append(w.taken, now)
	return 0
}

// back returns the place of a message, taken at a time, that was not sent.
func (w *window) back(taken time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.taken, taken); i >= 0 {
		w.taken = slices.Delete(w.taken, i, i+1)
	}
}

// Package obs is how the project observes itself: structured logs, metrics,
// traces, and the health endpoints.
package obs

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Health collects what every part of a process says of itself. A part is
// ready until it says otherwise; liveness is not affected by sources or the
// bus being away, because restarting us would not bring them back.
type Health struct {
	mu    sync.Mutex
	parts map[string]Part
	now   func() time.Time
}

// Part is the state of one part of the process.
type Part struct {
	Name  string    `json:"name"`
	Ready bool      `json:"ready"`
	Why   string    `json:"why,omitempty"` // redacted; "" when ready
	Since time.Time `json:"since"`
	// Degraded marks a part that is not ready but does not make the process
	// unready: a source that cannot be reached.
	Degraded bool `json:"degraded,omitempty"`
}

// NewHealth makes a Health that reads time from now.
func NewHealth(now func() time.Time) *Health { return &Health{parts: map[string]Part{}, now: now} }

// Ready says that the part works.
func (h *Health) Ready(part string) { h.set(Part{Name: part, Ready: true}) }

// NotReady says that the part does not work, and that the process should get
// no traffic because of it.
func (h *Health) NotReady(part, why string) { h.set(Part{Name: part, Why: why}) }

// Degraded says that the part does not work while the rest does: the process
// stays ready.
func (h *Health) Degraded(part, why string) { h.set(Part{Name: part, Why: why, Degraded: true}) }

func (h *Health) set(p Part) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, ok := h.parts[p.Name]
	if ok && old.Ready == p.Ready && old.Degraded == p.Degraded {
		p.Since = old.Since
	} else {
		p.Since = h.now()
	}
	h.parts[p.Name] = p
}

// Parts returns every part by name, and whether the process is ready.
func (h *Health) Parts() (parts []Part, ready bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ready = true
	for _, name := range slices.Sorted(maps.Keys(h.parts)) {
		p := h.parts[name]
		parts = append(parts, p)
		ready = ready && (p.Ready || p.Degraded)
	}
	return parts, ready
}

package collector

import (
	"context"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Workloads is what the Kubernetes sources of a collector know of who owns
// what, for the sources that see names alone: what metrics and logs call by a
// pod's name or a workload's is published as the object that it is, whichever
// source says it. Without a Kubernetes source it knows nothing. The zero value
// and nil are ready to use, by many goroutines.
type Workloads struct {
	mu      sync.RWMutex
	finders []finder
}

// Finder is one cluster that knows its workloads.
type Finder interface {
	// OfPod is the workload that a pod belongs to.
	OfPod(namespace, pod string) (event.Entity, bool)
	// Named is the workload of a name, where one kind alone has it.
	Named(namespace, name string) (event.Entity, bool)
}

type finder struct {
	Finder
	known <-chan struct{}
}

// Add adds a cluster. It is asked once known is closed.
func (w *Workloads) Add(f Finder, known <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finders = append(w.finders, finder{f, known})
}

// Wait returns when every cluster knows its workloads, after the patience at
// the latest: what is read before would be called by other names, as a thing of
// its own. The clusters are those that were added before.
func (w *Workloads) Wait(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, f := range w.all() {
		select {
		case <-f.known:
		case <-ctx.Done():
			return
		}
	}
}

// OfPod is the workload that a pod belongs to.
func (w *Workloads) OfPod(namespace, pod string) (event.Entity, bool) {
	return w.ask(func(f Finder) (event.Entity, bool) { return f.OfPod(namespace, pod) })
}

// Named is the workload of a name whose kind is not known.
func (w *Workloads) Named(namespace, name string) (event.Entity, bool) {
	return w.ask(func(f Finder) (event.Entity, bool) { return f.Named(namespace, name) })
}

// Some says whether there is anybody to ask.
func (w *Workloads) Some() bool { return len(w.all()) > 0 }

func (w *Workloads) ask(q func(Finder) (event.Entity, bool)) (event.Entity, bool) {
	for _, f := range w.all() {
		select {
		case <-f.known:
			if e, ok := q(f); ok {
				return e, true
			}
		default:
		}
	}
	return event.Entity{}, false
}

func (w *Workloads) all() []finder {
	if w == nil {
		return nil
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.finders
}

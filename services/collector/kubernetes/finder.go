package kubernetes

import (
	"sync"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
)

// finder answers from what a run of the source knows.
type finder struct {
	mu    sync.Mutex
	world *world
	known chan struct{} // closed once everything was listed
	once  sync.Once
}

func newFinder() *finder { return &finder{known: make(chan struct{})} }

// knows makes the world of a run that has listed everything the one that answers.
func (f *finder) knows(w *world) {
	f.mu.Lock()
	f.world = w
	f.mu.Unlock()
	f.once.Do(func() { close(f.known) })
}

func (f *finder) get() *world {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.world
}

// OfPod is collector.Finder's.
func (f *finder) OfPod(namespace, pod string) (event.Entity, bool) {
	w := f.get()
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.workloadOf(event.KubeRef{Kind: "Pod", Namespace: namespace, Name: pod})
	return e, e.Kind != ""
}

// Named is collector.Finder's.
func (f *finder) Named(namespace, name string) (event.Entity, bool) {
	w := f.get()
	w.mu.Lock()
	defer w.mu.Unlock()
	var found event.Entity
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "CronJob", "Job", "Rollout"} {
		ref := kube.Ref{Namespace: namespace, Kind: kind, Name: name}
		if _, ok := w.workloads[ref]; !ok && len(w.byRoot[ref]) == 0 {
			continue
		}
		if found.Kind != "" {
			return event.Entity{}, false // two of one name: the name does not tell
		}
		found = ref.Entity()
	}
	return found, found.Kind != ""
}

package kubernetes

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/pkg/obs"
)

// feed keeps one resource of one scope flowing into the world, with client-go's
// reflector: list, watch, relist when the server has forgotten where we were.
type feed struct {
	res     *resource
	scope   string // a namespace; "" for the cluster
	rest    rest.Interface
	world   *world
	log     *slog.Logger
	health  *obs.Health
	now     func() time.Time
	changed func() // says that something is there to be emitted

	done <-chan struct{} // closed when the run ends

	mu     sync.Mutex
	synced bool      // listed at least once
	denied bool      // we have no right to it, or the server does not have it
	open   int       // watches that are open
	since  time.Time // since when none is
	why    string
}

var _ cache.ReflectorStore = (*feed)(nil)

// run feeds until ctx is done.
func (f *feed) run(ctx context.Context) {
	f.done = ctx.Done()
	quiet := logr.Discard() // what it would say is said by this file, redacted and in slog
	lw := &cache.ListWatch{
		ListWithContextFunc:  f.list,
		WatchFuncWithContext: f.watch,
	}
	r := cache.NewReflectorWithOptions(lw, f.res.object, f, cache.ReflectorOptions{Name: f.res.plural, Logger: &quiet})
	r.RunWithContext(klog.NewContext(ctx, quiet))
}

func (f *feed) request(opts *metav1.ListOptions) *rest.Request {
	r := f.rest.Get().NamespaceIfScoped(f.scope, f.res.namespaced && f.scope != "").Resource(f.res.plural).
		SpecificallyVersionedParams(opts, metav1.ParameterCodec, schema.GroupVersion{Version: "v1"})
	if opts.TimeoutSeconds != nil {
		r = r.Timeout(time.Duration(*opts.TimeoutSeconds) * time.Second)
	}
	return r
}

func (f *feed) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	obj, err := f.request(&opts).Do(ctx).Get()
	if err != nil {
		f.failed(ctx, err)
		return nil, err
	}
	trim(obj)
	return obj, nil
}

func (f *feed) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	w, err := f.request(&opts).Watch(ctx)
	if err != nil {
		// A server that knows no streaming lists refuses the first watch; the list
		// that follows says whether that is all.
		if opts.SendInitialEvents == nil {
			f.failed(ctx, err)
		}
		return nil, err
	}
	f.opened()
	return &watched{Interface: watch.Filter(w, func(e watch.Event) (watch.Event, bool) {
		if e.Type != watch.Error && e.Type != watch.Bookmark {
			trim(e.Object)
		}
		return e, true
	}), closed: sync.OnceFunc(f.closed)}, nil
}

// watched tells when a watch ends.
type watched struct {
	watch.Interface
	closed func()
}

func (w *watched) Stop() {
	w.closed()
	w.Interface.Stop()
}

func (f *feed) opened() {
	f.mu.Lock()
	f.open++
	denied := f.denied
	f.denied, f.why = false, ""
	f.mu.Unlock()
	if denied {
		f.health.Ready(f.part())
		f.log.Info("resource may be read again", "resource", f.res.plural)
	}
}

func (f *feed) closed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	if f.open == 0 {
		f.since = f.now()
	}
}

func (f *feed) part() string { return "kubernetes " + f.res.plural }

func (f *feed) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	why := kube.Reason(err)
	denied := kube.Forbidden(err) || kube.NotFound(err)
	f.mu.Lock()
	first := denied && !f.denied
	f.denied = denied
	f.why = why
	f.mu.Unlock()
	if first {
		f.health.Degraded(f.part(), why+"; "+f.res.without)
		f.log.Warn("resource cannot be read, going on without it", "resource", f.res.plural, "without", f.res.without, "err", why)
	}
	f.changed()
}

// status is what a feed says of itself.
type status struct {
	ready  bool // listed, or denied
	denied bool
	open   bool
	since  time.Time
	why    string
}

func (f *feed) status() status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return status{ready: f.synced || f.denied, denied: f.denied, open: f.open > 0 && f.synced, since: f.since, why: f.why}
}

// Add takes in an object that the watch has added.
func (f *feed) Add(obj any) error { return f.Update(obj) }

// Update takes in an object that the watch has changed.
func (f *feed) Update(obj any) error {
	f.world.apply(obj.(runtime.Object), false)
	f.changed()
	f.world.hold(f.done)
	return nil
}

// Delete takes in that an object is gone.
func (f *feed) Delete(obj any) error {
	o, ok := obj.(runtime.Object)
	if tomb, isTomb := obj.(cache.DeletedFinalStateUnknown); isTomb {
		o, ok = tomb.Obj.(runtime.Object)
	}
	if ok {
		f.world.remove(o)
		f.changed()
	}
	return nil
}

// Replace takes in a whole list: the first one, and later ones after the
// server has forgotten where we were.
func (f *feed) Replace(list []any, _ string) error {
	objects := make([]runtime.Object, 0, len(list))
	for _, o := range list {
		if o, ok := o.(runtime.Object); ok {
			objects = append(objects, o)
		}
	}
	f.mu.Lock()
	first := !f.synced
	f.mu.Unlock()
	f.world.replace(f.res, f.scope, objects, first)
	f.mu.Lock()
	f.synced = true
	f.mu.Unlock()
	f.changed()
	return nil
}

// Resync has nothing to do.
func (f *feed) Resync() error { return nil }

// keyOf is namespace/name.
func keyOf(obj runtime.Object) string {
	o, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return o.GetNamespace() + "/" + o.GetName()
}

package kubernetes

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/kube"
	"github.com/oncall-copilot/oncall/services/collector"
)

// Source watches one cluster.
type Source struct {
	cfg    Config
	client *kube.Client
	env    collector.Env
	now    func() time.Time // by the API server's clock, which stamps objects
	only   []string         // resources; nil for all
	finder *finder
}

var _ collector.Source = (*Source)(nil)

// New makes a source. cfg must be filled and valid.
func New(cfg Config, client *kube.Client, env collector.Env) *Source {
	s := &Source{cfg: cfg, client: client, env: env, now: client.Clock().Now, finder: newFinder()}
	env.Clocks.Add(cfg.Name, client.Clock())
	if env.Workloads != nil {
		env.Workloads.Add(s.finder, s.finder.known)
	}
	return s
}

// Name is the configured name.
func (s *Source) Name() string { return s.cfg.Name }

const (
	// period is how often at most the topology of one workload is emitted, and
	// how often we look at our watches.
	period = time.Second
	// gather is how long what is new waits for more of it.
	gather = 50 * time.Millisecond
	// heartbeat is how often the closed time moves when nothing happens.
	heartbeat = 2 * time.Second
	// grace is how long a watch may be away before we count as blind: a watch
	// ends every few minutes and is opened again.
	grace = 10 * time.Second
	// saving is how often at most the cursor is written. What is repeated for
	// lack of it has the same ids.
	saving = 5 * time.Second

	maxEvents  = 2000  // of one emission
	maxQueued  = 20000 // events taken in but not emitted, before the watch has to wait
	maxMessage = 1024  // bytes of an event's message
	tombstones = time.Hour
)

// Run watches until ctx is done.
func (s *Source) Run(ctx context.Context, cursor []byte, emit collector.Emit) error {
	past, err := decodeCursor(cursor)
	if err != nil {
		s.env.Log.Warn("cursor unreadable, starting as if for the first time", "source", s.cfg.Name, "err", err)
	}
	s.ask(ctx) // before anything is compared with what the server stamps
	w := newWorld(s.cfg, s.env.Redact.Line, s.now, past)
	wake := make(chan struct{}, 1) // one is enough: it says "look"
	feeds, err := s.feeds(w, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, f := range feeds {
		wg.Go(func() { f.run(ctx) })
	}
	wg.Go(func() { s.askTime(ctx) })
	l := loop{s: s, w: w, feeds: feeds, emit: emit, closed: past.Closed}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		if err := l.turn(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-wake:
			// What comes together is emitted together.
			if !pause(ctx, gather) {
				return ctx.Err()
			}
		}
	}
}

// askTime asks the API server for the time when this machine's clock was set,
// or the machine has slept: watches last for minutes, and bring no date.
func (s *Source) askTime(ctx context.Context) {
	for pause(ctx, heartbeat) {
		if !s.client.Clock().Moved() {
			continue
		}
		if !s.ask(ctx) && !pause(ctx, grace) {
			return
		}
	}
}

// ask has the API server answer, which says what time it is there.
func (s *Source) ask(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, grace/2)
	defer cancel()
	_, err := s.client.Version(ctx)
	return err == nil
}

// pause waits, and returns false when ctx is done first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (s *Source) feeds(w *world, changed func()) ([]*feed, error) {
	scopes := s.cfg.Namespaces
	if len(scopes) == 0 {
		scopes = []string{""}
	}
	var out []*feed
	for _, r := range resources {
		if s.only != nil && !slices.Contains(s.only, r.plural) {
			continue
		}
		c, err := s.client.REST(r.gv)
		if err != nil {
			return nil, err
		}
		in := scopes
		if !r.namespaced {
			in = []string{""}
		}
		for _, scope := range in {
			out = append(out, &feed{res: r, scope: scope, rest: c, world: w, log: s.env.Log, health: s.env.Health, now: s.now, changed: changed, since: s.now()})
		}
	}
	return out, nil
}

// loop emits what the world has to tell.
type loop struct {
	s      *Source
	w      *world
	feeds  []*feed
	emit   collector.Emit
	closed time.Time
	beat   time.Time // wall clock of the last emission
	savedA time.Time // wall clock of the last cursor
	unsave bool      // something was told since
	blind  string
}

func (l *loop) turn(ctx context.Context) error {
	now := l.s.now().UTC()
	ready := true
	var blind *event.Blindness
	open := true
	for _, f := range l.feeds {
		st := f.status()
		ready = ready && st.ready
		open = open && (st.open || st.denied && f.res.plural != "events")
		if st.open || st.denied && f.res.plural != "events" {
			continue
		}
		if now.Sub(st.since) >= grace || st.denied {
			if blind == nil || st.since.Before(blind.Since) {
				blind = &event.Blindness{Source: l.s.cfg.Name, Since: st.since.UTC(), Reason: cmp.Or(st.why, "watch of "+f.res.plural+" is not open")}
			}
		}
	}
	if ready {
		l.w.start()
		l.s.finder.knows(l.w)
	}
	out := l.w.news(now)
	e := collector.Emission{Stream: event.KubeEvents, Events: out, Blind: blind}
	if ready && open && blind == nil {
		if closed := now.Add(-l.s.cfg.Lateness).Truncate(time.Millisecond); closed.After(l.closed) && !l.w.waiting() {
			e.Closed = closed
		}
	}
	why := ""
	if blind != nil {
		why = blind.Reason
	}
	quiet := len(out) == 0 && why == l.blind
	if quiet && now.Sub(l.beat) < heartbeat {
		return nil
	}
	closed := maxTime(l.closed, e.Closed)
	// A cursor that knows of nothing closed would have the events told again.
	if len(out) > 0 || l.closed.IsZero() && !closed.IsZero() {
		l.unsave = true
	}
	if ready && (l.unsave && now.Sub(l.savedA) >= saving || now.Sub(l.savedA) >= time.Minute) && !l.w.waiting() {
		c, err := l.w.save(closed).encode()
		if err != nil {
			return err
		}
		e.Cursor, l.savedA, l.unsave = c, now, false
	}
	if err := l.emit(ctx, e); err != nil {
		return err
	}
	l.beat, l.blind, l.closed = now, why, closed
	return nil
}

// news is what is to be emitted now: topology before changes before events, so
// that who reads in order knows the workloads that it reads about.
func (w *world) news(now time.Time) []event.Outgoing {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started {
		return nil
	}
	for key, t := range w.gone {
		if now.Sub(t.at) > tombstones {
			delete(w.gone, key)
		}
	}
	var out []event.Outgoing
	if now.Sub(w.flushed) >= period {
		w.flushed = now
		for _, t := range w.topologies(now) {
			out = append(out, event.TopologySeen.Out(t))
		}
	}
	slices.SortStableFunc(w.changes, func(a, b event.Change) int {
		return cmp.Or(a.Time.Compare(b.Time), a.Entity.Compare(b.Entity), strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Revision, b.Revision))
	})
	for _, c := range w.changes {
		out = append(out, event.ChangeSeen.Out(c))
	}
	w.changes = nil
	n := min(len(w.events), maxEvents)
	for _, e := range w.events[:n] {
		e.Workload = w.workloadOf(e.InvolvedObject)
		out = append(out, event.KubeEventSeen.Out(e))
		w.high = max(w.high, number(e.Metadata.ResourceVersion))
	}
	w.events = slices.Clone(w.events[n:])
	if len(w.events) == 0 {
		w.events = nil
	}
	if n > 0 {
		close(w.room)
		w.room = make(chan struct{})
	}
	return out
}

// hold waits until there is room for more events, which makes the bus's
// back-pressure that of the watch.
func (w *world) hold(done <-chan struct{}) {
	for {
		w.mu.Lock()
		full, room := len(w.events) >= maxQueued, w.room
		w.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-room:
		case <-done:
			return
		}
	}
}

// waiting says whether there is more to emit than fits one emission.
func (w *world) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events) > 0
}

// takeEvent takes in one version of an event.
func (w *world) takeEvent(o *corev1.Event) {
	uid := string(o.UID)
	if uid == "" || w.versions[uid] == o.ResourceVersion {
		return
	}
	known := w.versions[uid] != ""
	w.versions[uid] = o.ResourceVersion
	e := kube.EventOf(o)
	at := e.Time()
	switch {
	case w.excluded(e.InvolvedObject.Namespace), e.InvolvedObject.Kind == "":
		return
	case !known && w.saved.Schema != 0 && number(o.ResourceVersion) <= w.saved.EventVersion && !at.After(w.saved.Closed):
		return // told by the process before
	case at.Before(w.horizon()) && (w.saved.Schema == 0 || at.Before(w.saved.Closed.Add(-w.cfg.History))):
		return
	}
	e.Message = clip(w.redact(e.Message), maxMessage) // what is cut first may no longer look like a secret
	e.InvolvedObject.FieldPath = clip(e.InvolvedObject.FieldPath, 256)
	e.Past = w.past[event.KubeEventSeen.ID(e)]
	w.events = append(w.events, e)
}

func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

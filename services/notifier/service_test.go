package notifier_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/notifier"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

// world is a bus with a notifier on it, which may die and come again.
type world struct {
	t      *testing.T
	server *embedded.Server
	bus    *bus.Bus // the test's own connection
	kinds  *service.Registry[notifier.Info]
	config string // YAML
	skew   atomic.Int64
	log    lockedBuffer
	health *obs.Health
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, config string) *world {
	t.Helper()
	w := &world{t: t, server: bustest.Server(t), kinds: &notifier.Builtin, config: config, health: obs.NewHealth(time.Now)}
	w.bus = bustest.Connect(t, w.server, nil)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the notifier said:\n" + w.log.String())
		}
	})
	return w
}

// now is the wall clock, moved as the test wants.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

type obsPart = obs.Part

// life is one life of the notifier.
type life struct {
	t      *testing.T
	bus    *bus.Bus
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

// start starts a notifier, as another process would be.
func (w *world) start() *life {
	w.t.Helper()
	cfg := notifier.DefaultConfig()
	cfg.Timeout = time.Second
	if err := policy.Decode("oncall.yaml", []byte(w.config), &cfg); err != nil {
		w.t.Fatal(err)
	}
	return w.run(cfg)
}

func (w *world) run(cfg notifier.Config) *life {
	w.t.Helper()
	policies, err := policy.NewStore()
	if err != nil {
		w.t.Fatal(err)
	}
	b := bustest.Connect(w.t, w.server, slog.New(slog.NewTextHandler(&w.log, nil)))
	run, err := notifier.Hurry(cfg, service.Env{
		Bus: b, Log: slog.New(slog.NewTextHandler(&w.log, nil)), Metrics: obs.NewRegistry(), Tracer: noop.NewTracerProvider().Tracer(""),
		Health: w.health, Policies: policies, Cluster: "prod-eu-1",
	}, w.kinds, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{t: w.t, bus: b, cancel: cancel, done: make(chan error, 1)}
	go func() { l.done <- run.Run(ctx) }()
	w.t.Cleanup(l.stop)
	return l
}

// stop ends it as SIGTERM does.
func (l *life) stop() {
	l.once.Do(func() {
		l.cancel()
		select {
		case err := <-l.done:
			if err != nil {
				l.t.Errorf("notifier: %v", err)
			}
		case <-time.After(20 * time.Second):
			l.t.Error("notifier did not stop")
		}
	})
}

// kill cuts its connection first: nothing that it does from now on is
// remembered, as after SIGKILL.
func (l *life) kill() {
	l.once.Do(func() {
		_ = l.bus.Close()
		l.cancel()
		_ = <-l.done // that it fails is the point
	})
}

func (w *world) publish(rs ...event.Report) {
	w.t.Helper()
	for _, r := range rs {
		if err := w.bus.Publish(w.t.Context(), event.ReportDrafted.Out(r)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// read returns everything of a kind that is in its stream.
func read[T any](w *world, k event.Kind[T]) []T {
	w.t.Helper()
	var out []T
	err := w.bus.Read(w.t.Context(), k.Stream, bus.ReadOptions{}, func(m bus.Message) error {
		if v, ok := m.Data.(T); ok && m.Type == k.Type {
			out = append(out, v)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// eventually waits for a condition.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); !holds(); <-tick.C {
		if time.Since(started) > 4*limit { // the machine may be busy
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// always watches that a condition holds for a while.
func always(t *testing.T, span time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); time.Since(started) < span; <-tick.C {
		if !holds() {
			t.Fatalf("no longer: %s", what)
		}
	}
}

func (w *world) delivered(n int) func() bool {
	return func() bool { return len(read(w, event.ReportDelivered)) == n }
}

func incident(i int) event.Report {
	r := notifiertest.Report()
	r.Incident = fmt.Sprintf("incident%05d", i)
	return r
}

// lifeOf are the revisions of one incident: opened, more urgent, edited,
// resolved.
func lifeOf(i int) []event.Report {
	opened := incident(i)
	opened.Priority = event.P2
	worse := opened
	worse.Revision, worse.Priority = 2, event.P1
	same := worse
	same.Revision = 3
	return []event.Report{opened, worse, same, notifiertest.Resolved(same)}
}

// receiver is a webhook's other end that drops what it has seen, as the
// documentation has it.
type receiver struct {
	*notifiertest.Far
	mu    sync.Mutex
	acted []string // ids, in order
	all   []string // with repeats
	gate  func(id string)
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{Far: notifiertest.NewFar(t)}
	r.Answer(func(_ http.ResponseWriter, req *http.Request) {
		id := req.Header.Get("webhook-id")
		r.mu.Lock()
		r.all = append(r.all, id)
		if !slices.Contains(r.acted, id) {
			r.acted = append(r.acted, id)
		}
		gate := r.gate
		r.mu.Unlock()
		if gate != nil {
			gate(id)
		}
	})
	return r
}

func (r *receiver) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.acted)
}

func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// hold makes the receiver hold back the n-th answer from now until let go.
func (r *receiver) hold(n int) (got <-chan struct{}, let func()) {
	arrived, release := make(chan struct{}), make(chan struct{})
	left := int32(n)
	r.mu.Lock()
	r.gate = func(string) {
		if atomic.AddInt32(&left, -1) == 0 {
			close(arrived)
			<-release
		}
	}
	r.mu.Unlock()
	return arrived, sync.OnceFunc(func() { close(release) })
}

func webhookConfig(url string) string {
	return "mode: page\nchannels:\n  hook: {type: webhook, url: " + url + "}\n"
}

func slackConfig(t *testing.T, s *notifiertest.Slack) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(s.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("  chat: {type: slack, token_file: %s, channel: %s, api_url: %s/api/}\n", file, s.Channel, s.URL)
}

func TestEveryRevisionIsDecidedAndDeliveredOnce(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	w.start()
	for i := range 3 {
		w.publish(lifeOf(i)...)
	}
	w.publish(lifeOf(0)...) // a repeat of the reasoner's
	eventually(t, 10*time.Second, "12 deliveries", w.delivered(12))
	always(t, 300*time.Millisecond, "12 requests", func() bool { return hook.requests() == 12 })
	for i := range 3 {
		var got []string
		for _, id := range hook.ids() {
			if strings.Contains(id, incident(i).Incident) {
				got = append(got, id)
			}
		}
		inc := incident(i).Incident
		if want := []string{"n:" + inc + ":1:hook", "n:" + inc + ":2:hook", "n:" + inc + ":3:hook", "n:" + inc + ":4:hook"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want each revision once and in order", got)
		}
	}
	var subjects []string
	err := w.bus.Read(t.Context(), event.Decisions, bus.ReadOptions{}, func(m bus.Message) error {
		subjects = append(subjects, m.Subject)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(subjects) != 12 || subjects[0] != "decisions.sent.P2.payments.incident00000" {
		t.Errorf("got %d decisions %q, want one for each revision", len(subjects), subjects)
	}
}

func TestShadowModeSendsNothingAndDecides(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, strings.Replace(webhookConfig(hook.URL), "mode: page", "mode: shadow", 1))
	w.start()
	w.publish(lifeOf(1)...)
	eventually(t, 10*time.Second, "4 decisions", func() bool { return len(read(w, event.Decided)) == 4 })
	var got []string
	for _, d := range read(w, event.Decided) {
		got = append(got, string(d.Outcome)+": "+d.Rule)
	}
	if want := []string{"shadow: notify.mode=shadow", "shadow: notify.mode=shadow", "shadow: notify.mode=shadow", "held: resolved before anybody was told"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := hook.requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestPageModeWithoutChannelsIsLoud(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "mode: page\n")
	w.start()
	w.publish(incident(1))
	eventually(t, 10*time.Second, "a decision", func() bool { return len(read(w, event.Decided)) == 1 })
	if d := read(w, event.Decided)[0]; d.Outcome != event.HeldBack || d.Rule != "no channel is configured" {
		t.Errorf("got %s: %s", d.Outcome, d.Rule)
	}
	if !strings.Contains(w.log.String(), "nobody will be told") {
		t.Errorf("no warning in the log: %s", w.log.String())
	}
	parts, ready := w.health.Parts()
	if !ready || !slices.ContainsFunc(parts, func(p obs.Part) bool { return p.Name == "channels" && p.Degraded }) {
		t.Errorf("health does not say so: %+v", parts)
	}
}

// Killed again and again while an answer is on its way, or at a moment of no
// choosing: the receiver acts once on each revision, as in an undisturbed run.
func TestKilledWhileSendingEachRevisionIsActedOnOnce(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	var all []event.Report
	for i := range 4 {
		all = append(all, lifeOf(i)...)
	}
	l := w.start()
	for i, r := range all {
		if i%4 == 1 {
			eventually(t, 30*time.Second, "deliveries of those before, so that this one is held", w.delivered(i))
			got, let := hook.hold(1)
			w.publish(r)
			<-got // received, and not answered yet
			l.kill()
			let()
			l = w.start()
			continue
		}
		w.publish(r)
	}
	eventually(t, 30*time.Second, "16 deliveries", w.delivered(16))
	if got := len(hook.ids()); got != 16 || hook.requests() < 20 {
		t.Errorf("acted on %d of %d requests, want 16 revisions and the 4 repeats", got, hook.requests())
	}
	last := map[string]int{}
	for _, id := range hook.ids() {
		inc := strings.Split(id, ":")[1]
		rev, err := strconv.Atoi(strings.Split(id, ":")[2])
		if err != nil {
			t.Fatal(err)
		}
		if rev != last[inc]+1 {
			t.Errorf("%s comes after revision %d", id, last[inc])
		}
		last[inc] = rev
	}
}

func TestKilledWhileSendingSlackShowsEverythingOnce(t *testing.T) {
	t.Parallel()
	chat := notifiertest.NewSlack(t)
	w := newWorld(t, "mode: page\nchannels:\n"+slackConfig(t, chat))
	for i, method := range []string{"chat.postMessage", "chat.postMessage", "chat.update"} {
		// The i-th call is done, and the notifier dies before it hears of it.
		got, release := make(chan struct{}), make(chan struct{})
		if i == 1 { // this time the answer in the thread
			chat.Inject(method, notifiertest.Fault{Late: true, Answer: notifiertest.Says("internal_error")})
		}
		chat.Inject(method, notifiertest.Fault{Late: true, Answer: func(http.ResponseWriter, *http.Request) { close(got); <-release }})
		l := w.start()
		if i == 2 {
			w.publish(lifeOf(i)[:1]...)
			eventually(t, 20*time.Second, "the message", func() bool { return len(chat.Main()) == i+1 })
		}
		w.publish(lifeOf(i)...)
		<-got
		l.kill()
		close(release)
		l = w.start()
		eventually(t, 30*time.Second, "4 deliveries more", w.delivered(4*(i+1)))
		l.stop()
	}
	main := chat.Main()
	if len(main) != 3 {
		t.Fatalf("got %d messages of 3 incidents", len(main))
	}
	for _, m := range main {
		var said []string
		for _, a := range chat.Thread(m.TS) {
			said = append(said, strings.Fields(a.Text)[0])
		}
		if want := []string{"Details", "Severity", "Resolved"}; !slices.Equal(said, want) {
			t.Errorf("%s: got answers %q, want %q", m.Text, said, want)
		}
	}
}

func TestACleanStopLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	l := w.start()
	got, let := hook.hold(1)
	w.publish(lifeOf(0)...)
	<-got
	go func() {
		time.AfterFunc(100*time.Millisecond, let)
	}()
	l.stop() // waits for the delivery
	before := hook.requests()
	w.start()
	eventually(t, 20*time.Second, "4 deliveries", w.delivered(4))
	if got := hook.requests(); got != 4 || before < 1 {
		t.Errorf("got %d requests, want no repeat", got)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	w.start()
	var mu sync.Mutex
	var times []time.Time
	hook.Answer(func(rw http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if times = append(times, time.Now()); len(times) <= 2 {
			rw.Header().Set("Retry-After", "2")
			rw.WriteHeader(http.StatusTooManyRequests)
		}
	})
	w.publish(incident(1))
	eventually(t, 20*time.Second, "a delivery", w.delivered(1))
	for i := 1; i < len(times); i++ {
		if d := times[i].Sub(times[i-1]); d < 2*time.Second || d > 7*time.Second {
			t.Errorf("attempt %d after %v, want 2s to 7s", i+1, d)
		}
	}
	if d := read(w, event.ReportDelivered)[0]; d.Attempts != 3 {
		t.Errorf("got %d attempts, want 3", d.Attempts)
	}
}

func TestARejectedMessageGoesToTheDeadLettersAndTheNextIsSent(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	w.start()
	hook.Answer(notifiertest.Status(400))
	w.publish(incident(1))
	eventually(t, 10*time.Second, "a record of the failure", func() bool { return len(read(w, event.ReportFailed)) == 1 })
	hook.Answer(notifiertest.Agree)
	w.publish(incident(2))
	eventually(t, 10*time.Second, "the next delivery", w.delivered(1))
	letters := read(w, event.DeadLettered)
	if len(letters) != 1 || !strings.Contains(letters[0].Reason, "answered 400 Bad Request") || strings.Contains(letters[0].Reason, hook.URL) {
		t.Errorf("got dead letters %+v", letters)
	}
}

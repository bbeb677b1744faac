package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/pkg/upstream"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// rig is a source with what it published.
type rig struct {
	*Source
	health *obs.Health

	mu     sync.Mutex
	pushed []event.Alert
	refuse error
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	names, err := entities.Load(store)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{health: obs.NewHealth(time.Now)}
	r.Source, err = New(cfg, collector.Env{
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Health: r.health, Now: time.Now,
		Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")}),
		Publish: func(_ context.Context, events ...event.Outgoing) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, e := range events {
				r.pushed = append(r.pushed, e.Data().(event.Alert))
			}
			return r.refuse
		},
	}, names)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var began = time.Date(2026, 11, 25, 2, 51, 0, 0, time.UTC)

// alert is one alert in the API's form.
func alert(fingerprint string, labels map[string]string, state string) map[string]any {
	return map[string]any{
		"fingerprint": fingerprint, "labels": labels, "annotations": map[string]string{"summary": "password=hunter2hunter2 leaks"},
		"startsAt": began.Format(time.RFC3339Nano), "endsAt": began.Add(4 * time.Minute).Format(time.RFC3339Nano), "updatedAt": began.Format(time.RFC3339Nano),
		"status": map[string]any{"state": state, "silencedBy": []string{}, "inhibitedBy": []string{}, "mutedBy": []string{}},
	}
}

// server is an Alertmanager whose alerts a test sets.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	alerts []map[string]any
	code   int
}

func serve(t *testing.T, alerts ...map[string]any) *server {
	t.Helper()
	s := &server{alerts: alerts, code: 200}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.URL.Path != "/api/v2/alerts" || r.URL.Query().Get("silenced") != "true" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(s.code)
		_ = json.NewEncoder(w).Encode(s.alerts)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(code int, alerts ...map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.alerts = code, alerts
}

func checkout() map[string]string {
	return map[string]string{"alertname": "HighErrors", "severity": "page", "namespace": "shop", "deployment": "checkout"}
}

func TestReplicasAreOneAndOurOwnAndHarmlessAlertsAreLeftOut(t *testing.T) {
	silenced := alert("b1", map[string]string{"alertname": "Slow", "namespace": "shop"}, "suppressed")
	one := serve(t, alert("a1", checkout(), "active"), silenced,
		alert("c1", map[string]string{"alertname": "Watchdog", "severity": "none"}, "active"),
		alert("c2", map[string]string{"alertname": "InfoInhibitor", "severity": "none"}, "active"),
		alert("c3", map[string]string{"alertname": "SomeInfo", "severity": "none"}, "active"),
		alert("c4", map[string]string{"alertname": "OncallIncident", "oncall_incident": "abc", "severity": "critical"}, "active"),
		alert("c5", map[string]string{"alertname": "Renamed", "oncall_incident": "abc"}, "active"))
	two := serve(t, alert("a1", checkout(), "active"))
	down := serve(t)
	down.set(503)
	r := newRig(t, Config{URLs: []string{one.URL, two.URL, down.URL}})
	p := r.ask(t.Context())
	if p.err != nil || !p.alive {
		t.Fatalf("err %v, watchdog %v", p.err, p.alive)
	}
	if len(p.alerts) != 2 || p.alerts["a1"].Silenced || !p.alerts["b1"].Silenced {
		t.Errorf("alerts %+v", p.alerts)
	}
	if got, want := p.alerts["a1"].Entity(), (event.Entity{Namespace: "shop", Kind: "Deployment", Name: "checkout"}); got != want {
		t.Errorf("entity %v, want %v", got, want)
	}
	if s := p.alerts["a1"].Annotations["summary"]; strings.Contains(s, "hunter2") {
		t.Errorf("summary %q is not redacted", s)
	}
	if parts, ready := r.health.Parts(); !ready || !slices.ContainsFunc(parts, func(p obs.Part) bool { return p.Degraded && strings.HasSuffix(p.Name, "replica 2") }) {
		t.Errorf("health %+v does not name the replica that is away", parts)
	}
	one.set(500)
	two.set(502)
	if p := r.ask(t.Context()); upstream.KindOf(p.err) != upstream.Unreachable || p.err == nil {
		t.Errorf("with no replica: %v", p.err)
	}
}

func TestStepTellsEachChangeOnceAndEndsOnlyWhatStaysAway(t *testing.T) {
	at := func(n int) time.Time { return began.Add(time.Duration(n) * 15 * time.Second) }
	fires := func(silenced bool) map[string]event.Alert {
		return map[string]event.Alert{"a": {Status: "firing", Fingerprint: "a", Source: "am", Labels: checkout(), StartsAt: began, Silenced: silenced}}
	}
	again := fires(false)
	later := again["a"]
	later.StartsAt = began.Add(time.Hour)
	again["a"] = later
	const settle = 90 * time.Second
	for name, tc := range map[string]struct {
		polls []map[string]event.Alert
		want  []string // ids told, poll by poll
	}{
		"what goes on is told once": {
			[]map[string]event.Alert{fires(false), fires(false), fires(false)},
			[]string{"al:am:a:firing:1795575060000:false", "", ""},
		},
		"an Alertmanager that forgot for a minute ends nothing": {
			[]map[string]event.Alert{fires(false), {}, {}, {}, {}, fires(false), {}, {}},
			[]string{"al:am:a:firing:1795575060000:false", "", "", "", "", "", "", ""},
		},
		"an end is dated back to the first poll without the alert": {
			[]map[string]event.Alert{fires(false), {}, {}, {}, {}, {}, {}, {}, {}},
			[]string{"al:am:a:firing:1795575060000:false", "", "", "", "", "", "", "al:am:a:resolved:1795575075000:false", ""},
		},
		"a silence and its end are told, and are not taken for repeats": {
			[]map[string]event.Alert{fires(false), fires(true), fires(true), fires(false), fires(true)},
			[]string{"al:am:a:firing:1795575060000:false", "al:am:a:firing:1795575060000:true", "", "al:am:a:firing:1795575060000:false:2", "al:am:a:firing:1795575060000:true:3"},
		},
		"an alert that fires anew is another firing": {
			[]map[string]event.Alert{fires(false), again},
			[]string{"al:am:a:firing:1795575060000:false", "al:am:a:firing:1795578660000:false"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := decodeFiring(nil)
			for i, now := range tc.polls {
				tell, _, _ := f.step(at(i), now, settle)
				var ids []string
				for _, a := range tell {
					ids = append(ids, event.AlertSeen.Out(a).ID)
				}
				if got := strings.Join(ids, " "); got != tc.want[i] {
					t.Errorf("poll %d tells %q, want %q", i, got, tc.want[i])
				}
				// The process is restarted between any two polls.
				raw, err := f.encode()
				if err != nil {
					t.Fatal(err)
				}
				if f, err = decodeFiring(raw); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestALongAlertIsMentionedAgainBeforeItIsTakenForOver(t *testing.T) {
	f, _ := decodeFiring(nil)
	now := map[string]event.Alert{"a": {Fingerprint: "a", StartsAt: began}}
	told := 0
	for at := began; at.Before(began.Add(24 * time.Hour)); at = at.Add(15 * time.Second) {
		tell, _, _ := f.step(at, now, time.Minute)
		told += len(tell)
	}
	if told != 6 {
		t.Errorf("told %d times in 24 h, want 6", told)
	}
}

func TestMoreAlertsThanAreFollowedAreCounted(t *testing.T) {
	f, _ := decodeFiring(nil)
	now := map[string]event.Alert{}
	for i := range maxFiring + 7 {
		key := fmt.Sprintf("%04x", i)
		now[key] = event.Alert{Fingerprint: key, StartsAt: began, Labels: map[string]string{"alertname": "Flood", "namespace": "shop", "pod": "web-7d4b9c6f5-" + key}}
	}
	tell, _, left := f.step(began, now, time.Minute)
	if len(tell) != maxFiring || left != 7 {
		t.Errorf("told %d, left out %d", len(tell), left)
	}
	if raw, err := f.encode(); err != nil || len(raw) > 512<<10 {
		t.Errorf("cursor of %d bytes, %v: does not fit a message", len(raw), err)
	}
}

func TestRunTellsAlertsSaysWhenItIsBlindAndNeverHoldsTheStreamBack(t *testing.T) {
	s := serve(t, alert("a1", checkout(), "active"))
	r := newRig(t, Config{Config: upstream.Config{URL: s.URL}, Every: 20 * time.Millisecond, Settle: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan collector.Emission, 1000) // a few seconds of heartbeats
	done := make(chan error, 1)
	go func() {
		done <- r.Run(ctx, []byte("no cursor"), func(_ context.Context, e collector.Emission) error { got <- e; return nil })
	}()
	until := func(what string, ok func(collector.Emission) bool) collector.Emission {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			select {
			case e := <-got:
				if e.Closed.IsZero() || time.Since(e.Closed) > time.Minute {
					t.Errorf("an emission closes nothing: %+v", e)
				}
				if ok(e) {
					return e
				}
			case <-deadline:
				t.Fatalf("%s did not happen", what)
			}
		}
	}
	first := until("a firing alert", func(e collector.Emission) bool { return len(e.Events) == 1 })
	if first.Cursor == nil || first.Events[0].Data().(event.Alert).Labels["alertname"] != "HighErrors" {
		t.Errorf("first emission %+v", first)
	}
	s.set(500)
	blind := until("blindness", func(e collector.Emission) bool { return e.Blind != nil })
	again := until("more blindness", func(e collector.Emission) bool { return e.Blind != nil })
	if blind.Blind != again.Blind {
		t.Error("the same blindness is said with another beginning")
	}
	s.set(200)
	end := until("an end", func(e collector.Emission) bool { return len(e.Events) == 1 })
	if a := end.Events[0].Data().(event.Alert); a.Firing() || end.Blind != nil {
		t.Errorf("want a resolved alert and sight, got %+v", end)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestTheWatchdogThatStopsIsSaid(t *testing.T) {
	r := newRig(t, Config{Config: upstream.Config{URL: "http://127.0.0.1:1"}})
	dead := func() bool {
		parts, _ := r.health.Parts()
		return slices.ContainsFunc(parts, func(p obs.Part) bool { return p.Degraded && strings.Contains(p.Why, "Watchdog") })
	}
	r.deadman(polled{at: began})
	if dead() {
		t.Error("an Alertmanager without a Watchdog is said to have lost it")
	}
	r.deadman(polled{at: began, alive: true})
	r.deadman(polled{at: began.Add(4 * time.Minute)})
	if dead() {
		t.Error("said too early")
	}
	r.deadman(polled{at: began.Add(5 * time.Minute)})
	if !dead() {
		t.Error("not said after five minutes")
	}
	r.deadman(polled{at: began.Add(6 * time.Minute), alive: true})
	if dead() {
		t.Error("still said when it is back")
	}
}

// hook is the body of a webhook as Alertmanager 0.28 sends it.
func hook(status string) string {
	return fmt.Sprintf(`{"receiver":"oncall","status":%[1]q,"alerts":[
	 {"status":%[1]q,"labels":{"alertname":"HighErrors","severity":"page","namespace":"shop","deployment":"checkout"},"annotations":{"summary":"s"},
	  "startsAt":"2026-11-25T02:51:00Z","endsAt":"2026-11-25T03:10:00Z","generatorURL":"http://prom/graph?g0.expr=x","fingerprint":"a1"},
	 {"status":"firing","labels":{"alertname":"OncallIncident","oncall_incident":"x"},"annotations":{},"startsAt":"2026-11-25T02:51:00Z","endsAt":"0001-01-01T00:00:00Z","fingerprint":"a2"}],
	 "groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://am","version":"4","groupKey":"{}:{}","truncatedAlerts":0}`, status)
}

func TestTheWebhookGivesTheSameEventsAsThePoll(t *testing.T) {
	r := newRig(t, Config{})
	s := serve(t, alert("a1", checkout(), "active"))
	poller := newRig(t, Config{Config: upstream.Config{URL: s.URL}})
	events, err := r.notified([]byte(hook("firing")))
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	f, _ := decodeFiring(nil)
	tell, _, _ := f.step(began, poller.ask(t.Context()).alerts, time.Minute)
	if len(tell) != 1 || event.AlertSeen.Out(tell[0]).ID != events[0].ID {
		t.Errorf("polled %+v, pushed %s", tell, events[0].ID)
	}
	events, err = r.notified([]byte(hook("resolved")))
	if err != nil || len(events) != 1 || events[0].ID != "al:alertmanager:a1:resolved:1795576200000:false" {
		t.Errorf("resolved: %+v, %v", events, err)
	}
}

func TestTheWebhookTakesOnlyWhatItCanStoreFromWhomItKnows(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{}
	cfg.Webhook.Listen, cfg.Webhook.BearerTokenFile = "127.0.0.1:0", token
	r := newRig(t, cfg)
	w := r.Webhook()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	addr, err := w.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	post := func(auth, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr.String()+Path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", auth)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	const good = "Bearer s3cret-token"
	for _, tc := range []struct {
		name, auth, body string
		refuse           error
		want             int
	}{
		{"stored", good, hook("firing"), nil, 204},
		{"nothing of ours to store", good, `{"version":"4","alerts":[]}`, nil, 204},
		{"no token", "", hook("firing"), nil, 401},
		{"a wrong token", "Bearer s3cret-tokem", hook("firing"), nil, 401},
		{"no JSON", good, `{"version":`, nil, 400},
		{"another version", good, `{"version":"3"}`, nil, 400},
		{"a bus that is away asks to come again", good, hook("firing"), errors.New("no quorum"), 503},
	} {
		r.mu.Lock()
		r.refuse = tc.refuse
		r.mu.Unlock()
		if code, text := post(tc.auth, tc.body); code != tc.want {
			t.Errorf("%s: %d %s, want %d", tc.name, code, text, tc.want)
		}
	}
	if len(r.pushed) != 2 {
		t.Errorf("published %d alerts, want 2", len(r.pushed))
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestConfigErrorsNameTheField(t *testing.T) {
	for want, c := range map[string]Config{
		"url: is missing, and webhook.listen too":  {},
		"urls: and url exclude each other":         {Config: upstream.Config{URL: "http://a"}, URLs: []string{"http://a", "http://b"}},
		"urls[1]: ftp://b is not an http":          {URLs: []string{"http://a", "ftp://b"}},
		"every: 10ms is not between":               {Config: upstream.Config{URL: "http://a"}, Every: 10 * time.Millisecond},
		"webhook.bearer_token_file: is missing":    func() (c Config) { c.Webhook.Listen = ":9099"; return }(),
		"name: a b has characters other":           func() (c Config) { c.Name, c.Webhook.Listen, c.Webhook.BearerTokenFile = "a b", ":9099", "f"; return }(),
		"webhook.listen: nowhere is not host:port": func() (c Config) { c.Webhook.Listen, c.Webhook.BearerTokenFile = "nowhere", "f"; return }(),
	} {
		c.Fill()
		if err := c.Validate(""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	ok := Config{URLs: []string{"http://a", "http://b"}}
	ok.Fill()
	if err := ok.Validate(""); err != nil {
		t.Errorf("two replicas: %v", err)
	}
}

func FuzzWebhook(f *testing.F) {
	f.Add([]byte(hook("firing")))
	f.Add([]byte(`{"version":"4","alerts":[{"status":{"state":"suppressed"},"labels":{"a":"b"},"startsAt":"2026-11-25T02:51:00Z"}]}`))
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		f.Fatal(err)
	}
	names, err := entities.Load(store)
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{}, collector.Env{Metrics: prometheus.NewRegistry(), Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")})}, names)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		one, err1 := s.notified(body)
		two, err2 := s.notified(body)
		if len(one) != len(two) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("the same body gives %d and %d events", len(one), len(two))
		}
		for i := range one {
			if one[i].ID != two[i].ID {
				t.Errorf("ids differ: %s, %s", one[i].ID, two[i].ID)
			}
		}
	})
}

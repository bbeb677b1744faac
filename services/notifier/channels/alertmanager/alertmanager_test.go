package alertmanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/config"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
)

// watch is a wall clock that the test moves.
type watch struct {
	mu sync.Mutex
	t  time.Time
}

func (c *watch) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *watch) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func build(t *testing.T, far ...*notifiertest.Far) (*channel, *watch) {
	t.Helper()
	cfg := Config{Repeat: time.Minute, Patience: 5 * time.Minute, Labels: map[string]string{"source": "oncall"}, HTTP: config.DefaultHTTPClientConfig}
	for _, f := range far {
		cfg.URLs = append(cfg.URLs, f.URL+"/am/")
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	c := &watch{t: notifiertest.Onset.Add(3 * time.Minute)}
	ch, err := New(cfg, notifier.Env{Log: slog.New(slog.DiscardHandler), HTTP: notifier.NewClient(5 * time.Second), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return ch.(*channel), c
}

// posted are the alerts of each request.
func posted(t *testing.T, far *notifiertest.Far) [][]alert {
	t.Helper()
	var out [][]alert
	for _, r := range far.Requests() {
		if r.Path != "/am/api/v2/alerts" {
			continue
		}
		var as []alert
		if err := json.Unmarshal([]byte(r.Body), &as); err != nil {
			t.Fatal(err)
		}
		out = append(out, as)
	}
	return out
}

func send(t *testing.T, ch *channel, r event.Report, update string, th notifier.Thread) notifier.Thread {
	t.Helper()
	th, err := ch.Send(t.Context(), notifiertest.Notification(r, update), th)
	if err != nil {
		t.Fatal(err)
	}
	th.Told = th.Told.After(r)
	return th
}

func TestAnAlertIsSentRepeatedAndResolved(t *testing.T) {
	far := notifiertest.NewFar(t)
	ch, clock := build(t, far)
	r := notifiertest.Report()
	n := notifiertest.Notification(r, "opened")
	th := send(t, ch, r, "opened", notifier.Thread{})
	opened := posted(t, far)[0]
	body, err := json.Marshal(opened)
	if err != nil {
		t.Fatal(err)
	}
	notifiertest.GoldenJSON(t, "opened.json", body)
	if a := opened[0]; !a.StartsAt.Equal(r.Onset) || !a.EndsAt.Equal(clock.now().Add(5*time.Minute)) {
		t.Errorf("got %v to %v, want from the onset for the patience", a.StartsAt, a.EndsAt)
	}
	if ch.Interval() >= 5*time.Minute/3+time.Second {
		t.Errorf("repeated every %v, want at least three times in the patience", ch.Interval())
	}
	clock.forward(time.Minute)
	if err := ch.Repeat(t.Context(), []notifier.Case{{Notification: n, Thread: th}}); err != nil {
		t.Fatal(err)
	}
	again := posted(t, far)[0][0]
	if !maps.Equal(again.Labels, opened[0].Labels) || !again.EndsAt.Equal(clock.now().Add(5*time.Minute)) {
		t.Errorf("repeated as %v until %v", again.Labels, again.EndsAt)
	}
	clock.forward(20 * time.Minute)
	end := notifiertest.Resolved(r)
	send(t, ch, end, "resolved", th)
	if a := posted(t, far)[0][0]; !maps.Equal(a.Labels, opened[0].Labels) || !a.EndsAt.Equal(*end.ResolvedAt) {
		t.Errorf("resolved as %v at %v, want the same labels at %v", a.Labels, a.EndsAt, end.ResolvedAt)
	}
}

func TestAnAlertStaysItselfWhateverTheReportSays(t *testing.T) {
	far := notifiertest.NewFar(t)
	ch, _ := build(t, far)
	r := notifiertest.Report()
	r.Priority = event.P3
	th := send(t, ch, r, "opened", notifier.Thread{})
	first := posted(t, far)[0][0].Labels

	r.Revision, r.Entity.Name, r.Owner.Team, r.Cluster = 2, "cart", "growth", "other"
	th = send(t, ch, r, "updated", th)
	if got := posted(t, far)[0]; len(got) != 1 || !maps.Equal(got[0].Labels, first) {
		t.Errorf("another entity: got %v, want the labels of before %v", got, first)
	}
	r.Revision, r.Priority = 3, event.P1
	th = send(t, ch, r, "severity", th)
	got := posted(t, far)[0]
	if len(got) != 2 || got[0].Labels["severity"] != "critical" || !maps.Equal(got[1].Labels, first) || got[1].EndsAt.After(got[0].EndsAt.Add(-4*time.Minute)) {
		t.Errorf("risen severity: got %+v, want the alert as critical, and the one as warning ended", got)
	}
	r.Revision, r.Priority = 4, event.P3
	th = send(t, ch, r, "updated", th)
	if got := posted(t, far)[0]; len(got) != 1 || got[0].Labels["severity"] != "critical" {
		t.Errorf("fallen severity: got %v, want critical until the end: another label would be another page", got)
	}
	r = notifiertest.Resolved(r)
	send(t, ch, r, "resolved", th)
	if got := posted(t, far)[0]; len(got) != 1 || got[0].Labels["severity"] != "critical" || got[0].Labels["name"] != "checkout" {
		t.Errorf("resolved: got %v, want the end of the critical alert", got)
	}
}

func TestEveryReplicaGetsEveryAlert(t *testing.T) {
	a, b := notifiertest.NewFar(t), notifiertest.NewFar(t)
	ch, _ := build(t, a, b)
	send(t, ch, notifiertest.Report(), "opened", notifier.Thread{})
	if len(posted(t, a)) != 1 || len(posted(t, b)) != 1 {
		t.Error("a replica got nothing")
	}
}

func TestOneReplicaIsEnough(t *testing.T) {
	for name, harm := range map[string]func(*notifiertest.Far){
		"dead":    func(f *notifiertest.Far) { f.Close() },
		"broken":  func(f *notifiertest.Far) { f.Answer(notifiertest.Status(500)) },
		"locked":  func(f *notifiertest.Far) { f.Answer(notifiertest.Status(401)) },
		"hanging": func(f *notifiertest.Far) { f.Answer(notifiertest.Hang) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := notifiertest.NewFar(t), notifiertest.NewFar(t)
			ch, _ := build(t, bad, good)
			harm(bad)
			started := time.Now()
			send(t, ch, notifiertest.Report(), "opened", notifier.Thread{})
			if took := time.Since(started); took > grace+time.Second {
				t.Errorf("took %v, want at most the grace of %v", took, grace)
			}
			if len(posted(t, good)) != 1 {
				t.Error("the good one got nothing")
			}
		})
	}
	t.Run("none is not, and what may pass decides", func(t *testing.T) {
		locked, broken := notifiertest.NewFar(t), notifiertest.NewFar(t)
		ch, _ := build(t, locked, broken)
		locked.Answer(notifiertest.Status(401))
		broken.Answer(notifiertest.Status(502))
		_, err := ch.Send(t.Context(), notifiertest.Notification(notifiertest.Report(), "opened"), notifier.Thread{})
		if _, rejected := errors.AsType[*bus.RejectError](err); err == nil || rejected {
			t.Errorf("got %v, want an error that is tried again", err)
		}
	})
}

func TestADigestIsNoAlert(t *testing.T) {
	far := notifiertest.NewFar(t)
	ch, _ := build(t, far)
	send(t, ch, notifiertest.Digest(), "digest", notifier.Thread{})
	if got := posted(t, far); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

func TestHostileReportsMakeAnAlertThatIsTaken(t *testing.T) {
	far := notifiertest.NewFar(t)
	ch, _ := build(t, far)
	send(t, ch, notifiertest.Hostile(), "opened", notifier.Thread{})
	a := posted(t, far)[0][0]
	for k, v := range a.Labels {
		if len(v) > 253 || v == "" {
			t.Errorf("label %s has %d bytes", k, len(v))
		}
	}
	for k, v := range a.Annotations {
		if len(v) > maxAnnotation || v == "" || strings.Contains(v, "@here") || strings.Contains(v, "@channel") {
			t.Errorf("annotation %s: %q", k, notifier.Clip(v, 200))
		}
	}
	if a.GeneratorURL != "" && !strings.HasPrefix(a.GeneratorURL, "https://grafana.example.com/") {
		t.Errorf("got generatorURL %q", a.GeneratorURL)
	}
}

// silencesOf answers GET /silences with matchers in Alertmanager's notation.
func silencesOf(now time.Time, matchers ...matcher) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			notifiertest.Agree(w, r)
			return
		}
		type status struct {
			State string `json:"state"`
		}
		_ = json.NewEncoder(w).Encode([]map[string]any{
			{"id": "old", "status": status{"expired"}, "startsAt": now.Add(-time.Hour), "endsAt": now.Add(-time.Minute), "matchers": []matcher{}},
			{"id": "s1", "status": status{"active"}, "startsAt": now.Add(-time.Hour), "endsAt": now.Add(time.Hour), "createdBy": "anna", "matchers": matchers},
		})
	}
}

func TestASilenceMutesAsAlertmanagerWould(t *testing.T) {
	no := false
	labels := notifier.Labels(notifiertest.Report())
	for name, c := range map[string]struct {
		matchers []matcher
		want     bool
	}{
		"by namespace":                 {[]matcher{{Name: "namespace", Value: "shop"}}, true},
		"by the workload's own label":  {[]matcher{{Name: "deployment", Value: "checkout"}}, true},
		"by a label we were given":     {[]matcher{{Name: "source", Value: "oncall"}}, true},
		"another namespace":            {[]matcher{{Name: "namespace", Value: "cart"}}, false},
		"every matcher has to match":   {[]matcher{{Name: "namespace", Value: "shop"}, {Name: "team", Value: "growth"}}, false},
		"a pattern":                    {[]matcher{{Name: "namespace", Value: "sh.p|cart", IsRegex: true}}, true},
		"a pattern matches the whole":  {[]matcher{{Name: "namespace", Value: "sho", IsRegex: true}}, false},
		"not equal":                    {[]matcher{{Name: "namespace", Value: "cart", IsEqual: &no}}, true},
		"not equal, but it is":         {[]matcher{{Name: "namespace", Value: "shop", IsEqual: &no}}, false},
		"not like":                     {[]matcher{{Name: "namespace", Value: "sh.*", IsRegex: true, IsEqual: &no}}, false},
		"a missing label is empty":     {[]matcher{{Name: "pod", Value: ""}}, true},
		"a missing label is not equal": {[]matcher{{Name: "pod", Value: "x", IsEqual: &no}}, true},
		"no matcher mutes nothing":     {nil, false},
		"a bad pattern mutes nothing":  {[]matcher{{Name: "namespace", Value: "(", IsRegex: true}}, false},
		"an alert's name of theirs":    {[]matcher{{Name: "alertname", Value: "KubePodCrashLooping"}}, false},
	} {
		far := notifiertest.NewFar(t)
		ch, clock := build(t, far)
		far.Answer(silencesOf(clock.now(), c.matchers...))
		got, err := ch.Silenced(t.Context(), labels)
		if want := map[bool]string{true: "s1", false: ""}[c.want]; got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestSilencesAreReadOftenEnoughAndNotTooOften(t *testing.T) {
	far := notifiertest.NewFar(t)
	ch, clock := build(t, far)
	labels := notifier.Labels(notifiertest.Report())
	ask := func(want string) {
		t.Helper()
		if got, err := ch.Silenced(t.Context(), labels); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	ask("")
	far.Answer(silencesOf(clock.now(), matcher{Name: "namespace", Value: "shop"}))
	ask("") // from the copy
	clock.forward(silencesFor)
	ask("s1")
	if got := len(far.Requests()); got != 2 {
		t.Errorf("asked %d times, want 2", got)
	}
	clock.forward(2 * time.Hour)
	ask("") // the silence has ended by itself
}

func TestAnAlertmanagerThatHangsDelaysOneDecision(t *testing.T) {
	far := notifiertest.NewFar(t)
	ch, clock := build(t, far)
	labels := notifier.Labels(notifiertest.Report())
	far.Answer(silencesOf(clock.now(), matcher{Name: "namespace", Value: "shop"}))
	if got, err := ch.Silenced(t.Context(), labels); got != "s1" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	far.Answer(notifiertest.Hang)
	clock.forward(silencesFor)
	started := time.Now()
	got, err := ch.Silenced(t.Context(), labels)
	if took := time.Since(started); got != "s1" || err != nil || took > silencesWait+2*time.Second {
		t.Errorf("got %q, %v after %v, want the copy's within %v", got, err, took, silencesWait)
	}
	started = time.Now()
	for range 20 {
		clock.forward(silencesFor / 4)
		got, err = ch.Silenced(t.Context(), labels)
	}
	if took := time.Since(started); got != "s1" || err != nil || took > time.Second {
		t.Errorf("then: got %q, %v after %v for 20 decisions, want the copy's at once", got, err, took)
	}
	clock.forward(silencesAtMost)
	if got, err := ch.Silenced(t.Context(), labels); err == nil {
		t.Errorf("got %q of a copy that is over %v old, want an error", got, silencesAtMost)
	}
	far.Answer(silencesOf(clock.now(), matcher{Name: "namespace", Value: "shop"}))
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 100 {
		clock.forward(silencesFor)
		if got, err = ch.Silenced(t.Context(), labels); err == nil && got == "s1" {
			return
		}
		<-tick.C
	}
	t.Errorf("got %q, %v, want silences to be read again", got, err)
}

func TestSilencesOfOneReplicaAreEnough(t *testing.T) {
	hanging, good := notifiertest.NewFar(t), notifiertest.NewFar(t)
	ch, clock := build(t, hanging, good)
	hanging.Answer(notifiertest.Hang)
	good.Answer(silencesOf(clock.now(), matcher{Name: "namespace", Value: "shop"}))
	started := time.Now()
	got, err := ch.Silenced(t.Context(), notifier.Labels(notifiertest.Report()))
	if got != "s1" || err != nil || time.Since(started) > time.Second {
		t.Errorf("got %q, %v after %v, want the good one's at once", got, err, time.Since(started))
	}
}

func TestManySilencesAreRead(t *testing.T) {
	far := notifiertest.NewFar(t)
	ch, clock := build(t, far)
	var many []map[string]any
	for i := range 2000 { // 400 kB: a busy Alertmanager keeps the expired ones for days
		many = append(many, map[string]any{
			"id": fmt.Sprint("s", i), "startsAt": clock.now().Add(-time.Hour), "endsAt": clock.now().Add(time.Hour),
			"comment": strings.Repeat("x", 100), "matchers": []matcher{{Name: "namespace", Value: fmt.Sprint("ns", i)}},
		})
	}
	many = append(many, map[string]any{"id": "last", "startsAt": clock.now().Add(-time.Hour), "endsAt": clock.now().Add(time.Hour), "matchers": []matcher{{Name: "namespace", Value: "shop"}}})
	far.Answer(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(many) })
	if got, err := ch.Silenced(t.Context(), notifier.Labels(notifiertest.Report())); got != "last" || err != nil {
		t.Errorf("got %q, %v, want the last of 2001", got, err)
	}
}

func TestConfigurationErrorsSayWhatToWrite(t *testing.T) {
	ok := func() Config {
		return Config{URLs: []string{"http://a:9093"}, Repeat: time.Minute, Patience: 5 * time.Minute, HTTP: config.DefaultHTTPClientConfig}
	}
	for want, change := range map[string]func(*Config){
		"urls: names no Alertmanager; write urls: [http://alertmanager:9093]": func(c *Config) { c.URLs = nil },
		"urls[1]: alertmanager:9093 is not an http or https URL":              func(c *Config) { c.URLs = append(c.URLs, "alertmanager:9093") },
		"repeat: 0s is less than a second; write 1m":                          func(c *Config) { c.Repeat = 0 },
		"patience: 1m0s is less than three times repeat; write 3m0s":          func(c *Config) { c.Patience = time.Minute },
		"labels.a-b: is not a label name":                                     func(c *Config) { c.Labels = map[string]string{"a-b": "c"} },
		"http: at most one of":                                                func(c *Config) { c.HTTP.BearerTokenFile = "b"; c.HTTP.BasicAuth = &config.BasicAuth{Username: "u"} },
	} {
		c := ok()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzSilences(f *testing.F) {
	f.Add([]byte(`[{"id":"a","startsAt":"2026-11-21T02:00:00Z","endsAt":"2026-11-22T02:00:00Z","matchers":[{"name":"a","value":"b","isRegex":true}]}]`))
	f.Add([]byte(`{"ok":true}`))
	labels := slices.Collect(maps.Keys(notifier.Labels(notifiertest.Report())))
	f.Fuzz(func(t *testing.T, body []byte) {
		all, err := parseSilences(body)
		if err != nil {
			return
		}
		for _, s := range all {
			if s.mutes(map[string]string{labels[0]: "x"}) && len(s.Matchers) == 0 {
				t.Error("a silence without matchers mutes")
			}
		}
	})
}

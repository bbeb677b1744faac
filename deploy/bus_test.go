package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// TestPipelineRunsUnderTheShippedPermissions runs the five services, each with
// its own key, from a jump in errors to a delivered report; nothing that they do
// may be refused, and what they may do and never did has to have a reason.
func TestPipelineRunsUnderTheShippedPermissions(t *testing.T) {
	r := newRig(t)
	r.connect(t, "streams", "streams", true)
	began := time.Now().Add(-30 * time.Minute)
	got := make(chan string, 64)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		select {
		case got <- string(b):
		default:
		}
	}))
	t.Cleanup(hook.Close)
	kv, err := r.connect(t, "collector", "collector", false).KV(t.Context(), bus.BucketCollector)
	if err != nil {
		t.Fatal(err)
	}
	// The collector catches up on half an hour, as after an outage.
	if _, err := kv.Put(t.Context(), "prometheus", fmt.Appendf(nil, `{"step":%q}`, began.Truncate(15*time.Second).UTC().Format(time.RFC3339))); err != nil {
		t.Fatal(err)
	}
	poison(t, r)
	config := fmt.Sprintf(`
bus: {url: %q, nkey: SEED, tls: {ca: %q}, manage_streams: false, checkpoint_every: 1s}
obs: {listen: ""}
collector: {prometheus: {url: %q, step: 15s, max_query_qps: 1000}}
notifier: {mode: page, channels: {hook: {type: webhook, url: %q}}}
`, r.url, r.ca(), prometheus(t, began.Add(22*time.Minute)), hook.URL)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, spec := range pipeline.Services {
		cfg, err := service.Parse("config.yaml", []byte(strings.ReplaceAll(config, "SEED", strconv.Quote(r.seed(spec.Name)))), service.Names, spec)
		if err != nil {
			t.Fatal(err)
		}
		p, err := service.Open(ctx, cfg, service.Options{Name: spec.Name, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("open %s: %v", spec.Name, err)
		}
		wg.Go(func() {
			if err := p.Run(ctx, spec); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", spec.Name, err)
			}
			_ = p.Close()
		})
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	select {
	case body := <-got:
		if !strings.Contains(body, "shop") {
			t.Errorf("delivered %.200s, want a report about shop/web", body)
		}
	case <-time.After(90 * time.Second):
		t.Errorf("no report delivered in 90s")
	}
	reader := r.connect(t, "reader", "oncall", false)
	for _, s := range []*event.Stream{event.Metrics, event.Anomalies, event.Incidents, event.Evidences, event.Reports, event.Decisions, event.Audits, event.DeadLetters} {
		eventually(t, "something in "+s.Name, func() bool {
			last, err := reader.Last(t.Context(), s)
			return err == nil && last > 0
		})
	}
	// What is left is used now and then, as a checkpoint is, or at the end.
	within(30*time.Second, func() bool { return len(unused(r.seen)) == 0 })
	stop()
	wg.Wait()
	for _, line := range r.seen.refusals() {
		t.Errorf("refused: %s", line)
	}
	for _, right := range unused(r.seen) {
		t.Errorf("%s and never did: take it away, or say in seldom when it does", right)
	}
}

// poison puts a message on the telemetry that no detector can read.
func poison(t *testing.T, r *rig) {
	t.Helper()
	b := r.connect(t, "collector", "collector", false)
	if err := b.Republish(t.Context(), "telemetry.metrics.00.shop", map[string][]string{"Nats-Msg-Id": {"poison"}}, []byte("poison")); err != nil {
		t.Fatal(err)
	}
}

// seldom are rights that a quiet half hour with one source does not use, by the
// part of the subject that tells them.
var seldom = map[string]string{
	"telemetry.logs.":                       "no Loki in this test",
	"$JS.API.STREAM.PURGE.OBJ_kept":         "a checkpoint that is kept again after a crash, or let go after two hours",
	"telemetry.events.":                     "no API server in this test",
	"telemetry.changes.":                    "no API server in this test",
	"telemetry.topology.":                   "no API server in this test",
	"telemetry.pushed.":                     "nothing is pushed in this test",
	"TELEMETRY_PUSHED":                      "nothing is pushed in this test",
	"$KV.ckpt.events.":                      "no API server in this test",
	"watermarks.events.":                    "no API server in this test",
	"$KV.ckpt.logs.":                        "no Loki in this test",
	"watermarks.logs.":                      "no Loki in this test",
	"$JS.API.CONSUMER.DELETE.TELEMETRY_":    "after a lost connection",
	"$JS.API.CONSUMER.DELETE.ANOMALIES":     "after a lost connection",
	"telemetry.alerts.":                     "no Alertmanager in this test",
	"KV_notifier.>":                         "what is open is listed when an Alertmanager is told again, or a silence looked at; test/integration/e2e does",
	"CONSUMER.DELETE.KV_notifier":           "after such a list",
	"context.":                              "no API server in this test",
	"dlq.":                                  "only one message is poison, and the detector's",
	"snapshots":                             "states above 256 KiB",
	"$JS.FC.":                               "large answers only",
	"$JS.ACK.":                              "both forms are let through, the server uses one",
	"$JS.API.CONSUMER.INFO.":                "after a lost connection",
	"evidence.*.model":                      "no model is configured in this test",
	"REPORTS.reasoner-model":                "no model is configured in this test",
	".EVIDENCE":                             "no model is configured in this test",
	"$JS.API.STREAM.MSG.GET.":               "deliveries that the server gave up",
	"$JS.API.DIRECT.GET.":                   "keys that are there already, deliveries that the server gave up",
	"$JS.API.CONSUMER.CREATE.NOTIFY.*":      "the form without a filter",
	"$JS.API.CONSUMER.CREATE.REPORTS.":      "the form without a filter",
	"$JS.API.CONSUMER.CREATE.INCIDENTS.":    "the form with a filter",
	"$JS.API.CONSUMER.CREATE.ADVISORIES.":   "the form without a filter",
	"reports.*.failed":                      "the hook takes everything",
	"incidents.*.":                          "updated and resolved need more time",
	"anomalies.":                            "an end needs more time",
	"$JS.API.CONSUMER.CREATE.DECISIONS.>":   "once a day",
	"$JS.API.CONSUMER.MSG.NEXT.DECISIONS.*": "once a day",
	"$JS.API.CONSUMER.DELETE.DECISIONS.*":   "once a day",
}

// unused are the rights of the services that were not used.
func unused(w *witness) (rights []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range access.Identities() {
		if !slices.Contains(service.Names, i.Name) {
			continue
		}
		for what, allowed := range map[string][]string{"PUB": i.Publish, "SUB": i.Subscribe} {
		right:
			for _, a := range allowed {
				for u := range w.used[i.Name] {
					if s, ok := strings.CutPrefix(u, what+" "); ok && (event.MatchSubject(a, s) || s == a) {
						continue right
					}
				}
				for part := range seldom {
					if strings.Contains(a, part) {
						continue right
					}
				}
				rights = append(rights, fmt.Sprintf("%s may %s %s", i.Name, what, a))
			}
		}
	}
	return rights
}

// TestWhatNoIdentityMayDo tries, as each identity, what is not its business.
func TestWhatNoIdentityMayDo(t *testing.T) {
	r := newRig(t)
	r.connect(t, "streams", "streams", true)
	for _, test := range []struct {
		identity string
		pub, sub []string
	}{
		{"collector", []string{"anomalies.critical.shop.spike", "incidents.x.opened", "reports.x.drafted", "audit.notifier", "$KV.incident.x", "$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.CONSUMER.CREATE.INCIDENTS.x", "dlq.X.y"}, []string{"telemetry.>", "incidents.>", ">", "_INBOX_notifier.>"}},
		{"detector", []string{"telemetry.metrics.00.shop", "incidents.x.opened", "$KV.ckpt.correlator.x.00", "$KV.collector.prometheus", "$JS.API.CONSUMER.CREATE.INCIDENTS.x", "control.collector.query", "watermarks.correlator.00"}, []string{"control.collector.query", "anomalies.>", "_INBOX_collector.>"}},
		{"correlator", []string{"anomalies.critical.shop.spike", "telemetry.metrics.00.tick", "reports.x.drafted", "$KV.ckpt.metrics.x.00", "$KV.notifier.x", "watermarks.metrics.00"}, []string{"incidents.>", "_INBOX_reasoner.>"}},
		{"reasoner", []string{"incidents.x.opened", "notify.slack.x", "$KV.incident.x", "evidence.x.prometheus", "telemetry.alerts.00.shop", "$JS.API.STREAM.MSG.GET.AUDIT"}, []string{"control.collector.query", "evidence.>"}},
		{"notifier", []string{"telemetry.metrics.00.shop", "incidents.x.resolved", "reports.x.drafted", "control.collector.query", "anomalies.info.shop.spike", "$KV.incident.x", "$JS.API.STREAM.PURGE.INCIDENTS"}, []string{"reports.>", "control.>"}},
		{"streams", []string{"$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.STREAM.PURGE.INCIDENTS", "$JS.API.STREAM.MSG.GET.INCIDENTS", "$JS.API.CONSUMER.CREATE.INCIDENTS.x", "telemetry.metrics.00.shop"}, []string{"telemetry.>", ">"}},
		{"plugin", []string{"incidents.x.opened", "telemetry.metrics.00.shop", "$KV.ckpt.metrics.x.00", "$JS.API.CONSUMER.CREATE.INCIDENTS.x"}, []string{"incidents.>"}},
		{"reader", []string{"audit.collector", "telemetry.metrics.00.shop", "anomalies.info.shop.spike", "$KV.incident.x", "$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.STREAM.MSG.DELETE.DLQ", "control.collector.query"}, []string{"_INBOX_collector.>"}},
		{"operator", []string{"$JS.API.STREAM.DELETE.INCIDENTS", "$JS.API.STREAM.UPDATE.INCIDENTS", "$KV.incident.x", "control.collector.query", "$JS.EVENT.ADVISORY.API.LIMIT_REACHED"}, []string{">"}},
	} {
		t.Run(test.identity, func(t *testing.T) {
			option, err := nats.NkeyOptionFromSeed(r.seed(test.identity))
			if err != nil {
				t.Fatal(err)
			}
			said := make(chan string, 64)
			nc, err := nats.Connect(r.url, option, nats.RootCAs(r.ca()), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err.Error() }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			refused := func(what, subject string) {
				t.Helper()
				if err := nc.Flush(); err != nil {
					t.Fatal(err)
				}
				select {
				case s := <-said:
					if !strings.Contains(s, what) || !strings.Contains(s, strconv.Quote(subject)) {
						t.Errorf("%s %s: the server said %s", what, subject, s)
					}
				case <-time.After(5 * time.Second):
					t.Errorf("%s %s is let through", what, subject)
				}
			}
			for _, s := range test.pub {
				if err := nc.Publish(s, nil); err != nil {
					t.Fatal(err)
				}
				refused("Publish", s)
			}
			for _, s := range test.sub {
				if _, err := nc.SubscribeSync(s); err != nil {
					t.Fatal(err)
				}
				refused("Subscription", s)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		if nc, err := nats.Connect(r.url, nats.RootCAs(r.ca())); !errors.Is(err, nats.ErrAuthorization) {
			nc.Close()
			t.Errorf("connecting without a key: %v, want %v", err, nats.ErrAuthorization)
		}
	})
}

// TestEveryKindHasSomebodyWhoMayPublishIt fails for a kind that was added to the
// table and to no identity.
func TestEveryKindHasSomebodyWhoMayPublishIt(t *testing.T) {
	for _, k := range event.Kinds() {
		sample := strings.ReplaceAll(k.Filter(), "*", "x")
		switch k.Type {
		case event.DeadLettered.Type:
			sample = "dlq." + event.Metrics.Name + ".x"
		case event.WatermarkPassed.Type:
			sample = "watermarks.metrics.00"
		case event.Audited.Type:
			sample = "audit.collector"
		}
		var who []string
		for _, i := range access.Identities() {
			if slices.Contains(service.Names, i.Name) && slices.ContainsFunc(i.Publish, func(a string) bool { return event.MatchSubject(a, sample) }) {
				who = append(who, i.Name)
			}
		}
		if len(who) != 1 {
			t.Errorf("%s (%s) may be published by %v, want one service", k.Type, sample, who)
		}
	}
}

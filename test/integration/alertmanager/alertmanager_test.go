//go:build e2e

// Package alertmanager_test gives incidents to a real Alertmanager.
package alertmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/config"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
	"github.com/oncall-copilot/oncall/services/notifier/channels/alertmanager"
	"github.com/oncall-copilot/oncall/services/notifier/notifiertest"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// pager is what Alertmanager notifies.
type pager struct {
	mu  sync.Mutex
	got []string // status, alert's name and severity, in order
}

func (p *pager) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var m struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range m.Alerts {
		p.got = append(p.got, a.Status+" "+a.Labels["alertname"]+" "+a.Labels["severity"]+" "+a.Labels["deployment"])
	}
}

func (p *pager) pages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

type shown struct {
	Labels      map[string]string
	Annotations map[string]string
	StartsAt    time.Time
	Status      struct {
		State      string
		SilencedBy []string
	}
}

func alerts(t *testing.T, am *testbed.Server) []shown {
	t.Helper()
	var out []shown
	call(t, am, http.MethodGet, "/api/v2/alerts", nil, &out)
	return out
}

func call(t *testing.T, am *testbed.Server, method, path string, body, into any) {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, am.URL+path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := am.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s, %v", method, path, res.StatusCode, answer, err)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatal(err)
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); !holds(); <-tick.C {
		if time.Since(started) > time.Minute {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func TestTheUsersOwnAlertmanagerRoutesSilencesAndResolves(t *testing.T) {
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	p := &pager{}
	page := httptest.NewServer(p)
	t.Cleanup(page.Close)
	var replicas []*testbed.Server
	for i := range 2 {
		cfg := testbed.AlertmanagerConfig{}
		if i == 0 {
			cfg.Webhook = page.URL // they are not one cluster: one of them pages
		}
		am, err := bed.StartAlertmanager(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		replicas = append(replicas, am)
	}
	am := replicas[0]
	const patience = 10 * time.Second
	ch, err := alertmanager.New(alertmanager.Config{
		URLs:   []string{am.URL, replicas[1].URL, "http://127.0.0.1:1"}, // and a dead one
		Repeat: time.Second, Patience: patience, Labels: map[string]string{"source": "oncall"}, HTTP: config.DefaultHTTPClientConfig,
	}, notifier.Env{Log: slog.New(slog.DiscardHandler), HTTP: notifier.NewClient(10 * time.Second), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}

	r := notifiertest.Report()
	r.Priority, r.Onset = event.P3, time.Now().Add(-2*time.Minute).UTC().Truncate(time.Second)
	var th notifier.Thread
	send := func(update string) {
		t.Helper()
		if th, err = ch.Send(t.Context(), notifiertest.Notification(r, update), th); err != nil {
			t.Fatal(err)
		}
	}
	send("opened")
	for i, s := range replicas {
		eventually(t, fmt.Sprintf("the alert at replica %d", i), func() bool { return len(alerts(t, s)) == 1 })
	}
	first := alerts(t, am)[0]
	if first.Labels["alertname"] != "OncallIncident" || first.Labels["severity"] != "warning" || first.Labels["source"] != "oncall" ||
		!first.StartsAt.Equal(r.Onset) || first.Annotations["summary"] != r.Headline || first.Status.State == "suppressed" {
		t.Errorf("got %+v", first)
	}
	eventually(t, "a page", func() bool { return slices.Equal(p.pages(), []string{"firing OncallIncident warning checkout"}) })

	// Repeats keep it beyond the patience, and page nobody.
	steady := ch.(notifier.Steady)
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	repeated := make(chan struct{})
	go func() {
		defer close(repeated)
		tick := time.NewTicker(steady.Interval())
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			mu.Lock()
			open := []notifier.Case{{Notification: notifiertest.Notification(r, "updated"), Thread: th}}
			mu.Unlock()
			_ = steady.Repeat(ctx, open) // a replica is dead, and the others have it
		}
	}()
	t.Cleanup(func() { stop(); <-repeated })
	for started := time.Now(); time.Since(started) < patience+2*time.Second; <-time.After(500 * time.Millisecond) {
		if got := alerts(t, am); len(got) != 1 {
			t.Fatalf("after %v: got %d alerts, want the one", time.Since(started), len(got))
		}
	}
	if got := p.pages(); len(got) != 1 {
		t.Errorf("got pages %q, want one", got)
	}

	// Their silence, by a label of the workload's, mutes it there and here.
	silencer := ch.(notifier.Silencer)
	silenced := func(r event.Report) string {
		id, err := silencer.Silenced(t.Context(), notifier.Labels(r))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	var made struct{ SilenceID string }
	call(t, am, http.MethodPost, "/api/v2/silences", map[string]any{
		"matchers": []map[string]any{{"name": "deployment", "value": "check.*", "isRegex": true, "isEqual": true}, {"name": "severity", "value": "critical", "isRegex": false, "isEqual": false}},
		"startsAt": time.Now().UTC(), "endsAt": time.Now().Add(time.Hour).UTC(), "createdBy": "anna", "comment": "known",
	}, &made)
	call(t, replicas[1], http.MethodPost, "/api/v2/silences", map[string]any{
		"matchers": []map[string]any{{"name": "namespace", "value": "other", "isRegex": false, "isEqual": true}},
		"startsAt": time.Now().UTC(), "endsAt": time.Now().Add(time.Hour).UTC(), "createdBy": "anna", "comment": "another's",
	}, nil)
	eventually(t, "Alertmanager's own silence", func() bool {
		got := alerts(t, am)
		return len(got) == 1 && got[0].Status.State == "suppressed"
	})
	only, err := alertmanager.New(alertmanager.Config{URLs: []string{am.URL}, Repeat: time.Second, Patience: patience, HTTP: config.DefaultHTTPClientConfig},
		notifier.Env{Log: slog.New(slog.DiscardHandler), HTTP: notifier.NewClient(10 * time.Second), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	silencer = only.(notifier.Silencer)
	if got := silenced(r); got != made.SilenceID {
		t.Errorf("got silence %q, want %q", got, made.SilenceID)
	}
	worse := r
	worse.Priority = event.P1
	if got := silenced(worse); got != "" {
		t.Errorf("got silence %q for a critical one, which the silence leaves out", got)
	}

	// The severity rises: the silence no longer holds, and it pages as critical.
	mu.Lock()
	r = worse
	r.Revision++
	send("severity")
	mu.Unlock()
	eventually(t, "a critical page", func() bool { return slices.Contains(p.pages(), "firing OncallIncident critical checkout") })
	eventually(t, "the end of the alert as warning", func() bool {
		got := alerts(t, am)
		return len(got) == 1 && got[0].Labels["severity"] == "critical"
	})

	// It resolves.
	mu.Lock()
	r = notifiertest.Resolved(r)
	now := time.Now().UTC()
	r.ResolvedAt = &now
	send("resolved")
	mu.Unlock()
	stop()
	<-repeated
	eventually(t, "the end", func() bool {
		return slices.Contains(p.pages(), "resolved OncallIncident critical checkout") && len(alerts(t, am)) == 0
	})
	var firing int
	for _, s := range p.pages() {
		if strings.HasPrefix(s, "firing") {
			firing++
		}
	}
	if firing != 2 {
		t.Errorf("got pages %q, want one as warning and one as critical", p.pages())
	}
}

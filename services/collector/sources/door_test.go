package sources_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/obs"
	"github.com/oncall-copilot/oncall/pkg/policy"
	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/policies"
	"github.com/oncall-copilot/oncall/services/collector"
	_ "github.com/oncall-copilot/oncall/services/collector/sources"
)

// door is a server that stands for every kind of source at once, and lets in
// only who has the secret of the moment and names the tenant.
type door struct {
	mu      sync.Mutex
	secret  string
	refused int
	tenants map[string]bool
	hosts   map[string]bool
}

func (d *door) turn(secret string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secret = secret
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	user, password, basic := r.BasicAuth()
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	ok := basic && user == "oncall" && password == d.secret || !basic && bearer == d.secret
	if !ok || r.Header.Get("X-Scope-OrgID") == "" || r.Header.Get("X-Team") != "sre" {
		d.refused++
		d.mu.Unlock()
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	d.tenants[r.Header.Get("X-Scope-OrgID")] = true
	d.hosts[r.Host] = true
	d.mu.Unlock()
	answer := map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": []any{}}}
	switch {
	case strings.HasSuffix(r.URL.Path, "/loki/api/v1/query_range"):
		answer["data"] = map[string]any{"resultType": "streams", "result": []any{}}
	case strings.HasSuffix(r.URL.Path, "/api/v2/alerts"):
		_, _ = w.Write([]byte(`[]`))
		return
	case strings.HasSuffix(r.URL.Path, "/tail"):
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func newDoor() *door {
	return &door{secret: "first", tenants: map[string]bool{}, hosts: map[string]bool{}}
}

// build makes the sources of a collector's section as the service does it.
func build(t *testing.T, section string) []collector.Source {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(section), &doc); err != nil {
		t.Fatal(err)
	}
	checked, err := collector.Spec.Check("oncall.yaml", doc.Content[0])
	if err != nil {
		t.Fatal(err)
	}
	store, err := policy.NewStore(policies.FS)
	if err != nil {
		t.Fatal(err)
	}
	cfg := checked.(collector.Config)
	metrics := prometheus.NewRegistry() // shared, as in the service: several of a kind must not collide
	var out []collector.Source
	cfg.Each(func(kind string, one any) {
		info, _ := collector.Builtin.Lookup(kind)
		b, err := info.Build(one, collector.Env{
			Log: slog.New(slog.DiscardHandler), Metrics: metrics, Health: obs.NewHealth(time.Now), Policies: store, Now: time.Now,
			Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")}), Audit: func(event.Audit) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Sources {
			out = append(out, r.Source)
		}
	})
	return out
}

// running is a source with what it said last.
type running struct {
	name string
	said chan collector.Emission
}

func run(t *testing.T, sources []collector.Source) (out []running) {
	t.Helper()
	for _, s := range sources {
		r := running{s.Name(), make(chan collector.Emission, 1000)} // of less than a minute
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- s.Run(ctx, nil, func(_ context.Context, e collector.Emission) error { r.said <- e; return nil })
		}()
		t.Cleanup(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", r.name, err)
			}
		})
		out = append(out, r)
	}
	return out
}

// sees waits until the source has read something; from says since when.
func (r running) sees(t *testing.T, from time.Time, want bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case e := <-r.said:
			if e.Closed.Before(from) && want {
				continue
			}
			if (e.Blind == nil) == want {
				return
			}
		case <-deadline:
			t.Fatalf("%s: sight %v not within 30s", r.name, want)
		}
	}
}

func write(t *testing.T, path, s string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEverySourceGoesThroughTheSameDoor reads several of each kind behind TLS
// with a private authority, by basic auth and by bearer token, for a tenant;
// then both secrets are rotated.
func TestEverySourceGoesThroughTheSameDoor(t *testing.T) {
	d := newDoor()
	s := httptest.NewTLSServer(d)
	defer s.Close()
	dir := t.TempDir()
	ca := write(t, filepath.Join(dir, "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	password, token := write(t, filepath.Join(dir, "password"), "first"), write(t, filepath.Join(dir, "token"), "first\n")
	entry := func(name, tenant, auth, more string) string {
		return fmt.Sprintf("  - name: %s\n    url: %s/base\n    tenant: %s\n    headers: {X-Team: sre}\n    http:\n      tls_config: {ca_file: %s}\n      %s\n%s", name, s.URL, tenant, ca, auth, more)
	}
	basic := "basic_auth: {username: oncall, password_file: " + password + "}"
	bearer := "authorization: {credentials_file: " + token + "}"
	section := "patience: 1m\n"
	for kind, more := range map[string]string{
		"prometheus": "    step: 1s\n    delay: 1ms\n", "loki": "    window: 1s\n    delay: 1ms\n", "alertmanager": "    every: 1s\n",
	} {
		section += kind + ":\n" + entry(kind+"-basic", "eu", basic, more) + entry(kind+"-bearer", "us", bearer, more)
	}
	all := run(t, build(t, section))
	if len(all) != 6 {
		t.Fatalf("%d sources", len(all))
	}
	for _, r := range all {
		r.sees(t, time.Time{}, true)
	}
	d.turn("second")
	for _, r := range all {
		r.sees(t, time.Time{}, false)
	}
	write(t, password, "second")
	write(t, token, "second")
	for _, r := range all {
		r.sees(t, time.Time{}, true)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.tenants["eu"] || !d.tenants["us"] || d.refused == 0 {
		t.Errorf("tenants %v, refused %d", d.tenants, d.refused)
	}
}

func TestAnUnknownAuthorityIsBlindnessThatSaysSo(t *testing.T) {
	s := httptest.NewTLSServer(newDoor())
	defer s.Close()
	for _, r := range run(t, build(t, "prometheus: {url: "+s.URL+", step: 1s, delay: 1ms}\nloki: {url: "+s.URL+", window: 1s, delay: 1ms}\nalertmanager: {url: "+s.URL+", every: 1s}\n")) {
		deadline := time.After(30 * time.Second)
		for said := false; !said; {
			select {
			case e := <-r.said:
				if e.Blind == nil {
					continue
				}
				said = true
				if !strings.Contains(e.Blind.Reason, "certificate") {
					t.Errorf("%s: %q does not speak of the certificate", r.name, e.Blind.Reason)
				}
			case <-deadline:
				t.Fatalf("%s is not blind", r.name)
			}
		}
	}
}

func TestEverySourceGoesThroughAProxy(t *testing.T) {
	d := newDoor()
	proxy := httptest.NewServer(d) // who is asked for another host's address is a proxy
	defer proxy.Close()
	dir := t.TempDir()
	token := write(t, filepath.Join(dir, "token"), "first")
	section := ""
	for kind, more := range map[string]string{"prometheus": "step: 1s, delay: 1ms", "loki": "window: 1s, delay: 1ms", "alertmanager": "every: 1s"} {
		section += fmt.Sprintf("%s: {url: 'http://%s.invalid:9', tenant: t, headers: {X-Team: sre}, http: {proxy_url: '%s', authorization: {credentials_file: %s}}, %s}\n", kind, kind, proxy.URL, token, more)
	}
	for _, r := range run(t, build(t, section)) {
		r.sees(t, time.Time{}, true)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, kind := range []string{"prometheus", "loki", "alertmanager"} {
		if !d.hosts[kind+".invalid:9"] {
			t.Errorf("%s did not go through the proxy: %v", kind, d.hosts)
		}
	}
}

// TestTheQueryBudgetIsKept asks a source as often as it can and counts.
func TestTheQueryBudgetIsKept(t *testing.T) {
	d := newDoor()
	s := httptest.NewServer(d)
	defer s.Close()
	token := write(t, filepath.Join(t.TempDir(), "token"), "first")
	n := 0
	counting := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		n++
		d.mu.Unlock()
		d.ServeHTTP(w, r)
	})
	s.Config.Handler = counting
	began := time.Now()
	r := run(t, build(t, fmt.Sprintf("loki: {url: '%s', tenant: t, headers: {X-Team: sre}, max_query_qps: 5, window: 1s, delay: 1ms, tail: {off: true}, http: {authorization: {credentials_file: %s}}}\n", s.URL, token)))[0]
	for range 2 {
		r.sees(t, time.Time{}, true)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if most := 5 + int(5*time.Since(began).Seconds()) + 1; n == 0 || n > most {
		t.Errorf("%d requests in %v, at most %d are allowed", n, time.Since(began), most)
	}
}

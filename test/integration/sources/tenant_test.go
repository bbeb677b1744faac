//go:build e2e

package sources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/internal/pipeline"
	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/loki"
	"github.com/oncall-copilot/oncall/test/testbed"
)

const (
	ours   = "team-a"
	theirs = "team-b"
)

// tenants is a Loki that keeps the logs of tenants apart.
type tenants struct {
	*testbed.Server
	t *testing.T
}

// request asks Loki as a tenant, or as nobody, and returns the status.
func (l tenants) request(method, tenant, path string, body any) int {
	l.t.Helper()
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			l.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.URL+path, &b)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if tenant != "" {
		req.Header.Set("X-Scope-OrgID", tenant)
	}
	res, err := l.Client.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// write writes lines of one pod, which both tenants call the same.
func (l tenants) write(tenant string, lines ...string) {
	l.t.Helper()
	values := make([][2]string, len(lines))
	for i, line := range lines {
		values[i] = [2]string{strconv.FormatInt(time.Now().UnixNano()+int64(i), 10), line}
	}
	streams := []any{map[string]any{"stream": map[string]string{"namespace": "shop", "pod": "web-7d4b9c6f5-x2x8q"}, "values": values}}
	if code := l.request(http.MethodPost, tenant, "/loki/api/v1/push", map[string]any{"streams": streams}); code/100 != 2 {
		l.t.Fatalf("push as %s: %d", tenant, code)
	}
}

func (l tenants) source(tenant string) loki.Config {
	cfg := loki.Config{Window: time.Second, Delay: 2 * time.Second, Tail: loki.Tail{Least: time.Second}}
	cfg.URL, cfg.Tenant, cfg.Name = l.URL, tenant, "logs-"+tenant
	cfg.Fill()
	return cfg
}

// TestTheLogsOfAnotherTenantStayWithIt runs every service on one tenant of a
// Loki, while another's pod of the same name writes errors and nothing else.
func TestTheLogsOfAnotherTenantStayWithIt(t *testing.T) {
	server, err := bed(t).StartLoki(t.Context(), testbed.LokiConfig{Tenants: true})
	if err != nil {
		t.Fatal(err)
	}
	l := tenants{server, t}
	if code := l.request(http.MethodGet, "", "/loki/api/v1/labels", nil); code != http.StatusUnauthorized {
		t.Fatalf("Loki answers a request of no tenant with %d, so it keeps nothing apart", code)
	}
	cfg := service.DefaultConfig(pipeline.Services...)
	cfg.Obs.Listen = ""
	h, err := pipeline.Open(t.Context(), cfg, pipeline.Options{Data: t.TempDir(), MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	c := h.Config.Section("collector").(collector.Config)
	if err := c.Add("loki", l.source(ours)); err != nil {
		t.Fatal(err)
	}
	h.Config.SetSection("collector", c)
	// What theirs has is there to be read: a source of it reads it meanwhile.
	other, err := loki.New(l.source(theirs), env(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	read := emissions(t, other)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, pipeline.Services...) }()
	defer func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the pipeline ended with %v", err)
		}
	}()

	onTheBus := func(text string) (found bool) {
		t.Helper()
		if err := h.Bus.Read(t.Context(), event.Logs, bus.ReadOptions{}, func(m bus.Message) error {
			b, ok := m.Data.(event.LogBatch)
			if !ok {
				return nil
			}
			for _, s := range b.Streams {
				for _, line := range s.Lines {
					found = found || strings.Contains(line.Text, text)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	// A line of ours that was written after theirs and is read says that the
	// windows with theirs are behind us.
	n := 0
	within(t, "a line of our own tenant on the bus", func() bool {
		n++
		l.write(theirs, fmt.Sprintf("ERROR ledger %d is corrupt, giving up", n), fmt.Sprintf("panic: ledger %d", n))
		l.write(ours, fmt.Sprintf("INFO request %d served", n))
		return onTheBus("served")
	})
	l.write(theirs, "FATAL ledger is gone")
	l.write(ours, "INFO closing")
	within(t, "the last line of our own tenant on the bus", func() bool { return onTheBus("INFO closing") })
	until(t, "the last line of the other tenant, by a source of its own", read, func(e collector.Emission) bool {
		for _, o := range e.Events {
			for _, s := range o.Data().(event.LogBatch).Streams {
				for _, line := range s.Lines {
					if strings.Contains(line.Text, "FATAL ledger is gone") {
						return true
					}
				}
			}
		}
		return false
	})
	if onTheBus("ledger") {
		t.Error("a line of another tenant is on the bus")
	}
	if err := h.Bus.Read(t.Context(), event.Anomalies, bus.ReadOptions{}, func(m bus.Message) error {
		if a, ok := m.Data.(event.Anomaly); ok {
			t.Errorf("an anomaly of a tenant whose logs are calm: %s", a.Summary)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

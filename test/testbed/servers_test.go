//go:build e2e

package testbed

import (
	"testing"
)

// bed makes a bed of the test's own, and shows the logs of a failed one.
func bed(t *testing.T) *Bed {
	t.Helper()
	b, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestThreeNATSServersElectALeaderAndOneCanBeKilledAndRestarted(t *testing.T) {
	b := bed(t)
	c, err := b.StartNATS(t.Context(), NATSConfig{Servers: 3})
	if err != nil {
		t.Fatal(err)
	}
	c.Nodes[1].Kill()
	if err := c.Nodes[1].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPrometheusBehindALockedDoorRefusesStrangers(t *testing.T) {
	b := bed(t)
	a, err := b.Authority()
	if err != nil {
		t.Fatal(err)
	}
	door := Door{Authority: a, User: "oncall", Password: "secret"}
	p, err := b.StartPrometheus(t.Context(), PrometheusConfig{Door: door})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Query(t.Context(), "vector(1)"); err != nil {
		t.Error(err)
	}
	stranger, err := Door{Authority: a}.Client()
	if err != nil {
		t.Fatal(err)
	}
	res, err := stranger.Get(p.URL + "/api/v1/query?query=1")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("a stranger is answered %s, want 401", res.Status)
	}
}

func TestAlertmanagerBehindALockedDoorIsReady(t *testing.T) {
	b := bed(t)
	a, err := b.Authority()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.StartAlertmanager(t.Context(), AlertmanagerConfig{Door: Door{Authority: a, User: "oncall", Password: "secret"}}); err != nil {
		t.Fatal(err)
	}
}

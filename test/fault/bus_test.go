//go:build e2e

package fault

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
)

// TestAServiceWithoutItsBusIsNotReady is what a probe sees of faults 8 and 9.
func TestAServiceWithoutItsBusIsNotReady(t *testing.T) {
	t.Parallel()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	r := rigOn(t, s.ClientURL(), 1, short)
	r.start("correlator")
	eventually(t, 30*time.Second, "a service that is ready", func() bool { code, _ := r.ready("correlator"); return code == http.StatusOK })
	_ = s.Close()
	eventually(t, 15*time.Second, "a service that is not", func() bool {
		code, body := r.ready("correlator")
		return code == http.StatusServiceUnavailable && contains(body, `"bus"`) && contains(body, "NATS connection lost")
	})
	if !r.running["correlator"].alive() {
		t.Error("the service ended because its bus is away")
	}
}

// ready asks a service whether it is ready, as a probe does; 0 when it does not
// answer.
func (r *rig) ready(name string) (status int, body string) {
	resp, err := http.Get("http://" + r.metrics[name] + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

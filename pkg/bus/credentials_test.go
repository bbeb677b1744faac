package bus_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/oncall-copilot/oncall/pkg/bus"
)

// user makes an NKEY user and returns its seed and public key.
func user(t *testing.T) (seed []byte, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	if seed, err = pair.Seed(); err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return seed, public
}

func TestARotatedNKeyIsReadAgainAtReconnect(t *testing.T) {
	oldSeed, oldPublic := user(t)
	newSeed, newPublic := user(t)
	opts := server.Options{
		Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 2 << 30, JetStreamMaxMemory: 64 << 20,
		Nkeys: []*server.NkeyUser{{Nkey: oldPublic}},
	}
	s, err := server.NewServer(opts.Clone())
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("server not ready in 10s")
	}
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, oldSeed, 0o600); err != nil {
		t.Fatal(err)
	}
	states := make(chan bool, 16)
	cfg := bus.DefaultConfig()
	cfg.URL, cfg.NKey, cfg.MaxBytes = s.ClientURL(), file, 1<<30
	b, err := bus.Connect(t.Context(), cfg, bus.Settings{Name: "test", OnState: func(ready bool, _ string) { states <- ready }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if ready := <-states; !ready {
		t.Fatal("not ready after the first connect")
	}

	// The server learns of the new key first, as it may in a cluster: the old
	// key is refused a few times before the file follows.
	port := s.Addr().String()
	next := opts.Clone()
	next.Nkeys = []*server.NkeyUser{{Nkey: newPublic}}
	next.Port = -1
	if err := s.ReloadOptions(next); err != nil {
		t.Fatal(err)
	}
	if s.Addr().String() != port {
		t.Fatal("the reload moved the server")
	}
	wait := func(want bool, what string) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for ready := !want; ready != want; { // refused is said apart from lost
			select {
			case ready = <-states:
			case <-deadline:
				t.Fatalf("%s: not within 30s", what)
			}
		}
	}
	wait(false, "the old key is thrown out")
	attempts := func() uint64 {
		v, err := s.Varz(nil)
		if err != nil {
			t.Fatal(err)
		}
		return v.TotalConnections
	}
	before := attempts()
	eventually(t, "three attempts with the old key", func() bool { return attempts() >= before+3 })
	if err := os.WriteFile(file, newSeed, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(true, "the new key is let in")
	if b.Conn().IsClosed() {
		t.Error("the connection was given up")
	}
}

func TestANKeyFileThatIsNoneIsRefusedWithItsName(t *testing.T) {
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"an empty file":      nil,
		"text":               []byte("not a seed\n"),
		"an account's seed":  seed,
		"a seed cut in half": seed[:20],
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "seed")
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := bus.DefaultConfig()
			cfg.URL, cfg.NKey = "nats://127.0.0.1:1", file
			_, err := bus.Connect(t.Context(), cfg, bus.Settings{Name: "test"})
			if err == nil {
				t.Fatal("connected")
			}
			if got := err.Error(); !strings.Contains(got, file) {
				t.Errorf("error %q does not name %s", got, file)
			}
		})
	}
}

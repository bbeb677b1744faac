//go:build e2e

package deploy_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/test/testbed"
)

// secret writes a Secret as the kubelet does: another folder, and a link that is
// exchanged at once.
func secret(t *testing.T, dir string, content map[string][]byte) {
	t.Helper()
	version := fmt.Sprintf("..%d", time.Now().UnixNano())
	for name, b := range content {
		write(t, filepath.Join(dir, version, name), string(b))
	}
	next := filepath.Join(dir, "..next")
	if err := os.Symlink(version, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	for name := range content {
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
}

// certificate is what cert-manager or oncall bus keys put into nats-tls.
func certificate(t *testing.T) (access.Certificate, map[string][]byte) {
	t.Helper()
	c, err := access.NewCertificate(access.ServerNames("oncall", 3), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c, map[string][]byte{"ca.crt": c.CA, "tls.crt": c.Cert, "tls.key": c.Key}
}

// reloader runs the shipped script beside a server, as the container reload does.
type reloader struct {
	bin, dir string
	log      *bytes.Buffer
	cmd      *exec.Cmd
}

func (r *reloader) start(t *testing.T) {
	t.Helper()
	r.log = new(bytes.Buffer)
	r.cmd = exec.Command("sh", "kustomize/overlays/prod/reload.sh")
	r.cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(r.bin)+":"+os.Getenv("PATH"), "TLS_DIR="+filepath.Join(r.dir, "nats-tls"), "PID_FILE="+filepath.Join(r.dir, "nats.pid"), "EVERY=0.2")
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// stop ends the script and whatever it runs, and returns what it said.
func (r *reloader) stop() string {
	if r.cmd == nil {
		return ""
	}
	_ = syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
	_ = r.cmd.Wait()
	r.cmd = nil
	return r.log.String()
}

// TestTheShippedScriptHasARealServerTakeARenewedCertificate runs nats-server as a
// process under production's configuration, with the script beside it.
func TestTheShippedScriptHasARealServerTakeARenewedCertificate(t *testing.T) {
	bin, err := testbed.Program(t.Context(), "nats-server", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{dir: t.TempDir(), seen: &witness{}}
	writeKeys(t, r)
	dir := filepath.Join(r.dir, "nats-tls")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, files := certificate(t)
	secret(t, dir, files)
	port := freePorts(t, 1)[0]
	pid := filepath.Join(r.dir, "nats.pid")
	conf := fmt.Sprintf("pid_file: %q\n", pid) + strings.Replace(alone(t, r.dir), "port: -1", fmt.Sprintf("port: %d", port), 1)
	file := filepath.Join(r.dir, "nats", "nats.conf")
	write(t, file, conf)
	bed, err := testbed.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bed.Close)
	script := &reloader{bin: bin, dir: r.dir}
	script.start(t) // before the server: it has to wait for its pid
	t.Cleanup(func() { t.Logf("the script said: %s", script.stop()) })
	server, err := bed.Launch("nats-server", nil, bin, "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, "that the server listens", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	r.url = "tls://" + addr
	r.connect(t, "streams", "streams", true)

	// A connection that has to last, and what it has stored.
	option, err := nats.NkeyOptionFromSeed(r.seed("collector"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(r.url, option, nats.RootCAs(r.ca()), nats.CustomInboxPrefix("_INBOX_collector"), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stored := uint64(0)
	store := func(when string) {
		t.Helper()
		ack, err := js.Publish(t.Context(), "audit.collector", []byte("{}"))
		if err != nil {
			t.Fatalf("%s: the connection does not work: %v\n%s", when, err, server.Tail(20))
		}
		if stored++; ack.Sequence != stored {
			t.Errorf("%s: stored at %d, want %d", when, ack.Sequence, stored)
		}
	}
	store("at first")

	shows := func(want access.Certificate) func() bool {
		pair, err := tls.X509KeyPair(want.Cert, want.Key)
		if err != nil {
			t.Fatal(err)
		}
		return func() bool {
			option, err := nats.NkeyOptionFromSeed(r.seed("reader"))
			if err != nil {
				t.Fatal(err)
			}
			// Under the new authority, which did not sign the old certificate.
			other, err := nats.Connect(r.url, option, nats.RootCAs(r.ca()), nats.CustomInboxPrefix("_INBOX_reader"))
			if err != nil {
				return false
			}
			defer other.Close()
			state, err := other.TLSConnectionState()
			return err == nil && bytes.Equal(state.PeerCertificates[0].Raw, pair.Certificate[0])
		}
	}
	second, files := certificate(t)
	secret(t, dir, files)
	eventually(t, "that the renewed certificate is shown", shows(second))
	store("after it was renewed")

	// The script is away, as in a restart of its container, when it changes again.
	script.stop()
	third, files := certificate(t)
	secret(t, dir, files)
	script.start(t)
	eventually(t, "that what changed meanwhile is shown", shows(third))
	store("after the script was away")

	// A key that is another's: the server says so and keeps what it has.
	fourth, files := certificate(t)
	_, others := certificate(t)
	secret(t, dir, map[string][]byte{"ca.crt": third.CA, "tls.crt": third.Cert, "tls.key": others["tls.key"]})
	eventually(t, "that the server refuses a key that is not its own", func() bool {
		return strings.Contains(server.Tail(200), "private key does not match public key")
	})
	if !shows(third)() {
		t.Error("the server does not show what it had")
	}
	store("with a key that is not its own")
	secret(t, dir, files)
	eventually(t, "that a whole pair is taken after a broken one", shows(fourth))
	store("at last")
}

// TestWhatIsShippedAsAScriptIsSound asks shellcheck.
func TestWhatIsShippedAsAScriptIsSound(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed; on Debian: apt-get install shellcheck")
	}
	out, err := exec.CommandContext(t.Context(), "shellcheck", "kustomize/overlays/prod/reload.sh", "tilt-run.sh").CombinedOutput()
	if err != nil {
		t.Errorf("shellcheck: %v: %s", err, out)
	}
}

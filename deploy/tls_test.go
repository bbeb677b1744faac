package deploy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/access"
	"github.com/oncall-copilot/oncall/pkg/event"
)

func TestTheBusOfProductionIsReadByNobodyOnTheWay(t *testing.T) {
	r := newRig(t)
	r.connect(t, "streams", "streams", true)

	t.Run("a client that trusts another authority does not connect", func(t *testing.T) {
		other := &rig{dir: t.TempDir()}
		other.certify(t)
		cfg := bus.DefaultConfig()
		cfg.URL, cfg.NKey, cfg.TLS.CA, cfg.ManageStreams = r.url, r.seed("reader"), other.ca(), false
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b, err := bus.Connect(ctx, cfg, bus.Settings{Name: "reader"})
		if err == nil {
			_ = b.Close()
			t.Fatal("connected")
		}
		if !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%v: does not say that it is the certificate", err)
		}
	})
	t.Run("a client that forgot the authority does not connect", func(t *testing.T) {
		option, err := nats.NkeyOptionFromSeed(r.seed("reader"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = nats.Connect(r.url, option)
		var unknown x509.UnknownAuthorityError
		if !errors.As(err, &unknown) {
			t.Errorf("%v, want that the authority is unknown", err)
		}
	})
	t.Run("in clear the server says what it is and nothing more", func(t *testing.T) {
		conn := dial(t, r.url)
		in := bufio.NewReader(conn)
		info, err := in.ReadString('\n')
		if err != nil || !strings.Contains(info, `"tls_required":true`) {
			t.Fatalf("%q, %v: does not ask for TLS", info, err)
		}
		if _, err := conn.Write([]byte("CONNECT {\"verbose\":false}\r\nPING\r\n")); err != nil {
			t.Fatal(err)
		}
		if line, err := in.ReadString('\n'); strings.HasPrefix(line, "PONG") || err == nil && !strings.HasPrefix(line, "-ERR") {
			t.Errorf("answered %q", line)
		}
	})
	t.Run("nothing below TLS 1.3 is spoken", func(t *testing.T) {
		_, err := nats.Connect(r.url, nats.Secure(&tls.Config{MaxVersion: tls.VersionTLS12, RootCAs: pool(t, r.ca())}))
		if err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("TLS 1.2: %v", err)
		}
	})
}

func TestARenewedCertificateIsTakenWithoutARestart(t *testing.T) {
	r := newRig(t)
	r.connect(t, "streams", "streams", true)
	old := serial(t, r)
	b := r.connect(t, "reader", "oncall", false)
	made := r.certify(t)
	// The client that is connected stays so; reload.sh does this with a signal.
	if err := r.server.Reload(); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(made.Cert)
	want, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := serial(t, r); got != want.SerialNumber.String() || got == old {
		t.Errorf("certificate %s is shown, want the new one, %s", got, want.SerialNumber)
	}
	// Its connection is cut; what it verifies against it reads anew.
	conns, err := r.server.Connz(nil)
	if err != nil {
		t.Fatal(err)
	}
	before := map[uint64]bool{}
	for _, c := range conns.Conns {
		before[c.Cid] = true
		_ = r.server.DisconnectClientByID(c.Cid) // fails for one that has just gone by itself
	}
	eventually(t, "that the client is back under the new authority", func() bool {
		conns, err := r.server.Connz(nil)
		return err == nil && slices.ContainsFunc(conns.Conns, func(c *server.ConnInfo) bool {
			return !before[c.Cid] && c.TLSVersion == "1.3" && strings.HasSuffix(c.Name, "oncall")
		})
	})
	if _, err := b.Last(t.Context(), event.Metrics); err != nil {
		t.Error(err)
	}
}

// serial is the number of the certificate that the server shows.
func serial(t *testing.T, r *rig) string {
	t.Helper()
	option, err := nats.NkeyOptionFromSeed(r.seed("reader"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(r.url, option, nats.RootCAs(r.ca()))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	state, err := nc.TLSConnectionState()
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].SerialNumber.String()
}

// dial opens a plain connection to where a URL leads.
func dial(t *testing.T, raw string) net.Conn {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// pool holds the authorities of a file.
func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		t.Fatalf("%s holds no certificate", file)
	}
	return p
}

// TestTheCertificateNamesWhatIsConnectedTo keeps three lists equal: what clients
// and servers connect to, what oncall bus keys certifies, and what cert-manager
// is asked for.
func TestTheCertificateNamesWhatIsConnectedTo(t *testing.T) {
	names := access.ServerNames("oncall", 3)
	b, err := os.ReadFile("kustomize/components/cert-manager/certificate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, b)[0]
	if c.at("spec", "secretName") != "nats-tls" {
		t.Errorf("cert-manager writes the Secret %v", c.at("spec", "secretName"))
	}
	asked := append(strs(c.at("spec", "dnsNames")), strs(c.at("spec", "ipAddresses"))...)
	slices.Sort(asked)
	slices.Sort(names)
	if !slices.Equal(asked, names) {
		t.Errorf("cert-manager is asked for %q, oncall bus keys certifies %q", asked, names)
	}
	for _, overlay := range overlays {
		for line := range strings.Lines(string(configuration(t, overlay))) {
			field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if field != "url" || !strings.HasPrefix(value, "tls:") {
				continue
			}
			u, err := url.Parse(value)
			if err != nil || !slices.Contains(names, u.Hostname()) {
				t.Errorf("%s connects to %s, which is not certified; %v", overlay, value, err)
			}
		}
	}
	for n := range 3 {
		if !slices.Contains(names, fmt.Sprintf("nats-%d.nats", n)) {
			t.Errorf("server %d is not certified by the name that oncall bus keys has the others call it by", n)
		}
	}
}

// TestTheKeyOfTheServersIsMountedNowhereElse keeps what signs for the servers out
// of the services.
func TestTheKeyOfTheServersIsMountedNowhereElse(t *testing.T) {
	pods(t, func(t *testing.T, _ string, _ []object, o, spec object) {
		for _, v := range spec.list("volumes") {
			if v.at("secret", "secretName") != "nats-tls" || o.name() == "nats" {
				continue
			}
			items := v.list("secret", "items")
			if len(items) != 1 || items[0].at("key") != "ca.crt" {
				t.Errorf("mounts %v of nats-tls, want ca.crt alone", items)
			}
		}
	})
}

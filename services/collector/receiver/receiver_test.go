package receiver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// start runs a receiver and returns its base address.
func start(t *testing.T, cfg Config, h Handler) string {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	cfg.Fill()
	if err := cfg.Validate(""); err != nil {
		t.Fatal(err)
	}
	r := New(cfg, Settings{Source: "test", Path: "/in", Handle: h, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	addr, err := r.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS.CertFile != "" {
		return "https://" + addr.String() + "/in"
	}
	return "http://" + addr.String() + "/in"
}

func post(t *testing.T, c *http.Client, address, body string, auth func(*http.Request)) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if auth != nil {
		auth(req)
	}
	res, err := c.Do(req)
	if err == nil {
		_ = res.Body.Close()
	}
	return res, err
}

func write(t *testing.T, path, s string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOnlyWhoShowsTheSecretIsHeardAndTheSecretCanBeRotated(t *testing.T) {
	dir := t.TempDir()
	token, password := write(t, filepath.Join(dir, "token"), "one\n"), write(t, filepath.Join(dir, "password"), "pw")
	heard := 0
	address := start(t, Config{BearerTokenFile: token, BasicAuth: BasicAuth{"prom", password}}, func(context.Context, http.Header, []byte, http.Header) error {
		heard++
		return nil
	})
	bearer := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s) }
	}
	basic := func(u, p string) func(*http.Request) { return func(r *http.Request) { r.SetBasicAuth(u, p) } }
	check := func(name string, auth func(*http.Request), want int) {
		t.Helper()
		res, err := post(t, http.DefaultClient, address, "x", auth)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", name, res.StatusCode, want)
		}
	}
	check("the token", bearer("one"), 204)
	check("user and password", basic("prom", "pw"), 204)
	check("nothing", nil, 401)
	check("another token", bearer("two"), 401)
	check("an empty token", bearer(""), 401)
	check("another user", basic("root", "pw"), 401)
	check("another password", basic("prom", "one"), 401)
	write(t, token, "two")
	check("the new token", bearer("two"), 204)
	check("the old token", bearer("one"), 401)
	write(t, token, "\n")
	check("an empty file lets nobody in", bearer(""), 503)
	if heard != 3 {
		t.Errorf("heard %d times, want 3", heard)
	}
}

func TestBodiesAndCrowdsAreBounded(t *testing.T) {
	token := write(t, filepath.Join(t.TempDir(), "token"), "one")
	inside, leave := make(chan struct{}, 1), make(chan struct{})
	address := start(t, Config{BearerTokenFile: token, MaxBodyBytes: 1 << 10, MaxInFlight: 1}, func(_ context.Context, _ http.Header, body []byte, answer http.Header) error {
		switch string(body) {
		case "wait":
			inside <- struct{}{}
			<-leave
		case "bad":
			return &Refusal{Status: 415, Text: "not that"}
		case "broken":
			return errors.New("bus is away")
		}
		answer.Set("X-Written", "1")
		return nil
	})
	auth := func(r *http.Request) { r.Header.Set("Authorization", "Bearer one") }
	check := func(body string, want int) *http.Response {
		t.Helper()
		res, err := post(t, http.DefaultClient, address, body, auth)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Errorf("%.10q: %d, want %d", body, res.StatusCode, want)
		}
		return res
	}
	if res := check("fine", 204); res.Header.Get("X-Written") != "1" {
		t.Error("the handler's header is lost")
	}
	check(strings.Repeat("x", 2<<10), 413)
	check("bad", 415)
	if res := check("broken", 503); res.Header.Get("Retry-After") == "" {
		t.Error("a failure does not say when to come again")
	}
	done := make(chan struct{})
	go func() { defer close(done); check("wait", 204) }()
	<-inside
	check("fine", 503)
	close(leave)
	<-done
	if res, err := http.Get(address); err != nil || res.StatusCode != 405 {
		t.Errorf("GET: %v %v, want 405", res, err)
	} else {
		_ = res.Body.Close()
	}
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{}
	a.key, a.cert = issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, authority{})
	return a
}

func issue(t *testing.T, c *x509.Certificate, by authority) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := by.cert, by.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func (a authority) files(t *testing.T, dir, name string, usage x509.ExtKeyUsage) (cert, key string) {
	t.Helper()
	k, c := issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{usage}}, a)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(dir, name+".crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))),
		write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

func TestAClientCertificateIsAsGoodAsATokenAndTheServersIsReadAgain(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	cert, key := ca.files(t, dir, "server", x509.ExtKeyUsageServerAuth)
	clientCert, clientKey := ca.files(t, dir, "client", x509.ExtKeyUsageClientAuth)
	caFile := write(t, filepath.Join(dir, "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})))
	address := start(t, Config{TLS: TLS{cert, key, caFile}}, func(context.Context, http.Header, []byte, http.Header) error { return nil })
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	client := func(certs ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}, DisableKeepAlives: true}}
	}
	first, err := post(t, client(pair), address, "x", nil)
	if err != nil || first.StatusCode != 204 {
		t.Fatalf("with a certificate: %v %v", first, err)
	}
	if res, err := post(t, client(), address, "x", nil); err == nil {
		t.Errorf("without a certificate: %d", res.StatusCode)
	}
	ca.files(t, dir, "server", x509.ExtKeyUsageServerAuth)
	second, err := post(t, client(pair), address, "x", nil)
	if err != nil || second.StatusCode != 204 {
		t.Fatalf("after renewal: %v %v", second, err)
	}
	if first.TLS.PeerCertificates[0].Equal(second.TLS.PeerCertificates[0]) {
		t.Error("the renewed certificate is not shown")
	}
}

func TestNobodyListensWithoutCredentials(t *testing.T) {
	for want, c := range map[string]Config{
		"bearer_token_file: is missing": {Listen: ":9099"},
		"basic_auth: prom has only one": {Listen: ":9099", BasicAuth: BasicAuth{Username: "prom"}},
		"tls: needs cert_file and key":  {Listen: ":9099", TLS: TLS{ClientCAFile: "ca"}},
		"max_body_bytes: 1 is not":      {Listen: ":9099", BearerTokenFile: "f", MaxBodyBytes: 1},
	} {
		c.Fill()
		if err := c.Validate(""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if err := (&Config{}).Validate(""); err != nil {
		t.Errorf("a receiver that does not listen: %v", err)
	}
}

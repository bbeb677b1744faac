package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/config"

	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// certificate signs itself, for 127.0.0.1.
func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "loopback"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestACAAndATokenThatWereReplacedAreReadAgain(t *testing.T) {
	oldCert, oldCA := certificate(t)
	newCert, newCA := certificate(t)
	current, want := &oldCert, "Bearer old"
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != want {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*current}}, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	ca, token := filepath.Join(t.TempDir(), "ca.crt"), filepath.Join(t.TempDir(), "token")
	put := func(file string, content []byte) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(ca, oldCA)
	put(token, []byte("old"))
	cfg := upstream.DefaultConfig("prometheus")
	cfg.URL = s.URL
	cfg.HTTP.TLSConfig.CAFile = ca
	cfg.HTTP.Authorization = &config.Authorization{Type: "Bearer", CredentialsFile: token}
	c, err := upstream.New(cfg, upstream.Settings{Service: "test", Source: "prometheus"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		_, err := c.Get(t.Context(), "/", nil, upstream.Query{Operation: "query"})
		return err
	}
	if err := ask(); err != nil {
		t.Fatalf("with the first files: %v", err)
	}
	current, want = &newCert, "Bearer new"
	s.CloseClientConnections()
	if err := ask(); err == nil {
		t.Fatal("the old CA is taken for the new certificate")
	}
	put(ca, newCA)
	put(token, []byte("new"))
	if err := ask(); err != nil {
		t.Errorf("after both files were replaced: %v", err)
	}
}

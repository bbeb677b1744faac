package testbed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// Authority is a certificate authority of the bed.
type Authority struct {
	CAFile string // its certificate, for clients

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Authority makes a certificate authority whose files lie in the bed.
func (b *Bed) Authority() (*Authority, error) {
	dir, err := b.dir("certificates")
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "testbed"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if t, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a := &Authority{CAFile: filepath.Join(dir, "ca.pem"), dir: dir, cert: t, key: key}
	return a, writePEM(a.CAFile, "CERTIFICATE", der)
}

// Issue makes a certificate of a server on the loopback.
func (a *Authority) Issue(name string) (certFile, keyFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+"-key.pem")
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return "", "", err
	}
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	return certFile, keyFile, writePEM(keyFile, "PRIVATE KEY", b)
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// Door is how a server lets clients in: by TLS, with a password. The zero
// value lets everybody in over plain HTTP.
type Door struct {
	Authority *Authority
	User      string
	Password  string
}

// Locked says whether the door asks for anything.
func (d Door) Locked() bool { return d.Authority != nil }

// Client is an HTTP client that comes through the door.
func (d Door) Client() (*http.Client, error) {
	if !d.Locked() {
		return &http.Client{Timeout: 10 * time.Second}, nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(d.Authority.cert)
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return &http.Client{Timeout: 10 * time.Second, Transport: withPassword{t, d}}, nil
}

type withPassword struct {
	next http.RoundTripper
	door Door
}

func (w withPassword) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if w.door.User != "" {
		r.SetBasicAuth(w.door.User, w.door.Password)
	}
	return w.next.RoundTrip(r)
}

// Guard puts a door in front of a server that has none: a proxy with TLS and
// basic authentication. It returns the door's URL.
func (b *Bed) Guard(name, target string, d Door) (string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	cert, key, err := d.Authority.Issue(name)
	if err != nil {
		return "", err
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(user+"\x00"+password), []byte(d.User+"\x00"+d.Password)) != 1 {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "the door is locked", http.StatusUnauthorized)
			return
		}
		r.Header.Del("Authorization")
		proxy.ServeHTTP(w, r)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("guard of %s: %w", name, err)
	}
	logs, err := b.dir("log")
	if err != nil {
		return "", err
	}
	f, err := os.Create(filepath.Join(logs, name+"-door.log"))
	if err != nil {
		return "", err
	}
	proxy.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(f, nil), slog.LevelInfo)
	s := &http.Server{Handler: h, ErrorLog: proxy.ErrorLog}
	done := make(chan struct{})
	go func() {
		_ = s.ServeTLS(l, cert, key)
		close(done)
	}()
	b.OnClose(func() {
		_ = s.Close()
		<-done
		_ = f.Close()
	})
	return "https://" + l.Addr().String(), nil
}

// Serve runs a handler of the test's own on a free port until the bed is
// closed, and returns its address.
func (b *Bed) Serve(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		_ = s.Serve(l)
		close(done)
	}()
	b.OnClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		_ = s.Close()
		<-done
	})
	return l.Addr().String(), nil
}

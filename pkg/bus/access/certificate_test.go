package access

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"
)

func TestACertificateIsGoodForItsNamesItsTimeAndBothSides(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	c, err := NewCertificate(ServerNames("night-watch", 3), now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		t.Fatal("the authority is not in PEM")
	}
	other, err := NewCertificate([]string{"nats"}, now)
	if err != nil {
		t.Fatal(err)
	}
	strangers := x509.NewCertPool()
	strangers.AppendCertsFromPEM(other.CA)
	for _, test := range []struct {
		name  string
		host  string
		at    time.Time
		usage x509.ExtKeyUsage
		roots *x509.CertPool
		good  bool
	}{
		{"a client by the service's name", "nats", now, x509.ExtKeyUsageServerAuth, roots, true},
		{"a client of another namespace", "nats.night-watch.svc", now, x509.ExtKeyUsageServerAuth, roots, true},
		{"a server by another's own name", "nats-2.nats", now, x509.ExtKeyUsageServerAuth, roots, true},
		{"a server that is asked who it is", "", now, x509.ExtKeyUsageClientAuth, roots, true},
		{"a forwarded port", "127.0.0.1", now, x509.ExtKeyUsageServerAuth, roots, true},
		{"years later", "nats", now.Add(9 * 365 * 24 * time.Hour), x509.ExtKeyUsageServerAuth, roots, true},
		{"a clock that is half an hour behind", "nats", now.Add(-30 * time.Minute), x509.ExtKeyUsageServerAuth, roots, true},
		{"a name that is not theirs", "prometheus", now, x509.ExtKeyUsageServerAuth, roots, false},
		{"after its end", "nats", now.Add(Lifetime + time.Minute), x509.ExtKeyUsageServerAuth, roots, false},
		{"code signing", "", now, x509.ExtKeyUsageCodeSigning, roots, false},
		{"the authority of another call", "nats", now, x509.ExtKeyUsageServerAuth, strangers, false},
	} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: test.roots, DNSName: test.host, CurrentTime: test.at, KeyUsages: []x509.ExtKeyUsage{test.usage}})
		if (err == nil) != test.good {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

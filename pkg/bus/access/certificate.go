package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// Certificate is what encrypts the bus, in PEM.
type Certificate struct {
	// CA is what clients verify servers against, and servers one another.
	CA []byte
	// Cert and Key are the servers', one pair for all of them.
	Cert, Key []byte
}

// Lifetime is how long a [Certificate] is valid. It is no shorter than that of
// the keys beside it, which never end: what nobody renews must not stop the bus.
const Lifetime = 10 * 365 * 24 * time.Hour

// ServerNames are the names that NATS servers of a namespace are reached by: by
// clients, by one another, and through a forwarded port.
func ServerNames(namespace string, servers int) []string {
	names := []string{"localhost", "127.0.0.1", "nats", "nats." + namespace, "nats." + namespace + ".svc", "nats." + namespace + ".svc.cluster.local"}
	for n := range servers {
		names = append(names, fmt.Sprintf("nats-%d.nats", n), fmt.Sprintf("nats-%d.nats.%s.svc", n, namespace))
	}
	return names
}

// NewCertificate makes a certificate for servers of these names or addresses,
// signed by an authority of its own whose key is forgotten at once: nobody can
// sign another.
func NewCertificate(names []string, now time.Time) (Certificate, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, fmt.Errorf("make key of the authority: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "oncall bus " + now.UTC().Format(time.RFC3339)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(Lifetime), // an hour for clocks that disagree
		IsCA: true, MaxPathLenZero: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return Certificate{}, fmt.Errorf("sign the authority: %w", err)
	}
	// Read back: with it comes the key id that the leaf names its issuer by.
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return Certificate{}, fmt.Errorf("read the authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, fmt.Errorf("make key of the servers: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: "nats"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		// Servers are clients of one another.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return Certificate{}, fmt.Errorf("sign the servers' certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Certificate{}, fmt.Errorf("write key of the servers: %w", err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return Certificate{CA: block("CERTIFICATE", caDER), Cert: block("CERTIFICATE", der), Key: block("PRIVATE KEY", private)}, nil
}

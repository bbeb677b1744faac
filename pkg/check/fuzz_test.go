package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/rule"
)

// FuzzReadRefusal: whatever an API server is said to have answered, the title is
// one line, and what is to be checked next only reads, in one command.
func FuzzReadRefusal(f *testing.F) {
	for _, s := range []string{
		`pods "web-7d4b9c6f5-" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4`,
		`admission webhook "pods.example.com" denied the request: no owner`,
		`pods "web" is forbidden: ValidatingAdmissionPolicy 'no-latest' with binding 'all' denied request: no tag`,
		`exceeded quota: $(reboot), requested: pods=1, used: pods=4, limited: pods=4`,
		`ValidatingAdmissionPolicy 'x; rm -rf /' with binding 'b' denied request: y`,
		`forbidden: [maximum memory usage per Container is 1Gi, but limit is 2Gi]`,
		`error looking up service account shop/web: serviceaccount "web" not found`, "", "\x00\n\xff",
	} {
		f.Add("shop", s)
	}
	f.Fuzz(func(t *testing.T, namespace, message string) {
		if event.Token(namespace) != namespace {
			return // the API server takes no such name
		}
		title, next := readRefusal(event.Entity{Namespace: namespace, Kind: "Deployment", Name: "web"}, message)
		if title == "" || strings.ContainsAny(title, "\n\r") || utf8.RuneCountInString(title) > 200 {
			t.Errorf("%q gets the title %q", message, title)
		}
		if err := rule.ReadOnly(next.Command); err != nil {
			t.Errorf("%q gets the next check %q: %v", message, next.Command, err)
		}
	})
}

// FuzzExpiry: whatever a bundle of certificates holds, no end is told without a
// certificate.
func FuzzExpiry(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if ends, n := expiry(append(one, one...)); n != 2 || !ends.Equal(cert.NotAfter) {
		f.Fatalf("two certificates are read as %d that end at %v", n, ends)
	}
	f.Add(one)
	f.Add(append([]byte("words before\n"), one...))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("none")}))
	f.Add([]byte("-----BEGIN CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ends, n := expiry(b); n == 0 && !ends.IsZero() {
			t.Errorf("no certificate ends at %v", ends)
		}
	})
}

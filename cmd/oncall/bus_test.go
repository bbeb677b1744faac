package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	"go.yaml.in/yaml/v3"

	"github.com/oncall-copilot/oncall/pkg/bus/access"
)

func TestTheCertificateIsASecretThatTheServersCanUse(t *testing.T) {
	var out bytes.Buffer
	if err := writeCertificate(&out, "night-watch"); err != nil {
		t.Fatal(err)
	}
	s := secrets(t, &out)["nats-tls"]
	pair, err := tls.X509KeyPair([]byte(s["tls.crt"]), []byte(s["tls.key"]))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(s["ca.crt"])) {
		t.Fatalf("ca.crt is %q", s["ca.crt"])
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "nats-2.nats"}); err != nil {
		t.Error(err)
	}
}

// secrets reads the Secrets of a namespace, by name.
func secrets(t *testing.T, r io.Reader) map[string]map[string]string {
	t.Helper()
	secrets := map[string]map[string]string{}
	for dec := yaml.NewDecoder(r); ; {
		var s struct {
			Kind       string
			Metadata   struct{ Name, Namespace string }
			StringData map[string]string `yaml:"stringData"`
		}
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if s.Kind == "" {
			continue // after the last separator
		}
		if s.Kind != "Secret" || s.Metadata.Namespace != "night-watch" {
			t.Errorf("%s %s is in namespace %s", s.Kind, s.Metadata.Name, s.Metadata.Namespace)
		}
		secrets[s.Metadata.Name] = s.StringData
	}
	return secrets
}

func TestKeysOfEveryIdentityFitWhatTheServersGet(t *testing.T) {
	var out bytes.Buffer
	if err := writeKeys(&out, "night-watch"); err != nil {
		t.Fatal(err)
	}
	secrets := secrets(t, &out)
	for _, i := range access.Identities() {
		pair, err := nkeys.FromSeed([]byte(secrets["nats-"+i.Name]["seed"]))
		if err != nil {
			t.Errorf("seed of %s: %v", i.Name, err)
			continue
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if want := i.Variable() + `: "` + public + `"`; !strings.Contains(secrets["nats-keys"]["keys.conf"], want) {
			t.Errorf("the servers do not get %s", want)
		}
	}
	if routes := secrets["nats-keys"]["routes.conf"]; strings.Count(routes, "nats://route:") != servers || !strings.Contains(routes, "nats-2.nats:6222") {
		t.Errorf("routes.conf is %q", routes)
	}
}

package kube

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"k8s.io/client-go/rest"
)

func TestServingSaysWhatIsNotReadyAndWhenTheCertificateEnds(t *testing.T) {
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		if asked > 3 {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte("[+]ping ok\n[-]etcd failed: reason withheld\n[-]informer-sync failed: reason withheld\nreadyz check failed\n"))
		}
	}))
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if !x509.NewCertPool().AppendCertsFromPEM(ca) {
		t.Fatal("no certificate")
	}
	c, err := NewForConfig(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Serving(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.NotReady) != 0 || !s.Ends.Equal(server.Certificate().NotAfter) || s.Took <= 0 || asked != 3 {
		t.Errorf("of a server that is ready: %+v after %d requests", s, asked)
	}
	if s, err = c.Serving(context.Background()); err != nil || !slices.Equal(s.NotReady, []string{"etcd", "informer-sync"}) {
		t.Errorf("of a server that is not: %+v, %v", s, err)
	}
	server.Close()
	if _, err := c.Serving(context.Background()); err == nil {
		t.Error("no error of a server that is gone")
	}
}

package kube

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
)

// bearer is an API server that takes one token.
type bearer struct{ valid string }

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(`{"gitVersion":"v1.37.2"}`)), Request: r}
	if r.Header.Get("Authorization") != "Bearer "+b.valid {
		res.StatusCode = http.StatusUnauthorized
	}
	return res, nil
}

// TestATokenThatWasReplacedIsReadAgainWithinAMinute is about projected tokens:
// the kubelet writes the next one long before the present one expires.
func TestATokenThatWasReplacedIsReadAgainWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "token")
		put := func(content string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put("old")
		server := &bearer{valid: "old"}
		c, err := NewForConfig(&rest.Config{Host: "https://api", BearerTokenFile: file, Transport: server}, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Version(t.Context()); err != nil {
			t.Fatalf("with the first token: %v", err)
		}
		put("new")
		server.valid = "new"
		if _, err := c.Version(t.Context()); !Forbidden(err) {
			t.Fatalf("with a token that has expired: %v, want that it is refused", err)
		}
		time.Sleep(time.Minute) //nolint:forbidigo // of the bubble's clock
		if _, err := c.Version(t.Context()); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}

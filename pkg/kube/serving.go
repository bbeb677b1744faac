package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// Serving is how an API server itself is.
type Serving struct {
	// NotReady are the checks of its /readyz that fail: "etcd". It is empty, too,
	// where we may not ask.
	NotReady []string
	// Ends is when the certificate ends that it showed us; zero without TLS. Who
	// stands before the server shows their own.
	Ends time.Time
	// Took is how long the quickest of three small requests took, one after the
	// other, so that neither a handshake nor one slow answer counts.
	Took time.Duration
}

// Serving asks an API server three times whether it is ready.
func (c *Client) Serving(ctx context.Context) (Serving, error) {
	var s Serving
	base, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return s, fmt.Errorf("kubernetes: host %s: %w", c.config.Host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for i := range 3 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/readyz").String(), nil)
		if err != nil {
			return s, fmt.Errorf("kubernetes: %w", err)
		}
		began := time.Now()
		res, err := c.http.Do(req)
		if err != nil {
			return s, fmt.Errorf("kubernetes: %w", err)
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
		_ = res.Body.Close()
		if err != nil {
			return s, fmt.Errorf("kubernetes: /readyz: %w", err)
		}
		if took := time.Since(began); i == 0 || took < s.Took {
			s.Took = took
		}
		if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
			s.Ends = res.TLS.PeerCertificates[0].NotAfter
		}
		s.NotReady = nil
		if res.StatusCode >= http.StatusInternalServerError {
			s.NotReady = failing(string(body))
		}
	}
	return s, nil
}

// failing are the checks that an answer of /readyz marks as failed.
func failing(body string) []string {
	var out []string
	for line := range strings.Lines(body) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			if words := strings.Fields(name); len(words) > 0 {
				out = append(out, words[0])
			}
		}
	}
	if len(out) == 0 {
		out = []string{"it does not say which check"}
	}
	return out
}

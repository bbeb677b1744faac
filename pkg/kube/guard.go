package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// RefusedError is a request that we do not send, whatever rights we have.
type RefusedError struct {
	Method string
	Path   string
	Why    string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused to send %s %s: %s", e.Method, e.Path, e.Why)
}

// permission says why a request may not be sent, or "".
type permission func(method, path string, upgrade bool) string

// guard is the last thing before the network: it refuses what is not allowed,
// and keeps a record of what is sent.
type guard struct {
	next   http.RoundTripper
	prefix string // path prefix of the API server's address
	permit permission
	set    Settings
}

// RoundTrip sends a permitted request.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(req.URL.Path, g.prefix)
	upgrade := req.Header.Get("Upgrade") != "" || req.Header.Get("Connection") != "" && !strings.EqualFold(req.Header.Get("Connection"), "keep-alive")
	if why := g.permit(req.Method, path, upgrade); why != "" {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, &RefusedError{Method: req.Method, Path: path, Why: why}
	}
	a := event.Audit{
		Service: g.set.Service, Source: "kubernetes", Instance: g.set.Name, Target: req.URL.Host, Operation: operation(req, path), Query: describe(path, req),
		Time: g.set.Now().UTC(),
	}
	res, err := g.next.RoundTrip(req)
	if err != nil {
		a.Error = err.Error()
		g.record(a)
		return nil, err
	}
	a.Status = res.StatusCode
	if res.StatusCode/100 != 2 && res.StatusCode != http.StatusSwitchingProtocols {
		a.Error = res.Status
	}
	if askAgain(req.Method, res) {
		res.Header.Set("Retry-After", "1")
	}
	body := &countedBody{ReadCloser: res.Body, done: func(n int64) { a.Bytes = n; g.record(a) }}
	if limit, ok := req.Context().Value(limitKey{}).(int64); ok {
		body.limit = limit
	}
	res.Body = body
	return res, nil
}

// askAgain says whether an answer is one that a moment later may be another,
// but does not say when: what stands between us and the API server sends such.
// client-go asks again when it is told how long to wait.
func askAgain(method string, res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return method == http.MethodGet && res.Header.Get("Retry-After") == ""
	}
	return false
}

// limitKey is the key of how many bytes the answer to a request may have.
type limitKey struct{}

// limited bounds the answers to requests that are sent with the context.
// Watches and a reflector's lists are not bounded: they are read as they come.
func limited(ctx context.Context, most int64) context.Context {
	return context.WithValue(ctx, limitKey{}, most)
}

// TooLargeError is an answer of the API server that is longer than we read.
type TooLargeError struct{ Limit int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("answer is larger than %d bytes", e.Limit)
}

func (g *guard) record(a event.Audit) {
	a.DurationMS = g.set.Now().Sub(a.Time).Milliseconds()
	g.set.Audit(a)
}

// operation is the verb of a request, as RBAC calls it.
func operation(req *http.Request, path string) string {
	switch req.Method {
	case http.MethodGet:
	case http.MethodPost:
		return "create"
	default:
		return strings.ToLower(req.Method)
	}
	if req.URL.Query().Get("watch") == "true" {
		return "watch"
	}
	if r, ok := parsePath(path); ok && r.name == "" {
		return "list"
	}
	return "get"
}

// describe is the path with what selects objects, without paging and versions.
func describe(path string, req *http.Request) string {
	q := req.URL.Query()
	for _, k := range []string{"labelSelector", "fieldSelector", "container", "previous"} {
		if v := q.Get(k); v != "" {
			path += " " + k + "=" + v
		}
	}
	return path
}

// countedBody reports how much was read when it is closed.
type countedBody struct {
	io.ReadCloser
	limit int64        // 0 for none
	n     atomic.Int64 // a watch is closed while it is read
	once  sync.Once
	done  func(int64)
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if total := b.n.Add(int64(n)); b.limit > 0 && total > b.limit {
		return 0, &TooLargeError{Limit: b.limit}
	}
	return n, err
}

func (b *countedBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.done(b.n.Load()) })
	return err
}

// request is what a path of the API asks for.
type request struct {
	group, version, namespace, resource, name, subresource string
}

// parsePath reads paths as the API server's own RequestInfoFactory does.
func parsePath(path string) (request, bool) {
	p := strings.Split(strings.Trim(path, "/"), "/")
	var r request
	switch {
	case len(p) >= 3 && p[0] == "api":
		r.version, p = p[1], p[2:]
	case len(p) >= 4 && p[0] == "apis":
		r.group, r.version, p = p[1], p[2], p[3:]
	default:
		return r, false
	}
	if p[0] == "namespaces" && len(p) >= 3 && p[2] != "status" && p[2] != "finalize" {
		r.namespace, p = p[1], p[2:]
	}
	r.resource = p[0]
	if len(p) > 1 {
		r.name = p[1]
	}
	if len(p) > 2 {
		r.subresource = strings.Join(p[2:], "/")
	}
	return r, true
}

// readOnly permits get, list and watch of anything but Secrets, and no
// subresource but a pod's log and what only repeats part of the object.
func readOnly(method, path string, upgrade bool) string {
	switch {
	case method != http.MethodGet:
		return "only get, list and watch are allowed"
	case upgrade:
		return "connections into the cluster are not allowed"
	case strings.Contains(path, "//"), strings.Contains(path, "/../"), strings.HasSuffix(path, "/.."), strings.Contains(path, "/./"):
		return "the path is not canonical"
	}
	switch path {
	case "/version", "/api", "/apis", "/readyz", "/livez":
		return ""
	}
	r, ok := parsePath(path)
	switch {
	case !ok && (strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/apis/")):
		return "" // the list of what a group has
	case !ok:
		return "it is not a path of the Kubernetes API"
	case r.resource == "secrets":
		return "Secrets are never read"
	case r.resource == "watch" || r.resource == "proxy":
		return "the deprecated " + r.resource + " prefix is not allowed"
	case r.subresource == "" || r.subresource == "status" || r.subresource == "scale":
		return ""
	case r.group == "" && r.resource == "pods" && r.subresource == "log":
		return ""
	}
	return "the subresource " + r.subresource + " is not allowed"
}

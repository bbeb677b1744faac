// Package upstream is the read-only HTTP side of every source: Prometheus' own
// client options, a tenant, a rate limit, a size limit, and a record of every
// call.
package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/common/config"
	"golang.org/x/time/rate"

	"github.com/oncall-copilot/oncall/pkg/clock"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config says where a source is and how to reach it.
type Config struct {
	// Name tells sources of a kind apart: letters, digits, - and _. Default: the
	// kind's name.
	Name string `yaml:"name"`
	// URL is the base URL, with the path prefix if there is one:
	// http://prometheus:9090, https://mimir/prometheus.
	URL string `yaml:"url"`
	// ExternalURL is the base URL for people's browsers. Default: URL.
	ExternalURL string `yaml:"external_url"`
	// Tenant is sent as X-Scope-OrgID, for Mimir, Cortex and Loki.
	Tenant string `yaml:"tenant"`
	// Headers are sent with every request.
	Headers map[string]string `yaml:"headers"`
	// ExtraMatchers are added to every selector of every query:
	// 'cluster="eu-1", env="prod"'.
	ExtraMatchers string `yaml:"extra_matchers"`
	// Timeout bounds one request. Default: 15s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxQPS is how many requests a second are sent at most. Default: 20.
	MaxQPS float64 `yaml:"max_query_qps"`
	// MaxResponseBytes is the largest answer read. Default: 64 MiB.
	MaxResponseBytes int64 `yaml:"max_response_bytes"`
	// HTTP are Prometheus' own client options: tls_config, basic_auth,
	// authorization, oauth2, proxy_url, follow_redirects. Files of secrets and
	// certificates are read again when they change.
	HTTP config.HTTPClientConfig `yaml:"http"`
}

// DefaultConfig is the configuration of a user who writes only the URL.
func DefaultConfig(name string) Config {
	return Config{Name: name, Timeout: 15 * time.Second, MaxQPS: 20, MaxResponseBytes: 64 << 20, HTTP: config.DefaultHTTPClientConfig}
}

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill(name string) {
	d := DefaultConfig(name)
	if c.Name == "" {
		c.Name = d.Name
	}
	if c.Timeout == 0 {
		c.Timeout = d.Timeout
	}
	if c.MaxQPS == 0 {
		c.MaxQPS = d.MaxQPS
	}
	if c.MaxResponseBytes == 0 {
		c.MaxResponseBytes = d.MaxResponseBytes
	}
	if c.ExternalURL == "" {
		c.ExternalURL = c.URL
	}
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	var errs []error
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path + field, Value: value, Problem: problem, Fix: fix})
	}
	if c.Name != "" && event.Token(c.Name) != c.Name {
		bad("name", c.Name, "has characters other than letters, digits, - and _", "write prod-eu-1")
	}
	for field, s := range map[string]string{"url": c.URL, "external_url": c.ExternalURL} {
		if s == "" && field == "external_url" {
			continue
		}
		if err := CheckURL(s); err != nil {
			shown, fix := strconv.Quote(s), "write http://prometheus:9090"
			if u, perr := url.Parse(s); perr == nil && u.User != nil {
				shown, fix = u.Redacted(), "use http.basic_auth with password_file"
			}
			bad(field, shown, err.Error(), fix)
		}
	}
	if c.Timeout < 0 || c.Timeout > 5*time.Minute {
		bad("timeout", c.Timeout, "is not between 0 and 5m", "write 15s")
	}
	if c.MaxQPS < 0 {
		bad("max_query_qps", c.MaxQPS, "is negative", "write 20")
	}
	if _, err := ParseMatchers(c.ExtraMatchers); err != nil {
		bad("extra_matchers", c.ExtraMatchers, "is not a list of matchers: "+err.Error(), `write cluster="eu-1", env="prod"`)
	}
	if err := c.HTTP.Validate(); err != nil {
		bad("http", nil, err.Error(), "")
	}
	return errors.Join(errs...)
}

// Settings are what code passes to [New].
type Settings struct {
	Service string // for the audit
	Source  string // prometheus, loki, alertmanager
	Audit   func(event.Audit)
	Now     func() time.Time // this machine's clock; nil: time.Now
	// Retries is how often a call is sent again that a busy or restarting server
	// refused: for who asks once. A service that reads at every step has its next
	// step, and leaves it 0.
	Retries int
}

// Client sends read-only requests to one source.
type Client struct {
	cfg   Config
	set   Settings
	base  *url.URL
	http  *http.Client
	clock *clock.Server
	limit *rate.Limiter
}

// New makes a client. Certificates and secrets are read when they are used.
func New(cfg Config, set Settings) (*Client, error) {
	cfg.Fill(set.Source)
	if set.Audit == nil {
		set.Audit = func(event.Audit) {}
	}
	if set.Now == nil {
		set.Now = time.Now
	}
	base, err := url.Parse(strings.TrimRight(cfg.URL, "/"))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", set.Source, cfg.Name, err)
	}
	h, err := config.NewClientFromConfig(cfg.HTTP, cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("%s %s: http: %w", set.Source, cfg.Name, err)
	}
	its := clock.NewServer(set.Now)
	h.Transport = its.Transport(h.Transport)
	return &Client{cfg: cfg, set: set, base: base, http: h, clock: its, limit: rate.NewLimiter(rate.Limit(cfg.MaxQPS), max(1, int(cfg.MaxQPS)))}, nil
}

// Name is the configured name of the source.
func (c *Client) Name() string { return c.cfg.Name }

// Config is the configuration, with its defaults.
func (c *Client) Config() Config { return c.cfg }

// Clock is the source's clock, as its answers tell it.
func (c *Client) Clock() *clock.Server { return c.clock }

// URL is the address of an endpoint below the base.
func (c *Client) URL(path string) *url.URL { return c.base.JoinPath(path) }

// Header is what every request carries besides credentials: for a websocket,
// which cannot go through Get.
func (c *Client) Header() http.Header {
	h := http.Header{}
	if c.cfg.Tenant != "" {
		h.Set("X-Scope-OrgID", c.cfg.Tenant)
	}
	for k, v := range c.cfg.Headers {
		h.Set(k, v)
	}
	h.Set("User-Agent", "oncall")
	return h
}

// HTTP is the client with its credentials, for a websocket.
func (c *Client) HTTP() *http.Client { return c.http }

// Query describes a call for the audit.
type Query struct {
	Operation string // query, query_range, series, tail
	Text      string // PromQL or LogQL
	Incident  string
}

// Get sends a GET with the parameters and returns the body of a 2xx answer;
// everything else is an *[Error].
func (c *Client) Get(ctx context.Context, path string, params url.Values, q Query) ([]byte, error) {
	u := c.URL(path)
	u.RawQuery = params.Encode()
	return c.do(ctx, http.MethodGet, u.String(), nil, q)
}

// Post sends the parameters as a form: for queries too long for an address.
func (c *Client) Post(ctx context.Context, path string, params url.Values, q Query) ([]byte, error) {
	return c.do(ctx, http.MethodPost, c.URL(path).String(), []byte(params.Encode()), q)
}

// do sends a call, and sends it again as often as it may: every call only reads.
func (c *Client) do(ctx context.Context, method, address string, form []byte, q Query) ([]byte, error) {
	for attempt := 0; ; attempt++ {
		body, err := c.send(ctx, method, address, form, q)
		if err == nil || attempt == c.set.Retries {
			return body, err
		}
		wait, ok := pause(err, attempt)
		if !ok || !Wait(ctx, wait) {
			return body, err
		}
	}
}

const (
	// firstPause is how long a call waits before it is sent again; it doubles.
	firstPause = 250 * time.Millisecond
	// longestPause is how long a server's Retry-After is waited for at most. One
	// that asks for more is busy, which is an answer.
	longestPause = 10 * time.Second
)

// pause is how long to wait before a call that ended with err is sent again;
// false when that would not help.
func pause(err error, attempt int) (time.Duration, bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || !e.again || e.RetryAfter > longestPause {
		return 0, false
	}
	return max(e.RetryAfter, firstPause<<attempt), true
}

func (c *Client) send(ctx context.Context, method, address string, form []byte, q Query) (body []byte, err error) {
	if err := c.limit.Wait(ctx); err != nil {
		return nil, &Error{Source: c.cfg.Name, Kind: Busy, Err: err}
	}
	started := c.set.Now()
	status := 0
	defer func() {
		a := event.Audit{
			Service: c.set.Service, Source: c.set.Source, Instance: c.cfg.Name, Target: c.base.Host, Operation: q.Operation, Query: q.Text, Incident: q.Incident,
			Time: started.UTC(), DurationMS: c.set.Now().Sub(started).Milliseconds(), Bytes: int64(len(body)), Status: status,
		}
		if err != nil {
			a.Error = err.Error()
		}
		c.set.Audit(a)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no answer in %v", c.cfg.Timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(form))
	if err != nil {
		return nil, &Error{Source: c.cfg.Name, Kind: BadQuery, Err: err}
	}
	req.Header = c.Header()
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	status = res.StatusCode
	body, err = io.ReadAll(io.LimitReader(res.Body, c.cfg.MaxResponseBytes+1))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if int64(len(body)) > c.cfg.MaxResponseBytes {
		return nil, &Error{Source: c.cfg.Name, Kind: TooLarge, Err: fmt.Errorf("answer is larger than %d bytes", c.cfg.MaxResponseBytes)}
	}
	if res.StatusCode/100 == 2 {
		return body, nil
	}
	return nil, c.refused(res, body)
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the address, which repeats the query
	}
	cut := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
	return &Error{Source: c.cfg.Name, Kind: Unreachable, Err: err, again: cut && ctx.Err() == nil}
}

func (c *Client) refused(res *http.Response, body []byte) error {
	e := &Error{Source: c.cfg.Name, Kind: Unreachable, Status: res.StatusCode}
	// Prometheus' and Loki's errors: {"errorType": ..., "error": ...} or text.
	var said struct {
		Error string `json:"error"`
		Type  string `json:"errorType"`
	}
	text := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &said) == nil && said.Error != "" {
		text = said.Error
	}
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	e.Err = fmt.Errorf("answered %d: %s", res.StatusCode, cmp.Or(text, strings.ToLower(http.StatusText(res.StatusCode)), "and nothing else"))
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Kind = Forbidden
	case http.StatusTooManyRequests:
		e.Kind = Busy
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusNotFound, http.StatusMethodNotAllowed:
		e.Kind = BadQuery
	}
	e.RetryAfter = RetryAfter(res.Header, c.clock.Now())
	// A query that took too long would take as long again.
	e.again = (res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500 && res.StatusCode != http.StatusNotImplemented) && said.Type != "timeout" && said.Type != "canceled"
	return e
}

// maxRetryAfter bounds what a server may ask for: a wrong header must not blind
// us for longer.
const maxRetryAfter = 5 * time.Minute

// RetryAfter reads the header of that name, in seconds or as a date; 0 without
// one, at most five minutes.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if n, err := strconv.Atoi(value); err == nil {
		return min(time.Duration(max(n, 0))*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// ErrorKind sorts failures by what a person can do about them.
type ErrorKind string

// The kinds.
const (
	Unreachable ErrorKind = "unreachable" // network, time-out, 5xx: wait, or look at the source
	Forbidden   ErrorKind = "forbidden"   // 401, 403: look at the credentials
	Busy        ErrorKind = "busy"        // 429, or our own limit: ask less
	BadQuery    ErrorKind = "bad query"   // 4xx: asking again will not help
	TooLarge    ErrorKind = "too large"   // narrow the query
)

// Error is a call that gave no answer.
type Error struct {
	Source     string
	Kind       ErrorKind
	Status     int // HTTP status; 0 without an answer
	RetryAfter time.Duration
	Err        error

	again bool // a moment later the answer may be another
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Source, e.Kind, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of an error; Unreachable for one that is not ours.
func KindOf(err error) ErrorKind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	var n net.Error
	if errors.As(err, &n) {
		return Unreachable
	}
	return Unreachable
}

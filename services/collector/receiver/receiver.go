// Package receiver is the listening side of sources that are pushed to:
// authenticated, bounded HTTP. It listens only where the configuration says so.
package receiver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config says where a receiver listens and who may send. One of
// bearer_token_file, basic_auth and tls.client_ca_file is needed.
type Config struct {
	// Listen is the address, such as :9099 or 127.0.0.1:9099. Empty: it does not
	// listen.
	Listen string `yaml:"listen"`
	// BearerTokenFile holds the token that senders show. It is read for every
	// request, so that it can be rotated.
	BearerTokenFile string `yaml:"bearer_token_file"`
	// BasicAuth is the other way to show who one is.
	BasicAuth BasicAuth `yaml:"basic_auth"`
	// TLS makes it HTTPS.
	TLS TLS `yaml:"tls"`
	// MaxBodyBytes is the largest body taken, as sent. Default: 8 MiB.
	MaxBodyBytes int64 `yaml:"max_body_bytes"`
	// MaxInFlight is how many requests are worked on at once; further ones are
	// asked to come again. Default: 8.
	MaxInFlight int `yaml:"max_in_flight"`
}

// BasicAuth is a user name and where its password is.
type BasicAuth struct {
	// Username that senders show.
	Username string `yaml:"username"`
	// PasswordFile holds the password. It is read for every request.
	PasswordFile string `yaml:"password_file"`
}

// TLS is the certificate shown to senders. The files are read again when they
// change.
type TLS struct {
	// CertFile and KeyFile are the certificate and its key, in PEM.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile asks senders for a certificate of these authorities.
	ClientCAFile string `yaml:"client_ca_file"`
}

// Fill gives the fields that are not set their defaults.
func (c *Config) Fill() {
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = 8 << 20
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 8
	}
}

// Validate checks the fields; path stands before their names in errors.
func (c *Config) Validate(path string) error {
	if c.Listen == "" {
		return nil
	}
	var errs []error
	bad := func(field string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path + field, Value: value, Problem: problem, Fix: fix})
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		bad("listen", c.Listen, "is not host:port", "write :9099")
	}
	if c.BearerTokenFile == "" && c.BasicAuth.Username == "" && c.TLS.ClientCAFile == "" {
		bad("bearer_token_file", nil, "is missing: nobody would have to show who they are", "name a file with a token, or use basic_auth or tls.client_ca_file")
	}
	if (c.BasicAuth.Username == "") != (c.BasicAuth.PasswordFile == "") {
		bad("basic_auth", c.BasicAuth.Username, "has only one of username and password_file", "write both")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") || c.TLS.ClientCAFile != "" && c.TLS.CertFile == "" {
		bad("tls", nil, "needs cert_file and key_file", "write both")
	}
	if c.MaxBodyBytes < 1<<10 || c.MaxBodyBytes > 256<<20 {
		bad("max_body_bytes", c.MaxBodyBytes, "is not between 1 KiB and 256 MiB", "write 8388608")
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > 1000 {
		bad("max_in_flight", c.MaxInFlight, "is not between 1 and 1000", "write 8")
	}
	return errors.Join(errs...)
}

// Refusal is an answer other than success. Status below 500 tells the sender
// not to send the same again, except 429.
type Refusal struct {
	Status int
	Text   string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d: %s", r.Status, r.Text) }

// Handler works on one body. nil answers 204; a *[Refusal] its status; another
// error 503, which asks the sender to try again.
type Handler func(ctx context.Context, header http.Header, body []byte, answer http.Header) error

// Receiver takes requests on one path.
type Receiver struct {
	cfg    Config
	path   string
	handle Handler
	log    *slog.Logger
	slots  chan struct{}
	count  *prometheus.CounterVec
	ready  chan net.Addr
}

// Settings are what code passes to [New].
type Settings struct {
	Source  string // its configured name, for logs and metrics
	Path    string
	Handle  Handler
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// storeTimeout is less than the 30 s after which senders give up by default.
const storeTimeout = 20 * time.Second

// outcomes are the values of the metric's label.
var outcomes = []string{"taken", "unauthorized", "refused", "too_large", "busy", "failed"}

// New makes a receiver; it does not listen yet.
func New(cfg Config, s Settings) *Receiver {
	cfg.Fill()
	r := &Receiver{
		cfg: cfg, path: s.Path, handle: s.Handle, log: s.Log.With("source", s.Source), slots: make(chan struct{}, cfg.MaxInFlight),
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oncall_collector_received_requests_total", Help: "Requests that senders made, by outcome.", ConstLabels: prometheus.Labels{"source": s.Source, "path": s.Path},
		}, []string{"outcome"}),
		ready: make(chan net.Addr, 1), // sent once, and nobody may be waiting
	}
	for _, o := range outcomes {
		r.count.WithLabelValues(o)
	}
	s.Metrics.MustRegister(r.count)
	return r
}

// Addr is the address it listens on, once it does.
func (r *Receiver) Addr(ctx context.Context) (net.Addr, error) {
	select {
	case a := <-r.ready:
		r.ready <- a
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run listens until ctx is done, then finishes what is under way.
func (r *Receiver) Run(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", r.cfg.Listen)
	if err != nil {
		return fmt.Errorf("receive on %s: %w", r.cfg.Listen, err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+r.path, r)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	if r.cfg.TLS.CertFile != "" {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: r.tls}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = srv.Shutdown(stop)
	}()
	r.ready <- l.Addr()
	r.log.Info("receiving", "address", l.Addr().String(), "path", r.path)
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if ctx.Err() == nil {
		_ = srv.Close()
		return fmt.Errorf("receive on %s: %w", r.cfg.Listen, err)
	}
	<-done
	return nil
}

// tls reads the certificates as they are now.
func (r *Receiver) tls(*tls.ClientHelloInfo) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(r.cfg.TLS.CertFile, r.cfg.TLS.KeyFile)
	if err != nil {
		r.log.Error("certificate unreadable, sender turned away", "err", err)
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if r.cfg.TLS.ClientCAFile != "" {
		pem, err := os.ReadFile(r.cfg.TLS.ClientCAFile)
		if err != nil {
			return nil, err
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", r.cfg.TLS.ClientCAFile)
		}
	}
	return c, nil
}

// ServeHTTP takes one request.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	outcome, status, text := r.serve(w, req)
	r.count.WithLabelValues(outcome).Inc()
	switch {
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="oncall"`)
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "5")
	}
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	http.Error(w, text, status)
}

func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) (outcome string, status int, text string) {
	allowed, err := r.allowed(req)
	if err != nil {
		r.log.Error("secret unreadable, sender turned away", "err", err)
		return "failed", http.StatusServiceUnavailable, "cannot check credentials now"
	}
	if !allowed {
		return "unauthorized", http.StatusUnauthorized, "credentials are missing or wrong"
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return "busy", http.StatusServiceUnavailable, "busy"
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, r.cfg.MaxBodyBytes))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return "too_large", http.StatusRequestEntityTooLarge, fmt.Sprintf("body is larger than %d bytes", r.cfg.MaxBodyBytes)
		}
		return "refused", http.StatusBadRequest, "body ended early"
	}
	// The bus waits until it can store; the sender is told before it hangs up.
	ctx, cancel := context.WithTimeoutCause(req.Context(), storeTimeout, fmt.Errorf("not stored in %v", storeTimeout))
	defer cancel()
	err = r.handle(ctx, req.Header, body, w.Header())
	if no, ok := errors.AsType[*Refusal](err); ok {
		return "refused", no.Status, no.Text
	}
	if err != nil {
		if req.Context().Err() == nil {
			r.log.Error("request not stored, sender asked to try again", "err", err)
		}
		return "failed", http.StatusServiceUnavailable, "cannot store now"
	}
	return "taken", http.StatusNoContent, ""
}

// allowed checks credentials without telling by its duration how much of them
// was right. A client certificate was checked by TLS already; it counts when it
// is all that is asked for.
func (r *Receiver) allowed(req *http.Request) (bool, error) {
	if r.cfg.BearerTokenFile != "" {
		want, err := secret(r.cfg.BearerTokenFile)
		if err != nil {
			return false, err
		}
		scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "Bearer") && same(strings.TrimSpace(token), want) {
			return true, nil
		}
	}
	if r.cfg.BasicAuth.Username != "" {
		want, err := secret(r.cfg.BasicAuth.PasswordFile)
		if err != nil {
			return false, err
		}
		user, password, ok := req.BasicAuth()
		if userOK, passOK := same(user, r.cfg.BasicAuth.Username), same(password, want); ok && userOK && passOK {
			return true, nil
		}
	}
	return r.cfg.BearerTokenFile == "" && r.cfg.BasicAuth.Username == "" && req.TLS != nil && len(req.TLS.VerifiedChains) > 0, nil
}

func secret(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return s, nil
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

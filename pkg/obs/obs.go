package obs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/term"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config is the `obs:` section of the configuration file.
type Config struct {
	// Listen is the address of /healthz, /readyz and /metrics: host:port. Empty:
	// not served. Default in a service of its own: :8080.
	Listen string `yaml:"listen"`
	// LogLevel is debug, info, warn or error. Default: info.
	LogLevel string `yaml:"log_level"`
	// LogFormat is json, text, or auto: text on a terminal, else json. Default: auto.
	LogFormat string `yaml:"log_format"`
	// OTLPEndpoint receives traces by OTLP over gRPC: host:port. Empty: the
	// OTEL_EXPORTER_OTLP_ENDPOINT variable, and without it none.
	OTLPEndpoint string `yaml:"otlp_endpoint"`
	// OTLPInsecure sends traces without TLS.
	OTLPInsecure bool `yaml:"otlp_insecure"`
	// SampleRatio is the share of telemetry batches that are traced, 0 to 1;
	// what follows an anomaly is always traced. Default: 0.01.
	SampleRatio float64 `yaml:"sample_ratio"`
}

// DefaultConfig is the configuration of a user who writes nothing.
func DefaultConfig() Config {
	return Config{Listen: ":8080", LogLevel: "info", LogFormat: "auto", SampleRatio: 0.01}
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		errs = append(errs, &policy.FieldError{Path: "log_level", Value: c.LogLevel, Problem: "is not debug, info, warn or error", Fix: "write info"})
	}
	if !slices.Contains([]string{"json", "text", "auto"}, c.LogFormat) {
		errs = append(errs, &policy.FieldError{Path: "log_format", Value: c.LogFormat, Problem: "is not json, text or auto", Fix: "write auto"})
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			errs = append(errs, &policy.FieldError{Path: "listen", Value: c.Listen, Problem: "is not host:port", Fix: "write :8080"})
		}
	}
	if c.SampleRatio < 0 || c.SampleRatio > 1 {
		errs = append(errs, &policy.FieldError{Path: "sample_ratio", Value: c.SampleRatio, Problem: "is not between 0 and 1", Fix: "write 0.01"})
	}
	return errors.Join(errs...)
}

// NewLogger writes structured logs to w.
func NewLogger(w io.Writer, c Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // Validate has checked it
	opts := &slog.HandlerOptions{Level: level}
	text := c.LogFormat == "text"
	if f, ok := w.(*os.File); ok && c.LogFormat == "auto" {
		text = term.IsTerminal(int(f.Fd()))
	}
	if text {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

// Registry is a registry of metrics of one process. Registering the same
// metric twice, as two services of one process may, keeps the first.
type Registry struct{ *prometheus.Registry }

// NewRegistry makes a registry with the metrics of the Go runtime and the
// process.
func NewRegistry() *Registry {
	r := &Registry{prometheus.NewRegistry()}
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Serve answers /healthz (the process lives), /readyz (it can work; with the
// state of every part as JSON) and /metrics until ctx is done.
func Serve(ctx context.Context, c Config, r *Registry, h *Health) error {
	if c.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("obs: listen: %w", err)
	}
	s := &http.Server{Handler: Handler(r, h), ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	defer stopped()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("obs: %w", err)
	}
	return nil
}

// Handler is what [Serve] serves.
func Handler(r *Registry, h *Health) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		parts, ready := h.Parts()
		w.Header().Set("Content-Type", "application/json")
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"ready": ready, "parts": parts})
	})
	return mux
}

// Tracing makes and exports spans.
type Tracing struct {
	provider trace.TracerProvider
	close    func() error
}

// NewTracing exports spans by OTLP when an endpoint is configured, and drops
// them else.
func NewTracing(ctx context.Context, c Config, service string) (*Tracing, error) {
	endpoint := c.OTLPEndpoint
	if endpoint == "" && os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return &Tracing{provider: noop.NewTracerProvider(), close: func() error { return nil }}, nil
	}
	var opts []otlptracegrpc.Option
	if endpoint != "" {
		opts = append(opts, otlptracegrpc.WithEndpoint(strings.TrimPrefix(endpoint, "grpc://")))
	}
	if c.OTLPInsecure {
		opts = append(opts, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("obs: otlp_endpoint %s: %w", endpoint, err)
	}
	p := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sampler{ratio: sdktrace.TraceIDRatioBased(c.SampleRatio)}),
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName("oncall-"+service))),
	)
	return &Tracing{provider: p, close: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return p.Shutdown(ctx)
	}}, nil
}

// Tracer makes the project's spans.
func (t *Tracing) Tracer() trace.Tracer { return t.provider.Tracer("github.com/oncall-copilot/oncall") }

// Close exports what is left.
func (t *Tracing) Close() error { return t.close() }

// sampler takes a share of telemetry and all of what follows an anomaly: a
// batch's trace may be cut short, an incident's never.
type sampler struct{ ratio sdktrace.Sampler }

func (s sampler) Description() string { return "telemetry by ratio, incidents always" }

func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	if parent.IsSampled() || !strings.Contains(p.Name, "telemetry") {
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample, Tracestate: parent.TraceState()}
	}
	return s.ratio.ShouldSample(p)
}

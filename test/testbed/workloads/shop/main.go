// Command shop is the parts of a small shop on one machine: a storefront that
// serves a steady stream of customers by calling the services behind it, and
// such services, of which one version keeps what it should let go.
//
//	shop storefront -registry URL -rate 40 -calls checkout,catalog
//	shop service [-keep BYTES -room BYTES]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	if err := run(log, os.Args[1:]); err != nil {
		log.Error("cannot go on", "err", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger, args []string) error {
	if len(args) == 0 {
		return errors.New("say storefront or service")
	}
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	registry := flags.String("registry", "", "address that lists the pods, as Prometheus' HTTP discovery has it")
	rate := flags.Int("rate", 40, "customers a second")
	calls := flags.String("calls", "", "services behind the storefront, separated by commas")
	keep := flags.Int("keep", 0, "bytes of each order that are never given back")
	room := flags.Int("room", 0, "bytes of kept orders from which on new ones have no room; 0 for no bound")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m := &metrics{}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m)
	switch args[0] {
	case "storefront":
		f := &storefront{log: log, metrics: m, registry: *registry, calls: strings.Split(*calls, ","), client: &http.Client{Timeout: time.Second}}
		go f.serve(ctx, *rate)
	case "service":
		mux.Handle("GET /", &service{log: log, metrics: m, keep: *keep, room: *room})
	default:
		return fmt.Errorf("%q is neither storefront nor service", args[0])
	}
	// Pods of one machine share its addresses: whoever scrapes or calls learns
	// the port from this line.
	log.Info("serving", "metrics", l.Addr().String())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		log.Info("stopping")
		_ = server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// service answers orders.
type service struct {
	log        *slog.Logger
	metrics    *metrics
	keep, room int

	mu   sync.Mutex
	kept [][]byte
	n    int
}

// page is the least that memory is given in: what is not touched is not used.
const page = 4096

func (s *service) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	began := time.Now()
	time.Sleep(time.Duration(8+rand.IntN(12)) * time.Millisecond) // the work
	s.mu.Lock()
	s.n++
	n, entries := s.n, len(s.kept)
	full := s.room > 0 && entries*s.keep > s.room
	if s.keep > 0 {
		b := make([]byte, s.keep)
		for i := 0; i < len(b); i += page {
			b[i] = 1
		}
		s.kept = append(s.kept, b)
	}
	s.mu.Unlock()
	code := http.StatusOK
	if full && n%2 == 0 {
		code = http.StatusInternalServerError
		s.log.Error("order not placed", "order", 100_000+n, "err", "session cache: out of memory", "entries", entries)
	} else if n%20 == 0 {
		s.log.Info("order placed", "order", 100_000+n, "took", time.Since(began).Round(time.Millisecond))
	}
	if s.keep > 0 && entries > 0 && entries%50 == 0 {
		s.log.Warn("session cache grows", "entries", entries)
	}
	s.metrics.observe(code, time.Since(began))
	w.WriteHeader(code)
}

// storefront serves customers by calling one of the services for each.
type storefront struct {
	log      *slog.Logger
	metrics  *metrics
	registry string
	calls    []string
	client   *http.Client

	mu   sync.Mutex
	pods map[string][]string // addresses by service
}

func (f *storefront) serve(ctx context.Context, rate int) {
	go f.discover(ctx)
	tick := time.NewTicker(time.Second / time.Duration(max(1, rate)))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			go f.customer(ctx, n)
		}
	}
}

// customer is one request from outside.
func (f *storefront) customer(ctx context.Context, n int) {
	began := time.Now()
	service := f.calls[n%len(f.calls)]
	code, err := f.call(ctx, service)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		f.log.Error("upstream failed", "service", service, "status", code, "err", err)
	} else if n%40 == 0 {
		f.log.Info("page served", "service", service, "took", time.Since(began).Round(time.Millisecond))
	}
	f.metrics.observe(code, time.Since(began))
}

// call asks one pod of a service, and says what the customer is answered.
func (f *storefront) call(ctx context.Context, service string) (int, error) {
	f.mu.Lock()
	pods := f.pods[service]
	f.mu.Unlock()
	if len(pods) == 0 {
		return http.StatusServiceUnavailable, errors.New("no endpoints")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+pods[rand.IntN(len(pods))]+"/", nil)
	if err != nil {
		return http.StatusInternalServerError, err
	}
	res, err := f.client.Do(req)
	if err != nil {
		return http.StatusBadGateway, errors.Unwrap(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode >= 500 {
		return http.StatusBadGateway, fmt.Errorf("answered %d", res.StatusCode)
	}
	return res.StatusCode, nil
}

// discover learns where the pods are.
func (f *storefront) discover(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		if pods, err := f.list(ctx); err == nil {
			f.mu.Lock()
			f.pods = pods
			f.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (f *storefront) list(ctx context.Context) (map[string][]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.registry, nil)
	if err != nil {
		return nil, err
	}
	res, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	var groups []struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	if err := json.NewDecoder(res.Body).Decode(&groups); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, g := range groups {
		for _, s := range f.calls {
			if strings.HasPrefix(g.Labels["pod"], s+"-") {
				out[s] = append(out[s], g.Targets...)
			}
		}
	}
	return out, nil
}

// metrics counts answers the way client libraries do.
type metrics struct {
	mu      sync.Mutex
	codes   map[int]int
	buckets [len(bounds) + 1]int
	sum     float64
}

var bounds = [...]float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}

func (m *metrics) observe(code int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.codes == nil {
		m.codes = map[int]int{}
	}
	m.codes[code]++
	i := 0
	for i < len(bounds) && took.Seconds() > bounds[i] {
		i++
	}
	m.buckets[i]++
	m.sum += took.Seconds()
}

func (m *metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintln(w, "# TYPE http_requests_total counter")
	for _, code := range []int{200, 500, 502, 503} {
		fmt.Fprintf(w, "http_requests_total{code=\"%d\"} %d\n", code, m.codes[code])
	}
	fmt.Fprintln(w, "# TYPE http_request_duration_seconds histogram")
	n := 0
	for i, b := range bounds {
		n += m.buckets[i]
		fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"%g\"} %d\n", b, n)
	}
	n += m.buckets[len(bounds)]
	fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"+Inf\"} %d\nhttp_request_duration_seconds_sum %g\nhttp_request_duration_seconds_count %d\n", n, m.sum, n)
}

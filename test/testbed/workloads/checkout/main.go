// Command checkout is a small service that serves itself requests, exposes
// metrics and writes log lines; with flags it leaks memory, fails or crashes.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// page is the least that memory is given in: what is not touched is not used.
const page = 4096

func main() {
	rate := flag.Int("rate", 20, "requests a second")
	leak := flag.Int("leak", 0, "bytes of each request that are never given back")
	errors := flag.Float64("errors", 0, "share of requests that fail, 0 to 1")
	crash := flag.Duration("crash", 0, "exit with code 3 after this long; 0 for never")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	s := &server{log: log, leak: *leak, errors: *errors}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Error("no port", "err", err)
		os.Exit(1)
	}
	// Pods of one machine share its addresses: whoever scrapes learns the port
	// from this line.
	log.Info("serving", "metrics", l.Addr().String())
	go func() { _ = http.Serve(l, http.HandlerFunc(s.metrics)) }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	var end <-chan time.Time
	if *crash > 0 {
		end = time.After(*crash)
	}
	tick := time.NewTicker(time.Second / time.Duration(max(1, *rate)))
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			s.request(n)
		case <-end:
			log.Error("cannot reach the ledger, giving up", "err", "dial tcp: connection refused")
			os.Exit(3)
		case <-stop:
			log.Info("stopping")
			return
		}
	}
}

type server struct {
	log       *slog.Logger
	leak      int
	errors    float64
	kept      [][]byte
	good, bad atomic.Int64
}

// request serves one request.
func (s *server) request(n int) {
	if s.leak > 0 {
		b := make([]byte, s.leak)
		for i := 0; i < len(b); i += page {
			b[i] = 1
		}
		s.kept = append(s.kept, b)
	}
	cart := 10_000 + n%977
	if rand.Float64() < s.errors {
		s.bad.Add(1)
		s.log.Error("order not placed", "cart", cart, "err", "ledger: deadline exceeded")
		return
	}
	s.good.Add(1)
	if n%10 == 0 {
		s.log.Info("order placed", "cart", cart, "took", time.Duration(20+rand.IntN(30))*time.Millisecond)
	}
	if s.leak > 0 && len(s.kept)%100 == 0 {
		s.log.Warn("cart cache grows", "entries", len(s.kept))
	}
}

func (s *server) metrics(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} %d\nhttp_requests_total{code=\"500\"} %d\n", s.good.Load(), s.bad.Load())
}

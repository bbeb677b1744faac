package loki

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/upstream"
)

// bell knows which windows have something in them that is worth reading early,
// and how early they can be read: no earlier than lines have lately taken to
// arrive, so that a window is still closed when it is read.
type bell struct {
	least, most time.Duration
	now         func() time.Time
	ring        chan struct{}

	mu     sync.Mutex
	rung   time.Time // of the newest line that rang
	read   time.Time // end of the last window that was read
	lag    time.Duration
	oldLag time.Duration // of the generation before, so that an old lag is forgotten
	turned time.Time

	rings, late, gone prometheus.Counter
	open              prometheus.Gauge
}

// lagFor is how long a lag is remembered at least.
const lagFor = 5 * time.Minute

// margin is added to the lag.
const margin = 500 * time.Millisecond

func newBell(cfg Config, now func() time.Time) *bell {
	labels := prometheus.Labels{"source": cfg.Name}
	return &bell{
		least: cfg.Tail.Least, most: cfg.Delay, now: now, ring: make(chan struct{}, 1), // one is enough: a ring says "look"
		rings: prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_tail_lines_total", Help: "Lines of the tail, which are never published.", ConstLabels: labels}),
		late:  prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_tail_late_lines_total", Help: "Lines of the tail that came after their window was read.", ConstLabels: labels}),
		gone:  prometheus.NewCounter(prometheus.CounterOpts{Name: "oncall_collector_tail_dropped_lines_total", Help: "Lines that the tail says it left out, because they were too many for it; they are read with their window as all are.", ConstLabels: labels}),
		open:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "oncall_collector_tail_open", Help: "1 while the tail is open.", ConstLabels: labels}),
	}
}

// line takes in the time of a line that the tail has brought.
func (b *bell) line(at time.Time) {
	now := b.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rings.Inc()
	if at.Before(b.read) {
		b.late.Inc()
	}
	if now.Sub(b.turned) > lagFor {
		b.turned, b.oldLag, b.lag = now, b.lag, 0
	}
	b.lag = max(b.lag, min(now.Sub(at), time.Hour))
	if at.After(b.rung) {
		b.rung = at
		select {
		case b.ring <- struct{}{}:
		default:
		}
	}
}

func (b *bell) wasRead(end time.Time) {
	b.mu.Lock()
	b.read = end
	b.mu.Unlock()
}

// delay is how long after its end the window that begins at start is read.
func (b *bell) delay(start time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung.Before(start) {
		return b.most
	}
	return min(b.most, max(b.least, max(b.lag, b.oldLag)+margin))
}

const (
	pingEvery   = 30 * time.Second
	maxFrame    = 8 << 20
	tailLimit   = 10 // lines that Loki sends of what was before, which would look late
	maxTailWait = 5 * time.Minute
)

// tail keeps a tail open until ctx is done. That there is none costs nothing
// but the early reading, so it says so once and tries again, ever more seldom.
func (s *Source) tail(ctx context.Context) {
	backoff := time.Second
	said := false
	for ctx.Err() == nil {
		began := s.env.Now()
		wait, err := s.listen(ctx)
		s.bell.open.Set(0)
		if ctx.Err() != nil {
			return
		}
		if s.env.Now().Sub(began) > time.Minute {
			backoff, said = time.Second, false // it was open: Loki ends a tail after an hour
		}
		if !said {
			said = true
			s.env.Log.Info("no tail, reading windows when their delay is over", "source", s.name, "err", err)
		}
		if !upstream.Wait(ctx, max(backoff, wait)) {
			return
		}
		backoff = min(2*backoff, maxTailWait)
	}
}

// listen opens a tail and hears its lines until it ends. wait is what the
// server asks to wait before the next attempt.
func (s *Source) listen(ctx context.Context) (wait time.Duration, err error) {
	query := s.query + " " + s.cfg.Tail.Filter
	u := s.up.URL("/loki/api/v1/tail")
	u.RawQuery = url.Values{
		"query": {query}, "limit": {strconv.Itoa(tailLimit)}, "start": {strconv.FormatInt(s.now().UnixNano(), 10)},
	}.Encode()
	dial, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("no answer in %v", s.cfg.Timeout))
	started := s.env.Now()
	conn, res, err := websocket.Dial(dial, u.String(), &websocket.DialOptions{HTTPClient: s.up.HTTP(), HTTPHeader: s.up.Header()}) //nolint:bodyclose // the library says that it is never to be closed
	cancel()
	s.audit(query, started, err)
	if err != nil {
		return refusal(res, s.now()), fmt.Errorf("tail: %w", err)
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxFrame)
	s.bell.open.Set(1)
	ctx, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	wg.Go(func() {
		// A connection that is dead and does not know it ends the reading below.
		for upstream.Wait(ctx, pingEvery) {
			ping, cancel := context.WithTimeout(ctx, pingEvery)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				end()
			}
		}
	})
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return 0, fmt.Errorf("tail: %w", err)
		}
		lines, dropped := times(frame)
		for _, at := range lines {
			s.bell.line(at)
		}
		s.bell.gone.Add(float64(len(dropped)))
		for _, at := range dropped {
			s.bell.line(at) // its window is to be read early too
		}
	}
}

func (s *Source) audit(query string, started time.Time, err error) {
	if s.env.Audit == nil {
		return
	}
	a := event.Audit{
		Service: "collector", Source: "loki", Instance: s.name, Target: s.up.URL("/").Host, Operation: "tail", Query: query,
		Time: started.UTC(), DurationMS: s.env.Now().Sub(started).Milliseconds(),
	}
	if err != nil {
		a.Error = err.Error()
	}
	s.env.Audit(a)
}

// refusal is how long to leave a server alone that has refused a tail.
func refusal(res *http.Response, now time.Time) time.Duration {
	if res == nil {
		return 0
	}
	if d := upstream.RetryAfter(res.Header, now); d > 0 {
		return d
	}
	if res.StatusCode/100 == 4 {
		return time.Minute // too many tails, no right to it, or no such path
	}
	return 0
}

// times reads a frame of the tail: only when its lines were written, and those
// that it leaves out.
func times(frame []byte) (lines, dropped []time.Time) {
	var f struct {
		Streams []struct {
			Values [][]json.RawMessage `json:"values"`
		} `json:"streams"`
		Dropped []struct {
			Timestamp json.RawMessage `json:"timestamp"`
		} `json:"dropped_entries"`
	}
	if json.Unmarshal(frame, &f) != nil {
		return nil, nil
	}
	for _, st := range f.Streams {
		for _, v := range st.Values {
			if len(v) < 2 {
				continue
			}
			if at, ok := moment(v[0]); ok {
				lines = append(lines, at)
			}
		}
	}
	for _, d := range f.Dropped {
		if at, ok := moment(d.Timestamp); ok {
			dropped = append(dropped, at)
		}
	}
	return lines, dropped
}

// moment reads nanoseconds in a string, or a time as JSON writes it.
func moment(raw json.RawMessage) (time.Time, bool) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return time.Time{}, false
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(0, n).UTC(), true
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	return at.UTC(), err == nil
}

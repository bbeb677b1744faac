// Package bus moves events over NATS JetStream: typed publish and consume,
// checkpointed folds over partitions, leases, key-value state, dead letters.
// It is the only package that knows JetStream; the server in process is
// bus/embedded.
package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Settings are what code passes to [Connect].
type Settings struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Tracer  trace.Tracer
	// Now is this machine's clock; nil: time.Now. It is for what is told: recorded
	// times, lags, the age of what is kept. Leases live by the server's clock and
	// are renewed by the monotonic one, and nothing that is decided depends on them.
	Now       func() time.Time
	Name      string                       // of the connection: the service's name
	Source    string                       // ce-source: //<cluster>/<service>
	InProcess nats.InProcessConnProvider   // the server in this process; nil: Config.URL
	OnState   func(ready bool, why string) // told when the connection comes and goes; may be nil
	// Patient makes Connect wait while the servers refuse the credentials, which
	// may be replaced on disk; else it returns that as an error.
	Patient bool
}

// Bus is a connection to one JetStream. Its methods are safe for concurrent use.
type Bus struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	cfg     Config
	set     Settings
	metrics *metrics
	roster  *roster
	folded  *sync.Map // group/partition to the last sequence folded here
	// restored is, by group/partition, whether it began with a checkpoint.
	restored *sync.Map
	// refused is what was told of the servers' refusal of our credentials; nil
	// when they do not.
	refused *atomic.Pointer[string]
	// unwatch ends the goroutine that watches the quorum, and waits for it.
	unwatch func()
}

// Connect connects, and makes streams and buckets when the configuration says
// so; else it waits until somebody has made them. A server that is not there yet
// is waited for until ctx is done.
func Connect(ctx context.Context, cfg Config, set Settings) (*Bus, error) {
	set.defaults()
	cfg.MemberTTL = cmp.Or(cfg.MemberTTL, DefaultConfig().MemberTTL)
	b := &Bus{cfg: cfg, set: set, metrics: newMetrics(set.Metrics, set.Now), folded: &sync.Map{}, roster: &roster{}, restored: &sync.Map{}, refused: &atomic.Pointer[string]{}}
	opts, adopt := b.options()
	var err error
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		b.nc, err = nats.Connect(cfg.URL, opts...)
		if err == nil {
			adopt(b.nc)
			b.refused.Store(nil)
			break
		}
		switch {
		case set.Patient && refusal(err):
			b.tellRefused(err)
		case refusal(err):
			return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, b.explain(err))
		case !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout):
			return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
		default:
			set.Log.Warn("nats unreachable, trying again", "url", cfg.URL, "err", err)
		}
		if !sleep(ctx, wait) {
			return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
		}
	}
	b.js, err = jetstream.New(b.nc,
		jetstream.WithPublishAsyncMaxPending(cfg.MaxPending),
		jetstream.WithPublishAsyncTimeout(publishTimeout),
		jetstream.WithDefaultTimeout(10*time.Second))
	if err != nil {
		b.nc.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
	}
	prepare := b.EnsureStreams
	if !cfg.ManageStreams {
		prepare = b.awaitStreams
	}
	if err := prepare(ctx); err != nil {
		b.nc.Close()
		return nil, err
	}
	set.OnState(true, "")
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	watch.Go(func() { b.watchQuorum(watching) })
	b.unwatch = func() { cancel(); watch.Wait() }
	return b, nil
}

const (
	// quorumEvery is how often a connection asks whether the streams have a
	// leader that has a quorum.
	quorumEvery = 2 * time.Second
	// silentFor is after how long without a heartbeat, which comes each second, a
	// replica is taken for gone. A leader left alone takes more than 10 s to resign,
	// and a service has 15 s to say that it is not ready.
	silentFor = 6 * time.Second
)

// watchQuorum tells of streams that have lost their quorum while the connection
// still stands, as when most servers are gone: a service that only reads would
// else wait, ready, for messages that cannot come.
func (b *Bus) watchQuorum(ctx context.Context) {
	lost := false
	for sleep(ctx, quorumEvery) {
		if !b.nc.IsConnected() {
			continue // told of by the connection
		}
		call, cancel := context.WithTimeoutCause(ctx, quorumEvery, errors.New("no answer"))
		s, err := b.js.Stream(call, LastMade)
		cancel()
		if err == nil {
			err = quorum(s.CachedInfo().Cluster)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if lost {
				b.set.Log.Info("streams have a quorum again")
				b.set.OnState(true, "")
			}
			lost = false
		case b.nc.IsConnected():
			if !lost {
				b.set.Log.Warn("streams without a quorum, nothing is stored until more servers are back", "err", err)
			}
			lost = true
			b.set.OnState(false, "NATS does not store: "+err.Error())
		}
	}
}

// quorum says that a stream has no leader, or one that hears too few of its
// replicas; nil when all is well, or there is one server alone.
func quorum(c *jetstream.ClusterInfo) error {
	if c == nil {
		return nil
	}
	if c.Leader == "" {
		return fmt.Errorf("%s has no leader", LastMade)
	}
	all, heard := 1+len(c.Replicas), 1
	for _, r := range c.Replicas {
		if !r.Offline && r.Active < silentFor {
			heard++
		}
	}
	if 2*heard <= all {
		return fmt.Errorf("%d of %d servers of %s answer, which is no quorum", heard, all, LastMade)
	}
	return nil
}

func (s *Settings) defaults() {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Metrics == nil {
		s.Metrics = prometheus.NewRegistry()
	}
	if s.Tracer == nil {
		s.Tracer = noop.NewTracerProvider().Tracer("")
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Source == "" {
		s.Source = "//cluster/oncall"
	}
	if s.OnState == nil {
		s.OnState = func(bool, string) {}
	}
}

// options are the client's, and adopt must be called with the connection made.
func (b *Bus) options() (opts []nats.Option, adopt func(*nats.Conn)) {
	adopt = func(*nats.Conn) {}
	opts = []nats.Option{
		nats.Name(b.set.Name), nats.MaxReconnects(-1),
		// A refused key is no reason to give up for ever: while keys are rotated,
		// servers and clients learn of it at different times.
		nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(500 * time.Millisecond), nats.ReconnectJitter(200*time.Millisecond, time.Second),
		nats.Timeout(5 * time.Second), nats.PingInterval(20 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.set.Log.Warn("nats connection lost, reconnecting", "err", err)
			}
			why := "NATS connection lost"
			if refused := b.refused.Load(); refused != nil {
				why = *refused // thrown out: told of first, and the better reason
			}
			b.set.OnState(false, why)
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			b.refused.Store(nil)
			b.set.Log.Info("nats connection regained")
			b.set.OnState(true, "")
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if refusal(err) {
				b.tellRefused(err)
				return
			}
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			if errors.Is(err, nats.ErrSlowConsumer) {
				b.metrics.slow.Inc()
			}
			b.set.Log.Warn("nats reported an error", "subject", subject, "err", err)
		}),
	}
	if b.set.Name != "" {
		opts = append(opts, nats.CustomInboxPrefix(Inbox(b.set.Name)))
	}
	if b.set.InProcess != nil {
		return append(opts, nats.InProcessServer(b.set.InProcess)), adopt
	}
	switch {
	case b.cfg.Credentials != "":
		c := &credsFile{path: b.cfg.Credentials}
		opts = append(opts, c.option)
	case b.cfg.NKey != "":
		k := newNKeyFile(b.cfg.NKey)
		opts, adopt = append(opts, k.option), k.conn.Store
	}
	if b.cfg.TLS.CA != "" {
		opts = append(opts, nats.RootCAs(b.cfg.TLS.CA))
	}
	if b.cfg.TLS.Cert != "" {
		opts = append(opts, nats.ClientCert(b.cfg.TLS.Cert, b.cfg.TLS.Key))
	}
	return opts, adopt
}

// closeTime is what Close has. The client blocks, with its lock held, while the
// server takes nothing.
const closeTime = 10 * time.Second

// Close drains what is under way and closes the connection, in at most 10 s.
func (b *Bus) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return b.close(ctx)
}

func (b *Bus) close(ctx context.Context) error {
	drained := make(chan error, 1)
	go func() {
		b.unwatch()
		closed := make(chan struct{})
		b.nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
		if err := b.nc.Drain(); err != nil {
			b.nc.Close()
			drained <- fmt.Errorf("drain NATS connection: %w", err)
			return
		}
		<-closed
		drained <- nil
	}()
	select {
	case err := <-drained:
		return err
	case <-ctx.Done():
		go b.nc.Close() // blocks too, when it was the client that did
		return errors.New("drain NATS connection: the server does not take what is left in time")
	}
}

// Conn is the connection, for what only NATS can do: a subscriber that taps
// core subjects.
func (b *Bus) Conn() *nats.Conn { return b.nc }

// Now is the bus's wall clock.
func (b *Bus) Now() time.Time { return b.set.Now() }

// WithSource is the same connection publishing under another ce-source: a
// process that runs several services has one connection.
func (b *Bus) WithSource(source string) *Bus {
	c := *b
	c.set.Source = source
	return &c
}

// Folded is the position in its stream up to which a partition of a group has
// been folded by this process; 0 before the first message.
func (b *Bus) Folded(group string, partition int) uint64 {
	v, _ := b.folded.Load(partitionKey{group, partition})
	n, _ := v.(uint64)
	return n
}

type partitionKey struct {
	group     string
	partition int
}

// Last is the position of the last message of a stream.
func (b *Bus) Last(ctx context.Context, s *event.Stream) (uint64, error) {
	st, err := b.js.Stream(ctx, s.Name)
	if err != nil {
		return 0, fmt.Errorf("stream %s: %w", s.Name, err)
	}
	return st.CachedInfo().State.LastSeq, nil
}

// Bounds are the positions of the first and the last message of a stream; first
// is one past last when it is empty, 1 and 0 when it always was.
func (b *Bus) Bounds(ctx context.Context, s *event.Stream) (first, last uint64, err error) {
	st, err := b.js.Stream(ctx, s.Name)
	if err != nil {
		return 0, 0, fmt.Errorf("stream %s: %w", s.Name, err)
	}
	info := st.CachedInfo().State
	if info.Msgs == 0 {
		return info.LastSeq + 1, info.LastSeq, nil
	}
	return info.FirstSeq, info.LastSeq, nil
}

// Ends is the position of the last message for each partition of a partitioned
// stream, those for all partitions included; 0 where there is none.
func (b *Bus) Ends(ctx context.Context, s *event.Stream) ([event.Partitions]uint64, error) {
	var ends [event.Partitions]uint64
	st, err := b.js.Stream(ctx, s.Name)
	if err != nil {
		return ends, fmt.Errorf("stream %s: %w", s.Name, err)
	}
	last := func(filter string) (uint64, error) {
		m, err := st.GetLastMsgForSubject(ctx, filter)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			return 0, nil
		case err != nil:
			return 0, fmt.Errorf("stream %s: last of %s: %w", s.Name, filter, err)
		}
		return m.Sequence, nil
	}
	everywhere := uint64(0)
	for _, k := range event.Kinds() {
		if k.Stream != s || strings.Contains(k.Address, "{partition}") {
			continue
		}
		seq, err := last(k.Filter())
		if err != nil {
			return ends, err
		}
		everywhere = max(everywhere, seq)
	}
	for p := range ends {
		ends[p] = everywhere
		for _, subjects := range s.Subjects {
			seq, err := last(strings.TrimSuffix(subjects, ">") + event.PartitionToken(p) + ".>")
			if err != nil {
				return ends, err
			}
			ends[p] = max(ends[p], seq)
		}
	}
	return ends, nil
}

// Idle says whether a durable consumer has nothing waiting and nothing under
// way.
func (b *Bus) Idle(ctx context.Context, s *event.Stream, durable string) (bool, error) {
	c, err := b.js.Consumer(ctx, s.Name, durable)
	if err != nil {
		return false, fmt.Errorf("consumer %s of %s: %w", durable, s.Name, err)
	}
	info := c.CachedInfo()
	return info.NumPending == 0 && info.NumAckPending == 0, nil
}

// sleep waits, and returns false when ctx is done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

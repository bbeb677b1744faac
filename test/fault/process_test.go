//go:build e2e

package fault

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	_ "github.com/oncall-copilot/oncall/services/collector/sources"
	"github.com/oncall-copilot/oncall/services/correlator"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
	"github.com/oncall-copilot/oncall/services/notifier"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

var (
	kills = flag.Int("kills", 40, "how many services the random-kill test kills")
	seed  = flag.Uint64("seed", 1, "seed of the random-kill test")
	keep  = flag.Bool("logs", false, "print the services' logs of every test, not only of failed ones")
)

// specs are the five services. The test's own binary is their program: one link
// for all of them, and nothing that lies about from an earlier run.
var specs = map[string]service.Spec{
	"collector": collector.Spec, "detector": detector.Spec, "correlator": correlator.Spec,
	"reasoner": reasoner.Spec, "notifier": notifier.Spec,
}

const (
	// envService makes the test binary the service of that name.
	envService = "ONCALL_FAULT_SERVICE"
	// envPanics puts the panicking detector of this package into a detector
	// service.
	envPanics = "ONCALL_FAULT_PANICS"
)

// atOnce is how many tests run side by side: they wait for leases and paced
// sources more than they compute.
const atOnce = 6

func TestMain(m *testing.M) {
	if spec, ok := specs[os.Getenv(envService)]; ok {
		if os.Getenv(envPanics) != "" {
			detector.Builtin.Register(panicking())
		}
		os.Exit(service.MainWith(service.Options{Now: machineClock()}, os.Args[1:], spec))
	}
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", strconv.Itoa(max(atOnce, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// process is one running service.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *syncBuffer
	from int // where its part of the log begins
	done chan struct{}
	err  error // of Wait, once done is closed
}

// start runs a service as a process of the name, which may carry a suffix, as in
// correlator-2; env is added to ours.
func start(t testing.TB, name, config string, log *syncBuffer, env ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kind, _, _ := strings.Cut(name, "-")
	p := &process{name: name, cmd: exec.Command(self, "-config", config), log: log, from: len(log.String()), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(append(os.Environ(), envService+"="+kind), env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	return p
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process as the kernel does when memory is short.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop asks the process to end and says how long that took.
func (p *process) stop(limit time.Duration) (time.Duration, error) {
	began := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		var exit *exec.ExitError
		if errors.As(p.err, &exit) {
			return time.Since(began), fmt.Errorf("%s ended with %w", p.name, p.err)
		}
		return time.Since(began), nil
	case <-time.After(limit):
		p.kill()
		return time.Since(began), fmt.Errorf("%s still ran %v after SIGTERM", p.name, limit)
	}
}

// started says whether the process has come so far as to run its service.
func (p *process) started() bool { return strings.Contains(p.log.String()[p.from:], `"msg":"started"`) }

// alive says whether the process runs.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// syncBuffer is the log of the processes of one service.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// freePort is a loopback port that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// eventually waits for a condition.
func eventually(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	if !within(t, limit, cond) {
		t.Fatalf("%s: not within %v", what, limit)
	}
}

// within waits for a condition, and says whether it came to hold: for a caller
// that has more to say of it than that it did not.
func within(t testing.TB, limit time.Duration, cond func() bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// passes lets time pass, for what has no condition: a source's slowness, the
// moment of a kill. It ends early when ctx does.
func passes(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// rss is the resident memory of a process in bytes.
func (p *process) rss(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		if runtime.GOOS != "linux" {
			t.Skip("the memory of a process is read from /proc, which is Linux's")
		}
		t.Fatal(err)
	}
	var kb int64
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscanf(rest, "%d", &kb)
		}
	}
	return kb << 10
}

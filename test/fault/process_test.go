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
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
)

var (
	kills = flag.Int("kills", 20, "how many services the random-kill test kills")
	seed  = flag.Uint64("seed", 1, "seed of the random-kill test")
	keep  = flag.Bool("logs", false, "print the services' logs of every test, not only of failed ones")
)

// bin is where the services' programs are.
var bin string

// envDetector makes the test binary a detector service with the panicking
// detector of this package in it.
const envDetector = "ONCALL_FAULT_DETECTOR"

func TestMain(m *testing.M) {
	if os.Getenv(envDetector) != "" {
		detector.Builtin.Register(panicking())
		os.Exit(service.Main(os.Args[1:], detector.Spec))
	}
	flag.Parse()
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(code)
}

// build makes the five programs once, where the next run finds them, and runs
// the tests.
func build(m *testing.M) (int, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	bin = filepath.Join(cache, "oncall", "fault")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return 0, err
	}
	args := []string{"build", "-o", bin + string(filepath.Separator)}
	for _, s := range service.Names {
		args = append(args, "github.com/oncall-copilot/oncall/services/"+s+"/cmd/"+s)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the services: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// process is one running service.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{}
	err  error // of Wait, once done is closed
}

// start runs a program; env is added to ours.
func start(t testing.TB, name, program string, log *syncBuffer, env []string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(program, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
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

package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Bed keeps what belongs together: a folder for data and logs, and the servers
// that were started. Its methods are safe for concurrent use.
type Bed struct {
	Dir string // data and logs, one folder a server

	mu      sync.Mutex
	closers []func()
}

// New makes a bed in a folder, which it makes when it is not there.
func New(dir string) (*Bed, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("testbed: %w", err)
	}
	return &Bed{Dir: dir}, nil
}

// Close ends every server, the last started first, and waits until each is
// gone.
func (b *Bed) Close() {
	b.mu.Lock()
	all := b.closers
	b.closers = nil
	b.mu.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		all[i]()
	}
}

// OnClose has Close call f, before what was started earlier ends.
func (b *Bed) OnClose(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closers = append(b.closers, f)
}

// dir makes a folder of the bed.
func (b *Bed) dir(name string) (string, error) {
	d := filepath.Join(b.Dir, name)
	if err := os.MkdirAll(d, 0o755); err != nil {
		return "", fmt.Errorf("testbed: %w", err)
	}
	return d, nil
}

// Process is one running server.
type Process struct {
	Name string
	Log  string // file of its standard output and error

	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; valid once done is closed
}

// command is how to start a server. It is asked again for every attempt,
// because a port that was free may be taken by the time the server binds it.
type command struct {
	name  string
	ports int // how many free ports argv gets
	argv  func(ports []int) (argv []string, env []string, err error)
	ready func(ctx context.Context, ports []int) error // nil error: ready
	limit time.Duration                                // to become ready; 0: a minute
}

// attempts bounds how often a server is started that lost the race for a port.
const attempts = 4

// start starts a server and waits until it is ready.
func (b *Bed) start(ctx context.Context, c command) (*Process, []int, error) {
	var err error
	for range attempts {
		var p *Process
		var ports []int
		p, ports, err = b.attempt(ctx, c)
		if err == nil {
			return p, ports, nil
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, nil, err
}

func (b *Bed) attempt(ctx context.Context, c command) (*Process, []int, error) {
	ports, err := freePorts(c.ports)
	if err != nil {
		return nil, nil, err
	}
	argv, env, err := c.argv(ports)
	if err != nil {
		return nil, nil, err
	}
	p, err := b.Launch(c.name, env, argv...)
	if err != nil {
		return nil, nil, err
	}
	limit := c.limit
	if limit == 0 {
		limit = time.Minute
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not ready in %v", limit))
	defer cancel()
	if err := p.await(ctx, func(ctx context.Context) error { return c.ready(ctx, ports) }); err != nil {
		p.Kill()
		return nil, nil, fmt.Errorf("start %s: %w\n%s", c.name, err, p.Tail(25))
	}
	return p, ports, nil
}

// await polls ready until it has no error, the process ends or ctx is done.
func (p *Process) await(ctx context.Context, ready func(context.Context) error) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-t.C:
		}
	}
}

// Launch starts a program whose log goes into the bed and whose life ends with
// the bed. env is added to the environment.
func (b *Bed) Launch(name string, env []string, argv ...string) (*Process, error) {
	logs, err := b.dir("log")
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, Log: filepath.Join(logs, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("testbed: %w", err)
	}
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Dir = b.Dir
	p.cmd.SysProcAttr = attributes()
	if err := fork(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		if p.err == nil {
			p.err = errors.New("exit status 0")
		}
		close(p.done)
	}()
	b.OnClose(p.Stop)
	return p, nil
}

// The kernel ends a child when the thread that forked it ends, not the
// process. One thread that lives as long as the process forks them all.
var (
	forks     = make(chan func())
	forkStart sync.Once
)

func fork(cmd *exec.Cmd) error {
	forkStart.Do(func() {
		go func() {
			runtime.LockOSThread()
			for f := range forks {
				f()
			}
		}()
	})
	done := make(chan error)
	forks <- func() { done <- cmd.Start() }
	return <-done
}

// Pid is the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// stopTime is how long a server has after SIGTERM.
const stopTime = 10 * time.Second

// Stop ends the process with SIGTERM, and with SIGKILL when that is not
// enough, and waits until it is gone.
func (p *Process) Stop() {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		p.Kill()
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}

// Tail is the end of the process's log.
func (p *Process) Tail(lines int) string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("--- end of %s\n%s", p.Log, tail(string(b), lines))
}

// freePorts finds ports on which nothing listens. All are held while they are
// looked for, so that no two are the same.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("free port: %w", err)
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// local is the address of a port on the loopback.
func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// answers says whether a URL answers with a 2xx.
func answers(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s", url, res.Status)
	}
	return nil
}

package foreign

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"time"
)

// child is a running process.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan answer
	done    chan struct{}
}

type answer struct {
	line []byte
	err  error
}

func start(ctx context.Context, cfg Config, log *slog.Logger) (*child, error) {
	cmd := exec.CommandContext(ctx, cfg.Exec[0], cfg.Exec[1:]...)
	cmd.WaitDelay = 5 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cfg.Exec[0], err)
	}
	c := &child{cmd: cmd, in: in, answers: make(chan answer, 1), done: make(chan struct{})}
	go c.read(out)
	go func() {
		defer close(c.done)
		s := bufio.NewScanner(stderr)
		for s.Scan() {
			log.Info("child says", "text", clip(s.Text()))
		}
	}()
	return c, nil
}

// read passes answers on, one at a time; it ends with the child.
func (c *child) read(out io.Reader) {
	defer close(c.answers)
	s := bufio.NewScanner(out)
	s.Buffer(make([]byte, 64<<10), maxAnswer)
	for s.Scan() {
		c.answers <- answer{line: bytes.Clone(s.Bytes())}
	}
	err := s.Err()
	if err == nil {
		err = io.EOF
	}
	c.answers <- answer{err: err}
}

// ask writes one window and waits for its answer.
func (c *child) ask(w window, timeout time.Duration) ([]byte, error) {
	b, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("write window: %w", err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.in.Write(append(b, '\n'))
		wrote <- err
	}()
	t := time.NewTimer(timeout)
	defer t.Stop()
	for {
		select {
		case err := <-wrote:
			if err != nil {
				return nil, fmt.Errorf("%w: window of %s: %w", errChild, w.Watermark.Format(time.RFC3339), err)
			}
			wrote = nil
		case a := <-c.answers:
			if a.err != nil || a.line == nil {
				return nil, fmt.Errorf("%w: no answer to the window of %s: %w", errChild, w.Watermark.Format(time.RFC3339), cmp.Or(a.err, io.EOF))
			}
			return a.line, nil
		case <-t.C:
			return nil, fmt.Errorf("%w: no answer to the window of %s within %s", errChild, w.Watermark.Format(time.RFC3339), timeout)
		}
	}
}

// stop closes the child's input, gives it a moment, kills it and waits.
func (c *child) stop() {
	_ = c.in.Close()
	go func() {
		for range c.answers { // let read end
		}
	}()
	ended := make(chan struct{})
	go func() {
		<-c.done
		_ = c.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(2 * time.Second):
		_ = c.cmd.Process.Kill()
		<-ended
	}
}

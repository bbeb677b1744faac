// Command oncall is the on-call engineer's first twenty minutes, done by a
// machine that only reads: it watches a cluster, notices what is abnormal,
// groups it into incidents and reports them with evidence and next checks.
//
// Rules of its output: what was asked for goes to standard output, everything
// else to standard error; colours only on a terminal; an error is one line
// beginning with "oncall:", with a "hint:" where there is something to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"

	_ "github.com/oncall-copilot/oncall/pkg/carried"
	"github.com/oncall-copilot/oncall/pkg/service"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	// What client-go logs is in its errors too, which are told in one line.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	o := &options{plugin: asPlugin(os.Args[0])}
	root := newRoot(o)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if lost := o.endAudits(ctx); err == nil {
		err = lost
	}
	if err == nil {
		return service.ExitOK
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return service.ExitInterrupted
	}
	fmt.Fprintln(os.Stderr, "oncall:", err)
	var h *hintError
	if errors.As(err, &h) {
		fmt.Fprintln(os.Stderr, "hint:", o.called(h.hint))
		if h.code != 0 {
			return h.code
		}
	}
	return service.ExitCode(err)
}

// hintError is an error with something to do about it.
type hintError struct {
	err  error
	hint string
	code int // exit code; 0 leaves it to the error
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func hint(err error, code int, format string, args ...any) error {
	return &hintError{err: err, hint: fmt.Sprintf(format, args...), code: code}
}

package embedded_test

import (
	"context"
	"errors"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
)

// TestAServerWhoseDiskWasFullAsksToBeStartedAgain has every write beyond half a
// megabyte fail for a while, as on a full disk. It is not parallel: the limit is the
// process's.
func TestAServerWhoseDiskWasFullAsksToBeStartedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, dir)
	if err := stream(t, s, "FULL"); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	signal.Ignore(syscall.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = 512 << 10
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("full", make([]byte, 600<<10)); err != nil {
		t.Fatal(err)
	}
	look, deadline := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer look.Stop()
	failed := false
	for late := false; !failed && !late; {
		select {
		case <-look.C:
			failed = s.Healthz(nil).Status != "ok"
		case <-deadline:
			late = true
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if !failed {
		t.Fatal("a message that had no room changed nothing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Watch(ctx); !errors.Is(err, embedded.ErrFull) {
		t.Fatalf("err = %v, want ErrFull", err)
	}
	_ = s.Close()
	again := start(t, dir)
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := again.Watch(ctx); err != nil {
		t.Errorf("after a new start: %v", err)
	}
}

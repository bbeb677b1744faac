package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
)

func TestASecondServerOnADirectoryIsRefusedUntilTheFirstIsGone(t *testing.T) {
	dir := t.TempDir()
	first, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = embedded.Start(embedded.Config{Dir: dir})
	if !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("err = %v, want ErrInUse and the process that has it", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		t.Fatalf("after the first is gone: %v", err)
	}
	_ = again.Close()
}

func TestListenTakesLoopbackAddressesOnly(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:4222":   "is not a loopback address",
		"10.1.2.3:0":     "is not a loopback address",
		"127.0.0.1":      "is not host:port",
		"127.0.0.1:nats": "port is not a number",
	} {
		if _, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: addr}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen %q: %v, want %q", addr, err, want)
		}
	}
}

func TestAServerWhoseDirectoryIsTakenAwayLearnsOfIt(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
		"moved": func(t *testing.T, dir string) {
			if err := os.Rename(dir, dir+".old"); err != nil {
				t.Fatal(err)
			}
		},
		"the lock in it removed": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "oncall.lock")); err != nil {
				t.Fatal(err)
			}
		},
		"made anew by another": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			start(t, dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s := start(t, dir)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.Watch(ctx); err != nil {
				t.Fatalf("before anything was done: %v", err)
			}
			take(t, dir)
			ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := s.Watch(ctx); !errors.Is(err, embedded.ErrGone) || !strings.Contains(err.Error(), dir) {
				t.Errorf("err = %v, want ErrGone and the directory", err)
			}
		})
	}
}

// Files of the server are opened again by name when they were idle for 30 s:
// before it was held by a descriptor, a server found those of its successor,
// took what it had stored for lost, and wrote on where the other was writing.
func TestAServerNeverTouchesTheDirectoryThatTookThePlaceOfItsOwn(t *testing.T) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("this system has no path to an open directory")
	}
	dir := filepath.Join(t.TempDir(), "data")
	first := start(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	second := start(t, dir)
	if err := stream(t, second, "SECOND"); err != nil {
		t.Fatal(err)
	}
	if err := stream(t, first, "FIRST"); err == nil {
		t.Error("the first server made a stream though its directory is gone")
	}
	_ = first.Close()
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || filepath.Base(found[0]) != "SECOND" {
		t.Errorf("streams in the directory of the second server: %q, want only SECOND", found)
	}
}

func start(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// stream has a server make one.
func stream(t *testing.T, s *embedded.Server, name string) error {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}})
	return err
}

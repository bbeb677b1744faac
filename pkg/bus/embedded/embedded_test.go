package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

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

package obs

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo terminal: what is written to one end is read from the other.
func terminal(t *testing.T) (write, read *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("no pseudo terminal: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return slave, master
}

func TestATerminalIsToldInTextUnlessTheFileSaysJSON(t *testing.T) {
	for name, c := range map[string]struct {
		format   string
		terminal bool
		json     bool
	}{
		"a terminal, by default":        {DefaultConfig().LogFormat, true, false},
		"a terminal that is to be JSON": {"json", true, true},
		"a file, by default":            {DefaultConfig().LogFormat, false, true},
		"a file that is to be text":     {"text", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			out, in := (*os.File)(nil), (*os.File)(nil)
			if c.terminal {
				out, in = terminal(t)
			} else {
				path := filepath.Join(t.TempDir(), "log")
				var err error
				if out, err = os.Create(path); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = out.Close() }()
				if in, err = os.Open(path); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = in.Close() }()
			}
			NewLogger(out, Config{LogFormat: c.format, LogLevel: "info"}).Info("hello")
			line, err := bufio.NewReader(in).ReadString('\n')
			if err != nil || !strings.Contains(line, "hello") || strings.HasPrefix(line, "{") != c.json {
				t.Errorf("%q, %v; want JSON: %v", line, err, c.json)
			}
		})
	}
}

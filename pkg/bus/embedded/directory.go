package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrInUse is wrapped by the error of Start when another process has the
// directory.
var ErrInUse = errors.New("data directory is in use")

// ErrGone and ErrFull are wrapped by the error of Watch.
var (
	ErrGone = errors.New("data directory was taken away")
	ErrFull = errors.New("data directory was full")
)

const lockName = "oncall.lock"

// directory is a data directory that belongs to this process until it is
// closed.
type directory struct {
	name string // absolute
	self *os.File
	lock *os.File
	held fs.FileInfo // of the lock
}

// lockDir makes the directory when it is not there, and takes it.
func lockDir(name string) (*directory, error) {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	d := &directory{name: name}
	if d.self, err = os.Open(name); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if d.lock, err = os.OpenFile(filepath.Join(d.path(), lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		_ = d.self.Close()
		return nil, fmt.Errorf("lock data directory %s: %w", name, err)
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(filepath.Join(d.path(), lockName))
		_ = d.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s belongs to process %s; stop it, or choose another with --data", ErrInUse, name, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock data directory %s: %w", name, err)
	}
	if d.held, err = d.lock.Stat(); err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("lock data directory %s: %w", name, err)
	}
	if err := d.lock.Truncate(0); err == nil {
		_, _ = d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return d, nil
}

// path leads to the directory that is locked, whatever becomes of its name. The
// server opens its files again and again by name. A directory that was removed
// and made anew by another process is not locked by us: through its name two
// servers would write over each other, through this path nothing is found.
// Where the system has no such path, it is the name.
func (d *directory) path() string {
	path := filepath.Join("/proc/self/fd", strconv.FormatUint(uint64(d.self.Fd()), 10))
	held, err := d.self.Stat()
	if err != nil {
		return d.name
	}
	if found, err := os.Stat(path); err != nil || !os.SameFile(held, found) {
		return d.name
	}
	return path
}

// check returns ErrGone, wrapped, when the name leads elsewhere than to what is
// locked. A file system that does not answer at the moment says nothing.
func (d *directory) check() error {
	switch found, err := os.Stat(filepath.Join(d.name, lockName)); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s was removed or moved while this process was using it; start again, and give each process a directory of its own with --data", ErrGone, d.name)
	case err == nil && !os.SameFile(d.held, found):
		return fmt.Errorf("%w: %s was made anew while this process was using it; stop one of the two, and give each process a directory of its own with --data", ErrGone, d.name)
	}
	return nil
}

// enough is how many bytes have to be free, or a twentieth of a small file system,
// for a server that has found it full to begin again.
const enough = 64 << 20

// room says whether enough is free. A file system that does not answer has none.
func (d *directory) room() bool {
	var st unix.Statfs_t
	if err := unix.Statfs(d.path(), &st); err != nil {
		return false
	}
	block := uint64(st.Bsize) //nolint:gosec // of another type on each system, and above 0
	return st.Bavail*block >= min(enough, st.Blocks*block/20)
}

// Close gives the directory free.
func (d *directory) Close() error { return errors.Join(d.lock.Close(), d.self.Close()) }

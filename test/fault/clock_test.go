//go:build e2e

package fault

import (
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// envClock is a file that holds by how much the clock of a service's machine is
// to be set, and may be written again while the service runs.
const envClock = "ONCALL_FAULT_CLOCK"

// machineClock is the clock of the machine of a service; nil for the true one.
func machineClock() func() time.Time {
	file := os.Getenv(envClock)
	if file == "" {
		return nil
	}
	var by atomic.Int64
	look := func() {
		b, _ := os.ReadFile(file)
		if d, err := time.ParseDuration(string(b)); err == nil {
			by.Store(int64(d))
		}
	}
	look()
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			look()
		}
	}()
	return func() time.Time { return setBy(time.Now(), time.Duration(by.Load())) }
}

// setBy is a reading of the clock as it would have been had the clock been set
// by whole seconds. Its monotonic part stays what it was, which Add cannot do:
// whoever measures how long something takes is not disturbed by a clock that is
// set.
func setBy(t time.Time, by time.Duration) time.Time {
	type reading struct {
		wall uint64 // bits 30 to 62 are seconds, where there is a monotonic part
		ext  int64
		loc  *time.Location
	}
	r := (*reading)(unsafe.Pointer(&t))
	r.wall += uint64(by/time.Second) << 30
	return t
}

func TestAClockThatIsSetMovesNoMonotonicReading(t *testing.T) {
	for _, by := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute, -3 * time.Hour} {
		now := time.Now()
		set := setBy(now, by)
		if got := set.Round(0).Sub(now.Round(0)); got != by {
			t.Errorf("the wall clock was set by %v, want %v", got, by)
		}
		if got := set.Sub(now); got != 0 {
			t.Errorf("set by %v, the monotonic clock was moved by %v", by, got)
		}
	}
}

package upstream

import (
	"context"
	"errors"
	"time"
)

// Reason is an error as said to people: what is wrong, without the source's
// name. It may quote what a server said, so that it is to be redacted.
func Reason(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return string(e.Kind) + ": " + e.Err.Error()
	}
	return err.Error()
}

// RetryIn is how long the source asked to be left alone; 0 when it did not.
func RetryIn(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// Wait waits, and returns false when ctx is done first.
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

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

// Pauses of [Patient].
const (
	patientPause  = 500 * time.Millisecond
	patientLonger = 30 * time.Second
)

// Patient asks until there is an answer, with pauses that double, or that the
// source asks for. It returns the error once it has waited for patience, at once
// when the source says who may not ask, or the question is wrong.
func Patient(ctx context.Context, patience time.Duration, ask func() error) error {
	pause := patientPause
	for waited := time.Duration(0); ; {
		err := ask()
		kind := KindOf(err)
		if err == nil || ctx.Err() != nil || waited >= patience || kind == Forbidden || kind == BadQuery {
			return err
		}
		wait := min(max(pause, RetryIn(err)), max(patience-waited, patientPause))
		if !Wait(ctx, wait) {
			return err
		}
		waited, pause = waited+wait, min(2*pause, patientLonger)
	}
}

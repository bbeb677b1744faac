package bus

import (
	"errors"
	"time"
)

// A handler's result is the acknowledgement: nil acknowledges, an error
// redelivers with back-off, [Retry] says when to redeliver, and [Reject] sends
// the message to the dead-letter stream with the reason. Where one of the two
// wraps the other, the outer one counts.

// RetryError asks for redelivery after a time of the handler's choosing.
type RetryError struct {
	Err   error
	After time.Duration
}

// Retry wraps err so that the message comes again after the given time: what
// a handler returns that was told to slow down.
func Retry(err error, after time.Duration) error { return &RetryError{Err: err, After: after} }

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// RejectError says that a message can never be processed.
type RejectError struct{ Err error }

// Reject wraps err so that the message goes to the dead-letter stream and is
// not tried again.
func Reject(err error) error { return &RejectError{Err: err} }

func (e *RejectError) Error() string { return e.Err.Error() }
func (e *RejectError) Unwrap() error { return e.Err }

var (
	// ErrNotFound is returned for a key, message or stream that is not there.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned by a compare-and-set whose revision is no longer
	// the current one: somebody else owns what is being written.
	ErrConflict = errors.New("revision conflict")
)

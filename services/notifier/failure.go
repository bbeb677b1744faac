package notifier

import (
	"errors"
)

// failure adds to an error what a channel knows about it beside the outcome.
type failure struct {
	err             error
	unsent, refused bool
}

func (e *failure) Error() string { return e.err.Error() }
func (e *failure) Unwrap() error { return e.err }

// Unsent marks an error about a message that certainly did not arrive, so that
// a repeat cannot double it.
func Unsent(err error) error { return &failure{err: err, unsent: true} }

// Refused marks an error that every other message would get too: the
// credentials are revoked, or there is nobody at the address any more. The
// notifier then stops sending there, and says so elsewhere.
func Refused(err error) error { return &failure{err: err, unsent: true, refused: true} }

// IsUnsent says whether the error was marked by [Unsent] or [Refused].
func IsUnsent(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.unsent
}

// IsRefused says whether the error was marked by [Refused].
func IsRefused(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.refused
}

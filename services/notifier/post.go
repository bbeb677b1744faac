package notifier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
)

// maxAnswer bounds what is read of a channel's answer.
const maxAnswer = 64 << 10

// Post sends a request and sorts the outcome as [Channel] wants it: nil for
// 2xx; bus.Retry for 429 and 503 that say how long; bus.Reject for answers
// that will not change by asking again: redirects and the other 4xx. It
// returns the body, of at most 64 KiB, with every status. Only the status and
// not the body gets into errors, which are published.
func Post(ctx context.Context, client *http.Client, req *http.Request, now time.Time) ([]byte, error) {
	res, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, unsent(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	err = fmt.Errorf("answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	switch {
	case res.StatusCode/100 == 2:
		return body, nil
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable:
		if wait := RetryAfter(res.Header, now); wait > 0 {
			return body, bus.Retry(errors.Join(err, ErrUnsent), wait)
		}
		return body, errors.Join(err, ErrUnsent)
	case res.StatusCode/100 == 3, res.StatusCode/100 == 4 && res.StatusCode != http.StatusRequestTimeout:
		return body, bus.Reject(err)
	}
	return body, err
}

// RetryAfter reads the header of that name, in seconds or as a date; 0 when
// there is none. More than an hour counts as an hour.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	var d time.Duration
	if n, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(n, 3600)) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return max(0, min(d, time.Hour))
}

// unsent marks an error of a request that never left: no name, no connection.
// The URL that net/http puts into its errors may carry a secret (an incoming
// webhook's path is one), so only the cause is kept.
func unsent(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED) {
		return errors.Join(fmt.Errorf("cannot connect: %w", rootCause(err)), ErrUnsent)
	}
	return fmt.Errorf("no answer: %w", rootCause(err))
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

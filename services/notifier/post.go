package notifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/render"
)

const (
	// maxAnswer bounds what is read of an answer. The largest that is wanted
	// is a page of a Slack channel's history, or an Alertmanager's silences.
	maxAnswer = 8 << 20
	// maxHeaders bounds the headers of an answer.
	maxHeaders = 64 << 10
	// maxRetryAfter is the longest wait that another side may impose.
	maxRetryAfter = time.Hour
)

// NewClient makes the client that channels share. It follows no redirect: a
// report must not wander elsewhere, and Standard Webhooks asks for it.
func NewClient(timeout time.Duration) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = maxHeaders
	t.MaxIdleConnsPerHost = lanes
	return &http.Client{
		Timeout: timeout, Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Post sends a request and returns the body of the answer, as [Do] does.
func Post(ctx context.Context, client *http.Client, req *http.Request, now time.Time) ([]byte, error) {
	res, err := Do(ctx, client, req, now)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	return io.ReadAll(res.Body) // from memory
}

// Do sends a request and sorts the outcome as [Channel] wants it: nil for 2xx;
// bus.Retry for an answer that says how long to wait; bus.Reject for those
// that will not change by asking again, which are redirects and the other 4xx,
// and of these [Refused] for those about us and not the message. The answer's
// body is in memory, as far as it could be read and at most 8 MiB. Neither the
// address nor the body gets into errors, which are published.
func Do(ctx context.Context, client *http.Client, req *http.Request, now time.Time) (*http.Response, error) {
	res, err := client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, noAnswer(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	// A body that ends early does not undo what the status says.
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err := sortStatus(res, now); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

func sortStatus(res *http.Response, now time.Time) error {
	if res.StatusCode/100 == 2 {
		return nil
	}
	err := fmt.Errorf("answered %s", strings.TrimSpace(fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode))))
	switch {
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable:
		if wait := RetryAfter(res.Header, now); wait > 0 {
			return bus.Retry(Unsent(err), wait)
		}
		return Unsent(err)
	case res.StatusCode == http.StatusRequestTimeout || res.StatusCode == http.StatusTooEarly:
		return err
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden,
		res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone,
		res.StatusCode == http.StatusProxyAuthRequired, res.StatusCode/100 == 3:
		return bus.Reject(Refused(err))
	case res.StatusCode/100 == 4:
		return bus.Reject(Unsent(err))
	}
	return err
}

// RetryAfter reads the header of that name, in seconds or as a date; 0 when
// there is none. More than an hour counts as an hour.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	var d time.Duration
	if n, err := strconv.ParseUint(v, 10, 64); err == nil {
		d = time.Duration(min(n, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return max(0, min(d, maxRetryAfter))
}

// noAnswer words the error of a request without an answer. The URL that
// net/http puts into its errors may hold a secret, so only the cause is kept.
func noAnswer(ctx context.Context, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return Unsent(fmt.Errorf("cannot connect: %w", rootCause(err)))
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return Unsent(fmt.Errorf("cannot connect: no address for %s", dns.Name))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("no answer: %w", context.Cause(ctx))
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return fmt.Errorf("no answer: %w", context.DeadlineExceeded)
	}
	// A malformed answer is quoted by net/http.
	return fmt.Errorf("no answer: %s", Clip(render.Plain(rootCause(err).Error()), 160))
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

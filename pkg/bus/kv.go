package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// KV is a key-value bucket with compare-and-set.
type KV interface {
	// Get returns ErrNotFound for a key that is not there.
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	Put(ctx context.Context, key string, value []byte) (revision uint64, err error)
	// Update writes if revision is still current, with 0 for "must not exist";
	// else it returns ErrConflict.
	Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key string) error
	// Keys lists keys that start with prefix, sorted.
	Keys(ctx context.Context, prefix string) ([]string, error)
}

// KV opens a bucket.
func (b *Bus) KV(ctx context.Context, bucket string) (KV, error) {
	kv, err := b.js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", bucket, err)
	}
	return keyValue{kv}, nil
}

type keyValue struct{ kv jetstream.KeyValue }

func (k keyValue) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	e, err := k.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, 0, fmt.Errorf("key %s: %w", key, ErrNotFound)
	case err != nil:
		return nil, 0, keyError(key, err)
	}
	return e.Value(), e.Revision(), nil
}

func (k keyValue) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	rev, err := k.kv.Put(ctx, key, value)
	if err != nil {
		return 0, keyError(key, err)
	}
	return rev, nil
}

func (k keyValue) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	var rev uint64
	var err error
	if revision == 0 {
		rev, err = k.kv.Create(ctx, key, value)
	} else {
		rev, err = k.kv.Update(ctx, key, value, revision)
	}
	switch {
	case conflict(err):
		return 0, fmt.Errorf("key %s: %w", key, ErrConflict)
	case err != nil:
		return 0, keyError(key, err)
	}
	return rev, nil
}

// keyError names the key. One that no bucket takes was made from a message that no
// other attempt makes better.
func keyError(key string, err error) error {
	err = fmt.Errorf("key %q: %w", key, err)
	if errors.Is(err, jetstream.ErrInvalidKey) {
		return Reject(err)
	}
	return err
}

// conflict recognises a refused compare-and-set.
func conflict(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

func (k keyValue) Delete(ctx context.Context, key string) error {
	if err := k.kv.Purge(ctx, key); err != nil {
		return fmt.Errorf("key %s: %w", key, err)
	}
	return nil
}

func (k keyValue) Keys(ctx context.Context, prefix string) ([]string, error) {
	filter := ">"
	if i := strings.LastIndexByte(prefix, '.'); i >= 0 {
		filter = prefix[:i+1] + ">"
	}
	l, err := k.kv.ListKeysFiltered(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("keys %s: %w", prefix, err)
	}
	var out []string
	for key := range l.Keys() {
		if strings.HasPrefix(key, prefix) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Lead runs f while this process holds the named lease, and waits for the
// lease before. The context of f is cancelled when the lease is lost; f is
// then run again once it is regained. Lead returns what f returns on its own
// account. A lease is a hint that saves work, not an exclusion: correctness
// comes from ids and compare-and-set.
func (b *Bus) Lead(ctx context.Context, name string, f func(context.Context) error) error {
	kv, err := b.KV(ctx, bucketMembers)
	if err != nil {
		return err
	}
	key, me := "lease."+name, []byte(nuid.Next())
	for {
		rev, err := kv.Update(ctx, key, me, 0)
		if err != nil {
			if !errors.Is(err, ErrConflict) && ctx.Err() == nil {
				b.set.Log.Warn("lease unreadable, trying again", "lease", name, "err", err)
			}
			if !sleep(ctx, b.cfg.MemberTTL/10) {
				return ctx.Err()
			}
			continue
		}
		leadCtx, cancel := context.WithCancel(ctx)
		result := make(chan error, 1) // f's one result
		go func() { result <- f(leadCtx) }()
		lost, err := b.hold(leadCtx, kv, key, me, rev, result)
		cancel()
		if !lost {
			_ = kv.Delete(context.WithoutCancel(ctx), key) // the next one need not wait; it expires anyway
			return err
		}
		_ = <-result // what it did after the lease is not ours to judge
		b.set.Log.Warn("lease lost, waiting to regain it", "lease", name)
	}
}

// hold renews a lease until f ends, and says whether it was lost before.
func (b *Bus) hold(ctx context.Context, kv KV, key string, me []byte, rev uint64, result <-chan error) (lost bool, err error) {
	t := time.NewTicker(b.cfg.MemberTTL / 4)
	defer t.Stop()
	renewed := time.Now()
	for {
		select {
		case err := <-result:
			return false, err
		case <-t.C:
			next, err := kv.Update(ctx, key, me, rev)
			switch {
			case err == nil:
				rev, renewed = next, time.Now()
			case errors.Is(err, ErrConflict), time.Since(renewed) > b.cfg.MemberTTL*3/4:
				return ctx.Err() == nil, nil
			}
		}
	}
}

// Request sends a core NATS request and decodes the JSON answer.
func (b *Bus) Request(ctx context.Context, subject string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("request %s: %w", subject, err)
	}
	m := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{}}
	if tp := traceparent(ctx); tp != "" {
		m.Header[headerTrace] = []string{tp}
	}
	answer, err := b.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return fmt.Errorf("request %s: %w", subject, err)
	}
	if msg := answer.Header.Get(headerError); msg != "" {
		return fmt.Errorf("request %s: %s", subject, msg)
	}
	if err := json.Unmarshal(answer.Data, response); err != nil {
		return fmt.Errorf("request %s: answer: %w", subject, err)
	}
	return nil
}

// headerError carries the error of a service's answer, as NATS' own services
// API does.
const headerError = "Nats-Service-Error"

// Serve answers requests on a subject until ctx is done; members share them
// through the queue group. An error of h is sent back to the requester.
func (b *Bus) Serve(ctx context.Context, subject, queue string, h func(context.Context, []byte) (any, error)) error {
	msgs := make(chan *nats.Msg, 64) // what waits while others are answered
	sub, err := b.nc.ChanQueueSubscribe(subject, queue, msgs)
	if err != nil {
		return fmt.Errorf("serve %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-msgs:
			go b.answer(ctx, m, h)
		}
	}
}

func (b *Bus) answer(ctx context.Context, m *nats.Msg, h func(context.Context, []byte) (any, error)) {
	out := &nats.Msg{Subject: m.Reply, Header: nats.Header{}}
	var body []byte
	err := protect(func() error {
		v, err := h(ctx, m.Data)
		if err == nil {
			body, err = json.Marshal(v)
		}
		return err
	})
	if err == nil && int64(len(body)) > b.nc.MaxPayload()-1024 {
		err = fmt.Errorf("answer of %d bytes is too large", len(body))
	}
	if err != nil {
		out.Header.Set(headerError, reason(err))
		body = nil
	}
	out.Data = body
	if err := b.nc.PublishMsg(out); err != nil {
		b.set.Log.Warn("answer not sent", "subject", m.Subject, "err", err)
	}
}

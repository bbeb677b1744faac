package bus

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// membership is one process's place in a group. Members write a key that
// expires; who folds which partition follows from the live set by rendezvous
// hashing, so that a member that comes or goes moves only its own share.
type membership struct {
	kv     KV
	roster *roster
	log    *slog.Logger
	group  string
	me     string
	ttl    time.Duration
}

// memberKeys are the keys of all members of all groups.
const memberKeys = "group."

func (m *membership) key(member string) string { return memberKeys + m.group + "." + member }

// roster is who lives, in all groups. The groups of one process ask at about the
// same times, and to ask makes a consumer: one answer is for all of them.
type roster struct {
	mu   sync.Mutex
	at   time.Time // when it was listed
	keys []string
}

// list returns the keys of members, listed at most age ago.
func (r *roster) list(ctx context.Context, kv KV, age time.Duration) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < age {
		return r.keys, nil
	}
	keys, err := kv.Keys(ctx, memberKeys)
	if err != nil {
		return nil, err
	}
	r.keys, r.at = keys, time.Now()
	return keys, nil
}

// beat says that this member lives.
func (m *membership) beat(ctx context.Context) error {
	_, err := m.kv.Put(ctx, m.key(m.me), []byte(m.me))
	return err
}

// leave says that it does not.
func (m *membership) leave(ctx context.Context) { _ = m.kv.Delete(ctx, m.key(m.me)) }

// live lists the members, this one included: a member whose own key has just
// expired is alive all the same.
func (m *membership) live(ctx context.Context) ([]string, error) {
	keys, err := m.roster.list(ctx, m.kv, m.ttl/10)
	if err != nil {
		return nil, err
	}
	out := []string{m.me}
	for _, k := range keys {
		if member, ok := strings.CutPrefix(k, m.key("")); ok {
			out = append(out, member)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// share is the partitions of one member: each partition goes to the member
// with the highest hash.
func share(group string, partitions int, members []string, me string) []int {
	out := []int{} // never nil: an empty share is a share
	for p := range partitions {
		best, top := "", uint64(0)
		for _, m := range members {
			if h := event.HashStrings(group, event.PartitionToken(p), m); best == "" || h > top {
				best, top = m, h
			}
		}
		if best == me {
			out = append(out, p)
		}
	}
	return out
}

// watch calls assign with this member's share whenever it changes, until ctx
// is done. While the bus cannot say who lives, the share stays as it is.
func (m *membership) watch(ctx context.Context, partitions int, assign func([]int)) {
	t := time.NewTicker(m.ttl / 5)
	defer t.Stop()
	var last []int
	for {
		err := m.beat(ctx)
		if err == nil {
			var members []string
			if members, err = m.live(ctx); err == nil {
				if now := share(m.group, partitions, members, m.me); last == nil || !slices.Equal(now, last) {
					assign(now)
					last = now
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			m.log.Warn("members unreadable, share kept", "group", m.group, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

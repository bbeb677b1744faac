package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// store keeps what has to survive a restart in the notifier's bucket, as JSON.
type store struct{ kv bus.KV }

// The keys. An incident's id and a channel's name are subject tokens.
func toldKey(incident string) string            { return "told." + incident }
func threadKey(incident, channel string) string { return "thread." + incident + "." + channel }
func openKey(channel, incident string) string   { return "open." + channel + "." + incident }
func silencedKey(incident string) string        { return "silenced." + incident }
func refusedKey(channel string) string          { return "refused." + channel }

// digestKey holds up to when decisions were told in a digest.
const digestKey = "digest"

// get reads a value, with the revision to update it by; a key that is not
// there has the zero value and revision 0.
func get[T any](ctx context.Context, s *store, key string) (v T, rev uint64, err error) {
	b, rev, err := s.kv.Get(ctx, key)
	if errors.Is(err, bus.ErrNotFound) {
		return v, 0, nil
	}
	if err != nil {
		return v, 0, fmt.Errorf("read %s: %w", key, err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, rev, fmt.Errorf("read %s: %w", key, err)
	}
	return v, rev, nil
}

// update writes a value if rev is still current.
func (s *store) update(ctx context.Context, key string, v any, rev uint64) (uint64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	if rev, err = s.kv.Update(ctx, key, b, rev); err != nil {
		return 0, fmt.Errorf("write %s: %w", key, err)
	}
	return rev, nil
}

func (s *store) put(ctx context.Context, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	if _, err := s.kv.Put(ctx, key, b); err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// drop removes a key that may not be there.
func (s *store) drop(ctx context.Context, key string) error {
	if _, _, err := s.kv.Get(ctx, key); errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err := s.kv.Delete(ctx, key); err != nil && !errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("remove %s: %w", key, err)
	}
	return nil
}

// remember keeps what a channel was told last of an open incident, and forgets
// a resolved one.
func (s *store) remember(ctx context.Context, channel string, c Case) error {
	key := openKey(channel, c.Notification.Incident)
	if c.Notification.Report.State == event.Resolved {
		return s.drop(ctx, key)
	}
	return s.put(ctx, key, c)
}

// open lists what a channel was told last of every open incident.
func (s *store) open(ctx context.Context, channel string) ([]Case, error) {
	keys, err := s.kv.Keys(ctx, openKey(channel, ""))
	if err != nil {
		return nil, err
	}
	var out []Case
	for _, k := range keys {
		c, rev, err := get[Case](ctx, s, k)
		if err != nil {
			return nil, err
		}
		if rev > 0 { // else it was resolved meanwhile
			out = append(out, c)
		}
	}
	return out, nil
}

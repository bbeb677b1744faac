package bus_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/bustest"
	"github.com/oncall-copilot/oncall/pkg/event"
)

func TestAKeyThatNoBucketTakesIsNotTriedAgain(t *testing.T) {
	b := bustest.Start(t)
	kv, err := b.KV(t.Context(), bus.BucketNotifier)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"told.", "a b"} {
		_, _, get := kv.Get(t.Context(), key)
		_, put := kv.Put(t.Context(), key, nil)
		_, update := kv.Update(t.Context(), key, nil, 0)
		for what, err := range map[string]error{"get": get, "put": put, "update": update} {
			if _, ok := errors.AsType[*bus.RejectError](err); !ok {
				t.Errorf("%s of %q: %v is tried again", what, key, err)
			}
		}
	}
}

func TestAnEventThatNoServerTakesIsNotTriedAgain(t *testing.T) {
	b := bustest.Start(t)
	r := report("a", 1)
	r.TLDR = strings.Repeat("x", 9<<20)
	err := b.Publish(t.Context(), event.ReportDrafted.Out(r))
	if _, ok := errors.AsType[*bus.RejectError](err); !ok {
		t.Errorf("%.200v is tried again", err)
	}
}

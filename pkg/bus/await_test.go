package bus_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
)

func TestWhoMayNotMakeStreamsWaitsForWhoMay(t *testing.T) {
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	cfg := bus.DefaultConfig()
	cfg.MaxBytes, cfg.ManageStreams = 1<<30, false

	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := bus.Connect(brief, cfg, bus.Settings{Name: "detector", InProcess: s}); err == nil || !strings.Contains(err.Error(), "streams are not made") {
		t.Errorf("without streams: %v, want that they are not made", err)
	}

	waiting := make(chan error, 1)
	go func() {
		b, err := bus.Connect(t.Context(), cfg, bus.Settings{Name: "detector", InProcess: s})
		if err == nil {
			err = b.Close()
		}
		waiting <- err
	}()
	may := cfg
	may.ManageStreams = true
	b, err := bus.Connect(t.Context(), may, bus.Settings{Name: "streams", InProcess: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	select {
	case err := <-waiting:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("still waiting after the streams were made")
	}
}

package bus_test

import (
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/bus/embedded"
)

func TestServersWithTooLittleStorageAreToldWhatToSet(t *testing.T) {
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir(), MaxBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b, err := bus.Connect(t.Context(), bus.DefaultConfig(), bus.Settings{InProcess: s, Name: t.Name(), Source: "//test/oncall"})
	if err == nil {
		_ = b.Close()
		t.Fatal("streams of many GiB were made on a server of one")
	}
	if !strings.Contains(err.Error(), "set bus.max_bytes to nine tenths of each server's max_file_store") {
		t.Error(err)
	}
}

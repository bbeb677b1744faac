package loki

import (
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/redact"
)

// A window is read again after a crash, and the history of a day on the next: ids,
// partitions and texts must be those of the first time.
func TestAWindowReadOnAnotherDayGivesTheSameBatches(t *testing.T) {
	day := "2026-11-24"
	at := time.Date(2026, 11, 24, 23, 59, 50, 0, time.UTC)
	streams := []stream{{
		Labels: map[string]string{"namespace": "shop", "app": "web", "owner": "ann@example.com"},
		Values: [][2]string{{strconv.FormatInt(at.Add(time.Second).UnixNano(), 10), "login of ann@example.com password=hunter2"}},
	}}
	s := newTestSource(t, "http://127.0.0.1:1", nil)
	s.env.Redact = redact.New(redact.Options{Key: []byte("0123456789abcdef"), Day: func() string { return day }})
	read := func() any {
		return s.batches(streams, at, at.Add(5*time.Second), newSampler(nil, time.Time{}), newTraces(nil))
	}
	first := read()
	day = "2026-11-25"
	if again := read(); !reflect.DeepEqual(first, again) {
		t.Errorf("read again on the next day: %v, was %v", again, first)
	}
}

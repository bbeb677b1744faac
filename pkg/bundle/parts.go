package bundle

import (
	"iter"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// LogEntry is one line of logs.jsonl, as logcli --output=jsonl writes it.
type LogEntry struct {
	Labels    map[string]string `json:"labels"`
	Line      string            `json:"line"`
	Timestamp time.Time         `json:"timestamp"`
}

// Logs yields the lines of logs.jsonl in file order.
func (b *Bundle) Logs() iter.Seq2[LogEntry, error] { return jsonLines[LogEntry](b, "logs.jsonl") }

// Events yields the events of events.jsonl in file order.
func (b *Bundle) Events() iter.Seq2[event.KubeEvent, error] {
	return jsonLines[event.KubeEvent](b, "events.jsonl")
}

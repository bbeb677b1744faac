package alertmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector/receiver"
)

// maxHookAlerts bounds the alerts of one notification.
const maxHookAlerts = 2000

// notification is the body of Alertmanager's webhook, version 4.
type notification struct {
	Version   string `json:"version"`
	Truncated uint64 `json:"truncatedAlerts"`
	Alerts    []read `json:"alerts"`
}

// Webhook is the receiver of notifications. It runs on every replica of the
// collector: ids are functions of the alerts, so that it does not matter which
// of them is asked, or how often.
func (s *Source) Webhook() *receiver.Receiver {
	return receiver.New(s.cfg.Webhook, receiver.Settings{
		Source: s.cfg.Name, Path: Path, Log: s.env.Log, Metrics: s.env.Metrics,
		Handle: func(ctx context.Context, _ http.Header, body []byte, _ http.Header) error {
			events, err := s.notified(body)
			if err != nil || len(events) == 0 {
				return err
			}
			return s.env.Publish(ctx, events...)
		},
	})
}

// notified reads a notification.
func (s *Source) notified(body []byte) ([]event.Outgoing, error) {
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		return nil, &receiver.Refusal{Status: http.StatusBadRequest, Text: "not the JSON of an Alertmanager webhook: " + err.Error()}
	}
	if n.Version != "4" {
		return nil, &receiver.Refusal{Status: http.StatusBadRequest, Text: fmt.Sprintf("version %q of the webhook is not 4", n.Version)}
	}
	if len(n.Alerts) > maxHookAlerts {
		return nil, &receiver.Refusal{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("%d alerts, more than %d; set max_alerts in webhook_configs", len(n.Alerts), maxHookAlerts)}
	}
	s.left.Add(float64(n.Truncated))
	var out []event.Outgoing
	for i := range n.Alerts {
		r := &n.Alerts[i]
		if !r.wanted() {
			continue
		}
		a := s.event(r)
		if r.Status.State == "resolved" {
			a.Status, a.EndsAt = "resolved", r.EndsAt.UTC()
		}
		out = append(out, event.AlertSeen.Out(a))
	}
	return out, nil
}

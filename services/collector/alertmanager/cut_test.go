package alertmanager

import (
	"strings"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/redact"
	"github.com/oncall-copilot/oncall/services/collector"
	"github.com/oncall-copilot/oncall/services/collector/entities"
)

// TestASecretWhereATextIsCutIsMasked: a URL that is cut before its at sign has no user
// part any more by which its password would be known.
func TestASecretWhereATextIsCutIsMasked(t *testing.T) {
	const url = "postgres://app:hunter2trustno1@db/shop"
	before := func(most int) string { return strings.Repeat("x", most-len("postgres://app:hunter2tru")-1) + " " + url }
	s := &Source{names: new(entities.Map), env: collector.Env{Redact: redact.New(redact.Options{Key: []byte("0123456789abcdef")})}}
	a := s.event(&read{
		Labels: map[string]string{"alertname": "Away", "dsn": before(maxLabel)}, Annotations: map[string]string{"summary": before(maxAnnotation)},
		GeneratorURL: before(maxAnnotation), StartsAt: time.Date(2026, 11, 24, 2, 51, 0, 0, time.UTC),
	})
	for where, text := range map[string]string{"a label": a.Labels["dsn"], "an annotation": a.Annotations["summary"], "the URL": a.GeneratorURL} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s holds the password that it was cut in: %q", where, text[max(0, len(text)-60):])
		}
		if len(text) > maxAnnotation+len("…") {
			t.Errorf("%s is %d bytes long", where, len(text))
		}
	}
}

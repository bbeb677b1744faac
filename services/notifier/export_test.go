package notifier

import (
	"time"

	"github.com/oncall-copilot/oncall/pkg/service"
)

// Hurry makes a service whose own intervals are short, with a clock and with
// kinds of channels of the test's.
func Hurry(cfg Config, env service.Env, kinds *service.Registry[Info], now func() time.Time) (service.Runner, error) {
	return build(cfg, env, kinds, pace{
		margin: 500 * time.Millisecond, silences: 50 * time.Millisecond, probe: 300 * time.Millisecond, digest: 50 * time.Millisecond,
	}, now)
}

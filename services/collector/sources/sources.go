// Package sources is what is in the box: importing it registers every kind of
// source that we ship.
package sources

import (
	_ "github.com/oncall-copilot/oncall/services/collector/alertmanager"
	_ "github.com/oncall-copilot/oncall/services/collector/kubernetes"
	_ "github.com/oncall-copilot/oncall/services/collector/loki"
	_ "github.com/oncall-copilot/oncall/services/collector/prometheus"
	_ "github.com/oncall-copilot/oncall/services/collector/remotewrite"
)

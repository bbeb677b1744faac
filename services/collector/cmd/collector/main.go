// Command collector reads the cluster and its telemetry, and writes telemetry.>.
package main

import (
	"os"

	_ "github.com/oncall-copilot/oncall/pkg/carried"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/collector"
	_ "github.com/oncall-copilot/oncall/services/collector/sources"
)

func main() { os.Exit(service.Main(os.Args[1:], collector.Spec)) }

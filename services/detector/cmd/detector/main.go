// Command detector reads telemetry.> and writes anomalies.>.
package main

import (
	"os"

	_ "github.com/oncall-copilot/oncall/pkg/carried"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
)

func main() { os.Exit(service.Main(os.Args[1:], detector.Spec)) }

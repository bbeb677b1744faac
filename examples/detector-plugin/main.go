// Command acme-detector is our detector service with one more detector of a
// third party's in it: run it in place of ours.
package main

import (
	"os"

	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/detector"
	_ "github.com/oncall-copilot/oncall/services/detector/detectors"
)

func main() { os.Exit(service.Main(os.Args[1:], detector.Spec)) }

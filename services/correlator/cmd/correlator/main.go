// Command correlator reads anomalies.> and writes incidents.>.
package main

import (
	"os"

	_ "github.com/oncall-copilot/oncall/pkg/carried"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/correlator"
)

func main() { os.Exit(service.Main(os.Args[1:], correlator.Spec)) }

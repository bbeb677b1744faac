// Command reasoner reads incidents.> and writes reports.>.
package main

import (
	"os"

	_ "github.com/oncall-copilot/oncall/pkg/carried"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/reasoner"
)

func main() { os.Exit(service.Main(os.Args[1:], reasoner.Spec)) }

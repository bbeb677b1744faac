// Command notifier reads reports.> and tells people.
package main

import (
	"os"

	_ "github.com/oncall-copilot/oncall/pkg/carried"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/services/notifier"
	_ "github.com/oncall-copilot/oncall/services/notifier/channels"
)

func main() { os.Exit(service.Main(os.Args[1:], notifier.Spec)) }

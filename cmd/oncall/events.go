package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/service"
	"github.com/oncall-copilot/oncall/schemas"
)

// kindOfEvent is one line of `oncall events`.
type kindOfEvent struct {
	Type    string `json:"type"`
	Subject string `json:"subject"`
	Stream  string `json:"stream"`
	Schema  string `json:"schema"` // its address
	Doc     string `json:"doc"`
}

func newEvents(o *options) *cobra.Command {
	var schema string
	c := &cobra.Command{
		Use: "events", Short: "List the kinds of events on the bus: type, subject, stream, schema.",
		Example: "  oncall events\n  oncall events --schema anomaly/v1.json",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			if schema != "" {
				b, err := schemas.Read(schema)
				if err != nil {
					return hint(&service.UsageError{Err: fmt.Errorf("--schema %s: there is no such schema", schema)}, service.ExitUsage, "oncall events")
				}
				_, err = o.out.Write(b)
				return err
			}
			var list []kindOfEvent
			var rows [][]string
			for _, k := range event.Kinds() {
				list = append(list, kindOfEvent{k.Type, k.Address, k.Stream.Name, event.SchemaURL(k.Schema), k.Doc})
				rows = append(rows, []string{k.Type, k.Address, k.Stream.Name, k.Schema})
			}
			return o.list(list, []string{"type", "subject", "stream", "schema"}, rows)
		},
	}
	c.Flags().StringVar(&schema, "schema", "", "print one schema `file` instead")
	return c
}

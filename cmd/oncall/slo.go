package main

import "github.com/spf13/cobra"

func newSLO(o *options) *cobra.Command {
	c := &cobra.Command{Use: "slo", Short: "Find objectives for what serves requests."}
	c.AddCommand(newSLOSuggest(o))
	return c
}

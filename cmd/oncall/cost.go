package main

import "github.com/spf13/cobra"

func newCost(o *options) *cobra.Command { return &cobra.Command{Use: "cost", Hidden: true} }

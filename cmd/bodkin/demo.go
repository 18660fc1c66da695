package main

import "github.com/spf13/cobra"

func demoCommand() *cobra.Command {
	return &cobra.Command{Use: "demo", Short: "Show the whole on this machine, in network namespaces", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return nil }}
}

package main

import "github.com/spf13/cobra"

// cottyCommand is `bodkin cotty`.
func cottyCommand() *cobra.Command {
	return &cobra.Command{Use: "cotty", Short: "Join two commands, each on a terminal of its own"}
}

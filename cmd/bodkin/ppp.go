package main

import "github.com/spf13/cobra"

// pppCommand is `bodkin ppp`.
func pppCommand() *cobra.Command {
	return &cobra.Command{Use: "ppp", Short: "Speak PPP on this terminal, a device or a command"}
}

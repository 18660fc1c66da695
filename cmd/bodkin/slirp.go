package main

import "github.com/spf13/cobra"

// slirpCommand is `bodkin slirp`.
func slirpCommand() *cobra.Command {
	return &cobra.Command{Use: "slirp", Short: "Be the userspace NAT at the other end of a PPP line"}
}

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/lab/story"
)

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the whole story on this machine, in namespaces of its own",
		Long: `Show the whole story on this machine: a laptop, a firewall, a gateway and an
internet are made of network namespaces, and bodkin takes the laptop through the
firewall with real programs. Nothing on the machine itself changes.

It needs root, sshd, ssh, curl, dig and ping, and takes half a minute. Exit status
0 means that every step went as it should.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			return story.Demo(cmd.Context(), cmd.OutOrStdout(), program)
		},
	}
}

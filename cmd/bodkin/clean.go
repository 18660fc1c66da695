package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/host"
)

// cleanCommand takes back what killed tunnels left.
func cleanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Take back what a killed tunnel left of the machine's settings",
		Long: `Take back what a killed tunnel left: routes, rules, packet filter, resolv.conf, as
the journal in /var/lib/bodkin has it. Tunnels that are up are left alone, and so is
what somebody else has changed since. The next ` + "`bodkin up`" + ` does the same.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 && !privilege.HasNetAdmin() {
				return cleanBySudo(cmd)
			}
			done, err := host.CleanUp(privilege.JournalDir())
			for _, line := range done {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			if err != nil {
				return report.At(report.Routes, err, "")
			}
			if len(done) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to clean")
			}
			return nil
		},
	}
}

// cleanBySudo runs the same as root.
func cleanBySudo(cmd *cobra.Command) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	sudo, err := exec.LookPath("sudo")
	if err != nil {
		return report.At(report.Privilege, errors.New("taking back routes needs root, and there is no sudo here"), "run `bodkin clean` as root")
	}
	c := exec.CommandContext(cmd.Context(), sudo, "--", self, "clean")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return report.Silent(report.At(report.Privilege, err, ""))
	}
	return err
}

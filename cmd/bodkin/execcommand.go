package main

import (
	"github.com/spf13/cobra"
)

func execCommand() *cobra.Command {
	var r request
	cmd := &cobra.Command{
		Use:   "exec TARGET [CIDR...] -- COMMAND [ARGUMENT...]",
		Short: "Run a command whose only network is a tunnel",
		Long: `Run a command in a network namespace of its own, whose only way out is a tunnel to
TARGET, which is as in bodkin up: every IP program works there, names and ping too, and
nothing of this machine's network is seen or changed. It needs no root on either side.

The command has its user's name, files, terminal and environment. Its exit status is
that of bodkin exec, 128 and the signal's number if one ended it; before it runs, bodkin's
own are those of bodkin up. When the tunnel breaks the command is ended, by SIGHUP, then
SIGTERM, then SIGKILL.

With a CIDR only that is reached; there is no other way out.`,
		Example: `  bodkin exec me@gw.example.org -- curl https://www.example.com
  bodkin exec me@gw -- firefox -no-remote
  bodkin exec --via http://proxy:3128 wss://home.example.org -- bash
  bodkin exec me@office 10.0.0.0/8 -- ping 10.1.2.3`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case dash < 0:
				return errNoCommand
			case dash == 0:
				return errNoTarget
			case dash == len(args):
				return errNoCommand
			}
			return nil
		},
		// What a profile says is checked by this alone: it touches nothing.
		PreRunE: func(cmd *cobra.Command, args []string) error {
			words := 0 // of the command: a profile may have put prefixes before it
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				words = len(cmd.Flags().Args()) - dash
			}
			at := len(args) - words
			return r.parseCommand(args[:at], args[at:])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return up(cmd.Context(), &r.Up, r.secrets, cmd.ErrOrStderr(), func() {})
		},
		ValidArgsFunction: completeHosts,
	}
	r.wayFlags(cmd)
	r.farFlags(cmd)
	return cmd
}

// What the arguments of exec lack.
var (
	errNoCommand = usageText("no command: put it after two dashes, as in `bodkin exec me@gw -- curl https://example.org`")
	errNoTarget  = usageText("no target before the two dashes, as in `bodkin exec me@gw -- curl https://example.org`")
)

type usageText string

func (e usageText) Error() string { return string(e) }

package standin

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/detach"
	"github.com/bodkin-net/bodkin/cmd/bodkin/sdnotify"
	"github.com/bodkin-net/bodkin/config/pppd"
)

// PPP is `bodkin ppp`: what stands in the place of pppd. Its errors have pppd's exit
// statuses for package report. With updetach it runs the program once more.
func PPP() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ppp [OPTION...]",
		Short: "Speak PPP on this terminal, a device or a command, with pppd's options",
		Long: `Speak PPP to a pppd, a slirp or another bodkin at the other end of a line, and give
this machine a network interface there. The options are pppd's own words, without
hyphens; docs/ppp.md says where they differ. Nothing of PPP is needed in the kernel.

The line is the standard input and output, or the terminal there; or a device, a
command, a TCP connection. Behind it is a network interface, for which a small helper
is started as root, or with nat a userspace NAT, which needs no root and is the way
out for the peer.

` + pppHelp(pppd.Describe()) + `Exit status, as pppd's: 0 ended by the peer, or gone to the background; 1 other
errors, 2 options, 3 no root, 4 no network device, 5 by a signal, 7 the line, 8
connect, 9 the command of pty, 10 no agreement, 11 the peer did not prove who it is,
12 idle, 13 maxconnect, 15 no echo, 16 hangup, 17 a loop, 18 init, 19 we did not
prove who we are.`,
		Example: `  bodkin ppp pty 'ssh -t me@gw slirp-fullbolt ppp' noauth defaultroute usepeerdns
  bodkin ppp pipe 'ssh -T root@gw pppd notty' 10.9.0.1:10.9.0.2 noauth
  bodkin ppp nat                              at the far end of a login, as slirp
  bodkin ppp /dev/ttyUSB0 115200 call isp persist`,
		DisableFlagParsing:    true,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "-h" || args[0] == "--help" || args[0] == "help") {
				return cmd.Help()
			}
			return pppMain(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) (words []string, _ cobra.ShellCompDirective) {
			for _, g := range pppd.Describe()[:pppd.Working] {
				for _, o := range g.Options {
					name, _, _ := strings.Cut(o.Name, " ")
					words = append(words, name+"\t"+o.Help)
				}
			}
			return words, cobra.ShellCompDirectiveDefault
		},
	}
	return cmd
}

// pppHelp lists the options in groups; of those that do nothing, or are refused,
// the names alone.
func pppHelp(list []pppd.Group) string {
	var b strings.Builder
	for i, g := range list {
		fmt.Fprintf(&b, "%s:\n\n", g.Title)
		if i < pppd.Working {
			for _, o := range g.Options {
				fmt.Fprintf(&b, "    %-21s  %s\n", o.Name, o.Help)
			}
			b.WriteString("\n")
			continue
		}
		column := 0
		for _, o := range g.Options {
			name, _, _ := strings.Cut(o.Name, " ")
			if column += len(name) + 1; column > 78 {
				b.WriteString("\n")
				column = len(name) + 1
			}
			if column > len(name)+1 {
				b.WriteString(" ")
			}
			b.WriteString(name)
		}
		b.WriteString("\n\n")
	}
	return b.String()
}

// pppMain is the whole life of the command.
func pppMain(ctx context.Context, args []string, out, errw io.Writer) error {
	home, _ := os.UserHomeDir()
	o, err := pppd.Parse(args, pppd.System{
		Open:     func(name string) (io.ReadCloser, error) { return os.Open(name) },
		IsDevice: isCharDevice,
		Home:     home,
	})
	if err != nil {
		return err
	}
	if o.Log.DryRun {
		fmt.Fprintf(out, "bodkin ppp: options in effect:\n%s", o.Dump())
		return nil
	}
	run := func(ctx context.Context, ready func()) error {
		p := newPPP(o, errw)
		if !o.Life.SDNotify {
			return p.run(ctx, ready)
		}
		return p.run(ctx, func() {
			ready()
			if err := sdnotify.Tell(sdnotify.Ready); err != nil {
				p.log.printf("up_%v", err)
			}
		})
	}
	if o.Life.UpDetach {
		if o.Line.Kind == pppd.LineDefault || o.Line.Kind == pppd.LineStdio {
			o.Notes = append(o.Notes, "updetach is ignored: the line is the standard input, which ends with whoever gave it")
		} else {
			return detach.Run(ctx, errw, run)
		}
	}
	return run(ctx, func() {})
}

func isCharDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

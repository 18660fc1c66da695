package standin

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config/slirp"
)

// Slirp is `bodkin slirp`: what stands in the place of slirp. version is how it greets,
// software what its -v prints. Its errors have exit statuses for package report.
func Slirp(version, software string) *cobra.Command {
	return &cobra.Command{
		Use:   "slirp [COMMAND...]",
		Short: "Be the way out for whoever speaks PPP on this line, in slirp's place",
		Long: `Stand where a script says "slirp ppp": speak PPP on the standard input and output, or
on the terminal there, and give the peer the way out by this machine's own sockets. It
needs no root. The words are slirp's own commands; docs/slirp.md says where they
differ. One that has several words is quoted: "redir 5555 80". Those of ~/.slirprc,
one a line, come first.

The peer gets 10.0.2.15, or has what it wants; this machine is 10.0.2.2, names are
asked of 10.0.2.3. Nobody gets in but by redir, which listens at 127.0.0.1; and the
peer does not reach this machine itself unless allow host says so.

` + slirpHelp(slirp.Describe("")) + `
It says "SLiRP Ready ..." on the standard error when the line is raw and it listens.
Exit status: 0 for an orderly end (five zeros, ppp_exit, wait), 1 other errors, 2 a wrong
word, 5 ended by a signal, 7 the line; and with ppp_exit, as pppd, 10 no agreement,
11 the peer did not prove who it is, 15 no echo, 17 a loop, 19 we did not; 16 the line
hung up.`,
		Example: `  ssh -t me@gw bodkin slirp ppp
  bodkin slirp ppp "redir 5555 80" "redir udp 0.0.0.0:5353 53"
  bodkin slirp "tty /dev/ttyS0" "asyncmap a0000" ppp_exit
  bodkin ppp pty "ssh -t me@gw bodkin slirp ppp" noauth defaultroute usepeerdns`,
		DisableFlagParsing: true,
		Args:               cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "--help" {
				return cmd.Help()
			}
			return slirpMain(cmd.Context(), args, version, software, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) (words []string, _ cobra.ShellCompDirective) {
			for _, g := range slirp.Describe("") {
				if g.Does {
					for _, c := range g.Commands {
						words = append(words, c.Name+"\t"+c.Help)
					}
				}
			}
			return words, cobra.ShellCompDirectiveDefault
		},
	}
}

// slirpHelp lists commands in groups; of those that do nothing, or are refused, the
// names alone.
func slirpHelp(list []slirp.Group) string {
	var b strings.Builder
	for _, g := range list {
		fmt.Fprintf(&b, "%s:\n", g.Title)
		if g.Does {
			for _, c := range g.Commands {
				fmt.Fprintf(&b, "  %-26s %s\n", c.Name, c.Help)
			}
			continue
		}
		column := 2
		b.WriteString(" ")
		for i, c := range g.Commands {
			word := c.Word
			if i < len(g.Commands)-1 {
				word += ","
			}
			if column += len(word) + 1; column > 78 {
				b.WriteString("\n ")
				column = len(word) + 3
			}
			b.WriteString(" " + word)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// slirpMain is the whole life of the command.
func slirpMain(ctx context.Context, args []string, version, software string, out, errw io.Writer) error {
	home, _ := os.UserHomeDir()
	o, err := slirp.Parse(args, slirp.System{
		Home: home,
		Open: func(name string) (io.ReadCloser, error) { return os.Open(name) },
		Port: func(network, service string) (uint16, bool) {
			n, err := net.LookupPort(network, service)
			return uint16(n), err == nil
		},
	})
	switch {
	case err != nil:
		return err
	case o.Version:
		fmt.Fprintln(out, software)
		return nil
	case o.Help != nil:
		return sayCommands(out, *o.Help)
	}
	return newSlirp(o, version, errw).run(ctx)
}

// sayCommands answers help: the commands that begin so, each with what it does.
func sayCommands(out io.Writer, prefix string) error {
	list := slirp.Describe(prefix)
	if len(list) == 0 {
		return report.Usage(fmt.Errorf("no command of slirp begins with %q", prefix))
	}
	for _, g := range list {
		fmt.Fprintf(out, "%s:\n", g.Title)
		for _, c := range g.Commands {
			fmt.Fprintf(out, "  %-26s %s\n", c.Name, c.Help)
		}
	}
	return nil
}

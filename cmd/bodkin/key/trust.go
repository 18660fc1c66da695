package key

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/trust"
)

func trustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Trust another machine's key",
		Long: `Trust another machine's key. It is given as the line that "bodkin key show" prints there,
in quotes or as words, or by the file that holds it (- for standard input): that of
bodkin, or the .pub that ssh-keygen made.

Bring it over a way that you trust: who can change it on the way is who you trust then.`,
		Args: words(cobra.NoArgs, "server or client"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(trustServerCommand(), trustClientCommand())
	return cmd
}

func trustServerCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "server NAME KEY|FILE",
		Short:   "Trust a machine that this one dials",
		Long:    `Put a machine's key into known_servers. NAME is host or host:port, as you will dial it.`,
		Example: "  bodkin key trust server gw.example.org 'ssh-ed25519 AAAA... me@gw'",
		Args:    words(cobra.MinimumNArgs(2), "a name and a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := trust.ServerName(args[0])
			if err != nil {
				return &config.Error{Reason: err.Error(), Hint: "bodkin key trust server gw.example.org 'ssh-ed25519 AAAA...'"}
			}
			key, comment, err := readKey(args[1:], cmd.InOrStdin())
			if err != nil {
				return err
			}
			path, err := file(trust.ServersFile)
			if err != nil {
				return err
			}
			known, err := trust.LoadKnownServers(path)
			if err != nil {
				return hinted(err)
			}
			added, err := known.Add(name, key, comment)
			var changed *trust.ChangedError
			if errors.As(err, &changed) {
				return report.WithHint(fmt.Errorf("%s has another key, %s, by %s:%d", name, trust.Fingerprint(changed.Known), changed.File, changed.Line),
					fmt.Sprintf("if that is old, `bodkin key forget server %s` and once more", name))
			}
			if err != nil {
				return err
			}
			if added {
				if err := known.Save(); err != nil {
					return err
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", name, isKnown(added), trust.Fingerprint(key))
			sayOtherSide(cmd, "for it to let this machine in, there:", "client")
			return nil
		},
	}
}

// isKnown says what became of a server.
func isKnown(added bool) string {
	if added {
		return "is known now by"
	}
	return "was known already by"
}

func trustClientCommand() *cobra.Command {
	var l limits
	cmd := &cobra.Command{
		Use:   "client KEY|FILE [--allow PREFIX[:PORTS]] [--expires DATE] ...",
		Short: "Let a machine dial this one",
		Long: `Put a machine's key into authorized_clients: its holder may dial this one, as far as the
options let it. They take the place of those that the key has there. A server that is
running knows of it at once.

A destination is a network or an address, with ports after a colon if it is to be these
alone: 10.0.0.0/8, 10.0.0.7:22,8000-8080, [2001:db8::/32]:443, *:443 for any address. The
words host and link-local open the server's own machine and 169.254.0.0/16, which are
closed by default.`,
		Example: `  bodkin key trust client laptop.pub --expires 2027-01-01
  bodkin key trust client 'ssh-ed25519 AAAA... guest' --allow 10.0.0.0/8:22,443 --deny 10.9.0.0/16 --rate 10M`,
		Args: words(cobra.MinimumNArgs(1), "a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := l.client()
			if err != nil {
				return err
			}
			if c.Key, c.Comment, err = readKey(args, cmd.InOrStdin()); err != nil {
				return err
			}
			path, err := file(trust.ClientsFile)
			if err != nil {
				return err
			}
			clients, err := trust.LoadAuthorizedClients(path)
			if err != nil {
				return hinted(err)
			}
			sayProblems(cmd.ErrOrStderr(), clients)
			added, err := clients.Add(c)
			if err != nil {
				return report.WithHint(err, "`bodkin key list` says whose it is; another --name, another --address")
			}
			if added {
				if err := clients.Save(); err != nil {
					return err
				}
			}
			verb := "may dial this machine"
			if !added {
				verb = "might do so already: it may dial this machine"
			}
			end := ""
			if !c.Expires.IsZero() {
				end = " until " + trust.FormatExpiry(c.Expires)
				c.Expires = time.Time{}
			}
			if bounds := c.Options(); bounds != "" {
				end += ", with " + bounds
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the holder of %s %s%s\n", trust.Fingerprint(c.Key), verb, end)
			sayOtherSide(cmd, "for it to know this machine, there:", "server NAME")
			return nil
		},
	}
	l.flags(cmd.Flags())
	return cmd
}

// sayOtherSide prints what is to be run on the other machine, which has to trust this
// one too.
func sayOtherSide(cmd *cobra.Command, why, whom string) {
	errw := cmd.ErrOrStderr()
	path, err := file(trust.KeyFile)
	if err != nil {
		return
	}
	k, _, err := trust.LoadPublic(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintln(errw, "bodkin: this machine has no key of its own yet: `bodkin key new` makes one")
	case err == nil:
		fmt.Fprintf(errw, "bodkin: %s bodkin key trust %s '%s'\n", why, whom, trust.FormatPublic(k, ownComment()))
	}
}

// maxKeyText is how much of a file is read for a key, in octets: one line, with room
// for a long comment.
const maxKeyText = 16 << 10

// keyHint says how a key may be given.
const keyHint = "a key is 'ssh-ed25519 AAAA... comment', or the file that holds this line, or - for standard input"

// readKey takes a key as the user gives it: as words, by a file, or on standard input.
func readKey(args []string, in io.Reader) (key ed25519.PublicKey, comment string, err error) {
	text := strings.Join(args, " ")
	switch {
	case strings.HasPrefix(text, "ssh-"), strings.HasPrefix(text, "ecdsa-"), strings.HasPrefix(text, "sk-"):
	case strings.HasPrefix(text, "AAAA"): // the middle of the line
		text = "ssh-ed25519 " + text
	case len(args) > 1:
		return nil, "", &config.Error{Reason: fmt.Sprintf("%q is no key, and more than one file", text), Hint: keyHint}
	default:
		return readKeyFile(text, in)
	}
	if key, comment, err = trust.ParsePublic(text); err != nil {
		return nil, "", &config.Error{Reason: err.Error(), Hint: keyHint}
	}
	return key, comment, nil
}

func readKeyFile(name string, in io.Reader) (key ed25519.PublicKey, comment string, err error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, "", report.WithHint(err, keyHint)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxKeyText))
	if err != nil {
		return nil, "", err
	}
	if strings.Contains(string(text), "PRIVATE KEY-----") {
		err := fmt.Errorf("%s holds a private key, which stays where it is", name)
		return nil, "", report.WithHint(err, "the public one is in the file with .pub, or `bodkin key show` prints it on its own machine")
	}
	if key, comment, err = trust.ParsePublic(string(text)); err != nil {
		return nil, "", report.WithHint(fmt.Errorf("%s: %w", name, err), keyHint)
	}
	return key, comment, nil
}

// sayProblems warns of lines that let nobody in.
func sayProblems(errw io.Writer, clients *trust.AuthorizedClients) {
	for _, p := range clients.Problems() {
		fmt.Fprintf(errw, "bodkin: warning: %v; this line lets nobody in\n", p.Err)
	}
}

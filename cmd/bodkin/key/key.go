// Package key is `bodkin key`: this machine's key, and whose keys it trusts.
//
//	key.go      the tree of commands; new, show
//	trust.go    trust server, trust client, and keys as they are given
//	limits.go   what binds a client
//	list.go     list, forget
//
// The files and what they mean are package trust's.
package key

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/trust"
)

// Command is `bodkin key`. Its errors have exit statuses for package report.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make this machine's key, and say whose keys to trust",
		Long: `Where there is no ssh to prove who is at the other end, as inside telnet or behind a
proxy, both ends of bodkin prove it by keys, and each must know the other's first. Keys
are Ed25519, in the formats of OpenSSH: ssh-keygen -t ed25519 makes them as well.

In ~/.config/bodkin, or $XDG_CONFIG_HOME/bodkin:

  key                 this machine's own, for nobody else's eyes
  known_servers       the keys of the machines that this one dials, by name
  authorized_clients  the keys whose holders may dial this one

Nothing is trusted on first use.`,
		Example: `  bodkin key new
  bodkin key trust server gw.example.org 'ssh-ed25519 AAAA... me@gw'
  bodkin key trust client laptop.pub --expires 2027-01-01
  ssh gw bodkin key show | bodkin key trust server gw -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCommand(), showCommand(), trustCommand(), listCommand(), forgetCommand())
	return cmd
}

// words makes what is wrong with the number of arguments a call that cannot be
// understood; package report does so for commands right below the root.
func words(check cobra.PositionalArgs, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check(cmd, args) != nil {
			return &config.Error{Reason: fmt.Sprintf("%s wants %s", cmd.CommandPath(), want), Hint: cmd.UseLine()}
		}
		return nil
	}
}

var noWords = words(cobra.NoArgs, "no arguments")

// file returns the path of one of this user's files.
func file(name string) (string, error) {
	dir, err := trust.Dir()
	return filepath.Join(dir, name), err
}

// hinted gives an error of package trust the next thing to try.
func hinted(err error) error {
	var unsafe *trust.UnsafeError
	if errors.As(err, &unsafe) && unsafe.Remedy != "" {
		return report.WithHint(err, unsafe.Remedy)
	}
	return err
}

func newCommand() *cobra.Command {
	var ask bool
	cmd := &cobra.Command{
		Use:   "new [--passphrase]",
		Short: "Make this machine's key",
		Long: `Make this machine's key, unless it has one. With a passphrase the key's file is of no
use to who finds it; it is asked for on the terminal, or by SSH_ASKPASS, each time the
key is used.`,
		Args: noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := file(trust.KeyFile)
			if err != nil {
				return err
			}
			if _, err := os.Lstat(path); err == nil {
				return exists(path) // before anything is asked
			}
			phrase := ""
			if ask {
				if phrase, err = askTwice(cmd); err != nil {
					return err
				}
			}
			k := trust.Generate()
			if err := k.Save(path, ownComment(), phrase); errors.Is(err, fs.ErrExist) {
				return exists(path)
			} else if err != nil {
				return err
			}
			showOwn(cmd.OutOrStdout(), cmd.ErrOrStderr(), own{path, k.Public(), phrase != ""})
			return nil
		},
	}
	cmd.Flags().BoolVar(&ask, "passphrase", false, "ask for a passphrase for it")
	return cmd
}

func exists(path string) error {
	return report.WithHint(fmt.Errorf("there is a key already: %s", path), "`bodkin key show` shows it; who is to have another removes the file, and tells all who know the old one")
}

// askTwice asks for a new passphrase.
func askTwice(cmd *cobra.Command) (string, error) {
	phrase, err := secret.Ask(cmd.Context(), "New passphrase")
	if err != nil {
		return "", err
	}
	if phrase == "" {
		return "", report.WithHint(errors.New("the passphrase is empty"), "leave out --passphrase for a key without one")
	}
	again, err := secret.Ask(cmd.Context(), "The same again")
	if err != nil {
		return "", err
	}
	if again != phrase {
		return "", errors.New("the two passphrases are not the same; no key was made")
	}
	return phrase, nil
}

// An own is this machine's key, as it is shown.
type own struct {
	path   string
	key    ed25519.PublicKey
	locked bool
}

func showCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show this machine's public key, for others to trust",
		Long: `Show this machine's public key: the line for others on standard output, and what else
there is to say on standard error.`,
		Args: noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := file(trust.KeyFile)
			if err != nil {
				return err
			}
			k := own{path: path}
			k.key, k.locked, err = trust.LoadPublic(path)
			if errors.Is(err, fs.ErrNotExist) {
				return report.WithHint(fmt.Errorf("this machine has no key: there is no %s", path), "`bodkin key new` makes one")
			}
			if err != nil {
				return hinted(err)
			}
			if !asJSON {
				showOwn(cmd.OutOrStdout(), cmd.ErrOrStderr(), k)
				return nil
			}
			return printJSON(cmd.OutOrStdout(), struct {
				File        string `json:"file"`
				Public      string `json:"public"`
				Fingerprint string `json:"fingerprint"`
				Passphrase  bool   `json:"passphrase"` // it has one
			}{path, trust.FormatPublic(k.key, ownComment()), trust.Fingerprint(k.key), k.locked})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// showOwn prints the line for others to out, and what to do with it to errw.
func showOwn(out, errw io.Writer, k own) {
	line := trust.FormatPublic(k.key, ownComment())
	fmt.Fprintln(out, line)
	locked := ""
	if k.locked {
		locked = ", with a passphrase"
	}
	fmt.Fprintf(errw, "bodkin: %s, in %s%s\n", trust.Fingerprint(k.key), carrier.Printable(k.path), locked)
	fmt.Fprintf(errw, "bodkin: where this machine dials to:    bodkin key trust client '%s'\n", line)
	fmt.Fprintf(errw, "bodkin: where this machine is dialled:  bodkin key trust server NAME '%s'\n", line)
}

// ownComment is what tells people whose key it is: user@host.
func ownComment() string {
	name, host := "bodkin", "localhost"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	// It stands between quotes in what is shown.
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(`'"\ `, r) {
			return '_'
		}
		return r
	}, carrier.Printable(name+"@"+host))
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

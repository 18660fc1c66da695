package key

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/trust"
)

// A serverLine is a line of known_servers in JSON.
type serverLine struct {
	Names       []string `json:"names"`
	Public      string   `json:"public"`
	Fingerprint string   `json:"fingerprint"`
	Revoked     bool     `json:"revoked"`
	Line        int      `json:"line"`
}

// A clientLine is a line of authorized_clients in JSON. One that lets nobody in has a
// problem, and nothing else.
type clientLine struct {
	Public      string     `json:"public,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
	Expired     bool       `json:"expired,omitempty"`
	Name        string     `json:"name,omitempty"` // by which it is reached
	From        []string   `json:"from,omitempty"`
	Address     []string   `json:"address,omitempty"`
	Allow       []string   `json:"allow,omitempty"`
	Deny        []string   `json:"deny,omitempty"`
	Flows       int        `json:"flows,omitempty"`
	Rate        int64      `json:"rate,omitempty"` // octets per second, each way
	Problem     string     `json:"problem,omitempty"`
	Line        int        `json:"line"`
}

// A listing is whom this machine trusts.
type listing struct {
	Servers []serverLine `json:"known_servers"`
	Clients []clientLine `json:"authorized_clients"`
}

func listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Say whose keys this machine trusts",
		Args:  noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			known, clients, err := load()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list(known, clients, time.Now()))
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, s := range known.Servers() {
				word := "server"
				if s.Revoked {
					word = "revoked"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", word, strings.Join(s.Names, ","), trust.Fingerprint(s.Key), s.Comment)
			}
			for _, c := range clients.Clients() {
				until := "for good"
				switch {
				case c.Expired(time.Now()):
					until = "ended " + trust.FormatExpiry(c.Expires)
				case !c.Expires.IsZero():
					until = "until " + trust.FormatExpiry(c.Expires)
				}
				fmt.Fprintf(w, "client\t%s\t%s\t%s", until, trust.Fingerprint(c.Key), c.Comment)
				c.Expires = time.Time{}
				if bounds := c.Options(); bounds != "" {
					fmt.Fprint(w, "\t", bounds)
				}
				fmt.Fprintln(w)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			sayProblems(cmd.ErrOrStderr(), clients)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// load reads both files.
func load() (*trust.KnownServers, *trust.AuthorizedClients, error) {
	path, err := file(trust.ServersFile)
	if err != nil {
		return nil, nil, err
	}
	known, err := trust.LoadKnownServers(path)
	if err != nil {
		return nil, nil, hinted(err)
	}
	if path, err = file(trust.ClientsFile); err != nil {
		return nil, nil, err
	}
	clients, err := trust.LoadAuthorizedClients(path)
	return known, clients, hinted(err)
}

func list(known *trust.KnownServers, clients *trust.AuthorizedClients, now time.Time) listing {
	l := listing{Servers: []serverLine{}, Clients: []clientLine{}}
	for _, s := range known.Servers() {
		l.Servers = append(l.Servers, serverLine{s.Names, trust.FormatPublic(s.Key, s.Comment), trust.Fingerprint(s.Key), s.Revoked, s.Line})
	}
	for _, c := range clients.Clients() {
		line := clientLine{Public: trust.FormatPublic(c.Key, c.Comment), Fingerprint: trust.Fingerprint(c.Key), Expired: c.Expired(now), Line: c.Line,
			Name: c.Called, From: texts(c.From), Address: texts(c.Address), Allow: texts(c.Allow), Deny: texts(c.Deny), Flows: c.Flows, Rate: c.Rate}
		if !c.Expires.IsZero() {
			line.Expires = &c.Expires
		}
		l.Clients = append(l.Clients, line)
	}
	for _, p := range clients.Problems() {
		l.Clients = append(l.Clients, clientLine{Problem: p.Err.Error(), Line: p.Line})
	}
	slices.SortFunc(l.Clients, func(a, b clientLine) int { return a.Line - b.Line })
	return l
}

func texts[T fmt.Stringer](list []T) (out []string) {
	for _, v := range list {
		out = append(out, v.String())
	}
	return out
}

func forgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget",
		Short: "Trust a key no more",
		Args:  words(cobra.NoArgs, "server or client"),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "server NAME",
		Short: "Take a machine out of known_servers",
		Args:  words(cobra.ExactArgs(1), "a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := trust.ServerName(args[0])
			if err != nil {
				return &config.Error{Reason: err.Error(), Hint: "`bodkin key list` has the names"}
			}
			known, _, err := load()
			if err != nil {
				return err
			}
			n, err := known.Forget(name)
			if err != nil {
				return err
			}
			if n == 0 {
				return report.WithHint(fmt.Errorf("%s is not in known_servers", name), "`bodkin key list` says who is")
			}
			if err := known.Save(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is not known any more\n", name)
			return nil
		},
	}, &cobra.Command{
		Use:   "client KEY|FILE|FINGERPRINT|COMMENT",
		Short: "Let a machine dial this one no more",
		Long: `Take a machine out of authorized_clients. A server that is running (bodkin serve) ends
what it has open within a second; far halves that were started by a login do not.`,
		Args: words(cobra.MinimumNArgs(1), "a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, clients, err := load()
			if err != nil {
				return err
			}
			key, err := findClient(clients, args, cmd)
			if err != nil {
				return err
			}
			if clients.Forget(key) == 0 {
				return report.WithHint(fmt.Errorf("%s is not in authorized_clients", trust.Fingerprint(key)), "`bodkin key list` says who is")
			}
			if err := clients.Save(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the holder of %s may not dial this machine any more\n", trust.Fingerprint(key))
			return nil
		},
	})
	return cmd
}

// findClient returns the key that the words mean: by its fingerprint or comment, if one
// client alone has it, or itself.
func findClient(clients *trust.AuthorizedClients, args []string, cmd *cobra.Command) (ed25519.PublicKey, error) {
	word := strings.Join(args, " ")
	var found ed25519.PublicKey
	for _, c := range clients.Clients() {
		if trust.Fingerprint(c.Key) != word && c.Comment != word {
			continue
		}
		if found != nil && !found.Equal(c.Key) {
			return nil, &config.Error{Reason: fmt.Sprintf("more than one client is called %q", word), Hint: "say which by its fingerprint: `bodkin key list`"}
		}
		found = c.Key
	}
	if found != nil {
		return found, nil
	}
	if strings.HasPrefix(word, "SHA256:") {
		return nil, report.WithHint(fmt.Errorf("%s is not in authorized_clients", word), "`bodkin key list` says who is")
	}
	key, _, err := readKey(args, cmd.InOrStdin())
	return key, err
}

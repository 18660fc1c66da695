package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/chat"
	"github.com/bodkin-net/bodkin/cmd/bodkin/cotty"
	"github.com/bodkin-net/bodkin/cmd/bodkin/enclosure"
	"github.com/bodkin-net/bodkin/cmd/bodkin/key"
	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/cmd/bodkin/probe"
	"github.com/bodkin-net/bodkin/cmd/bodkin/profile"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/serve"
	"github.com/bodkin-net/bodkin/cmd/bodkin/service"
	"github.com/bodkin-net/bodkin/cmd/bodkin/standin"
)

// version is set when a release is built.
var version = "dev"

// Commands that bodkin runs of itself, beside privilege.Command.
const (
	fdpassCommand = "fdpass"
	farCommand    = "far"
)

// newCommand is the tree of commands: help, completion and the manual are made
// of it.
func newCommand(in io.Reader, out, errw io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "bodkin",
		Short: "Full IP through whatever hole the firewall leaves",
		Long: `bodkin gives a machine behind a firewall full IP through one connection that the
firewall lets out: TCP, UDP, ping, IPv4, IPv6 and names, for unmodified programs.
The far side needs an ordinary ssh account and nothing else.

It is for networks and machines that you may use. Ask their owners.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	serveCommand := func() *cobra.Command { return serve.Command(software()) }
	profiles := &profile.Set{Clients: []func() *cobra.Command{upCommand, execCommand}, Server: serveCommand}
	root.AddCommand(profiles.Teach(upCommand()), profiles.Teach(execCommand()), profiles.Command(), service.Command(profiles, serve.Units), statusCommand(), reconnectCommand(), downCommand(), cleanCommand(), demoCommand(), farHalfCommand(), versionCommand(), manCommand())
	root.AddCommand(standin.PPP(), standin.Slirp(version, software()), cotty.Command(), chat.Command(), key.Command(), probe.Command(), pipeCommand(), profiles.Teach(serveCommand()))
	root.AddCommand(
		&cobra.Command{Use: privilege.Command, Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return privilege.Serve() }},
		&cobra.Command{Use: enclosure.Command, Hidden: true, DisableFlagParsing: true, RunE: func(_ *cobra.Command, args []string) error { return enclosure.Serve(args) }},
		&cobra.Command{Use: fdpassCommand + " SOCKET", Hidden: true, Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error { return passSocket(args[0]) }},
	)
	return root
}

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say which tunnels are up and what they carry",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, _ := tunnels()
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				if list == nil {
					list = []Status{}
				}
				return e.Encode(list)
			}
			sayStatus(cmd.OutOrStdout(), list)
			sayHeld(cmd.OutOrStdout())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down [NAME]",
		Short: "End a tunnel and put the machine back as it was",
		Long: `End a tunnel and put the machine back as it was. At a far side it ends the far halves that
wait for their near halves to come back: all of the user's, root's ` + "`bodkin down`" + ` everybody's;
NAME is then the beginning of a session's ID, as ` + "`bodkin status`" + ` shows it.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if meant, err := endHeld(cmd, args); meant {
				return err
			}
			name, path, err := which(args)
			if err != nil {
				return err
			}
			var end Down
			answer, err := ask(path, "down", downTimeout)
			if err != nil || json.Unmarshal(answer, &end) != nil || !end.Down {
				return report.WithHint(fmt.Errorf("%s does not say that it is down", name), "if its process is stuck, kill it and run `bodkin clean`")
			}
			newVoice(cmd.ErrOrStderr(), 0).notes(end.Notes)
			if end.Error != "" {
				return report.At(report.Routes, errors.New(end.Error), "`bodkin clean` tries again")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is down; %s\n", name, asItWas(end.Notes))
			return nil
		},
		ValidArgsFunction: completeNames,
	}
}

// reconnectCommand is for those who know that the network has changed before we do.
func reconnectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reconnect [NAME]",
		Short: "Drop the connection below a tunnel and make another at once",
		Long: `Drop the connection below a tunnel and make another at once, without waiting until its
death is noticed or the next attempt is due. What is connected through the tunnel stays.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, path, err := which(args)
			if err != nil {
				return err
			}
			var r Reconnect
			answer, err := ask(path, "reconnect", requestTimeout)
			if err == nil {
				err = json.Unmarshal(answer, &r)
			}
			if err != nil {
				return report.WithHint(fmt.Errorf("%s does not answer", name), "if its process is stuck, kill it and run `bodkin clean`")
			}
			if r.Error != "" {
				return fmt.Errorf("%s: %s", name, carrier.Printable(r.Error))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s makes another connection\n", name)
			return nil
		},
		ValidArgsFunction: completeNames,
	}
}

// which returns the name and the control socket of the tunnel that the arguments name,
// or of the only one.
func which(args []string) (name, path string, err error) {
	list, paths := tunnels()
	if len(list) == 0 {
		return "", "", report.WithHint(errors.New("no tunnel is up"), "`bodkin clean` takes back what a killed one left")
	}
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.Name
	}
	switch i := 0; {
	case len(args) == 1:
		if i = slices.Index(names, args[0]); i < 0 {
			return "", "", report.WithHint(fmt.Errorf("no tunnel is called %q", args[0]), "up: "+strings.Join(names, ", "))
		}
		return names[i], paths[i], nil
	case len(list) > 1:
		return "", "", report.Usage(fmt.Errorf("%d tunnels are up: say which of %s", len(list), strings.Join(names, ", ")))
	}
	return names[0], paths[0], nil
}

// completeNames offers the names of the tunnels that are up.
func completeNames(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
	list, _ := tunnels()
	for _, s := range list {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which bodkin this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), software())
			return nil
		},
	}
}

// completeHosts offers the hosts of the user's own ssh settings.
func completeHosts(_ *cobra.Command, args []string, prefix string) (hosts []string, _ cobra.ShellCompDirective) {
	home, err := os.UserHomeDir()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	text, err := os.ReadFile(filepath.Join(home, ".ssh", "config"))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	user, _, hasUser := strings.Cut(prefix, "@")
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.EqualFold(words[0], "host") {
			continue
		}
		for _, h := range words[1:] {
			if strings.ContainsAny(h, "*?!") {
				continue
			}
			if hasUser {
				h = user + "@" + h
			}
			hosts = append(hosts, h)
		}
	}
	return hosts, cobra.ShellCompDirectiveNoFileComp
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/chat"
	"github.com/bodkin-net/bodkin/cmd/bodkin/cotty"
	"github.com/bodkin-net/bodkin/cmd/bodkin/detach"
	"github.com/bodkin-net/bodkin/cmd/bodkin/key"
	"github.com/bodkin-net/bodkin/cmd/bodkin/privilege"
	"github.com/bodkin-net/bodkin/cmd/bodkin/probe"
	"github.com/bodkin-net/bodkin/cmd/bodkin/profile"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/cmd/bodkin/standin"
	"github.com/bodkin-net/bodkin/config"
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
	profiles := &profile.Set{Clients: []func() *cobra.Command{upCommand}}
	root.AddCommand(profiles.Teach(upCommand()), profiles.Command(), statusCommand(), downCommand(), cleanCommand(), demoCommand(), farHalfCommand(), versionCommand(), manCommand())
	root.AddCommand(standin.PPP(), standin.Slirp(version, software()), cotty.Command(), chat.Command(), key.Command(), probe.Command(), pipeCommand())
	root.AddCommand(
		&cobra.Command{Use: privilege.Command, Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return privilege.Serve() }},
		&cobra.Command{Use: fdpassCommand + " SOCKET", Hidden: true, Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error { return passSocket(args[0]) }},
	)
	return root
}

func upCommand() *cobra.Command {
	var u config.Up
	var program, near, far string
	var via, passwords, exclude, dns, allow, waysIn, local, forward, masquerade, back []string
	var secrets *secret.Sources
	cmd := &cobra.Command{
		Use:   "up TARGET [CIDR...]",
		Short: "Bring a tunnel up",
		Long: `Bring a tunnel up through an ssh login, or whatever else the firewall lets out, and keep
it until Ctrl-C, which puts the machine back as it was. Without a CIDR everything goes through it; with some, only
those prefixes do, as with a VPN.

TARGET is [user@]host[:port] for ssh; telnet://[user@]host for a telnet login; cmd:PROGRAM
or tty:PROGRAM for a program that leads to a shell; bodkin://host:port or tls://host:port
for a bodkin that waits there (bodkin far --listen). --via names the hops before it, each
once, in their order: http://[user@]proxy:3128, https://, socks5://, socks4a://, telnet://
(a telnet proxy), ssh:// (a jump host), tls://, cmd:PROGRAM, tty:PROGRAM, chat:FILE, and env
for the proxy that the environment names (HTTPS_PROXY, ALL_PROXY, NO_PROXY).

What goes over a way that ssh does not protect is put into TLS, and each half knows the
other by its key: see bodkin key.

The settings, keys, agent and known hosts of your own ssh are used. The far half of
bodkin is put into ~/.cache/bodkin there once, or named in authorized_keys:

    restrict,command="bodkin far" ssh-ed25519 AAAA...

Making the network device and the routes needs root: a small helper is started for
that alone, by sudo when need be.

Each side has an IP emulator. tun is a kernel interface: full access. nat is a
userspace NAT: no root, and nobody gets in. By default this side has tun and the far
side nat. pppd and slirp are the real programs, for a far side where nothing can be
put, or a near side that wants its own pppd; bodkin speaks PPP to them. With --near nat
--far tun the far side's programs reach networks of this side, those of the CIDRs.

Exit status: 0 after an orderly end, 1 for other errors, 2 for a wrong call, and by
the layer that failed: 10 privilege, 11 reach, 12 ssh, 13 far half, 14 link,
15 addresses, 16 device, 17 routes, 18 dns, 19 a tunnel that broke while up, 20 proxy,
21 login, 22 an answer that never came, 23 a connection closed in mid-dialogue, 24 line,
25 key.`,
		Example: `  bodkin up me@gw.example.org
  bodkin up me@office 10.0.0.0/8 --dns corp.example
  bodkin up -e 'ssh -F work.conf' gw -x 192.168.1.0/24
  bodkin up --far slirp me@gw.example.org
  bodkin up --far 'pppd notty noauth ms-dns 9.9.9.9' root@gw
  bodkin up --near nat --far tun root@home 192.168.7.0/24
  bodkin up --via http://me@proxy:3128 me@gw.example.org
  bodkin up --via telnet://tn-gw.corp telnet://me@home.example.org
  bodkin up --plan me@gw.example.org
  bodkin up -d me@gw.example.org && bodkin status`,
		Args: cobra.MinimumNArgs(1),
		// What a profile says is checked by this alone: it touches nothing.
		PreRunE: func(_ *cobra.Command, args []string) (err error) {
			if err := parseEmulators(&u, near, far); err != nil {
				return err
			}
			if secrets, err = parseWay(&u, args[0], via, passwords); err != nil {
				return err
			}
			if err := parseRoles(&u, waysIn, local, forward, masquerade, back); err != nil {
				return err
			}
			return parseUp(&u, args, program, exclude, dns, allow)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case u.Plan:
				return plan(&u, cmd.OutOrStdout())
			case u.Detach:
				return detach.Run(cmd.Context(), cmd.ErrOrStderr(), func(ctx context.Context, ready func()) error {
					return up(ctx, &u, secrets, cmd.ErrOrStderr(), ready)
				})
			}
			return up(cmd.Context(), &u, secrets, cmd.ErrOrStderr(), func() {})
		},
		ValidArgsFunction: completeHosts,
	}
	f := cmd.Flags()
	f.StringVarP(&program, "ssh", "e", "ssh", "the ssh program and its options, as in rsync")
	wayFlags(f, &via, &passwords)
	f.StringVar(&u.Chat, "chat", "", "`FILE`: a chat script that logs in at the target, instead of what prompts look like")
	f.StringVar(&u.Become, "become", "", "su or sudo, once logged in at the target's shell")
	f.DurationVar(&u.Silence, "dialogue-timeout", 0, "how long a proxy or a login may be silent where something is waited for (default 1m0s)")
	f.StringVar(&u.KnownAs, "known-as", "", "the `NAME` that the far side's key is known by in known_servers (default: the target's)")
	f.BoolVar(&u.Open, "insecure-accept-eavesdropping", false, "go on though the far side does not prove who it is, on a way without ssh")
	f.StringVar(&u.Coding, "line", "auto", "how octets go over a line that may change some: auto (measured), clean, escape, armour")
	f.StringArrayVarP(&exclude, "exclude", "x", nil, "`CIDR` that does not go through the tunnel (repeat for more)")
	f.StringArrayVar(&dns, "dns", []string{"auto"}, "names: auto, off, the `ADDR`ess of a resolver, or a domain (repeat for more)")
	f.StringVar(&u.Name, "name", "bodkin0", "what to call the tunnel and its device")
	f.StringVar(&near, "near", "tun", "this side's `EMULATOR`: tun, nat, socks, pppd, slirp, 'pppd OPTIONS', 'slirp OPTIONS', 'cmd:...', 'tty:...'")
	f.StringVar(&far, "far", "nat", "the far side's `EMULATOR`, the same; nothing of bodkin's is put there for a foreign one")
	f.StringArrayVarP(&waysIn, "redirect", "R", nil, "`WAY` in past a NAT, at the side that is one: PORT, [ADDR:]PORT:HOST:PORT, with udp: before it for datagrams; on loopback unless said (repeat for more)")
	f.StringArrayVarP(&local, "local", "L", nil, "with --near socks: `WAY` out, [ADDR:]PORT:HOST:PORT, with udp: before it for datagrams (repeat for more)")
	f.StringArrayVar(&forward, "forward", nil, "let the kernel of a `SIDE` with tun, near or far, pass packets on between the tunnel and its networks")
	f.StringArrayVar(&masquerade, "masquerade", nil, "the same, under that `SIDE`'s own address")
	f.StringArrayVar(&back, "back", nil, "`CIDR` of this side that the far side's kernel interface routes here (repeat for more)")
	f.BoolVar(&u.Stand, "stand", false, "dial again whenever the link to the far side dies")
	f.BoolVar(&u.Once, "once", false, "do not dial again when the link to a foreign emulator dies")
	f.StringVar(&u.Record, "record", "", "`FILE` that takes all octets of the link to a foreign emulator, for pppdump(8); passwords too")
	f.StringVar(&u.FarBinary, "far-binary", "", "`FILE`: a bodkin for the far side's system")
	f.StringArrayVar(&allow, "allow", nil, "what bodkin's NAT opens beside the default: host (its machine's loopback and addresses), link-local")
	f.BoolVar(&u.Plan, "plan", false, "print every change to the machine, and make none")
	f.BoolVarP(&u.Detach, "detach", "d", false, "return once the tunnel carries packets, and let it run")
	f.CountVarP(&u.Verbose, "verbose", "v", "say more; twice: what ssh says too")
	emulators := []string{"tun", "nat", "pppd", "slirp", "cmd:", "tty:"}
	cmd.RegisterFlagCompletionFunc("near", cobra.FixedCompletions(append([]string{"socks"}, emulators...), cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("far", cobra.FixedCompletions(emulators, cobra.ShellCompDirectiveNoFileComp))
	for _, side := range []string{"forward", "masquerade"} {
		cmd.RegisterFlagCompletionFunc(side, cobra.FixedCompletions([]string{"near", "far"}, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.RegisterFlagCompletionFunc("become", cobra.FixedCompletions([]string{"su", "sudo"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("line", cobra.FixedCompletions([]string{"auto", "clean", "escape", "armour"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("dns", cobra.FixedCompletions([]string{"auto", "off"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("allow", cobra.FixedCompletions([]string{"host", "link-local"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// parseEmulators reads what each side is to run.
func parseEmulators(u *config.Up, near, far string) (err error) {
	if u.Near, err = config.ParseEmulator("--near", near); err != nil {
		return err
	}
	u.Far, err = config.ParseEmulator("--far", far)
	return err
}

// parseRoles reads what the two sides do for each other besides.
func parseRoles(u *config.Up, waysIn, local, forward, masquerade, back []string) (err error) {
	for _, list := range []struct {
		flag  string
		texts []string
		into  *[]config.WayIn
	}{{"-R", waysIn, &u.WaysIn}, {"-L", local, &u.Local}} {
		for _, text := range list.texts {
			w, err := config.ParseWayIn(list.flag, text)
			if err != nil {
				return err
			}
			*list.into = append(*list.into, w)
		}
	}
	if u.ForwardNear.Masquerade, u.ForwardFar.Masquerade, err = config.ParseSides("--masquerade", masquerade); err != nil {
		return err
	}
	if u.ForwardNear.Forward, u.ForwardFar.Forward, err = config.ParseSides("--forward", forward); err != nil {
		return err
	}
	u.ForwardNear.Forward = u.ForwardNear.Forward || u.ForwardNear.Masquerade
	u.ForwardFar.Forward = u.ForwardFar.Forward || u.ForwardFar.Masquerade
	u.Back, err = parsePrefixes(back)
	return err
}

// parseUp makes a checked config of the arguments and flags.
func parseUp(u *config.Up, args []string, program string, exclude, dns, allow []string) (err error) {
	if u.SSH, err = config.SplitProgram(program); err != nil {
		return err
	}
	if u.Routes, err = parsePrefixes(args[1:]); err != nil {
		return err
	}
	if len(u.Routes) == 0 && u.Near.Kind == config.Tun {
		u.Routes = config.Everything
	}
	if u.Exclude, err = parsePrefixes(exclude); err != nil {
		return err
	}
	if u.DNS, err = config.ParseDNS(dns, u.TakesEverything()); err != nil {
		return err
	}
	for _, a := range allow {
		switch a {
		case "host":
			u.AllowHost = true
		case "link-local":
			u.AllowLink = true
		default:
			return &config.Error{Reason: "--allow " + a, Hint: "there are host and link-local"}
		}
	}
	return u.Check()
}

func parsePrefixes(texts []string) (list []netip.Prefix, err error) {
	for _, t := range texts {
		p, err := config.ParsePrefix(t)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
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
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, paths := tunnels()
			if len(list) == 0 {
				return report.WithHint(errors.New("no tunnel is up"), "`bodkin clean` takes back what a killed one left")
			}
			names := make([]string, len(list))
			for i, s := range list {
				names[i] = s.Name
			}
			which := 0
			switch {
			case len(args) == 1:
				for which = 0; which < len(list) && list[which].Name != args[0]; which++ {
				}
				if which == len(list) {
					return report.WithHint(fmt.Errorf("no tunnel is called %q", args[0]), "up: "+strings.Join(names, ", "))
				}
			case len(list) > 1:
				return report.Usage(fmt.Errorf("%d tunnels are up: say which of %s", len(list), strings.Join(names, ", ")))
			}
			var end Down
			answer, err := ask(paths[which], "down", downTimeout)
			if err != nil || json.Unmarshal(answer, &end) != nil || !end.Down {
				return report.WithHint(fmt.Errorf("%s does not say that it is down", names[which]), "if its process is stuck, kill it and run `bodkin clean`")
			}
			newVoice(cmd.ErrOrStderr(), 0).notes(end.Notes)
			if end.Error != "" {
				return report.At(report.Routes, errors.New(end.Error), "`bodkin clean` tries again")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is down; %s\n", names[which], asItWas(end.Notes))
			return nil
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
			list, _ := tunnels()
			for _, s := range list {
				names = append(names, s.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
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

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/detach"
	"github.com/bodkin-net/bodkin/cmd/bodkin/sdnotify"
)

func upCommand() *cobra.Command {
	var r request
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
		PreRunE: func(_ *cobra.Command, args []string) error { return r.parse(args) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case r.Plan:
				return plan(&r.Up, cmd.OutOrStdout())
			case r.Detach:
				return detach.Run(cmd.Context(), cmd.ErrOrStderr(), func(ctx context.Context, ready func()) error {
					return up(ctx, &r.Up, r.secrets, cmd.ErrOrStderr(), ready)
				})
			}
			return up(cmd.Context(), &r.Up, r.secrets, cmd.ErrOrStderr(), func() {
				if err := sdnotify.Tell(sdnotify.Ready, sdnotify.Status("up, through "+r.Target.String())); err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "bodkin: note: %v\n", err)
				}
			})
		},
		ValidArgsFunction: completeHosts,
	}
	r.wayFlags(cmd)
	r.farFlags(cmd)
	r.roleFlags(cmd)
	return cmd
}

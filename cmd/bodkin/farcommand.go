package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/carrier/command"
	"github.com/bodkin-net/bodkin/carrier/farhalf"
	"github.com/bodkin-net/bodkin/cmd/bodkin/keeper"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/trust"
)

// farHalfCommand is what the near side starts at the far side, and what a
// forced command in authorized_keys names.
func farHalfCommand() *cobra.Command {
	var nonce, listen string
	var kernel, onLine, open, plain, held bool
	var hold time.Duration
	var allow, only, deny []string
	cmd := &cobra.Command{
		Use:   farCommand,
		Short: "Be the far half of a tunnel on standard input and output",
		Long: `Be the far half of a tunnel: the near half starts this through the ssh login. As a
forced command in authorized_keys it makes a key good for tunnels alone:

    restrict,command="bodkin far --only 10.0.0.0/8" ssh-ed25519 AAAA...

With --listen it waits at a TCP address for one near half, which comes by bodkin://, the
line measured and TLS inside, or by tls:// at once. Each side must know the other's key:
see bodkin key.

When its login is lost it does not end: a process of its own, bodkin far --held, waits
for the near half to log in again, --hold at most. bodkin status lists those that wait,
and bodkin down ends them.

What the near half asks for with --allow is granted only where the near half started
this itself; as a forced command, the flags here decide.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if held {
				return keeper.Serve(cmd.Context(), runHeld)
			}
			if hold < 0 {
				return report.Usage(fmt.Errorf("--hold %v: less than no time at all", hold))
			}
			f := farHalf{kernel: kernel, hold: hold}
			var err error
			if f.policy, err = parsePolicy(allow, only, deny); err != nil {
				return err
			}
			// A closed terminal or a lost sshd shows as the stream's end, and the
			// Ctrl-C of a terminal we happen to share is not for us.
			signal.Ignore(os.Interrupt, syscall.SIGPIPE)
			if listen != "" {
				return f.listen(cmd.Context(), listen, open, plain)
			}
			f.grant = granted
			if nonce == "" {
				f.grant = 0
				var ok bool
				if nonce, ok = farhalf.NonceFromEnv(); !ok {
					return report.WithHint(errors.New("far is started by `bodkin up` at the other side"),
						`as a forced command it is named in authorized_keys: restrict,command="bodkin far"`)
				}
			}
			if onLine {
				return f.runInside(cmd.Context(), nonce, open)
			}
			if f.stream, err = command.Stdio(); err != nil {
				return err
			}
			if err := farhalf.Announce(f.stream, nonce); err != nil {
				return err
			}
			go farhalf.Tidy()
			return f.meet(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&hold, "hold", defaultHold, "the most that connections through the tunnel wait for a near half that was cut off; 0: they end at once")
	flags.BoolVar(&held, "held", false, "what a far half says when it started this to outlive its login")
	flags.StringVar(&nonce, "nonce", "", "what the near half knows this start by")
	flags.StringVar(&listen, "listen", "", "wait at a TCP `ADDRESS:PORT` for one near half, which comes by bodkin:// or tls://")
	flags.BoolVar(&onLine, "line", false, "what the near half says when it started this in a shell")
	flags.BoolVar(&open, "insecure-accept-eavesdropping", false, "let in a near half that does not prove who it is")
	flags.BoolVar(&plain, "plain", false, "with --listen: unprotected, for measurements alone")
	flags.BoolVar(&kernel, "kernel", false, "a kernel interface at this end instead of a userspace NAT (root)")
	flags.StringArrayVar(&allow, "allow", nil, "open a `DESTINATION` that is closed by default: host (the loopback and addresses of this machine), link-local, or CIDR[:PORTS] of them")
	flags.StringArrayVar(&only, "only", nil, "let the near half reach this `CIDR[:PORTS]` only (repeat for more)")
	flags.StringArrayVar(&deny, "deny", nil, "do not let it reach this `CIDR[:PORTS]` (repeat for more)")
	for _, hidden := range []string{"nonce", "line", "plain", "held"} {
		flags.MarkHidden(hidden)
	}
	return cmd
}

// parsePolicy makes the NAT's policy of the flags.
func parsePolicy(allow, only, deny []string) (p usernat.Policy, err error) {
	for _, list := range []struct {
		flag  string
		texts []string
		into  *[]usernat.Rule
	}{{"--allow", allow, &p.Open}, {"--only", only, &p.Only}, {"--deny", deny, &p.Deny}} {
		for _, text := range list.texts {
			d, err := trust.ParseDestination(text)
			if err != nil {
				return p, report.WithHint(report.Usage(fmt.Errorf("%s: %w", list.flag, err)), "10.0.0.0/8, 10.0.0.0/8:22,443 or [2001:db8::/32]:22; --allow takes host and link-local too")
			}
			switch {
			case list.flag == "--allow" && d.Place == trust.Host:
				p.Host = true
			case list.flag == "--allow" && d.Place == trust.LinkLocal:
				p.LinkLocal = true
			case d.Place == trust.Host || d.Place == trust.LinkLocal:
				return p, report.Usage(fmt.Errorf("%s %s: that is closed already; --allow opens it", list.flag, text))
			}
			for _, prefix := range d.Prefixes() {
				r := usernat.Rule{Prefix: prefix}
				for _, ports := range d.Ports {
					r.Ports = append(r.Ports, usernat.PortRange(ports))
				}
				*list.into = append(*list.into, r)
			}
		}
	}
	return p, nil
}

// Package serve is `bodkin serve`: the server for machines where no sshd runs, or may
// run. One port takes SSH, TLS, WebSocket and lines that are measured; each client that
// has proved its key gets a userspace NAT of its own, or, if it is a NAT itself, stands
// at the disposal of this machine. It needs no privilege.
//
//	serve.go      the commands and their flags
//	service.go    a running server, from its key to its end
//	doors.go      the ways in, each to a client that has proved its key
//	enter.go      from there to a session that begins
//	resume.go     or to one that goes on
//	tunnel.go     a client's NAT
//	policy.go     what it may reach
//	share.go      how the machine is divided among clients
//	standing.go   clients that stand, and who uses them
//	control.go    status, kick and use: a running server answers
//	dial.go       who asks it
//	metrics.go, log.go
//	units.go      for systemd
//
// Sessions, their limits and ends are package server's; the telling apart of
// connections that of server/front; keys that of trust.
package serve

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
)

// options are the flags.
type options struct {
	listen            []string
	allow, only, deny []string
	metrics           string
	metricsOpen       bool
	webCert, webKey   string
	wsPath            string
	log               string
	maxClients        int
	perClient         int
	maxFlows          int
	hold              time.Duration
}

// Command is `bodkin serve`. software is what clients are told of us.
func Command(software string) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Be the server: SSH, TLS and WebSocket on one port, without root",
		Long: `Be the server where no sshd runs, or may run. One port takes all of these, told apart by
the first octets, and shows a plain page to browsers:

  bodkin up tls://HOST          TLS 1.3, each side knowing the other's key
  bodkin up wss://HOST/tunnel   the same inside WebSocket, through web proxies
  bodkin up ssh://HOST:PORT     SSH, by the user's own ssh; for tunnels alone
  bodkin up bodkin://HOST:PORT  a line that may eat octets

Clients are let in by the keys in authorized_clients, whose options say what each may
reach and have; what changes there counts at once, for sessions too. See bodkin key.
This machine's key is made at the first start.

Each client has a userspace NAT of its own: its connections come from this process, as
an ordinary user's, and nobody gets in to it. A client that is a NAT itself (bodkin up
--near nat --far tun) stands here by its name, and whoever runs on this machine as the
same user, or root, may use its network: bodkin up served:NAME.

A client that loses its connection comes back by whichever way, and its connections go on: its
session is held for it as long as it asked for, and --hold at most.

Without --listen it listens at :443, or at what systemd hands over.`,
		Example: `  bodkin serve --listen :8443
  bodkin serve --only 10.0.0.0/8 --metrics 127.0.0.1:9443 --log json
  bodkin serve status
  bodkin serve kick laptop
  bodkin up served:laptop 192.168.7.0/24`,
		Args: cobra.NoArgs,
		// What a profile says is checked by this alone: it touches nothing.
		PreRunE: func(*cobra.Command, []string) error { return o.check() },
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), &o, software, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.listen, "listen", nil, "where clients come in: `HOST:PORT`, or unix:/PATH (repeat for more; default :443, or systemd's)")
	f.StringArrayVar(&o.allow, "allow", nil, "open beside the default, to clients whose line does not say less: host, link-local, PREFIX[:PORTS]")
	f.StringArrayVar(&o.only, "only", nil, "let no client reach anything but `PREFIX[:PORTS]` (repeat for more)")
	f.StringArrayVar(&o.deny, "deny", nil, "let no client reach `PREFIX[:PORTS]` (repeat for more)")
	f.StringVar(&o.metrics, "metrics", "", "`ADDRESS:PORT` on loopback, for Prometheus")
	f.BoolVar(&o.metricsOpen, "metrics-open", false, "let --metrics be an address that others can reach")
	f.StringVar(&o.webCert, "web-cert", "", "`FILE` with the certificate for browsers and web proxies, in PEM (default: one of its own)")
	f.StringVar(&o.webKey, "web-key", "", "`FILE` with its key")
	f.StringVar(&o.wsPath, "ws-path", "/tunnel", "where on the web server WebSocket clients come in")
	f.StringVar(&o.log, "log", "text", "how the log is written to standard error: text, json")
	f.IntVar(&o.maxClients, "max-clients", 256, "sessions at a time")
	f.IntVar(&o.perClient, "max-sessions", 4, "sessions of one key at a time: a further one takes the place of the longest silent")
	f.IntVar(&o.maxFlows, "max-flows", 0, "connections of one session at a time (default: what the limit of open files leaves)")
	f.DurationVar(&o.hold, "hold", defaultHold, "how long at most a session is held for a client that lost its connection; 0: not at all")
	cmd.RegisterFlagCompletionFunc("log", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("allow", cobra.FixedCompletions([]string{"host", "link-local"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(statusCommand(), kickCommand(), unitsCommand())
	return cmd
}

const (
	// defaultHold is long enough for a lift, a tunnel and a laptop that is carried from
	// one room to another.
	defaultHold = 10 * time.Minute

	// mostHold bounds what is kept for nobody: no TCP connection lives longer in silence.
	mostHold = 7 * 24 * time.Hour
)

// check refuses what cannot be meant, before anything is touched.
func (o *options) check() error {
	bad := func(hint, format string, args ...any) error {
		return &config.Error{Reason: fmt.Sprintf(format, args...), Hint: hint}
	}
	if _, err := parseBounds(o.allow, o.only, o.deny); err != nil {
		return err
	}
	switch {
	case o.log != "text" && o.log != "json":
		return bad("there are text and json", "--log %s", o.log)
	case (o.webCert == "") != (o.webKey == ""):
		return bad("one is of no use without the other", "--web-cert and --web-key")
	case o.maxClients < 1 || o.maxClients > 100_000:
		return bad("from 1 to 100000", "--max-clients %d", o.maxClients)
	case o.perClient < 1:
		return bad("at least 1", "--max-sessions %d", o.perClient)
	case o.maxFlows < 0:
		return bad("at least 1, or 0 for what there is", "--max-flows %d", o.maxFlows)
	case o.hold < 0 || o.hold > mostHold:
		return bad("from 0, for not at all, to 168h", "--hold %v", o.hold)
	case o.wsPath == "" || o.wsPath[0] != '/' || o.wsPath == "/":
		return bad("such as /tunnel; / is the page for browsers", "--ws-path %s", o.wsPath)
	}
	if o.metrics != "" && !o.metricsOpen {
		a, err := netip.ParseAddrPort(o.metrics)
		if host, _, cut := net.SplitHostPort(o.metrics); cut == nil && host == "localhost" {
			err, a = nil, netip.AddrPortFrom(netip.IPv6Loopback(), 1)
		}
		if err != nil || !a.Addr().IsLoopback() {
			return bad("127.0.0.1:9443, or --metrics-open if others may see who is connected and what they carry", "--metrics %s is not on loopback", o.metrics)
		}
	}
	return nil
}

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Say who is connected to the server of this machine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var st Status
			if err := ask(cmd.Context(), "status", &st); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), st)
			}
			say(cmd.OutOrStdout(), st)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func kickCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kick NAME|NUMBER",
		Short: "End a client's sessions, or one by its number",
		Long: `End a client's sessions, or one by its number in bodkin serve status. The client may come
back: to keep it out, take its key out of authorized_clients, which ends its sessions too.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return report.Usage(fmt.Errorf("%s wants one client's name, or a session's number", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var e ended
			if err := ask(cmd.Context(), "kick "+args[0], &e); err != nil {
				return err
			}
			if e.Ended == 0 {
				return report.WithHint(fmt.Errorf("nobody called %q is connected", args[0]), "`bodkin serve status` says who is")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s ended\n", count(e.Ended, "session"))
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			var st Status
			if ask(cmd.Context(), "status", &st) == nil {
				for _, session := range st.Sessions {
					names = append(names, session.Client)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// say prints a Status for people.
func say(out io.Writer, st Status) {
	fmt.Fprintf(out, "serving at %s since %s, pid %d\n", joined(st.Listen), st.Since.Local().Format(time.DateTime), st.PID)
	fmt.Fprintf(out, "key %s\n", st.Key)
	if len(st.Sessions) == 0 {
		fmt.Fprintln(out, "nobody is connected")
		return
	}
	fmt.Fprintf(out, "%-6s %-20s %-10s %-28s %-10s %10s %10s %6s\n", "number", "client", "by", "from", "for", "in", "out", "flows")
	for _, s := range st.Sessions {
		fmt.Fprintf(out, "%-6d %-20s %-10s %-28s %-10s %10s %10s %6d", s.ID, s.Client, s.By, s.From,
			time.Since(s.Since).Round(time.Second), octets(s.OctetsIn), octets(s.OctetsOut), s.Flows)
		if s.AwaySince != nil {
			fmt.Fprintf(out, "  away since %s", s.AwaySince.Local().Format(time.TimeOnly))
		}
		switch {
		case s.UsedFor > 0:
			fmt.Fprintf(out, "  stands, used for %s", time.Duration(s.UsedFor*float64(time.Second)).Round(time.Second))
		case s.Stands:
			fmt.Fprint(out, "  stands")
		}
		fmt.Fprintln(out)
	}
}

// octets is a number of octets for people.
func octets(n uint64) string {
	for _, u := range []struct {
		name string
		of   float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(n) >= u.of {
			return fmt.Sprintf("%.1f %s", float64(n)/u.of, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// openControl opens the control socket where the present user's is looked for.
func (s *service) openControl() (*control, error) {
	c, err := listenControl(s, directory())
	if err != nil {
		return nil, report.At(report.Privilege, err, cmp.Or(report.HintOf(err), "`bodkin serve status` says who runs"))
	}
	return c, nil
}

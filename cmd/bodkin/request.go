package main

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/config"
)

// A request is what the command line, or a profile, asks of a tunnel.
type request struct {
	config.Up
	secrets *secret.Sources // where passwords come from

	// As they were written.
	program, near, far                                                            string
	via, passwords, exclude, dns, allow, waysIn, local, forward, masquerade, back []string
}

// wayFlags are about the way to the far side.
func (r *request) wayFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&r.program, "ssh", "e", "ssh", "the ssh program and its options, as in rsync")
	wayFlags(f, &r.via, &r.passwords)
	f.StringVar(&r.Chat, "chat", "", "`FILE`: a chat script that logs in at the target, instead of what prompts look like")
	f.StringVar(&r.Become, "become", "", "su or sudo, once logged in at the target's shell")
	f.DurationVar(&r.Silence, "dialogue-timeout", 0, "how long a proxy or a login may be silent where something is waited for (default 1m0s)")
	f.StringVar(&r.KnownAs, "known-as", "", "the `NAME` that the far side's key is known by in known_servers (default: the target's)")
	f.BoolVar(&r.Open, "insecure-accept-eavesdropping", false, "go on though the far side does not prove who it is, on a way without ssh")
	f.StringVar(&r.Coding, "line", "auto", "how octets go over a line that may change some: auto (measured), clean, escape, armour")
	f.CountVarP(&r.Verbose, "verbose", "v", "say more; twice: what ssh says too")
	complete(cmd, "become", "su", "sudo")
	complete(cmd, "line", "auto", "clean", "escape", "armour")
}

// farFlags are about the far side, whatever runs here.
func (r *request) farFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&r.dns, "dns", []string{"auto"}, "names: auto, off, the `ADDR`ess of a resolver, DOMAIN=far or DOMAIN=ADDR for some names only (repeat for more)")
	f.StringVar(&r.far, "far", "nat", "the far side's `EMULATOR`: tun, nat, socks, pppd, slirp, 'pppd OPTIONS', 'slirp OPTIONS', 'cmd:...', 'tty:...'; nothing of bodkin's is put there for a foreign one")
	f.StringArrayVarP(&r.waysIn, "redirect", "R", nil, "`WAY` in past a NAT, at the side that is one: PORT, [ADDR:]PORT:HOST:PORT, with udp: before it for datagrams; on loopback unless said (repeat for more)")
	f.StringArrayVar(&r.forward, "forward", nil, "let the kernel of a `SIDE` with tun, near or far, pass packets on between the tunnel and its networks")
	f.StringArrayVar(&r.masquerade, "masquerade", nil, "the same, under that `SIDE`'s own address")
	f.DurationVar(&r.Grace, "grace", config.Grace, "how long the far side is to hold the tunnel, with all connections in it, while the connection is lost; 0: it ends with it")
	f.StringVar(&r.Congestion, "congestion", "", "the `NAME` of the congestion control of bodkin's own sockets, or system (default cubic, and bbr once packets are lost without a queue)")
	f.BoolVar(&r.Fast, "fast", false, "find a connection that died in silence within 3 seconds instead of 10")
	f.BoolVar(&r.Once, "once", false, "do not dial again when the connection is lost")
	f.BoolVar(&r.Stand, "stand", false, "dial again even when the far side has ended the tunnel")
	f.StringVar(&r.FarBinary, "far-binary", "", "`FILE`: a bodkin for the far side's system")
	f.StringArrayVar(&r.allow, "allow", nil, "what bodkin's NAT opens beside the default: host (its machine's loopback and addresses), link-local")
	complete(cmd, "far", emulatorWords...)
	complete(cmd, "congestion", "bbr", "cubic", "system")
	complete(cmd, "forward", "near", "far")
	complete(cmd, "masquerade", "near", "far")
	complete(cmd, "dns", "auto", "off")
	complete(cmd, "allow", "host", "link-local")
}

// roleFlags are about this side.
func (r *request) roleFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&r.exclude, "exclude", "x", nil, "`CIDR` that does not go through the tunnel (repeat for more)")
	f.StringVar(&r.Name, "name", "bodkin0", "what to call the tunnel and its device")
	f.StringVar(&r.near, "near", "tun", "this side's `EMULATOR`: tun, nat, socks, socks:PORT, pppd, slirp, 'pppd OPTIONS', 'slirp OPTIONS', 'cmd:...', 'tty:...'")
	f.StringArrayVarP(&r.local, "local", "L", nil, "with --near socks: `WAY` out, [ADDR:]PORT:HOST:PORT, with udp: before it for datagrams (repeat for more)")
	f.StringArrayVar(&r.back, "back", nil, "`CIDR` of this side that the far side's kernel interface routes here, or, with --masquerade near, that uses the tunnel (repeat for more)")
	f.StringVar(&r.Record, "record", "", "`FILE` that takes all octets of the link to a foreign emulator, for pppdump(8); passwords too")
	f.BoolVar(&r.Plan, "plan", false, "print every change to the machine, and make none")
	f.BoolVarP(&r.Detach, "detach", "d", false, "return once the tunnel carries packets, and let it run")
	complete(cmd, "near", emulatorWords...)
}

// emulatorWords are how what --near and --far take begins.
var emulatorWords = []string{"tun", "nat", "socks", "pppd", "slirp", "cmd:", "tty:"}

// complete has the shell offer words for a flag.
func complete(cmd *cobra.Command, flag string, words ...string) {
	cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// parse makes a checked config of the arguments, a target and prefixes, and flags.
func (r *request) parse(args []string) (err error) {
	if r.Near, err = config.ParseEmulator("--near", r.near); err != nil {
		return err
	}
	return r.parseRest(args)
}

// parseCommand is parse for a command in a network of its own.
func (r *request) parseCommand(args, command []string) error {
	r.Near, r.Command = config.Emulator{Kind: config.Enclosed}, command
	r.Name = fmt.Sprintf("exec-%d", os.Getpid())
	return r.parseRest(args)
}

func (r *request) parseRest(args []string) (err error) {
	if r.Far, err = config.ParseEmulator("--far", r.far); err != nil {
		return err
	}
	if r.secrets, err = parseWay(&r.Up, args[0], r.via, r.passwords); err != nil {
		return err
	}
	if err := r.parseRoles(); err != nil {
		return err
	}
	if r.SSH, err = config.SplitProgram(r.program); err != nil {
		return err
	}
	if r.Routes, err = parsePrefixes(args[1:]); err != nil {
		return err
	}
	switch r.Near.Kind {
	case config.Tun, config.Socks, config.Enclosed:
		if len(r.Routes) == 0 {
			r.Routes = config.Everything
		}
	}
	if r.Exclude, err = parsePrefixes(r.exclude); err != nil {
		return err
	}
	if r.DNS, err = config.ParseDNS(r.dns, r.TakesEverything() || r.Near.Kind == config.Socks || r.Near.Kind == config.Enclosed); err != nil {
		return err
	}
	for _, a := range r.allow {
		switch a {
		case "host":
			r.AllowHost = true
		case "link-local":
			r.AllowLink = true
		default:
			return &config.Error{Reason: "--allow " + a, Hint: "there are host and link-local"}
		}
	}
	return r.Check()
}

// parseRoles reads what the two sides do for each other besides.
func (r *request) parseRoles() (err error) {
	for _, list := range []struct {
		flag  string
		texts []string
		into  *[]config.WayIn
	}{{"-R", r.waysIn, &r.WaysIn}, {"-L", r.local, &r.Local}} {
		for _, text := range list.texts {
			w, err := config.ParseWayIn(list.flag, text)
			if err != nil {
				return err
			}
			*list.into = append(*list.into, w)
		}
	}
	near, far := &r.ForwardNear, &r.ForwardFar
	if near.Masquerade, far.Masquerade, err = config.ParseSides("--masquerade", r.masquerade); err != nil {
		return err
	}
	if near.Forward, far.Forward, err = config.ParseSides("--forward", r.forward); err != nil {
		return err
	}
	near.Forward, far.Forward = near.Forward || near.Masquerade, far.Forward || far.Masquerade
	r.Back, err = parsePrefixes(r.back)
	return err
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

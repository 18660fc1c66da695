package pppd

import (
	"net/netip"
	"slices"
	"strconv"
	"time"
)

var lineOptions = []option{
	{name: "notty", help: "standard input and output as they are (the default, if no terminal)", set: kind(LineStdio, nil)},
	{name: "pty", arg: "COMMAND", help: "the terminal of a command for sh", set: kind(LinePTY, func(l *Line) *string { return &l.Command })},
	{name: "socket", arg: "HOST:PORT", help: "a TCP connection, not encrypted", set: setSocket},
	{name: "init", arg: "COMMAND", help: "run it on the line before all else", set: text(func(o *Options) *string { return &o.Line.Init })},
	{name: "connect", arg: "COMMAND", help: "run it on the line first: chat, for example", set: text(func(o *Options) *string { return &o.Line.Connect })},
	{name: "welcome", arg: "COMMAND", help: "run it on the line after connect", set: text(func(o *Options) *string { return &o.Line.Welcome })},
	{name: "disconnect", arg: "COMMAND", help: "run it on the line at the end", set: text(func(o *Options) *string { return &o.Line.Disconnect })},
	{name: "connect-delay", arg: "MS", help: "after connect or pty, wait so long for the peer to speak first (1000)",
		set: duration(func(o *Options) *time.Duration { return &o.Line.ConnectDelay }, time.Millisecond, 0, 3600000)},
	{name: "crtscts", help: "a device: hardware flow control", set: flow(On)},
	{name: "nocrtscts", aliases: []string{"-crtscts", "nocdtrcts"}, help: "a device: no hardware flow control", set: flow(Off)},
	{name: "xonxoff", help: "a device: ^S and ^Q control the flow, and are escaped", set: func(p *parser, _ string) error {
		p.options.Line.XONXOFF = true
		p.options.LCP.ACCM |= 1<<0x11 | 1<<0x13
		p.options.LCP.Escape[0x11], p.options.LCP.Escape[0x13] = true, true
		return nil
	}},
	{name: "local", help: "a device: do not look at the modem's lines", set: local(On)},
	{name: "modem", help: "a device: a lost carrier is a hangup", set: local(Off)},
	{name: "record", arg: "FILE", help: "append all octets both ways, for pppdump", set: text(func(o *Options) *string { return &o.Line.Record })},
}

func local(s Switch) func(*parser, string) error {
	return func(p *parser, _ string) error {
		p.options.Line.Local = s
		return nil
	}
}

func flow(s Switch) func(*parser, string) error {
	return func(p *parser, _ string) error {
		p.options.Line.CRTSCTS = s
		return nil
	}
}

var framingOptions = slices.Concat([]option{
	{name: "asyncmap", aliases: []string{"-as"}, arg: "HEX", help: "the peer escapes these control characters (0); several are ORed", set: setASyncMap},
	{name: "default-asyncmap", aliases: []string{"-am"}, help: "the peer escapes all control characters, unasked", set: flag(func(o *Options) *bool { return &o.LCP.NoACCM })},
	{name: "escape", arg: "HEX,HEX", help: "we escape these octets", set: setEscape},
	{name: "receive-all", help: "keep control characters that the peer should have escaped", set: flag(func(o *Options) *bool { return &o.LCP.ReceiveAll })},
	{name: "mru", arg: "N", help: "take at most N octets of a packet, 128 to 16384 (1500)", set: number(func(o *Options) *int { return &o.LCP.MRU }, 128, 16384)},
	{name: "mtu", arg: "N", help: "send at most N octets", set: number(func(o *Options) *int { return &o.LCP.MTU }, 128, 16384)},
	{name: "default-mru", aliases: []string{"-mru"}, help: "do not speak of MRU: 1500", set: func(p *parser, _ string) error {
		p.options.LCP.MRU = 0
		return nil
	}},
	{name: "noaccomp", aliases: []string{"-ac"}, help: "address and control fields are always sent", set: flag(func(o *Options) *bool { return &o.LCP.NoACFC })},
	{name: "nopcomp", aliases: []string{"-pc"}, help: "protocol fields are always of two octets", set: flag(func(o *Options) *bool { return &o.LCP.NoPFC })},
	{name: "nomagic", aliases: []string{"-mn"}, help: "no magic number: a loop is not noticed", set: flag(func(o *Options) *bool { return &o.LCP.NoMagic })},
	{name: "silent", help: "speak only after the peer has", set: flag(func(o *Options) *bool { return &o.LCP.Silent })},
	{name: "passive", aliases: []string{"-p"}, help: "if nobody answers, wait", set: flag(func(o *Options) *bool { return &o.LCP.Passive })},
	{name: "lcp-echo-interval", arg: "N", help: "ask the peer for an echo every N seconds (never)",
		set: duration(func(o *Options) *time.Duration { return &o.LCP.EchoInterval }, time.Second, 0, maxSeconds)},
	{name: "lcp-echo-failure", arg: "N", help: "end after N without an answer", set: number(func(o *Options) *int { return &o.LCP.EchoFailure }, 0, maxTries)},
	{name: "lcp-echo-adaptive", help: "ask only if nothing came in", set: flag(func(o *Options) *bool { return &o.LCP.EchoAdaptive })},
}, timers("lcp", "LCP", func(o *Options) *Timers { return &o.LCP.Timers }))

var addressOptions = slices.Concat([]option{
	{name: "noip", aliases: []string{"-ip"}, help: "no IPv4", set: flag(func(o *Options) *bool { return &o.IPv4.Off })},
	{name: "ipcp-accept-local", help: "let the peer change our address", set: flag(func(o *Options) *bool { return &o.IPv4.AcceptLocal })},
	{name: "ipcp-accept-remote", help: "let the peer change its address", set: flag(func(o *Options) *bool { return &o.IPv4.AcceptRemote })},
	{name: "noremoteip", help: "a peer without an address will do", set: flag(func(o *Options) *bool { return &o.IPv4.NoRemote })},
	{name: "usepeerdns", help: "ask the peer for name servers, and use them", set: flag(func(o *Options) *bool { return &o.IPv4.UsePeerDNS })},
	{name: "ms-dns", aliases: []string{"dns-addr"}, arg: "ADDR", help: "a name server for the peer; at most two", set: setServer(func(v *IPv4) *[]netip.Addr { return &v.DNS })},
	{name: "ms-wins", arg: "ADDR", help: "a NetBIOS name server for the peer; at most two", set: setServer(func(v *IPv4) *[]netip.Addr { return &v.NBNS })},
	{name: "+ipv6", help: "IPv6 (the default, but with nat)", set: ipv6(On)},
	{name: "noipv6", aliases: []string{"-ipv6"}, help: "no IPv6", set: ipv6(Off)},
	{name: "ipv6", arg: "LOCAL,REMOTE", help: "interface identifiers, as ::1,::2", set: setIdentifiers},
	{name: "ipv6cp-use-ipaddr", help: "make ours of the IPv4 address", set: flag(func(o *Options) *bool { return &o.IPv6.UseIPv4 })},
	{name: "ipv6cp-accept-local", help: "let the peer change our identifier", set: flag(func(o *Options) *bool { return &o.IPv6.AcceptLocal })},
	{name: "ipv6cp-accept-remote", help: "let the peer change its identifier", set: flag(func(o *Options) *bool { return &o.IPv6.AcceptRemote })},
},
	timers("ipcp", "IPCP", func(o *Options) *Timers { return &o.IPv4.Timers }),
	timers("ipv6cp", "IPv6CP", func(o *Options) *Timers { return &o.IPv6.Timers }))

func ipv6(s Switch) func(*parser, string) error {
	return func(p *parser, _ string) error {
		p.options.IPv6.Want = s
		return nil
	}
}

var hostOptions = []option{
	{name: "defaultroute", help: "send everything of IPv4 through the link, and nothing of IPv6 around it",
		set: defaultRoute(func(p *parser) (*bool, bool) { return &p.options.Host.DefaultRoute, p.noDefaultRoute })},
	{name: "nodefaultroute", aliases: []string{"-defaultroute"}, help: "no default route, and refuse one asked for later", set: func(p *parser, _ string) error {
		p.options.Host.DefaultRoute, p.noDefaultRoute = false, true
		return nil
	}},
	{name: "replacedefaultroute", help: "the same as defaultroute", set: defaultRoute(func(p *parser) (*bool, bool) { return &p.options.Host.DefaultRoute, p.noDefaultRoute })},
	{name: "defaultroute6", help: "send everything of IPv6 through the link", set: defaultRoute(func(p *parser) (*bool, bool) { return &p.options.Host.DefaultRoute6, p.noDefaultRoute6 })},
	{name: "nodefaultroute6", aliases: []string{"-defaultroute6"}, help: "the same of IPv6", set: func(p *parser, _ string) error {
		p.options.Host.DefaultRoute6, p.noDefaultRoute6 = false, true
		return nil
	}},
	{name: "unit", arg: "N", help: "call the interface pppN", set: func(p *parser, value string) error {
		n, err := integer(value, 0, 999999999)
		if err == nil {
			p.options.Host.Interface = "ppp" + strconv.Itoa(n)
		}
		return err
	}},
	{name: "ifname", arg: "NAME", help: "call the interface NAME", set: setInterface},
}

func defaultRoute(field func(*parser) (is *bool, never bool)) func(*parser, string) error {
	return func(p *parser, _ string) error {
		is, never := field(p)
		if never {
			return refuse("", "an option before it rules it out")
		}
		*is = true
		return nil
	}
}

var authOptions = []option{
	{name: "auth", help: "the peer must prove who it is", set: want(WantAuth, nil)},
	{name: "noauth", help: "the peer need not, and may have any address", set: want(WantNone, nil)},
	{name: "require-mschap-v2", aliases: []string{"+mschap-v2"}, help: "the peer must, by MS-CHAPv2", set: want(WantAuth, func(a *Auth) *bool { return &a.RequireMSCHAPv2 })},
	{name: "require-chap", aliases: []string{"+chap"}, help: "the peer must, by CHAP", set: want(WantAuth, func(a *Auth) *bool { return &a.RequireCHAP })},
	{name: "require-pap", aliases: []string{"+pap"}, help: "the peer must, by PAP", set: want(WantAuth, func(a *Auth) *bool { return &a.RequirePAP })},
	{name: "refuse-mschap-v2", aliases: []string{"-mschap-v2"}, help: "we do not prove who we are by MS-CHAPv2", set: flag(func(o *Options) *bool { return &o.Auth.RefuseMSCHAPv2 })},
	{name: "refuse-chap", aliases: []string{"-chap"}, help: "we do not prove who we are by CHAP", set: flag(func(o *Options) *bool { return &o.Auth.RefuseCHAP })},
	{name: "refuse-pap", aliases: []string{"-pap"}, help: "we do not prove who we are by PAP", set: flag(func(o *Options) *bool { return &o.Auth.RefusePAP })},
	{name: "user", arg: "NAME", help: "what we call ourselves to the peer", set: text(func(o *Options) *string { return &o.Auth.User })},
	{name: "name", arg: "NAME", help: "what this end is called (the host's name)", set: text(func(o *Options) *string { return &o.Auth.Name })},
	{name: "remotename", arg: "NAME", help: "what the peer is taken for", set: text(func(o *Options) *string { return &o.Auth.RemoteName })},
	{name: "domain", arg: "NAME", help: "goes behind the host's name", set: text(func(o *Options) *string { return &o.Auth.Domain })},
	{name: "usehostname", help: "name is the host's, whatever was said", set: flag(func(o *Options) *bool { return &o.Auth.UseHostname })},
	{name: passwordWord, arg: "WORD", help: "our secret; in a file alone", set: setPassword},
	{name: "hide-password", help: "passwords are not logged (always)", set: func(*parser, string) error { return nil }},
	{name: "chap-interval", arg: "N", help: "challenge the peer again every N seconds (never)",
		set: duration(func(o *Options) *time.Duration { return &o.Auth.CHAPInterval }, time.Second, 0, maxSeconds)},
	{name: "chap-restart", help: "repeat challenges after N seconds (3)", arg: "N", set: duration(func(o *Options) *time.Duration { return &o.Auth.Restart }, time.Second, 1, maxRestart)},
	{name: "chap-max-challenge", help: "give up after N challenges (10)", arg: "N", set: number(func(o *Options) *int { return &o.Auth.MaxTries }, 1, maxCount)},
	{name: "chap-timeout", help: "give up on proofs after N seconds (60)", arg: "N", set: duration(func(o *Options) *time.Duration { return &o.Auth.Timeout }, time.Second, 0, maxSeconds)},
	{name: "pap-restart", help: "the same as chap-restart, for both", arg: "N", set: duration(func(o *Options) *time.Duration { return &o.Auth.Restart }, time.Second, 1, maxRestart)},
	{name: "pap-max-authreq", help: "the same as chap-max-challenge, for both", arg: "N", set: number(func(o *Options) *int { return &o.Auth.MaxTries }, 1, maxCount)},
	{name: "pap-timeout", help: "the same as chap-timeout, for both", arg: "N", set: duration(func(o *Options) *time.Duration { return &o.Auth.Timeout }, time.Second, 0, maxSeconds)},
}

var lifeOptions = []option{
	{name: "call", arg: "NAME", help: "options from /etc/ppp/peers/NAME", file: true, set: (*parser).call},
	{name: "file", arg: "FILE", help: "options from FILE", file: true, set: (*parser).readFile},
	{name: "persist", help: "dial again when the link has ended (pty, socket, a device)", set: flag(func(o *Options) *bool { return &o.Life.Persist })},
	{name: "nopersist", help: "end when the link has ended (the default)", set: boolean(func(o *Options) *bool { return &o.Life.Persist }, false)},
	{name: "maxfail", arg: "N", help: "give up dialling when N attempts in a row have failed (10); 0: never", set: number(func(o *Options) *int { return &o.Life.MaxFail }, 0, maxTries)},
	{name: "holdoff", arg: "N", help: "wait N seconds before dialling again (30)",
		set: duration(func(o *Options) *time.Duration { return &o.Life.Holdoff }, time.Second, 0, maxSeconds)},
	{name: "idle", arg: "N", help: "end after N seconds without a packet", set: duration(func(o *Options) *time.Duration { return &o.Life.Idle }, time.Second, 0, maxSeconds)},
	{name: "maxconnect", arg: "N", help: "end after N seconds", set: duration(func(o *Options) *time.Duration { return &o.Life.MaxConnect }, time.Second, 0, maxSeconds)},
	{name: "nodetach", aliases: []string{"-detach"}, help: "stay in the foreground (the default here)", set: boolean(func(o *Options) *bool { return &o.Life.UpDetach }, false)},
	{name: "up_sdnotify", help: "stay in the foreground, and tell systemd once the link is up", set: func(p *parser, _ string) error {
		p.options.Life.UpDetach, p.options.Life.SDNotify = false, true
		return nil
	}},
	{name: "updetach", help: "return once the link is up, and let it run", set: flag(func(o *Options) *bool { return &o.Life.UpDetach })},
	{name: "child-timeout", arg: "N", help: "wait so long for scripts at the end (5); 0: for ever",
		set: duration(func(o *Options) *time.Duration { return &o.Life.ChildTimeout }, time.Second, 0, maxSeconds)},
	{name: "linkname", arg: "NAME", help: "write our process id to /run/ppp-NAME.pid, if we may", set: text(func(o *Options) *string { return &o.Life.LinkName })},
	{name: "ipparam", arg: "WORD", help: "the sixth argument of the scripts", set: text(func(o *Options) *string { return &o.Life.IPParam })},
	{name: "set", arg: "NAME=WORD", help: "a variable for the scripts", set: setVariable},
	{name: "unset", arg: "NAME", help: "a variable that the scripts do not get", set: unsetVariable},
}

var logOptions = []option{
	{name: "debug", aliases: []string{"-d"}, help: "log control packets (SIGUSR1 turns it on and off)", set: flag(func(o *Options) *bool { return &o.Log.Debug })},
	{name: "dump", help: "print the options first", set: flag(func(o *Options) *bool { return &o.Log.Dump })},
	{name: "dryrun", help: "print the options, and no more", set: flag(func(o *Options) *bool { return &o.Log.DryRun })},
	{name: "logfile", arg: "FILE", help: "append what is said to FILE as well", set: text(func(o *Options) *string { return &o.Log.File })},
	{name: "logfd", arg: "N", help: "write what is said to descriptor N as well", set: number(func(o *Options) *int { return &o.Log.FD }, 0, 1<<20)},
	{name: "nolog", aliases: []string{"nologfd"}, help: "neither logfile nor logfd", set: func(p *parser, _ string) error {
		p.options.Log.File, p.options.Log.FD = "", -1
		return nil
	}},
}

var ourOptions = []option{
	{name: "nat", help: "be the way out for the peer: a userspace NAT that needs no root", set: flag(func(o *Options) *bool { return &o.Host.NAT })},
	{name: "pipe", arg: "COMMAND", help: "as pty, on pipes: faster, for commands that want no terminal", set: kind(LinePipe, func(l *Line) *string { return &l.Command })},
	{name: "scripts", help: "run the scripts of /etc/ppp with nat too", set: scripts(On)},
	{name: "noscripts", help: "do not run them", set: scripts(Off)},
	{name: systemWord, help: "as the first word: read /etc/ppp/options and ~/.ppprc, as pppd does", set: func(*parser, string) error {
		return refuse("", "only as the first word of the command line")
	}},
}

func scripts(s Switch) func(*parser, string) error {
	return func(p *parser, _ string) error {
		p.options.Host.Scripts = s
		return nil
	}
}

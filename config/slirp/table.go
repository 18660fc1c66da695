package slirp

import (
	"net/netip"
	"strings"
	"time"
)

// A command is one that slirp knows, or one of our own.
type command struct {
	name  string // of one or two words
	short string // what it is called besides, with a dash
	args  string // what stands behind it, as help writes it; what may be left out is in brackets
	way   way
	help  string // what it does, or why it does not
	hint  string // of a refused one: what to do instead
	set   func(p *parser, args []string) error
}

// A way says what is done with a command.
type way int

const (
	taken way = iota
	ignored
	refused
)

// needs returns how many words must stand behind the command.
func (c *command) needs() (n int) {
	for w := range strings.FieldsSeq(c.args) {
		if w[0] != '[' {
			n++
		}
	}
	return n
}

// takes returns how many may.
func (c *command) takes() int {
	if c.name == "redir" || c.way == refused || strings.HasPrefix(c.name, "add ") {
		return maxWord
	}
	return len(strings.Fields(c.args))
}

// A group is the commands about one thing.
type group struct {
	title    string
	commands []command
}

// table has all commands. It is filled by init, since config, which is one of
// them, reads it.
var table []group

func init() {
	table = []group{
		{"The line", []command{
			{name: "ppp", short: "-P", help: "speak PPP, as always", set: func(*parser, []string) error { return nil }},
			{name: "tty", args: "DEVICE", help: "the line is this device (standard input and output)", set: text(func(o *Options) *string { return &o.TTY })},
			{name: "initiate-options", help: "speak first; otherwise wait for the peer", set: flag(func(o *Options) *bool { return &o.Initiate })},
			{name: "ppp_exit", help: "exit when PPP goes down", set: flag(func(o *Options) *bool { return &o.PPPExit })},
			{name: "wait", args: "[MINUTES]", help: "otherwise wait so long for a new link (10)", set: setWait},
			{name: "nozeros", help: "five zeros, a second apart, do not mean exit", set: flag(func(o *Options) *bool { return &o.NoZeros })},
			{name: "mtu", args: "N", help: "send at most N octets", set: number(func(o *Options) *int { return &o.MTU }, 128, 16384)},
			{name: "mru", args: "N", help: "take at most N octets (1500)", set: number(func(o *Options) *int { return &o.MRU }, 128, 16384)},
			{name: "asyncmap", short: "-as", args: "HEX", help: "the peer escapes these control characters (0)", set: setASyncMap},
			{name: "escape", args: "HEX[,HEX|-HEX]...", help: "we escape these octets", set: setEscape},
		}},
		{"PPP", append([]command{
			{name: "-mru", help: "do not speak of the MRU", set: flag(func(o *Options) *bool { return &o.NoMRU })},
			{name: "-am", help: "nor of the asyncmap: all is escaped", set: flag(func(o *Options) *bool { return &o.NoACCM })},
			{name: "-mn", help: "nor of a magic number: a loop is not noticed", set: flag(func(o *Options) *bool { return &o.NoMagic })},
			{name: "-ac", help: "nor of address and control compression", set: flag(func(o *Options) *bool { return &o.NoACFC })},
			{name: "-pc", help: "nor of protocol compression", set: flag(func(o *Options) *bool { return &o.NoPFC })},
			{name: "-all", help: "nor of any of these", set: func(p *parser, _ []string) error {
				o := &p.options
				o.NoMRU, o.NoACCM, o.NoMagic, o.NoACFC, o.NoPFC = true, true, true, true, true
				return nil
			}},
			{name: "-ip", help: "a peer without an address will do", set: flag(func(o *Options) *bool { return &o.NoIP })},
			{name: "ipcp-accept-local", help: "let the peer give us another address", set: flag(func(o *Options) *bool { return &o.AcceptLocal })},
			{name: "ipcp-accept-remote", help: "let the peer have any address, as always", set: flag(func(o *Options) *bool { return &o.AcceptRemote })},
			{name: "lcp-echo-interval", args: "N", help: "ask for an echo every N seconds (never)", set: seconds(func(o *Options) *time.Duration { return &o.EchoInterval })},
			{name: "lcp-echo-failure", args: "N", help: "the link is down after N without one", set: number(func(o *Options) *int { return &o.EchoFailure }, 0, 1000)},
			{name: "debugppp", short: "-dppp", args: "FILE", help: "write what PPP says to FILE; -: to standard error", set: text(func(o *Options) *string { return &o.DebugPPP })},
		}, append(timers("lcp", "LCP", func(o *Options) *Timers { return &o.LCP }), timers("ipcp", "IPCP", func(o *Options) *Timers { return &o.IPCP })...)...)},
		{"Who is who", []command{
			{name: "auth", help: "the peer must prove who it is", set: flag(func(o *Options) *bool { return &o.Auth.Require })},
			{name: "+pap", help: "by PAP", set: flag(func(o *Options) *bool { return &o.Auth.RequirePAP })},
			{name: "+chap", help: "by CHAP", set: flag(func(o *Options) *bool { return &o.Auth.RequireCHAP })},
			{name: "-pap", help: "we do not prove who we are by PAP", set: flag(func(o *Options) *bool { return &o.Auth.RefusePAP })},
			{name: "-chap", help: "nor by CHAP", set: flag(func(o *Options) *bool { return &o.Auth.RefuseCHAP })},
			{name: "name", args: "NAME", help: "what this end is called (the host's name)", set: text(func(o *Options) *string { return &o.Auth.Name })},
			{name: "user", args: "NAME", help: "what we call ourselves by PAP", set: text(func(o *Options) *string { return &o.Auth.User })},
			{name: "remotename", args: "NAME", help: "what the peer is taken for", set: text(func(o *Options) *string { return &o.Auth.RemoteName })},
			{name: "usehostname", help: "the name is the host's, whatever was said", set: flag(func(o *Options) *bool { return &o.Auth.UseHostname })},
			{name: "domain", args: "NAME", help: "goes behind the host's name", set: text(func(o *Options) *string { return &o.Auth.Domain })},
			{name: "pap-restart", args: "N", help: "repeat after N seconds (3); shared with CHAP", set: seconds(func(o *Options) *time.Duration { return &o.Auth.Restart })},
			{name: "pap-max-authreq", args: "N", help: "give up after N (10); shared with CHAP", set: number(func(o *Options) *int { return &o.Auth.MaxTries }, 1, 1000)},
			{name: "pap-timeout", args: "N", help: "give up after N seconds (60); shared with CHAP", set: seconds(func(o *Options) *time.Duration { return &o.Auth.Timeout })},
			{name: "chap-restart", args: "N", help: "as pap-restart", set: seconds(func(o *Options) *time.Duration { return &o.Auth.Restart })},
			{name: "chap-max-challenge", args: "N", help: "as pap-max-authreq", set: number(func(o *Options) *int { return &o.Auth.MaxTries }, 1, 1000)},
			{name: "chap-interval", args: "N", help: "challenge the peer again every N seconds (never)", set: seconds(func(o *Options) *time.Duration { return &o.Auth.Interval })},
		}},
		{"The NAT", []command{
			{name: "redir", args: "PORT [ADDR:]LPORT", help: "PORT of the host leads inside: [once|time] [udp|tcp] [ADDR:]PORT [to] [ADDR:]LPORT", set: (*parser).redir},
			{name: "dns", args: "ADDR", help: "the resolver that names are asked of; twice: a second (the host's)", set: setDNS},
			{name: "special addr", args: "ADDR", help: "the network of the NAT's own addresses (10.0.2.0)", set: setSpecial},
		}},
		{"Files and words", []command{
			{name: "config", short: "-f", args: "FILE", help: "commands from FILE, one a line, after those of ~/.slirprc", set: func(p *parser, args []string) error {
				return p.readFile(args[0])
			}},
			{name: "help", short: "-h", args: "[WORD]", help: "list the commands, or those that begin so", set: setHelp},
			{name: "version", short: "-v", help: "say which bodkin this is", set: flag(func(o *Options) *bool { return &o.Version })},
		}},
		{"Not slirp's", []command{
			{name: "allow", args: "WHAT", help: "host: the inner side may reach this host's loopback, as .2, and its addresses; link-local: those", set: setAllow},
			{name: "record", args: "FILE", help: "write all octets of the line to FILE, for pppdump", set: text(func(o *Options) *string { return &o.Record })},
		}},
		{"Ignored, since they do no harm", ignoredCommands},
		{"Refused", refusedCommands},
	}
}

const noModem = "a packet waits for no modem here: what the line has no room for waits in its connection's window"

var ignoredCommands = []command{
	{name: "baudrate", short: "-b", args: "N", way: ignored, help: noModem},
	{name: "towrite_max", args: "N", way: ignored, help: noModem},
	{name: "keepalive", args: "[SECONDS]", way: ignored, help: "connections are always probed, the outer ones after two minutes, the inner ones after ten"},
	{name: "host addr", args: "ADDR", way: ignored, help: "this host's addresses are known"},
	{name: "control addr", args: "ADDR", way: ignored, help: "nothing takes commands from the inner side"},
	{name: "-vj", way: ignored, help: "headers are not compressed in any case"},
	{name: "-vjccomp", way: ignored, help: "headers are not compressed in any case"},
	{name: "vj-max-slots", args: "N", way: ignored, help: "headers are not compressed"},
	{name: "bsdcomp", args: "N", way: ignored, help: "nothing is compressed"},
	{name: "-bsdcomp", way: ignored, help: "nothing is compressed"},
	{name: "proxyarp", way: ignored, help: "a NAT has no neighbours"},
	{name: "add emu", args: "SERVICE PORT", way: ignored, help: "no protocol is rewritten on its way: passive FTP and the like need nothing, active FTP and DCC do not work"},
	{name: "log start", way: ignored, help: "no file ~/.slirp_start is written"},
	{name: "log stats", short: "-S", way: ignored, help: "no file slirp_stats is written"},
	{name: "debug", short: "-d", args: "LEVEL", way: ignored, help: "no file slirp_debug is written; debugppp has what PPP says"},
}

const (
	onlyPPP    = "only PPP is spoken here: SLIP has no addresses, no checksum and no end"
	usePPP     = "have the other side speak PPP: pppd, or `bodkin ppp`"
	noPrograms = "programs are not run for the inner side: that would be a shell without a password"
	useSSH     = "allow host, and run sshd or inetd on this host's loopback"
	noSocket   = "links are not added, and a running one is not taken over"
	useUp      = "`bodkin up` keeps connections while its carrier changes"
	noConsole  = "nothing takes commands from the inner side"
)

var refusedCommands = []command{
	{name: "compress", way: refused, help: onlyPPP, hint: usePPP},
	{name: "nocompress", way: refused, help: onlyPPP, hint: usePPP},
	{name: "slip", way: refused, help: onlyPPP, hint: usePPP},
	{name: "cslip", way: refused, help: onlyPPP, hint: usePPP},
	{name: "add exec", args: "PROGRAM:[ADDR:]PORT", way: refused, help: noPrograms, hint: useSSH},
	{name: "add ptyexec", args: "PROGRAM:[ADDR:]PORT", way: refused, help: noPrograms, hint: useSSH},
	{name: "remove exec", way: refused, help: noPrograms, hint: useSSH},
	{name: "remove ptyexec", way: refused, help: noPrograms, hint: useSSH},
	{name: "shell", args: "PROGRAM", way: refused, help: noPrograms, hint: useSSH},
	{name: "exec", args: "PROGRAM", way: refused, help: noPrograms, hint: useSSH},
	{name: "ptyexec", args: "PROGRAM", way: refused, help: noPrograms, hint: useSSH},
	{name: "socket", short: "-s", args: "[PORT,PASSWORD]", way: refused, help: noSocket, hint: useUp},
	{name: "-l", args: "UNIT", way: refused, help: noSocket, hint: useUp},
	{name: "unit", args: "N", way: refused, help: noSocket, hint: useUp},
	{name: "password", args: "PASSWORD", way: refused, help: "there is nothing here that asks for one, and every user of this host could read it"},
	{name: "redir X", short: "-X", way: refused, help: "no free display is looked for", hint: `say which: "redir 6001 6000", then DISPLAY=localhost:1`},
	{name: "show X", way: refused, help: noConsole},
	{name: "stats", args: "WHAT", way: refused, help: noConsole},
	{name: "kill", args: "N", way: refused, help: noConsole},
	{name: "close", args: "N", way: refused, help: noConsole},
	{name: "echo", args: "[on|off]", way: refused, help: noConsole},
	{name: "quit", way: refused, help: noConsole, hint: "SIGTERM ends it politely"},
	{name: "login", way: refused, help: "the system's passwords are not used", hint: "use ~/.pap-secrets"},
	{name: "papcrypt", way: refused, help: "secrets files hold plain secrets"},
	{name: "+ua", args: "FILE", way: refused, help: "secrets are taken from ~/.pap-secrets and ~/.chap-secrets alone", hint: "put it there: client server secret"},
}

// find returns the command whose name words begin with, the longer name first, and
// the words behind it.
func find(words []string) (*command, []string) {
	two := ""
	if len(words) > 1 {
		two = words[0] + " " + words[1]
	}
	// "special address ADDR" is how the manual writes it in one place.
	two = strings.Replace(two, " address", " addr", 1)
	var one *command
	for g := range table {
		for i := range table[g].commands {
			c := &table[g].commands[i]
			switch {
			case two != "" && c.name == two:
				return c, words[2:]
			case c.name == words[0], c.short != "" && c.short == words[0]:
				one = c
			}
		}
	}
	return one, words[1:]
}

// A Described command is what a list of commands says of one.
type Described struct {
	Word string // its name alone
	Name string // with what stands behind it, and a short form: "asyncmap HEX, -as"
	Help string
}

// A Group is the commands about one thing.
type Group struct {
	Title    string
	Does     bool // its commands do something
	Commands []Described
}

// Describe lists the commands that begin with prefix in groups: those that do
// something, then those that are ignored, then those that are refused.
func Describe(prefix string) (list []Group) {
	for _, g := range table {
		described := Group{Title: g.title, Does: g.commands[0].way == taken}
		for _, c := range g.commands {
			if !strings.HasPrefix(c.name, prefix) && (c.short == "" || !strings.HasPrefix(c.short, prefix)) {
				continue
			}
			d := Described{Word: c.name, Name: c.name, Help: c.help}
			if c.args != "" {
				d.Name += " " + c.args
			}
			if c.short != "" {
				d.Name += ", " + c.short
			}
			described.Commands = append(described.Commands, d)
		}
		if len(described.Commands) > 0 {
			list = append(list, described)
		}
	}
	return list
}

// nearest returns the command that a wrong word begins or is begun by, if any.
func nearest(word string) string {
	if len(word) < 3 {
		return ""
	}
	for _, g := range table {
		for _, c := range g.commands {
			if c.way != refused && (strings.HasPrefix(c.name, word) || strings.HasPrefix(word, c.name) || strings.TrimLeft(word, "-") == c.name) {
				return c.name
			}
		}
	}
	return ""
}

// within reports whether a is one that a packet can be for, of IPv4.
func within(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a.As4()[0] < 240 && a.As4()[0] != 0
}

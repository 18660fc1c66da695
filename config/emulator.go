package config

import (
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// An EmulatorKind says what turns one side's packets into IP access.
type EmulatorKind int

// The emulators. Each side has one, whichever side dials and whichever is behind
// the firewall.
const (
	Tun      EmulatorKind = iota // a kernel interface: full access, both ways
	NAT                          // our own userspace NAT: nobody gets in
	Socks                        // a proxy for this side's programs: nobody needs root, nobody gets in
	Enclosed                     // a kernel interface in a network namespace that one command is in
	PPPD                         // the real pppd: a kernel interface of its own
	SLiRP                        // the real slirp: nobody gets in
	Program                      // some program that speaks PPP
)

// An Emulator is what the user wants on one side.
type Emulator struct {
	Kind     EmulatorKind
	Command  string         // of a program: one line for /bin/sh
	Terminal bool           // of a program: it wants a terminal
	Listen   netip.AddrPort // of Socks: where programs find it
}

// Foreign reports whether the emulator is a program that speaks PPP.
func (e Emulator) Foreign() bool { return e.Kind >= PPPD }

// Reaches reports whether this side's programs connect out through the tunnel. A NAT's do
// not: it is what the other side's connect out of.
func (e Emulator) Reaches() bool { return e.Kind != NAT && e.Kind != SLiRP }

// String returns the emulator's short name.
func (e Emulator) String() string {
	switch e.Kind {
	case Tun:
		return "tun"
	case NAT:
		return "nat"
	case Socks:
		return "socks"
	case Enclosed:
		return "exec"
	case PPPD:
		return "pppd"
	case SLiRP:
		return "slirp"
	}
	name, _, _ := strings.Cut(e.Command, " ")
	return path.Base(name)
}

// The usual command lines. pppd takes its own address and ours from us, which
// need not be root's to decide; noauth is what only root may ask for. Debian's slirp of
// glibc 2.34 and later ends at once when idle, and slirp-fullbolt of the same
// package does not.
const (
	farPPPD    = "pppd notty nodetach noauth noccp noipdefault nodefaultroute ipcp-accept-local ipcp-accept-remote"
	nearPPPD   = "pppd nodetach noauth noccp noipdefault local nocrtscts ipcp-accept-local ipcp-accept-remote"
	usualSLiRP = "{ command -v slirp-fullbolt >/dev/null && exec slirp-fullbolt ppp; exec slirp ppp; }"
)

// socksPort is where programs look for a SOCKS proxy (RFC 1928, section 3).
const socksPort = 1080

// parseSocks reads socks, socks:PORT and socks:ADDRESS:PORT.
func parseSocks(flag, s string) (Emulator, error) {
	e := Emulator{Kind: Socks, Listen: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), socksPort)}
	_, at, more := strings.Cut(s, ":")
	if !more {
		return e, nil
	}
	if port, err := strconv.ParseUint(at, 10, 16); err == nil {
		e.Listen = netip.AddrPortFrom(e.Listen.Addr(), uint16(port))
		return e, nil
	}
	a, err := netip.ParseAddrPort(at)
	if err != nil || a.Addr().Zone() != "" {
		return e, refuse("write socks:PORT, or socks:ADDRESS:PORT for another address than 127.0.0.1", "%s %q", flag, s)
	}
	e.Listen = a
	return e, nil
}

// ParseEmulator reads what --near or --far (the flag) was given: tun or nat, socks, pppd
// or slirp with options of their own, or after "cmd:" or "tty:" the command line
// of a program that speaks PPP on standard input and output, or on a terminal.
func ParseEmulator(flag, s string) (Emulator, error) {
	const hint = `there are tun, nat, socks, pppd, slirp, 'pppd OPTIONS', 'slirp OPTIONS', 'cmd:PROGRAM ARGUMENTS', and 'tty:PROGRAM ARGUMENTS' for one that wants a terminal`
	name, options, more := strings.Cut(s, " ")
	var e Emulator
	switch {
	case strings.ContainsAny(s, "\n\r\x00"):
		return e, refuse("put it on one line", "%s: a command of several lines", flag)
	case s == "tun":
	case s == "nat":
		e.Kind = NAT
	case s == "socks", strings.HasPrefix(s, "socks:"):
		return parseSocks(flag, s)
	case s == "slirp":
		e = Emulator{Kind: SLiRP, Command: usualSLiRP, Terminal: true}
	case s == "pppd" && flag == "--far":
		e = Emulator{Kind: PPPD, Command: farPPPD}
	case s == "pppd":
		e = Emulator{Kind: PPPD, Command: nearPPPD, Terminal: true}
	case more && path.Base(name) == "pppd":
		e = Emulator{Kind: PPPD, Command: s, Terminal: !hasWord(options, "notty")}
	case more && (path.Base(name) == "slirp" || path.Base(name) == "slirp-fullbolt"):
		e = Emulator{Kind: SLiRP, Command: s, Terminal: true}
	case strings.HasPrefix(s, "cmd:"), strings.HasPrefix(s, "tty:"):
		e = Emulator{Kind: Program, Command: strings.TrimSpace(s[len("cmd:"):]), Terminal: strings.HasPrefix(s, "tty:")}
		if e.Command == "" {
			return e, refuse(hint, "%s %s names no program", flag, s)
		}
	default:
		return e, refuse(hint, "%s %q", flag, s)
	}
	return e, nil
}

func hasWord(s, word string) bool {
	for w := range strings.FieldsSeq(s) {
		if w == word {
			return true
		}
	}
	return false
}

// checkEmulators refuses pairs that cannot be, and what has no meaning with one.
func (u *Up) checkEmulators() error {
	near, far := u.Near, u.Far
	switch {
	case !near.Reaches() && !far.Reaches():
		return refuse("give the side whose programs want access tun or pppd: --near tun --far nat, or --near nat --far tun the other way round",
			"--near %s --far %s: both are NATs that programs connect out of, and there is nobody to connect", near, far)
	case !far.Foreign() && u.Record != "":
		return refuse("leave it out", "--record is about the link to a foreign emulator, and --far %s is none", far)
	case u.Once && u.Stand:
		return refuse("leave one of them out", "--once and --stand contradict each other")
	case u.Grace < 0:
		return refuse("10m, or 0 to end with the connection", "--grace %v", u.Grace)
	case far.Foreign() && u.FarBinary != "":
		return refuse("leave it out", "--far-binary: nothing of bodkin's runs at the far side with --far %s", far)
	case (u.AllowHost || u.AllowLink) && near.Kind != NAT && far.Kind != NAT:
		return refuse("give slirp or pppd options of their own", "--allow is about bodkin's own nat, and neither side is one")
	case len(u.WaysIn) > 0 && near.Kind != NAT && far.Kind != NAT:
		return refuse("leave -R out: without a NAT either side reaches the other anyway; slirp has options of its own", "-R is a way in past bodkin's own nat, and neither side is one")
	case len(u.Local) > 0 && near.Kind != Socks:
		return refuse("leave -L out: with --near "+near.String()+" programs connect to the far side by themselves", "-L is for --near socks")
	case u.ForwardNear.Forward && near.Kind != Tun, u.ForwardFar.Forward && far.Kind != Tun:
		return refuse("give that side tun", "--forward and --masquerade are about a kernel interface")
	case u.ForwardNear.Forward && far.Kind != Tun && (!u.ForwardNear.Masquerade || len(u.Back) == 0):
		return refuse("--masquerade near --back 192.168.7.0/24 lets that network use the tunnel", "--forward near: --far %s knows this machine's address alone, and no network behind it", far)
	case len(u.Back) > 0 && !u.ForwardNear.Masquerade && (far.Kind != Tun || near.Kind == NAT):
		return refuse("give both sides tun, or --masquerade near; with --near nat the prefixes after the target are the far side's", "--back is about networks of this side that the far kernel routes here")
	case far.Kind == Socks && near.Kind != NAT:
		return refuse("--near nat --far socks lets programs there use this side's network by a proxy", "--far socks with --near %s", near)
	case u.Stand && far.Foreign():
		return refuse("leave --stand out; --once is the contrary", "--far %s is dialled again anyway", far)
	case near.Kind == Tun:
		return nil
	case near.Kind == Socks || near.Kind == Enclosed:
		return u.checkApart()
	case len(u.Exclude) > 0:
		return refuse("leave -x out", "-x is about routes of this machine, and --near %s makes none", near)
	case u.DNS.Server.IsValid() || len(u.DNS.Domains) > 0:
		return refuse("leave --dns out", "--dns is about this machine, and --near %s changes nothing of it", near)
	case len(u.Routes) > 0 && near.Reaches():
		return refuse("pppd makes routes by its own options and its ip-up script", "--near %s: prefixes are routed where bodkin makes the interface", near)
	case len(u.Routes) > 0 && far.Kind != Tun && far.Kind != Socks:
		return refuse("the far side makes its own routes, as pppd does by its options and its ip-up script", "prefixes for the far side need --far tun")
	}
	return nil
}

// checkApart refuses what has no meaning where nothing of the machine's own network is
// changed, and yet programs of this side use the tunnel.
func (u *Up) checkApart() error {
	switch {
	case u.Far.Foreign():
		return refuse("leave --far out", "--near %s goes with bodkin's own far half", u.Near)
	case len(u.DNS.Domains) > 0:
		return refuse("leave the domain out: all names are asked for through the tunnel", "--dns %s with --near %s", u.DNS.Domains[0], u.Near)
	case u.DNS.Off && u.Near.Kind == Enclosed:
		return refuse("give a resolver's address", "--dns off: a command in its own network has no other way to names")
	case len(u.Exclude) > 0 && u.Near.Kind == Enclosed:
		return refuse("leave -x out", "-x: a command in its own network has no other way out than the tunnel")
	}
	return nil
}

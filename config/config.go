// Package config is what the user asked for, checked. It touches nothing: no
// file, no network, no process.
package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An Error refuses what was asked for, and says what to try.
type Error struct {
	Reason string
	Hint   string // may be empty
}

func (e *Error) Error() string { return e.Reason }

func refuse(hint, format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...), Hint: hint}
}

// The kernel's names of congestion controls have at most 15 characters (TCP_CA_NAME_MAX).
var congestionPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,14}$`)

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,14}$`)

// DNS says which resolver the machine uses while the tunnel is up.
type DNS struct {
	Off     bool
	Server  netip.Addr // not the far side's own; invalid: the far side's
	Domains []string   // only names in these; empty: all names
}

// parseZone reads domain=far, or domain=ADDR for another resolver than the far side's.
func (d *DNS) parseZone(domain, at string) error {
	domain = strings.TrimSuffix(domain, ".")
	if !domainPattern.MatchString(domain) {
		return refuse("write it as corp.example=far, or corp.example=10.0.0.53", "--dns %s=%s", domain, at)
	}
	d.Domains = append(d.Domains, domain)
	if at == "far" {
		return nil
	}
	addr, err := netip.ParseAddr(at)
	if err != nil || !addr.IsGlobalUnicast() || addr.Zone() != "" {
		return refuse("write it as corp.example=far, or corp.example=10.0.0.53", "--dns %s=%s", domain, at)
	}
	if d.Server.IsValid() && d.Server != addr {
		return refuse("one resolver behind the tunnel answers for all domains", "--dns %s=%s, and %v before", domain, at, d.Server)
	}
	d.Server = addr
	return nil
}

var domainPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?$`)

// ParseDNS reads what --dns was given: auto, off, addresses of a resolver, or
// domains. With auto, all names go through a tunnel that takes everything, and
// none through one that takes only prefixes.
func ParseDNS(values []string, everything bool) (DNS, error) {
	var d DNS
	for _, v := range values {
		if addr, err := netip.ParseAddr(v); err == nil {
			if d.Server.IsValid() || !addr.IsGlobalUnicast() {
				return d, refuse("give one resolver that can be reached through the tunnel", "--dns %s", v)
			}
			d.Server = addr
			continue
		}
		if domain, at, ok := strings.Cut(v, "="); ok {
			if err := d.parseZone(domain, at); err != nil {
				return d, err
			}
			continue
		}
		switch {
		case v == "auto" || v == "off":
			if len(values) > 1 {
				return d, refuse("", "--dns %s stands alone", v)
			}
			d.Off = v == "off" || !everything
		case domainPattern.MatchString(v) && strings.Contains(v, "."):
			d.Domains = append(d.Domains, strings.TrimSuffix(v, "."))
		default:
			return d, refuse("use auto, off, a resolver's address, or a domain such as corp.example=far", "--dns %s", v)
		}
	}
	if len(values) == 0 {
		d.Off = !everything
	}
	return d, nil
}

// Up is what `bodkin up` was asked for.
type Up struct {
	Name    string         // of the tunnel and of its device
	Via     []Hop          // the way to the target
	Target  Hop            // where the far side is
	SSH     []string       // the ssh program and its options
	Near    Emulator       // what turns packets into IP access here
	Far     Emulator       // and there
	Routes  []netip.Prefix // what goes through the tunnel: from here or, if here is a NAT, from there
	Exclude []netip.Prefix // what does not
	Back    []netip.Prefix // what goes through the tunnel from there, where both sides are kernels
	DNS     DNS

	FarBinary string        // a bodkin for the far side's system; empty: found by itself
	KnownAs   string        // what the far side's key is known by; empty: the target's name
	Chat      string        // file of a script that logs in at the target; empty: by what the prompts look like
	Become    string        // "su" or "sudo" once logged in; empty: stay who we are
	Silence   time.Duration // how long a proxy or a login may be silent where something is waited for
	Open      bool          // an eavesdropper is accepted: the far side need not prove who it is
	Coding    string        // how octets go over a line that may change some: auto, clean, escape, armour
	AllowHost bool          // the far host itself may be reached: its loopback and its addresses
	AllowLink bool          // link-local addresses of the far side may be reached

	ForwardNear Forwarding // what a kernel interface here passes on
	ForwardFar  Forwarding // and there
	WaysIn      []WayIn    // what the side that is a NAT listens for, leading to the other
	Local       []WayIn    // what this side listens for with --near socks, leading through the tunnel
	Command     []string   // what runs in its own network, of `bodkin exec`

	Grace        time.Duration // how long the far side is asked to hold the tunnel while the connection is lost
	Congestion   string        // of sockets of our own: "" for what fits the way, "system", or the kernel's name of one
	Fast         bool          // find a silently dead connection sooner
	Stand        bool          // dial again even when the far side has ended the tunnel
	Once         bool          // do not dial again when the connection is lost
	Record       string        // file for all octets of the link to a foreign emulator; empty: none
	Plan, Detach bool
	Verbose      int
}

// A Forwarding is what a side's kernel does for the networks around it.
type Forwarding struct {
	Forward    bool // passes packets on between the tunnel and its networks
	Masquerade bool // and under its own address
}

// Grace is how long the far side holds a tunnel unless it is told otherwise: a suspended
// laptop's walk from one room to another, and less than kernels' TCP waits.
const Grace = 10 * time.Minute

// Everything is what a tunnel takes when no prefix is named.
var Everything = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// TakesEverything reports whether all traffic goes through the tunnel.
func (u *Up) TakesEverything() bool {
	return slices.ContainsFunc(u.Routes, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

// Check refuses what cannot be, before anything is touched.
func (u *Up) Check() error {
	if !namePattern.MatchString(u.Name) {
		return refuse("use a lower-case letter, then at most 14 lower-case letters, digits and dashes", "--name %q", u.Name)
	}
	if len(u.SSH) == 0 {
		return refuse("for example -e 'ssh -F file'", "-e names no program")
	}
	if u.Congestion != "" && !congestionPattern.MatchString(u.Congestion) {
		return refuse("bbr, cubic, or system for what the machine has for all; see sysctl net.ipv4.tcp_available_congestion_control", "--congestion %q", u.Congestion)
	}
	if u.Detach && u.Plan {
		return refuse("leave one of them out", "--plan and --detach contradict each other")
	}
	if err := u.checkWay(); err != nil {
		return err
	}
	if err := u.checkEmulators(); err != nil {
		return err
	}
	for _, list := range [][]netip.Prefix{u.Routes, u.Exclude, u.Back} {
		for _, p := range list {
			switch a := p.Addr(); {
			case a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast(), a.Is4In6():
				return refuse("", "%s cannot go through a tunnel", p)
			}
		}
	}
	for _, x := range u.Exclude {
		if !slices.ContainsFunc(u.Routes, func(r netip.Prefix) bool { return r.Overlaps(x) }) {
			return refuse("leave -x out: it only takes away from what the tunnel takes", "-x %s is not in what goes through the tunnel", x)
		}
		if slices.Contains(u.Routes, x) {
			return refuse("", "%s is both to go through the tunnel and not", x)
		}
	}
	if d := u.DNS; d.Server.IsValid() && !slices.ContainsFunc(u.Routes, func(r netip.Prefix) bool { return r.Contains(d.Server) }) {
		return refuse("add its prefix to what goes through the tunnel", "--dns %s is not reached through the tunnel", d.Server)
	}
	return nil
}

// ParsePrefix reads a CIDR, or an address alone as a prefix of one. Host bits
// must be zero: what they would mean is a guess.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, refuse("write it as 10.0.0.0/8 or 2001:db8::/32", "%q is not a prefix", s)
	}
	if p != p.Masked() {
		return p, refuse(fmt.Sprintf("%v is the prefix that holds it", p.Masked()), "%q has bits beyond its length", s)
	}
	return p, nil
}

// SplitProgram splits the ssh program and its options as rsync does its -e: at
// spaces, with single or double quotes to keep them, and a quote doubled inside
// its own kind to stand for itself. A backslash is an ordinary character.
func SplitProgram(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote byte // 0 outside quotes
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote != 0 && c == quote:
			if i+1 < len(s) && s[i+1] == quote {
				word.WriteByte(c)
				i++
			} else {
				quote = 0
			}
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case quote == 0 && c == ' ':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, refuse("close it", "-e %s: a quote is left open", s)
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, refuse("for example -e 'ssh -F file'", "-e names no program")
	}
	return words, nil
}

package pppd

import (
	"net/netip"
	"strconv"
	"strings"
)

// integer reads a number as strtol does with base 0: decimal, 0x hexadecimal or
// 0 octal.
func integer(value string, least, most int) (int, error) {
	n, err := strconv.ParseInt(value, 0, 64)
	if err != nil || strings.ContainsAny(value, "_+bBoO") {
		return 0, refuse("", "not a number")
	}
	if n < int64(least) || n > int64(most) {
		return 0, refuse("", "want %d to %d", least, most)
	}
	return int(n), nil
}

// setASyncMap reads a map in hexadecimal, and adds it to those before.
func setASyncMap(p *parser, value string) error {
	digits := strings.TrimPrefix(strings.TrimPrefix(value, "0x"), "0X")
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		return refuse("write it as a0000", "not 32 bits in hexadecimal")
	}
	p.options.LCP.ACCM |= uint32(n)
	return nil
}

// setEscape reads octets in hexadecimal with commas between. RFC 1662, section
// 4.2: exclusive-or with 0x20 must not make a control character of an octet, nor
// 0x7e, the flag.
func setEscape(p *parser, value string) error {
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimPrefix(item, "0x")
		n, err := strconv.ParseUint(item, 16, 8)
		if err != nil {
			return refuse("write it as ff,1d", "%s is not an octet in hexadecimal", Quote(item))
		}
		if n >= 0x20 && n <= 0x3f || n == 0x5e {
			return refuse("", "%02x cannot be escaped: RFC 1662 leaves no way to write it", n)
		}
		p.options.LCP.Escape[n] = true
	}
	return nil
}

// setServer adds an address of a name server, of which IPCP carries two.
func setServer(list func(*IPv4) *[]netip.Addr) func(*parser, string) error {
	return func(p *parser, value string) error {
		a, err := netip.ParseAddr(value)
		if err != nil || !a.Is4() || a.IsUnspecified() {
			return refuse("", "not an IPv4 address")
		}
		to := list(&p.options.IPv4)
		if len(*to) == 2 {
			return refuse("leave one out", "the third: IPCP carries two (RFC 1877)")
		}
		*to = append(*to, a)
		return nil
	}
}

// setIdentifiers reads LOCAL,REMOTE, interface identifiers written as addresses,
// of which either may be empty.
func setIdentifiers(p *parser, value string) error {
	local, remote, _ := strings.Cut(value, ",")
	for _, side := range []struct {
		text string
		to   *uint64
	}{{local, &p.options.IPv6.Local}, {remote, &p.options.IPv6.Remote}} {
		if side.text == "" {
			continue
		}
		a, err := netip.ParseAddr(side.text)
		if err != nil || !a.Is6() || a.Zone() != "" || a.Is4In6() {
			return refuse("write it as ::1,::2", "%s is not an interface identifier", Quote(side.text))
		}
		b := a.As16()
		if upper := b[:8]; string(upper) != "\xfe\x80\x00\x00\x00\x00\x00\x00" && string(upper) != "\x00\x00\x00\x00\x00\x00\x00\x00" {
			return refuse("write it as ::1,::2", "%s has more than the 64 bits of an interface identifier", Quote(side.text))
		}
		id := uint64(0)
		for _, octet := range b[8:] {
			id = id<<8 | uint64(octet)
		}
		if id == 0 {
			return refuse("leave it out to have one chosen", "the identifier 0 is none (RFC 5072, section 4.1)")
		}
		*side.to = id
	}
	p.options.IPv6.Want = On
	return nil
}

// setPassword takes a password from a file, and from nowhere else.
func setPassword(p *parser, value string) error {
	if p.now.file == "" {
		return refuse("put it into a file for `file` or `call`, or into /etc/ppp/pap-secrets or chap-secrets",
			"a password on the command line can be read by everybody on this machine")
	}
	p.options.Auth.Password, p.options.Auth.HasPassword = value, true
	return nil
}

// setInterface takes the name of a network interface.
func setInterface(p *parser, value string) error {
	const set = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if len(value) < 1 || len(value) > 15 || strings.Trim(value, set) != "" || value == "." || value == ".." {
		return refuse("", "want 1 to 15 letters, digits, dots, hyphens and underscores")
	}
	p.options.Host.Interface = value
	return nil
}

// setSocket takes HOST:PORT.
func setSocket(p *parser, value string) error {
	at := strings.LastIndexByte(value, ':')
	if at < 1 {
		return refuse("write it as host:port", "not a TCP address")
	}
	if n, err := strconv.ParseUint(value[at+1:], 10, 16); err != nil || n == 0 {
		return refuse("write it as host:port", "%s is not a port", Quote(value[at+1:]))
	}
	return kind(LineSocket, func(l *Line) *string { return &l.Socket })(p, value)
}

// setVariable takes NAME=value for the scripts.
func setVariable(p *parser, value string) error {
	name, _, ok := strings.Cut(value, "=")
	if !ok || !validVariable(name) {
		return refuse("write it as NAME=value", "not a variable")
	}
	p.options.Life.Set = append(p.options.Life.Set, value)
	return nil
}

func unsetVariable(p *parser, value string) error {
	if !validVariable(value) {
		return refuse("", "not the name of a variable")
	}
	p.options.Life.Unset = append(p.options.Life.Unset, value)
	return nil
}

func validVariable(name string) bool {
	return name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == "" && (name[0] < '0' || name[0] > '9')
}

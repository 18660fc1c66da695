package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A WayIn is a place to listen at and the place on the other side of the tunnel that it
// leads to.
type WayIn struct {
	UDP    bool           // datagrams; else TCP
	Listen netip.AddrPort //
	Host   string         // an address, of -L also a name; empty: the other end itself
	Port   uint16
}

// To is Host and Port as an address: the unspecified one of Listen's family where Host is
// the other end itself.
func (w WayIn) To() netip.AddrPort {
	a, err := netip.ParseAddr(w.Host)
	if err != nil {
		a = netip.IPv4Unspecified()
		if w.Listen.Addr().Is6() {
			a = netip.IPv6Unspecified()
		}
	}
	return netip.AddrPortFrom(a, w.Port)
}

// String is what ParseWayIn reads.
func (w WayIn) String() string {
	host := w.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	s := fmt.Sprintf("%v:%s:%d", w.Listen, host, w.Port)
	if w.UDP {
		s = "udp:" + s
	}
	return s
}

// ParseWayIn reads what -R or -L (the flag) was given, as ssh has it: PORT, PORT:HOST:PORT
// or ADDRESS:PORT:HOST:PORT, with udp: before it for datagrams. An IPv6 address stands
// in brackets. Without an address it listens on loopback alone. A lone PORT leads to the
// same port of the other end itself, and so does an empty HOST; names are taken for -L only.
func ParseWayIn(flag, s string) (WayIn, error) {
	bad := func(what string) (WayIn, error) {
		return WayIn{}, refuse("write it as 8080, 8080:10.0.2.15:80 or 192.0.2.1:8080:10.0.2.15:80, with udp: before it for datagrams", "%s %q: %s", flag, s, what)
	}
	w := WayIn{}
	rest := s
	if after, ok := strings.CutPrefix(rest, "udp:"); ok {
		w.UDP, rest = true, after
	} else {
		rest = strings.TrimPrefix(rest, "tcp:")
	}
	words, ok := splitColons(rest)
	if !ok {
		return bad("a bracket is left open")
	}
	listen := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if len(words) == 4 {
		a, err := netip.ParseAddr(words[0])
		if words[0] == "*" {
			a, err = netip.IPv6Unspecified(), nil
		}
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return bad(fmt.Sprintf("%q is no address to listen at", words[0]))
		}
		listen, words = a, words[1:]
	}
	if len(words) != 1 && len(words) != 3 || flag == "-L" && len(words) != 3 {
		return bad("too few words, or too many")
	}
	port, err := strconv.ParseUint(words[0], 10, 16)
	if err != nil {
		return bad(fmt.Sprintf("%q is not a port", words[0]))
	}
	w.Listen, w.Port = netip.AddrPortFrom(listen, uint16(port)), uint16(port)
	if len(words) == 3 {
		if port, err = strconv.ParseUint(words[2], 10, 16); err != nil {
			return bad(fmt.Sprintf("%q is not a port", words[2]))
		}
		w.Host, w.Port = words[1], uint16(port)
	}
	if w.Port == 0 {
		return bad("port 0 leads nowhere")
	}
	if w.Host == "" && flag != "-L" {
		return w, nil
	}
	a, err := netip.ParseAddr(w.Host)
	switch {
	case err != nil && (flag != "-L" || !hostPattern.MatchString(w.Host)):
		return bad(fmt.Sprintf("%q is no address", w.Host))
	case err == nil && (a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast()):
		return bad(fmt.Sprintf("%v is no place to lead to", a))
	}
	return w, nil
}

// splitColons splits at colons outside of brackets, and takes the brackets off.
func splitColons(s string) (words []string, ok bool) {
	for {
		if inner, bracket := strings.CutPrefix(s, "["); bracket {
			word, rest, closed := strings.Cut(inner, "]")
			if !closed || rest != "" && rest[0] != ':' {
				return nil, false
			}
			words = append(words, word)
			if rest == "" {
				return words, true
			}
			s = rest[1:]
			continue
		}
		word, rest, more := strings.Cut(s, ":")
		words = append(words, word)
		if !more {
			return words, true
		}
		s = rest
	}
}

// ParseSides reads what --forward or --masquerade (the flag) was given: near, far.
func ParseSides(flag string, values []string) (near, far bool, err error) {
	for _, v := range values {
		switch v {
		case "near":
			near = true
		case "far":
			far = true
		default:
			return near, far, refuse("there are near and far", "%s %q", flag, v)
		}
	}
	return near, far, nil
}

package slirp

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A redirect is a Redirect whose inner address may be the peer's.
type redirect struct {
	Redirect
	text   string
	toPeer bool
}

// redir reads a redirection:
//
//	[once|time] [udp|tcp] [ADDR:]PORT [to] [ADDR:]LPORT
//
// once is for TCP and time for UDP; TCP is meant if nothing is said. The first
// ADDR, which slirp does not know, is the host's to listen at. An IPv6 address
// stands in brackets.
func (p *parser) redir(args []string) error {
	const hint = `for example "redir 5555 80" or "redir udp 5353 10.0.2.15:53"`
	r := redirect{Redirect: Redirect{Network: "tcp"}, text: "redir " + strings.Join(args, " ")}
	timed := false
	for ; len(args) > 0; args = args[1:] {
		switch args[0] {
		case "once":
			r.Once = true
			continue
		case "time":
			timed = true
			continue
		case "udp", "tcp":
			r.Network = args[0]
			continue
		}
		break
	}
	if len(args) == 3 && args[1] == "to" {
		args = slices.Delete(slices.Clone(args), 1, 2)
	}
	if len(args) != 2 {
		return refuse(hint, "a port and where it leads are wanted")
	}
	if r.Once && r.Network != "tcp" || timed && r.Network != "udp" {
		return refuse("", "once is for tcp, and time for udp")
	}
	if timed {
		r.Idle = idleRedirect
	}
	if len(p.redirects) >= maxRedirects {
		return refuse("", "more than %d redirections", maxRedirects)
	}
	address, port, err := p.place(r.Network, args[0])
	if err != nil {
		return err
	}
	if !address.IsValid() {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	r.Listen = netip.AddrPortFrom(address, port)
	if address, port, err = p.place(r.Network, args[1]); err != nil {
		return err
	}
	if address.IsValid() && !within(address) {
		return refuse(hint, "%v is no address of IPv4 inside", address)
	}
	r.To, r.toPeer = netip.AddrPortFrom(address, port), !address.IsValid()
	p.redirects = append(p.redirects, r)
	return nil
}

// place reads [ADDR:]PORT; without an address the result is invalid.
func (p *parser) place(network, text string) (address netip.Addr, port uint16, err error) {
	service := text
	if at := strings.LastIndexByte(text, ':'); at >= 0 {
		host := text[:at]
		service = text[at+1:]
		inner, bracketed := strings.CutPrefix(host, "[")
		if bracketed {
			inner, bracketed = strings.CutSuffix(inner, "]")
		}
		address, err = netip.ParseAddr(inner)
		if err != nil || address.Zone() != "" || address.Is4In6() || address.Is6() != bracketed {
			return address, 0, refuse("", "%s is no address", quote(host))
		}
	}
	if n, err := strconv.ParseUint(service, 10, 16); err == nil && n > 0 && service[0] != '+' {
		return address, uint16(n), nil
	}
	if p.system.Port != nil {
		if n, ok := p.system.Port(network, service); ok && n > 0 {
			return address, n, nil
		}
	}
	return address, 0, refuse("", "%q is no port, nor a service of %s that this host knows", quote(service), network)
}

// finish does what could not be done before all commands were known.
func (p *parser) finish() error {
	o := &p.options
	for _, r := range p.redirects {
		if r.toPeer {
			r.To = netip.AddrPortFrom(o.Peer(), r.To.Port())
		}
		if r.To.Addr() == o.Host() || r.To.Addr() == o.DNSAlias() {
			return refuse("the peer is "+o.Peer().String(), "%s: %v is this NAT's own address", quote(r.text), r.To.Addr())
		}
		for _, other := range o.Redirects {
			if r.Network == other.Network && r.Listen == other.Listen {
				return refuse("", "%s: %s port %d leads to %v already", quote(r.text), r.Network, r.Listen.Port(), other.To)
			}
		}
		o.Redirects = append(o.Redirects, r.Redirect)
	}
	if o.NoACCM && o.ACCM != 0 {
		return refuse("leave one of them out", "-am and asyncmap: not spoken of, and set")
	}
	if o.Auth.RequirePAP || o.Auth.RequireCHAP {
		o.Auth.Require = true
	}
	if o.EchoFailure > 0 && o.EchoInterval == 0 {
		p.note("lcp-echo-failure does nothing without lcp-echo-interval")
	}
	return nil
}

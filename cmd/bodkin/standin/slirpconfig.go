package standin

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/config/slirp"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// slirpLink says what is wanted of the link.
func slirpLink(o *slirp.Options) ppp.Config {
	c := ppp.Config{
		LCP: ppp.LCP{
			MRU: o.MRU, MTU: o.MTU, ACCM: hdlc.ACCM(o.ACCM), NoACCM: o.NoACCM,
			NoACFC: o.NoACFC, NoPFC: o.NoPFC, NoMagic: o.NoMagic, Silent: !o.Initiate,
			EchoInterval: o.EchoInterval, EchoFailure: o.EchoFailure, Timers: slirpTimers(o.LCP),
		},
		IPv4: ppp.IPv4{
			// slirp asks for its address and so takes any; the peer takes which it likes.
			Local: o.Host(), AcceptLocal: true, Remote: o.Peer(), AcceptRemote: true,
			NoRemote: o.NoIP, DNS: []netip.Addr{o.DNSAlias()}, Timers: slirpTimers(o.IPCP),
		},
		// IPv6CP gives link-local addresses alone, which lead nowhere through a NAT.
		IPv6: ppp.IPv6{Off: true},
		Auth: ppp.Auth{
			RemoteName: o.Auth.RemoteName, Timeout: o.Auth.Timeout, Restart: o.Auth.Restart,
			MaxTries: o.Auth.MaxTries, ChapRechecks: o.Auth.Interval,
		},
	}
	if o.NoMRU {
		c.LCP.MRU = 0
	}
	for octet := range 256 {
		if o.Escape[octet] {
			c.LCP.Escape.Add(byte(octet))
		}
	}
	return c
}

func slirpTimers(t slirp.Timers) ppp.Timers {
	return ppp.Timers{Restart: t.Restart, MaxConfigure: t.MaxConfigure, MaxTerminate: t.MaxTerminate, MaxFailure: t.MaxFailure}
}

// slirpNAT says what is wanted of the NAT.
func slirpNAT(o *slirp.Options) usernat.Config {
	c := usernat.Config{
		DNS: []netip.Addr{o.DNSAlias()}, Host: []netip.Addr{o.Host()},
		Allow: usernat.Policy{Host: o.AllowHost, LinkLocal: o.AllowLinkLocal},
	}
	for _, r := range o.Redirects {
		c.Redirect = append(c.Redirect, usernat.Redirect(r))
	}
	if len(o.DNS) > 0 {
		var resolvers []netip.AddrPort
		for _, a := range o.DNS {
			resolvers = append(resolvers, netip.AddrPortFrom(a, 53))
		}
		c.Resolvers = func() []netip.AddrPort { return resolvers }
	}
	return c
}

// identifySlirp fills in who is who, by the secrets of this account: slirp's own
// files, in pppd's language.
func identifySlirp(o *slirp.Options, c *ppp.Auth) (notes []string, err error) {
	a := &o.Auth
	p := &pppd.Options{Auth: pppd.Auth{
		RefusePAP: a.RefusePAP, RefuseCHAP: a.RefuseCHAP, RefuseMSCHAPv2: a.RefuseCHAP,
		Name: a.Name, User: a.User, RemoteName: a.RemoteName, Domain: a.Domain, UseHostname: a.UseHostname,
	}}
	id := &identity{options: p, name: a.Name, user: a.User}
	if id.name == "" || a.UseHostname {
		if id.name, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("the name of this end: %w", err)
		}
		if a.Domain != "" {
			id.name += "." + a.Domain
		}
	}
	if id.user == "" {
		id.user = id.name
	}
	if a.Require {
		id.require = slirpRequires(a)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("the secrets: %w", err)
	}
	for _, f := range []struct {
		name string
		to   *pppd.Secrets
	}{{".pap-secrets", &id.pap}, {".chap-secrets", &id.chap}} {
		more, err := readSecrets(filepath.Join(home, f.name), f.to)
		notes = append(notes, more...)
		if err != nil && len(id.require) > 0 {
			return nil, fmt.Errorf("the peer is to prove who it is: %w", err)
		}
	}
	return append(notes, id.configure(c)...), nil
}

// slirpRequires is how the peer may prove who it is, the best first.
func slirpRequires(a *slirp.Auth) (list []auth.Protocol) {
	any := !a.RequireCHAP && !a.RequirePAP
	if any {
		list = append(list, auth.MSCHAPv2)
	}
	if any || a.RequireCHAP {
		list = append(list, auth.CHAP)
	}
	if any || a.RequirePAP {
		list = append(list, auth.PAP)
	}
	return list
}

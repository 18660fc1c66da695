package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

// pppLink says what is wanted of the link. What fits the machine only is left out:
// secrets, and functions that are told things.
func pppLink(o *pppd.Options) ppp.Config {
	c := ppp.Config{
		LCP: ppp.LCP{
			MRU: o.LCP.MRU, MTU: o.LCP.MTU, ACCM: hdlc.ACCM(o.LCP.ACCM), NoACCM: o.LCP.NoACCM, ReceiveAll: o.LCP.ReceiveAll,
			NoACFC: o.LCP.NoACFC, NoPFC: o.LCP.NoPFC, NoMagic: o.LCP.NoMagic, Silent: o.LCP.Silent, Passive: o.LCP.Passive,
			EchoInterval: o.LCP.EchoInterval, EchoFailure: o.LCP.EchoFailure, EchoAdaptive: o.LCP.EchoAdaptive,
			Timers: pppTimers(o.LCP.Timers),
		},
		IPv4: ppp.IPv4{
			Off: o.IPv4.Off, Local: o.IPv4.Local, Remote: o.IPv4.Remote, AcceptLocal: o.IPv4.AcceptLocal,
			AcceptRemote: o.IPv4.AcceptRemote, NoRemote: o.IPv4.NoRemote, AskDNS: o.IPv4.UsePeerDNS,
			DNS: o.IPv4.DNS, NBNS: o.IPv4.NBNS, Timers: pppTimers(o.IPv4.Timers),
		},
		IPv6: ppp.IPv6{
			// A NAT has no use for the link-local addresses that are all IPv6CP gives.
			Off:   o.IPv6.Want == pppd.Off || o.Host.NAT && o.IPv6.Want == pppd.AsIs,
			Local: o.IPv6.Local, Remote: o.IPv6.Remote,
			AcceptLocal: o.IPv6.AcceptLocal, AcceptRemote: o.IPv6.AcceptRemote, Timers: pppTimers(o.IPv6.Timers),
		},
		Auth: ppp.Auth{
			RemoteName: o.Auth.RemoteName, Timeout: o.Auth.Timeout, Restart: o.Auth.Restart,
			MaxTries: o.Auth.MaxTries, ChapRechecks: o.Auth.CHAPInterval,
		},
	}
	for octet := range 256 {
		if o.LCP.Escape[octet] {
			c.LCP.Escape.Add(byte(octet))
		}
	}
	if o.Line.Connect != "" || o.Line.Kind == pppd.LinePTY || o.Line.Kind == pppd.LinePipe {
		c.LCP.Settle = o.Line.ConnectDelay
	}
	if o.IPv6.UseIPv4 && o.IPv4.Local.IsValid() && o.IPv6.Local == 0 {
		b := o.IPv4.Local.As4()
		c.IPv6.Local = uint64(binary.BigEndian.Uint32(b[:]))
	}
	if o.Host.NAT {
		natAddresses(&c.IPv4)
	}
	return c
}

func pppTimers(t pppd.Timers) ppp.Timers {
	return ppp.Timers{Restart: t.Restart, MaxConfigure: t.MaxConfigure, MaxTerminate: t.MaxTerminate, MaxFailure: t.MaxFailure}
}

// natAddresses fills in slirp's addresses where none are given. Those that nobody
// named are not insisted upon.
func natAddresses(v4 *ppp.IPv4) {
	if !v4.Remote.IsValid() {
		v4.Remote, v4.AcceptRemote = within(defaultNetworks[0], hostPeer), true
	}
	if !v4.Local.IsValid() {
		v4.Local, v4.AcceptLocal = within(defaultNetworks[0], hostTwo), true
	}
	if len(v4.DNS) == 0 {
		v4.DNS = []netip.Addr{natResolver(v4.Local)}
	}
}

// natResolver is where the NAT answers DNS: slirp's address beside slirp's, else
// our own, which the peer has a route to for sure.
func natResolver(local netip.Addr) netip.Addr {
	if defaultNetworks[0].Contains(local) {
		return within(defaultNetworks[0], hostThree)
	}
	return local
}

// Where pppd's secrets are.
const (
	papSecrets  = "/etc/ppp/pap-secrets"
	chapSecrets = "/etc/ppp/chap-secrets"
)

// pppIdentity is who we are, who the peer may be, and what both know.
type pppIdentity struct {
	options   *pppd.Options
	name      string // as the one who asks
	user      string // as the one who proves
	pap, chap pppd.Secrets
	require   []auth.Protocol
}

// identify reads the secrets files. Notes are for people.
func identify(o *pppd.Options) (id *pppIdentity, notes []string, err error) {
	id = &pppIdentity{options: o, name: o.Auth.Name}
	if id.name == "" || o.Auth.UseHostname {
		if id.name, err = os.Hostname(); err != nil {
			return nil, nil, err
		}
		if o.Auth.Domain != "" {
			id.name += "." + o.Auth.Domain
		}
	}
	if id.user = o.Auth.User; id.user == "" {
		id.user = id.name
	}
	a := &o.Auth
	if a.Want == pppd.WantAuth {
		all := !a.RequireMSCHAPv2 && !a.RequireCHAP && !a.RequirePAP
		for _, p := range []struct {
			protocol auth.Protocol
			wanted   bool
		}{{auth.MSCHAPv2, a.RequireMSCHAPv2}, {auth.CHAP, a.RequireCHAP}, {auth.PAP, a.RequirePAP}} {
			if all || p.wanted {
				id.require = append(id.require, p.protocol)
			}
		}
	}
	for _, f := range []struct {
		path string
		to   *pppd.Secrets
	}{{papSecrets, &id.pap}, {chapSecrets, &id.chap}} {
		more, err := readSecrets(f.path, f.to)
		notes = append(notes, more...)
		if err != nil && len(id.require) > 0 {
			return nil, notes, fmt.Errorf("the peer is to prove who it is: %w", err)
		}
	}
	return id, notes, nil
}

// readSecrets reads one file. One that is not there holds nothing.
func readSecrets(path string, to *pppd.Secrets) (notes []string, err error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		notes = append(notes, "Warning - secret file "+path+" has world and/or group access")
	}
	*to, err = pppd.ParseSecrets(path, f, os.ReadFile)
	if err != nil {
		notes = append(notes, err.Error())
	}
	return notes, nil
}

// configure fills in what concerns who is who.
func (id *pppIdentity) configure(c *ppp.Auth) (notes []string) {
	a := &id.options.Auth
	c.Require, c.Name = id.require, id.user
	if len(id.require) > 0 {
		c.Name = id.name
		if id.user != id.name {
			notes = append(notes, fmt.Sprintf("user %s is ignored: where the peer proves who it is, we are %s to it both ways", id.user, id.name))
			id.user = id.name
		}
	}
	c.Secret = id.secret
	pap, inPAP := id.pap.Find(id.user, a.RemoteName)
	chap, inCHAP := id.chap.Find(id.user, a.RemoteName)
	if a.HasPassword {
		inPAP, inCHAP = true, true
	} else if inPAP && inCHAP && !bytes.Equal(pap.Octets, chap.Octets) {
		inPAP = false // what is kept for CHAP must not go out in clear
		notes = append(notes, "PAP is refused: the secrets for it and for CHAP differ")
	}
	if inCHAP && !a.RefuseMSCHAPv2 {
		c.Permit = append(c.Permit, auth.MSCHAPv2)
	}
	if inCHAP && !a.RefuseCHAP {
		c.Permit = append(c.Permit, auth.CHAP)
	}
	if inPAP && !a.RefusePAP {
		c.Permit = append(c.Permit, auth.PAP)
	}
	return notes
}

// secret returns what client and server share. The password of the options is for
// us as the client alone.
func (id *pppIdentity) secret(client, server string) ([]byte, bool) {
	if client == id.user && (server != id.name || len(id.require) == 0) {
		if id.options.Auth.HasPassword {
			return []byte(id.options.Auth.Password), true
		}
		return first(client, server, id.chap, id.pap)
	}
	return id.peerSecret(client, server)
}

// peerSecret is that of a peer which proves who it is to us.
func (id *pppIdentity) peerSecret(client, server string) ([]byte, bool) {
	secret, ok := first(client, server, id.filesFor()...)
	if len(secret) == 0 {
		return nil, false // an empty secret is known to everybody
	}
	return secret, ok
}

// filesFor returns the secrets of the protocols that the peer may use.
func (id *pppIdentity) filesFor() (files []pppd.Secrets) {
	for _, p := range id.require {
		if p == auth.PAP {
			files = append(files, id.pap)
		} else if len(files) == 0 {
			files = append(files, id.chap)
		}
	}
	return files
}

func first(client, server string, files ...pppd.Secrets) ([]byte, bool) {
	for _, f := range files {
		if s, ok := f.Find(client, server); ok {
			return s.Octets, true
		}
	}
	return nil, false
}

// allow reports whether the peer, by the name it proved, may use an address: pppd's
// rule. Who proved a name may use what its line of the secrets file says; who did
// not, what the user wrote, or what leads nowhere yet. Behind a NAT addresses lead
// nowhere in any case.
func (id *pppIdentity) allow(peer string, a netip.Addr) bool {
	o := id.options
	switch {
	case o.Auth.Want == pppd.WantNone, o.Host.NAT, a.Is6() && a.IsLinkLocalUnicast():
		return true
	case peer != "":
		for _, f := range id.filesFor() {
			if s, ok := f.Find(peer, id.name); ok {
				return s.Allows(a, 0)
			}
		}
		return false
	case a == o.IPv4.Remote:
		return true
	}
	_, err := host.Choose([]netip.Prefix{netip.PrefixFrom(a, a.BitLen())})
	return err == nil
}

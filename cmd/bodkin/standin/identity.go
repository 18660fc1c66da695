package standin

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/bodkin-net/bodkin/config/pppd"
	"github.com/bodkin-net/bodkin/host"
	"github.com/bodkin-net/bodkin/link/ppp"
	"github.com/bodkin-net/bodkin/link/ppp/auth"
)

// Where pppd's secrets are.
const (
	papSecrets  = "/etc/ppp/pap-secrets"
	chapSecrets = "/etc/ppp/chap-secrets"
)

// An identity is who we are, who the peer may be, and what both know.
type identity struct {
	options   *pppd.Options
	name      string // as the one who asks
	user      string // as the one who proves
	pap, chap pppd.Secrets
	require   []auth.Protocol
}

// identify reads the secrets files. Notes are for people.
func identify(o *pppd.Options) (id *identity, notes []string, err error) {
	id = &identity{options: o, name: o.Auth.Name}
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
func (id *identity) configure(c *ppp.Auth) (notes []string) {
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
func (id *identity) secret(client, server string) ([]byte, bool) {
	if client == id.user && (server != id.name || len(id.require) == 0) {
		if id.options.Auth.HasPassword {
			return []byte(id.options.Auth.Password), true
		}
		return first(client, server, id.chap, id.pap)
	}
	return id.peerSecret(client, server)
}

// peerSecret is that of a peer which proves who it is to us.
func (id *identity) peerSecret(client, server string) ([]byte, bool) {
	secret, ok := first(client, server, id.filesFor()...)
	if len(secret) == 0 {
		return nil, false // an empty secret is known to everybody
	}
	return secret, ok
}

// filesFor returns the secrets of the protocols that the peer may use.
func (id *identity) filesFor() (files []pppd.Secrets) {
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
func (id *identity) allow(peer string, a netip.Addr) bool {
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

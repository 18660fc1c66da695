package ppp

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// IPv6CP's option (RFC 5072, section 4.1). All others are rejected.
const optInterfaceID = 1

// minMTU6 is what IPv6 needs (RFC 8200, section 5): on a link with less IPv6CP is
// not opened (RFC 5072, section 2).
const minMTU6 = 1280

// ipv6cp is IPv6CP's negotiation.
type ipv6cp struct {
	want   IPv6
	random func() uint64

	local  uint64 // ours, as we ask for it
	ask    bool
	remote uint64 // the peer's, from its last request; 0 if it named none

	suggested uint64 // what the peer was last told to use; 0: nothing
	prompted  bool   // a peer that named none was asked to
}

func (c *ipv6cp) begin() {
	c.local, c.ask = c.want.Local, true
	c.suggested, c.prompted = 0, false
	if c.local == 0 {
		c.local = c.newID()
	}
}

// newID returns a random interface identifier. It is not 0, and does not claim to
// be made of a hardware address: the "u" bit is clear (RFC 5072, section 4.1).
func (c *ipv6cp) newID() uint64 { return max(1, c.random()&^(2<<56)) }

func (c *ipv6cp) request(dst []byte) []byte {
	if c.ask {
		dst = appendOption(dst, optInterfaceID, id8(c.local)...)
	}
	return dst
}

func (c *ipv6cp) listen() { c.remote = 0 }

// consider takes an identifier that is not 0, not ours and the one that is
// wanted; else it names another. Rejection is for a peer that goes on: MaxFailure.
func (c *ipv6cp) consider(o option) (verdict, []byte) {
	if o.kind != optInterfaceID || len(o.value) != 8 {
		return reject, nil
	}
	id := binary.BigEndian.Uint64(o.value)
	if id != 0 && id != c.local && (c.want.Remote == 0 || id == c.want.Remote || c.want.AcceptRemote) {
		c.remote = id
		return take, nil
	}
	return nak, id8(c.suggestion())
}

// suggestion returns the identifier that a peer without a good one is told to use.
func (c *ipv6cp) suggestion() uint64 {
	c.suggested = c.want.Remote
	if c.suggested == 0 || c.suggested == c.local {
		c.suggested = c.newID()
	}
	if c.suggested == c.local {
		c.suggested += 1 << 32
	}
	return c.suggested
}

// missing tells a peer that named no identifier to do so, once (RFC 5072, section
// 4.1).
func (c *ipv6cp) missing(dst []byte) []byte {
	if c.remote != 0 || c.prompted || hasOption(dst, optInterfaceID) {
		return dst
	}
	c.prompted = true
	return appendOption(dst, optInterfaceID, id8(c.suggestion())...)
}

func (c *ipv6cp) naked(o option) {
	if o.kind != optInterfaceID || len(o.value) != 8 {
		return
	}
	if c.want.Local != 0 && !c.want.AcceptLocal {
		return
	}
	// A Nak says that the peer has the same, or has a better one for us. Where
	// ours was a free choice there is nothing to insist on. But what we have just
	// told the peer to use, or it has, is for neither of us to take.
	id := binary.BigEndian.Uint64(o.value)
	if id == 0 || id == c.suggested || id == c.remote {
		id = c.newID()
	}
	c.local, c.ask = id, true
}

func (c *ipv6cp) rejected(o option) {
	if o.kind == optInterfaceID {
		c.ask = false
	}
}

// agreed returns the link-local addresses. An error says what is missing.
func (c *ipv6cp) agreed() (local, remote netip.Addr, err error) {
	switch {
	case !c.ask:
		err = errors.New("the peer does not take our interface identifier")
	case c.remote == 0:
		err = errors.New("the peer has no interface identifier")
	case c.remote == c.local:
		err = errors.New("the peer has our interface identifier")
	}
	return linkLocal(c.local), linkLocal(c.remote), err
}

// linkLocal returns fe80::/64 with an interface identifier (RFC 5072, section 5).
func linkLocal(id uint64) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80}
	binary.BigEndian.PutUint64(a[8:], id)
	return netip.AddrFrom16(a)
}

func id8(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

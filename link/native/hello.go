package native

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/bodkin-net/bodkin/tunnel"
)

// magic begins a HELLO (spec.md, section 3).
const magic = "bodkin\r\n"

// An Emulator is what turns a side's packets into IP access.
type Emulator uint8

// The emulators that a HELLO names (spec.md, section 3).
const (
	EmulatorKernel Emulator = 1 // a kernel interface
	EmulatorNAT    Emulator = 2 // a userspace NAT
	EmulatorProxy  Emulator = 3 // a proxy, which connects out as a kernel interface does
)

func (e Emulator) String() string {
	switch e {
	case EmulatorKernel:
		return "tun"
	case EmulatorNAT:
		return "nat"
	case EmulatorProxy:
		return "socks"
	}
	return "unknown"
}

// A Hello is what one side tells the other when the link opens.
type Hello struct {
	Software string         // for people, at most 64 octets
	Receives tunnel.Caps    // what the Port behind this side takes
	Emulator Emulator       //
	Networks []netip.Prefix // take the tunnel's addresses from here; at most one per family
	Yours    []netip.Prefix // what the receiver should call itself; at most one per family
	Mine     []netip.Addr   // what the sender calls itself; at most one per family
	DNS      []netip.Addr   // resolvers that answer through the tunnel, at most 8
	Notes    []string       // what the sender cannot do, for people; at most 8 of 200 octets
	Asks     Asks           // what the sender would have of the receiver
	Routes   []netip.Prefix // what the receiver may reach through the sender, at most 64
	Wants    []netip.Prefix // what the sender would have the receiver's kernel forward to, at most 64
	WaysIn   []WayIn        // what the receiver, a NAT, is asked to listen for, at most 32
	Proxy    netip.AddrPort // where the receiver is asked to have a proxy for its programs
}

// A WayIn is what a side asks of a peer that is a NAT: whoever connects to Listen on the
// peer's machine reaches To.
type WayIn struct {
	UDP    bool           // datagrams; else TCP
	Listen netip.AddrPort //
	To     netip.AddrPort // an unspecified address: the one that the receiver gives the sender
}

// Asks are what a side would have of the other, which decides.
type Asks uint8

// The bits of Asks (spec.md, section 3).
const (
	AskHost       Asks = 1 << iota // the far host itself: its loopback and its addresses
	AskLinkLocal                   // link-local addresses of the far side
	AskKernel                      // a kernel interface there, instead of a NAT
	AskForward                     // that the kernel there passes packets on to its networks
	AskMasquerade                  // and under its own address
	AskWaysIn                      // that the NAT listens for the WaysIn
	AskProxy                       // a proxy at Proxy, instead of a NAT
)

const knownAsks = AskHost | AskLinkLocal | AskKernel | AskForward | AskMasquerade | AskWaysIn | AskProxy

// Tags of a HELLO's fields (spec.md, section 3).
const (
	tagSoftware = 1
	tagReceives = 2
	tagEmulator = 3
	tagNetwork  = 4
	tagYours    = 5
	tagMine     = 6
	tagResolver = 7
	tagNote     = 8
	tagAsks     = 9
	tagRoute    = 10
	tagWayIn    = 11
	tagWants    = 12
	tagProxy    = 13
)

// Bounds of a HELLO (spec.md, section 3).
const (
	softwareMax = 64
	noteMax     = 200
	listMax     = 8
	routesMax   = 64
	waysInMax   = 32
	minMTU      = 1280
	maxMTU      = 65535
)

// append appends the hello as a whole frame to dst.
func (h Hello) append(dst []byte) []byte {
	payload := append([]byte(magic), 0, Version, 0, Version)
	field := func(tag uint16, value []byte) {
		payload = binary.BigEndian.AppendUint16(payload, tag)
		payload = binary.BigEndian.AppendUint16(payload, uint16(len(value)))
		payload = append(payload, value...)
	}
	field(tagSoftware, []byte(h.Software[:min(len(h.Software), softwareMax)]))
	field(tagReceives, append(binary.BigEndian.AppendUint32(nil, uint32(h.Receives.MTU)), byte(h.Receives.Offloads)))
	field(tagEmulator, []byte{byte(h.Emulator)})
	for _, p := range h.Networks {
		field(tagNetwork, append(p.Addr().AsSlice(), byte(p.Bits())))
	}
	for _, p := range h.Yours {
		field(tagYours, append(p.Addr().AsSlice(), byte(p.Bits())))
	}
	for _, a := range h.Mine {
		field(tagMine, a.AsSlice())
	}
	for _, a := range h.DNS[:min(len(h.DNS), listMax)] {
		field(tagResolver, a.AsSlice())
	}
	for _, note := range h.Notes[:min(len(h.Notes), listMax)] {
		field(tagNote, []byte(note[:min(len(note), noteMax)]))
	}
	if h.Asks != 0 {
		field(tagAsks, []byte{byte(h.Asks)})
	}
	for _, p := range h.Routes[:min(len(h.Routes), routesMax)] {
		field(tagRoute, append(p.Addr().AsSlice(), byte(p.Bits())))
	}
	for _, p := range h.Wants[:min(len(h.Wants), routesMax)] {
		field(tagWants, append(p.Addr().AsSlice(), byte(p.Bits())))
	}
	for _, w := range h.WaysIn[:min(len(h.WaysIn), waysInMax)] {
		field(tagWayIn, w.append(nil))
	}
	if h.Proxy.IsValid() {
		field(tagProxy, appendPlace(nil, h.Proxy))
	}
	return append(appendHeader(dst, frameHello, len(payload)), payload...)
}

// parseHello reads a HELLO's payload. Unknown fields are passed over; what is
// known must be right.
func parseHello(b []byte) (Hello, error) {
	var h Hello
	bad := func(format string, args ...any) (Hello, error) {
		return Hello{}, protocolError(ErrorHello, "hello: "+format, args...)
	}
	if len(b) < len(magic)+4 || !bytes.Equal(b[:len(magic)], []byte(magic)) {
		return bad("the other side is not a bodkin")
	}
	b = b[len(magic):]
	lowest, highest := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if lowest > Version || highest < Version {
		return Hello{}, protocolError(ErrorVersion, "we speak version %d of the link, the peer %d to %d: update the older side", Version, lowest, highest)
	}
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return bad("%d octets after the last field", len(b))
		}
		tag, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; length > len(b) {
			return bad("field %d runs past the end", tag)
		}
		if err := h.set(tag, b[:length]); err != nil {
			return Hello{}, err
		}
		b = b[length:]
	}
	if h.Receives.MTU == 0 || h.Emulator == 0 {
		return bad("no MTU, or no emulator named")
	}
	return h, nil
}

// set puts one field of a HELLO into h.
func (h *Hello) set(tag uint16, v []byte) error {
	bad := func(what string) error {
		return protocolError(ErrorHello, "hello: field %d: %s", tag, what)
	}
	switch tag {
	case tagSoftware:
		h.Software = printable(v, softwareMax)
	case tagReceives:
		if len(v) != 5 {
			return bad("not 5 octets")
		}
		mtu := binary.BigEndian.Uint32(v)
		if mtu < minMTU || mtu > maxMTU {
			return bad("an MTU outside 1280 to 65535")
		}
		known := tunnel.OffloadChecksum | tunnel.OffloadTSO4 | tunnel.OffloadTSO6 | tunnel.OffloadUSO
		h.Receives = tunnel.Caps{MTU: int(mtu), Offloads: tunnel.Offloads(v[4]) & known}
	case tagEmulator:
		if len(v) != 1 || v[0] == 0 {
			return bad("not an emulator")
		}
		h.Emulator = Emulator(v[0])
	case tagNetwork, tagYours:
		p, ok := parsePrefix(v)
		if !ok {
			return bad("not an address and prefix length")
		}
		list := &h.Networks
		if tag == tagYours {
			list = &h.Yours
		}
		for _, have := range *list {
			if have.Addr().Is4() == p.Addr().Is4() {
				return bad("twice for one family")
			}
		}
		*list = append(*list, p)
	case tagMine:
		a, ok := netip.AddrFromSlice(v)
		if !ok || len(h.Mine) == 2 {
			return bad("not an address, or too many")
		}
		h.Mine = append(h.Mine, a)
	case tagResolver:
		a, ok := netip.AddrFromSlice(v)
		if !ok || len(h.DNS) == listMax {
			return bad("not an address, or too many")
		}
		h.DNS = append(h.DNS, a)
	case tagNote:
		if len(h.Notes) == listMax {
			return bad("too many")
		}
		h.Notes = append(h.Notes, printable(v, noteMax))
	case tagAsks:
		if len(v) != 1 {
			return bad("not one octet")
		}
		h.Asks = Asks(v[0]) & knownAsks
	case tagRoute, tagWants:
		list := &h.Routes
		if tag == tagWants {
			list = &h.Wants
		}
		p, ok := parsePrefix(v)
		if !ok || len(*list) == routesMax {
			return bad("not an address and prefix length, or too many")
		}
		*list = append(*list, p.Masked())
	case tagWayIn:
		w, ok := parseWayIn(v)
		if !ok || len(h.WaysIn) == waysInMax {
			return bad("not a protocol, a place to listen and a place inside, or too many")
		}
		h.WaysIn = append(h.WaysIn, w)
	case tagProxy:
		at, rest, ok := cutPlace(v)
		if !ok || len(rest) > 0 {
			return bad("not a place to listen")
		}
		h.Proxy = at
	}
	return nil
}

// append appends the field's value to dst.
func (w WayIn) append(dst []byte) []byte {
	protocol := byte(protocolTCP)
	if w.UDP {
		protocol = protocolUDP
	}
	return appendPlace(appendPlace(append(dst, protocol), w.Listen), w.To)
}

// appendPlace appends an address and port to dst: the address's length, it, the port.
func appendPlace(dst []byte, a netip.AddrPort) []byte {
	address := a.Addr().AsSlice()
	dst = append(append(dst, byte(len(address))), address...)
	return binary.BigEndian.AppendUint16(dst, a.Port())
}

// cutPlace reads what appendPlace wrote, and returns what follows it.
func cutPlace(v []byte) (a netip.AddrPort, rest []byte, ok bool) {
	if len(v) == 0 || len(v) < 1+int(v[0])+2 {
		return a, nil, false
	}
	address, ok := netip.AddrFromSlice(v[1 : 1+v[0]])
	if !ok || address.Is4In6() {
		return a, nil, false
	}
	v = v[1+v[0]:]
	return netip.AddrPortFrom(address, binary.BigEndian.Uint16(v)), v[2:], true
}

// The protocols of a WayIn, by their numbers in IP.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// parseWayIn reads what append wrote.
func parseWayIn(v []byte) (w WayIn, ok bool) {
	if len(v) == 0 || v[0] != protocolTCP && v[0] != protocolUDP {
		return w, false
	}
	w.UDP = v[0] == protocolUDP
	if w.Listen, v, ok = cutPlace(v[1:]); ok {
		w.To, v, ok = cutPlace(v)
	}
	return w, ok && len(v) == 0 && w.To.Port() != 0
}

// parsePrefix reads an address followed by an octet of prefix length.
func parsePrefix(v []byte) (netip.Prefix, bool) {
	if len(v) != 5 && len(v) != 17 {
		return netip.Prefix{}, false
	}
	a, _ := netip.AddrFromSlice(v[:len(v)-1])
	p := netip.PrefixFrom(a, int(v[len(v)-1]))
	return p, p.IsValid()
}

// agree makes of the two hellos what the two sides agreed upon, seen from the
// side that said mine. A side that named networks refuses addresses for itself
// outside them, and any that are no unicast addresses.
func agree(mine, peer Hello) (tunnel.Agreed, error) {
	a := tunnel.Agreed{
		Local: peer.Yours,
		Peer:  peer.Mine,
		DNS:   peer.DNS,
		MTU:   min(mine.Receives.MTU, peer.Receives.MTU),
	}
	for _, p := range a.Local {
		if !inside(p.Addr(), mine.Networks) {
			return a, protocolError(ErrorPolicy, "hello: the peer gives us the address %v, outside the network we named", p)
		}
	}
	for _, list := range [][]netip.Addr{a.Peer, a.DNS} {
		for _, addr := range list {
			if !inside(addr, mine.Networks) {
				return a, protocolError(ErrorPolicy, "hello: the peer names the address %v, outside the network we named", addr)
			}
		}
	}
	return a, nil
}

// inside reports whether addr is in one of the networks, or whether there are
// none to be in and it is an ordinary unicast address.
func inside(addr netip.Addr, networks []netip.Prefix) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return len(networks) == 0 && addr.IsValid() && !addr.IsLoopback() && !addr.IsMulticast() && !addr.IsUnspecified() && !addr.Is4In6()
}

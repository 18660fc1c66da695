package usernat

import (
	"net/netip"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/tunnel"
)

// syn makes a SYN of src to dst, its checksum left to do.
func syn(src, dst netip.AddrPort) tunnel.Packet {
	ip := headerLenOf(src.Addr())
	b := make([]byte, ip+headerLenTCP)
	putHeader(b, src.Addr(), dst.Addr(), protoTCP, 64, headerLenTCP, 1)
	s, d := src.Port(), dst.Port()
	copy(b[ip:], []byte{byte(s >> 8), byte(s), byte(d >> 8), byte(d), 0, 0, 0, 1, 0, 0, 0, 0, headerLenTCP / 4 << 4, 2, 0xff, 0xff})
	return tunnel.Packet{Data: b, GSO: tunnel.Offload{NeedsChecksum: true}}
}

// What is turned away is told of, by kind and with its addresses; sources that are
// not the peer's get nowhere, in any spelling.
func TestRefusals(t *testing.T) {
	var told []Refusal
	n, err := New(Config{
		DNS: []netip.Addr{dns4, dns6}, Host: []netip.Addr{host4, host6},
		Peer:    prefixes("10.0.2.15/32", "fd00:b0d::15/128"),
		Refused: func(r Refusal) { told = append(told, r) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	peer, peer6 := netip.MustParseAddrPort("10.0.2.15:4000"), netip.MustParseAddrPort("[fd00:b0d::15]:4000")
	write := func(p ...tunnel.Packet) {
		t.Helper()
		n.refused.second = time.Time{} // as if a second had passed
		if err := n.WritePackets(p); err != nil {
			t.Fatal(err)
		}
	}
	write(syn(peer, netip.MustParseAddrPort("10.0.2.2:25")), syn(peer6, netip.MustParseAddrPort("[64:ff9b::a9fe:a9fe]:80")))
	for i, dst := range []string{"10.0.2.2:25", "[64:ff9b::a9fe:a9fe]:80"} {
		if len(told) != 2 || told[i].Kind != RefusalPolicy || told[i].Protocol != protoTCP || told[i].Dst.String() != dst || told[i].Src.Port() != 4000 {
			t.Fatalf("told %+v", told)
		}
	}
	told = nil
	spoofed := []string{"127.0.0.1:1", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "198.51.100.10:1", "10.0.2.16:1",
		"[::1]:1", "[fd00:b0d::16]:1"}
	dst6, dst4 := netip.AddrPortFrom(world6, 80), netip.AddrPortFrom(world4, 80)
	for _, s := range spoofed {
		src := netip.MustParseAddrPort(s)
		dst := dst4
		if src.Addr().Is6() {
			dst = dst6
		}
		write(syn(src, dst))
	}
	if s := n.Stats(); int(s.DroppedSource) != len(spoofed) || s.Dialing != 0 || len(told) != len(spoofed) {
		t.Fatalf("%+v; told %+v", s, told)
	}
	for i, r := range told {
		if r.Kind != RefusalSource || r.Src.Addr() != netip.MustParseAddrPort(spoofed[i]).Addr() {
			t.Errorf("told %+v of %s", r, spoofed[i])
		}
	}
	told = nil
	write(tunnel.Packet{Data: []byte{0x45, 0}})
	if len(told) != 1 || told[0].Kind != RefusalMalformed {
		t.Errorf("told %+v", told)
	}
	// The neighbour discovery of a kernel inside is no attack.
	solicit := make([]byte, headerLen6+headerLenICMP)
	putHeader(solicit, netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::2"), protoICMPv6, 255, headerLenICMP, 0)
	told = nil
	write(tunnel.Packet{Data: solicit})
	if len(told) != 0 || int(n.Stats().DroppedSource) != len(spoofed) {
		t.Errorf("told %+v", told)
	}
}

func TestTellerIsBounded(t *testing.T) {
	var told []Refusal
	tell := teller{to: func(r Refusal) { told = append(told, r) }}
	now := time.Now()
	for range 1000 {
		tell.tell(Refusal{}, now)
	}
	tell.tell(Refusal{Kind: RefusalDials}, now.Add(time.Second))
	if len(told) != refusalsPerSecond+1 || told[refusalsPerSecond].Omitted != 1000-refusalsPerSecond || told[refusalsPerSecond].Kind != RefusalDials {
		t.Errorf("%d told, the last %+v", len(told), told[len(told)-1])
	}
	tell.tell(Refusal{}, now.Add(time.Second))
	if told[len(told)-1].Omitted != 0 {
		t.Errorf("omitted are told twice: %+v", told[len(told)-1])
	}
}

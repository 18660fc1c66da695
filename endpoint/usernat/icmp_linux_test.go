package usernat

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/tunnel"
)

// What goes back for a packet that could not be delivered, octet for octet.
func TestPutError(t *testing.T) {
	v4, r4 := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("10.0.2.3")
	v6, r6 := netip.MustParseAddr("fd00::f"), netip.MustParseAddr("fd00::3")
	udp4 := unhex("4500001d 00010000 40116d8b 0a00020f c633640a 1000003500090000 61")
	udp6 := unhex("60000000 00091140 fd00000000000000000000000000000f 20010db8000000000000000000000001 1000003500090000 61")
	for _, c := range []struct {
		name     string
		src, dst netip.Addr
		tc       typeCode
		rest     uint32
		quoted   []byte
		want     string
	}{
		{"prohibited", r4, v4, reasonCodes[prohibited].v4, 0, udp4,
			"45000039 00000000 4001 62b3 0a000203 0a00020f 030d 62ac 00000000" + " 4500001d 00010000 40116d8b 0a00020f c633640a 1000003500090000 61"},
		{"no port", r4, v4, reasonCodes[noPort].v4, 0, udp4,
			"45000039 00000000 4001 62b3 0a000203 0a00020f 0303 62b6 00000000" + " 4500001d 00010000 40116d8b 0a00020f c633640a 1000003500090000 61"},
		{"too big", r4, v4, typeCode{unreachable4, tooBig4}, 1400, udp4,
			"45000039 00000000 4001 62b3 0a000203 0a00020f 0304 5d3d 00000578" + " 4500001d 00010000 40116d8b 0a00020f c633640a 1000003500090000 61"},
		{"no port, IPv6", r6, v6, reasonCodes[noPort].v6, 0, udp6,
			"60000000 00393a40 fd000000000000000000000000000003 fd00000000000000000000000000000f 0104 f722 00000000" +
				" 60000000 00091140 fd00000000000000000000000000000f 20010db8000000000000000000000001 1000003500090000 61"},
	} {
		b := make([]byte, errorLen(c.quoted, c.src.Is6()))
		putError(b, c.src, c.dst, c.tc, c.rest, c.quoted)
		if want := unhex(c.want); !bytes.Equal(b, want) {
			t.Errorf("%s:\n%x, want\n%x", c.name, b, want)
		}
		h, ok := parse(b)
		if !ok || !sumHolds(&h, h.payload(b)) {
			t.Errorf("%s: checksum does not hold", c.name)
		}
	}
	if n := errorLen(make([]byte, 9000), false); n != 576 {
		t.Errorf("an IPv4 error about a long packet has %d octets, RFC 1812 says 576", n)
	}
	if n := errorLen(make([]byte, 9000), true); n != 1280 {
		t.Errorf("an IPv6 error about a long packet has %d octets, RFC 4443 says 1280", n)
	}
}

// An ICMP error, and a fragment that is not the first, are never answered.
func TestErrorsNotAnswered(t *testing.T) {
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	src, dst := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("127.0.0.1")
	for _, h := range []header{
		{src: src, dst: dst, proto: protoUDP, frag: 8, offset: 20, end: 28},
		{src: src, dst: dst, proto: protoICMP, offset: 20, end: 28},
	} {
		packet := make([]byte, 28)
		packet[20] = unreachable4
		n.sendError(&h, packet, noHost)
	}
	if k := n.stack.Out.Waiting(); k != 0 {
		t.Errorf("%d answers", k)
	}
}

// cmsg makes one control message.
func cmsg(level, typ int, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(typ))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func native32(v ...uint32) (b []byte) {
	for _, x := range v {
		b = binary.NativeEndian.AppendUint32(b, x)
	}
	return b
}

func TestParseControl(t *testing.T) {
	if wordSize != 8 {
		t.Fatal("the test makes 64-bit control messages")
	}
	failure4 := append(native32(111), 2, 3, 3, 0)
	failure4 = append(failure4, native32(0, 0)...)
	failure4 = append(failure4, binary.NativeEndian.AppendUint16(nil, unix.AF_INET)...)
	failure4 = append(failure4, 0, 0, 198, 51, 100, 10, 0, 0, 0, 0, 0, 0, 0, 0)
	whole := controls{failed: true, failure: failure{errno: 111, origin: 2, typ: 3, code: 3, offender: world4}}
	for _, c := range []struct {
		name string
		b    []byte
		want controls
	}{
		{"nothing", nil, controls{}},
		{"GRO and TTL", append(cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, native32(1200)), cmsg(unix.IPPROTO_IP, unix.IP_TTL, native32(57))...), controls{segment: 1200, ttl: 57}},
		{"hop limit", cmsg(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, native32(3)), controls{ttl: 3}},
		{"a failure", cmsg(unix.IPPROTO_IP, unix.IP_RECVERR, failure4), whole},
		{"a failure cut short", cmsg(unix.IPPROTO_IP, unix.IP_RECVERR, failure4[:12]), controls{}},
		{"a failure without its offender", cmsg(unix.IPPROTO_IP, unix.IP_RECVERR, failure4[:16]), controls{failed: true, failure: failure{errno: 111, origin: 2, typ: 3, code: 3}}},
		{"unknown", cmsg(99, 99, native32(1)), controls{}},
		{"too short", make([]byte, 9), controls{}},
	} {
		if got := parseControl(c.b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestFailureMessage(t *testing.T) {
	for _, c := range []struct {
		f    failure
		v6   bool
		want typeCode
		rest uint32
		ok   bool
	}{
		{failure{origin: unix.SO_EE_ORIGIN_ICMP, typ: 3, code: 3}, false, typeCode{3, 3}, 0, true},
		{failure{origin: unix.SO_EE_ORIGIN_ICMP, typ: 11}, false, typeCode{11, 0}, 0, true},
		{failure{origin: unix.SO_EE_ORIGIN_ICMP, typ: 3, code: 4, info: 1400}, false, typeCode{3, 4}, 1400, true},
		{failure{origin: unix.SO_EE_ORIGIN_ICMP, typ: 5}, false, typeCode{}, 0, false},         // a redirect
		{failure{origin: unix.SO_EE_ORIGIN_ICMP, typ: 3, code: 3}, true, typeCode{}, 0, false}, // of the other version
		{failure{origin: unix.SO_EE_ORIGIN_ICMP6, typ: 2, info: 1280}, true, typeCode{2, 0}, 1280, true},
		{failure{origin: unix.SO_EE_ORIGIN_ICMP6, typ: 1, code: 4}, true, typeCode{1, 4}, 0, true},
		{failure{origin: unix.SO_EE_ORIGIN_LOCAL, errno: uint32(unix.EMSGSIZE), info: 1500}, false, typeCode{3, 4}, 1500, true},
		{failure{origin: unix.SO_EE_ORIGIN_LOCAL, errno: uint32(unix.EMSGSIZE), info: 1500}, true, typeCode{2, 0}, 1500, true},
		{failure{origin: unix.SO_EE_ORIGIN_TXTIME}, false, typeCode{}, 0, false},
	} {
		tc, rest, ok := c.f.message(c.v6)
		if ok != c.ok || ok && (tc != c.want || rest != c.rest) {
			t.Errorf("%+v: %v, %d, %v", c.f, tc, rest, ok)
		}
	}
}

// FuzzControl: whatever the kernel's control data is, what comes of it is sane,
// and an ICMP message made of it is one that errors may be.
func FuzzControl(f *testing.F) {
	f.Add(cmsg(unix.IPPROTO_IP, unix.IP_RECVERR, make([]byte, 32)), true)
	f.Add(cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, native32(1200)), false)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		c := parseControl(b)
		if c.segment < 0 || c.segment > 65535 {
			t.Fatalf("segments of %d octets", c.segment)
		}
		tc, _, ok := c.failure.message(v6)
		if ok && !c.failed {
			t.Fatalf("a message of no failure")
		}
		if ok && v6 && tc.typ >= 128 || ok && !v6 && tc.typ != 3 && tc.typ != 11 {
			t.Fatalf("message %v", tc)
		}
	})
}

// FuzzTake: whatever comes into the NAT does not upset it, leaves the packet as
// it was, and every answer is a packet that holds together.
func FuzzTake(f *testing.F) {
	f.Add(unhex("4500001c 00074000 40110000 0a00020f 7f000001 0102030405060708"), uint8(0), uint16(0))
	f.Add(unhex("60000000 0008 3a 40 fd00000000000000000000000000000f 20010db8000000000000000000000001 8000000000010002"), uint8(0), uint16(0))
	f.Add(unhex("45000028 00004000 40060000 0a00020f 7f000001 04d20050 00000001 00000000 5002 ffff 0000 0000"), uint8(1), uint16(1000))
	f.Add(unhex("4500001c 00074000 40110000 0a00020f 0a000203 0102003500080000"), uint8(0), uint16(0))
	n, err := New(Config{
		DNS:       []netip.Addr{dns4, dns6},
		Resolvers: func() []netip.AddrPort { return nil },
		Allow:     Policy{Only: Everywhere(prefixes("192.0.2.0/32")...)}, // nothing leaves
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { n.Close() })
	f.Fuzz(func(t *testing.T, packet []byte, kind uint8, size uint16) {
		before := bytes.Clone(packet)
		o := tunnel.Offload{Type: tunnel.GSOType(kind & 3), NeedsChecksum: kind&7 != 0, SegmentSize: size}
		n.WritePackets([]tunnel.Packet{{Data: packet, GSO: o}})
		if !bytes.Equal(packet, before) {
			t.Fatal("the packet has changed")
		}
		if n.stack.Out.Waiting() == 0 {
			return
		}
		var out [2 * tunnel.BatchSize]tunnel.Packet
		k, err := n.ReadPackets(out[:])
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out[:k] {
			h, err := p.Check()
			if err != nil {
				t.Fatalf("answer %x: %v", p.Data, err)
			}
			ours, ok := parse(p.Data)
			if !ok || h.Transport != ours.offset || !p.GSO.NeedsChecksum && !sumHolds(&ours, ours.payload(p.Data)) {
				t.Fatalf("answer %x", p.Data)
			}
		}
	})
}

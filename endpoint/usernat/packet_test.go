package usernat

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestParse(t *testing.T) {
	const src6, dst6 = "20010db8000000000000000000000001", "20010db8000000000000000000000002"
	for _, c := range []struct {
		name, packet string
		want         header // without addresses
		ok           bool
	}{
		{"plain", "4500001c 00074000 40110000 0a00020f c633640a 0102030405060708",
			header{proto: 17, ttl: 64, df: true, offset: 20, end: 28, id: 7}, true},
		{"options", "46000020 00000000 01010000 0a00020f c633640a 94040000 0800f7ff00000000",
			header{proto: 1, ttl: 1, offset: 24, end: 32}, true},
		{"padding", "45000014 00000000 40060000 0a00020f c633640a ffff",
			header{proto: 6, ttl: 64, offset: 20, end: 20}, true},
		{"first fragment", "4500001c 00092000 40110000 0a00020f c633640a 0102030405060708",
			header{proto: 17, ttl: 64, more: true, offset: 20, end: 28, id: 9}, true},
		{"last fragment", "4500001c 000900b9 40110000 0a00020f c633640a 0102030405060708",
			header{proto: 17, ttl: 64, frag: 1480, offset: 20, end: 28, id: 9}, true},
		{"length beyond the end", "4500001d 00000000 40110000 0a00020f c633640a 0102030405060708", header{}, false},
		{"length within the header", "45000013 00000000 40110000 0a00020f c633640a", header{}, false},
		{"header length below 20", "44000014 00000000 40110000 0a00020f c633640a", header{}, false},
		{"cut", "4500", header{}, false},
		{"version 5", "5500001c 00000000 40110000 0a00020f c633640a 0102030405060708", header{}, false},

		{"v6 plain", "60000000 0008 3a 40" + src6 + dst6 + "8000000000010002",
			header{proto: 58, ttl: 64, df: true, offset: 40, end: 48}, true},
		{"v6 hop-by-hop and destination options", "60000000 0018 00 40" + src6 + dst6 + "3c00000000000000 1100000000000000 0001000200080000",
			header{proto: 17, ttl: 64, df: true, offset: 56, end: 64}, true},
		{"v6 fragment", "60000000 0010 2c 40" + src6 + dst6 + "11 00 0009 00000005 0102030405060708",
			header{proto: 17, ttl: 64, df: true, frag: 8, more: true, offset: 48, end: 56, id: 5}, true},
		{"v6 atomic fragment", "60000000 0010 2c 40" + src6 + dst6 + "11 00 0000 00000005 0102030405060708",
			header{proto: 17, ttl: 64, df: true, offset: 48, end: 56, id: 5}, true},
		{"v6 routing, done", "60000000 0008 2b 40" + src6 + dst6 + "3b00000000000000",
			header{proto: 59, ttl: 64, df: true, offset: 48, end: 48}, true},
		{"v6 routing, segments left", "60000000 0008 2b 40" + src6 + dst6 + "3b00000100000000", header{}, false},
		{"v6 option beyond the end", "60000000 0008 00 40" + src6 + dst6 + "1101000000000000", header{}, false},
		{"v6 nine extension headers", "60000000 0048 3c 40" + src6 + dst6 + strings.Repeat("3c00000000000000", 9), header{}, false},
	} {
		h, ok := parse(unhex(c.packet))
		src, dst := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("198.51.100.10")
		if strings.HasPrefix(c.name, "v6") {
			src, dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		}
		c.want.src, c.want.dst = src, dst
		if ok != c.ok || ok && h != c.want {
			t.Errorf("%s: %+v, %v\nwant %+v, %v", c.name, h, ok, c.want, c.ok)
		}
	}
}

func TestPutHeader(t *testing.T) {
	var b [40]byte
	n := putHeader(b[:], netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("198.51.100.10"), protoUDP, 64, 8, 0x1234)
	if want := unhex("4500001c 12340000 4011 3251 0a00020f c633640a"); !bytes.Equal(b[:n], want) {
		t.Errorf("IPv4: %x, want %x", b[:n], want)
	}
	n = putHeader(b[:], netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), protoICMPv6, 1, 8, 0)
	if want := unhex("60000000 00083a01 20010db8000000000000000000000001 20010db8000000000000000000000002"); !bytes.Equal(b[:n], want) {
		t.Errorf("IPv6: %x, want %x", b[:n], want)
	}
}

// FuzzParse: what parses has its parts inside the packet, and written again with
// putHeader parses to the same.
func FuzzParse(f *testing.F) {
	f.Add(unhex("4500001c 00074000 40110000 0a00020f c633640a 0102030405060708"))
	f.Add(unhex("46000020 00000000 01010000 0a00020f c633640a 94040000 0800f7ff00000000"))
	f.Add(unhex("60000000 0018 00 40 20010db8000000000000000000000001 20010db8000000000000000000000002 3c00000000000000 2c00000000000000 1100000900000005"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		h, ok := parse(packet)
		if !ok {
			return
		}
		payload := h.payload(packet)
		b := make([]byte, headerLenOf(h.src)+len(payload))
		n := putHeader(b, h.src, h.dst, h.proto, h.ttl, len(payload), uint16(h.id))
		copy(b[n:], payload)
		if h.src.Is6() {
			switch h.proto {
			case protoHopByHop, protoRouting, protoFragment, protoDestOpts:
				return // parse stopped at a fragment; what follows is not a header of the whole
			}
		}
		g, ok := parse(b)
		if !ok || g.src != h.src || g.dst != h.dst || g.proto != h.proto || g.ttl != h.ttl || !bytes.Equal(g.payload(b), payload) {
			t.Fatalf("%+v became %+v, %v", h, g, ok)
		}
		if h.src.Is4() && checksum.Checksum(b[:n], 0) != 0xffff {
			t.Fatalf("header checksum of %x", b[:n])
		}
	})
}

// pieces cuts payload into fragments of packets from src to dst.
func pieces(src, dst netip.Addr, payload []byte, size int, id uint32) (packets [][]byte) {
	for at := 0; at < len(payload); at += size {
		piece := payload[at:min(at+size, len(payload))]
		more := at+len(piece) < len(payload)
		ip := headerLenOf(src)
		var b []byte
		if src.Is6() {
			b = make([]byte, ip+8+len(piece))
			putHeader(b, src, dst, protoFragment, 64, 8+len(piece), 0)
			putFragment6(b[ip:], protoUDP, at, more, id)
			copy(b[ip+8:], piece)
		} else {
			b = make([]byte, ip+len(piece))
			putHeader(b, src, dst, protoUDP, 64, len(piece), uint16(id))
			putFragment4(b, at, more)
			copy(b[ip:], piece)
		}
		packets = append(packets, b)
	}
	return packets
}

// give hands packets to r in their order and returns what became whole.
func give(t *testing.T, r *reassembler, now time.Time, packets ...[]byte) (whole [][]byte) {
	t.Helper()
	for _, p := range packets {
		h, ok := parse(p)
		if !ok || !h.fragment() {
			t.Fatalf("%x is no fragment", p)
		}
		if w, ok := r.add(&h, p, now); ok {
			wh, ok := parse(w)
			if !ok || wh.fragment() || wh.src != h.src || wh.dst != h.dst || wh.proto != protoUDP {
				t.Fatalf("whole packet %+v, %v", wh, ok)
			}
			whole = append(whole, bytes.Clone(wh.payload(w)))
		}
	}
	return whole
}

func TestReassembly(t *testing.T) {
	now := time.Now()
	src, dst := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("198.51.100.10")
	src6, dst6 := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	payload := make([]byte, 8000)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	f := pieces(src, dst, payload, 1480, 1) // six
	g := pieces(src6, dst6, payload, 1448, 2)
	tiny := pieces(src, dst, payload, 8, 3)
	other := pieces(src, dst, payload[8:], 1480, 1)
	overlap := pieces(src, dst, payload, 1000, 1)[1] // octets 1000 to 1999
	for _, c := range []struct {
		name    string
		packets [][]byte
		want    int // how many become whole
	}{
		{"in order", f, 1},
		{"in order, IPv6", g, 1},
		{"backwards", [][]byte{f[5], f[4], f[3], f[2], f[1], f[0]}, 1},
		{"mixed", [][]byte{f[3], f[0], f[5], f[1], f[4], f[2]}, 1},
		{"repeats", [][]byte{f[0], f[0], f[2], f[1], f[0], f[1], f[3], f[4], f[5]}, 1},
		{"eight octets each", tiny, 1},
		{"one missing", f[1:], 0},
		{"an overlap", [][]byte{f[0], overlap, f[1], f[2], f[3], f[4], f[5]}, 0},
		{"two last ones", [][]byte{f[0], f[5], other[5], f[1], f[2], f[3], f[4]}, 0},
		{"every other one", everyOther(tiny), 0},
	} {
		var r reassembler
		whole := give(t, &r, now, c.packets...)
		if len(whole) != c.want {
			t.Errorf("%s: %d whole, want %d; %d dropped", c.name, len(whole), c.want, r.dropped)
		}
		for _, w := range whole {
			if !bytes.Equal(w, payload) {
				t.Errorf("%s: the payload differs", c.name)
			}
		}
		r.expire(now.Add(partTimeout + 1))
		if len(r.parts) != 0 || r.mem != 0 {
			t.Errorf("%s: after all: %d parts, %d octets", c.name, len(r.parts), r.mem)
		}
	}
}

func everyOther(p [][]byte) (half [][]byte) {
	for i := 0; i < len(p); i += 2 {
		half = append(half, p[i])
	}
	return half
}

// A flood of fragments stays within the bounds, and good ones still pass.
func TestReassemblyFlood(t *testing.T) {
	var r reassembler
	now := time.Now()
	src, dst := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("198.51.100.10")
	for id := range uint32(5000) {
		end := pieces(src, dst, make([]byte, 65500), 65496, id)[1]
		give(t, &r, now, end)
		if len(r.parts) > maxParts || r.mem > maxPartMem {
			t.Fatalf("%d parts, %d octets", len(r.parts), r.mem)
		}
	}
	if got := give(t, &r, now, pieces(src, dst, make([]byte, 8000), 1480, 9999)...); len(got) != 1 {
		t.Error("a good packet did not pass")
	}
	death := pieces(src, dst, make([]byte, 65000), 64000, 1)[1]
	putFragment4(death, 65528, false) // ends beyond 65,535
	if got := give(t, &r, now, death); got != nil {
		t.Error("a packet of more than 65,535 octets became whole")
	}
}

// FuzzReassembly: fragments of one packet in any order, some repeated, make
// exactly that packet; cut or moved ones make nothing else, and the memory is
// accounted for.
func FuzzReassembly(f *testing.F) {
	f.Add(uint64(1), uint16(8000), uint16(185), false, uint16(0))
	f.Add(uint64(2), uint16(65000), uint16(1), true, uint16(0))
	f.Add(uint64(3), uint16(3000), uint16(100), false, uint16(77))
	f.Fuzz(func(t *testing.T, seed uint64, length, eighths uint16, v6 bool, shift uint16) {
		src, dst := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("198.51.100.10")
		if v6 {
			src, dst = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		payload := make([]byte, min(int(length), 65000))
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		size := (int(eighths)%180 + 1) * 8
		size = max(size, (len(payload)/100+7)&^7)
		all := pieces(src, dst, payload, size, 7)
		if len(all) < 2 {
			return
		}
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if shift != 0 { // one is not where it says
			p := all[rng.IntN(len(all))]
			if v6 {
				putFragment6(p[headerLen6:], protoUDP, int(shift)&^7, shift&1 != 0, 7)
			} else {
				putFragment4(p, int(shift)&^7, shift&1 != 0)
			}
		}
		all = append(all, all[:rng.IntN(len(all))]...)
		var r reassembler
		now := time.Now()
		var whole [][]byte
		for _, p := range all {
			h, ok := parse(p)
			if !ok {
				t.Fatal("no fragment")
			}
			if !h.fragment() {
				continue
			}
			if w, ok := r.add(&h, p, now); ok {
				wh, _ := parse(w)
				whole = append(whole, bytes.Clone(wh.payload(w)))
			}
		}
		gaps := 0
		for _, p := range r.parts {
			gaps += len(p.spans)
		}
		if gaps > maxSpans*len(r.parts) || r.mem > maxPartMem {
			t.Fatalf("%d spans, %d octets", gaps, r.mem)
		}
		if shift == 0 && len(all) <= 2*maxSpans {
			if r.dropped == 0 && (len(whole) < 1 || !bytes.Equal(whole[0], payload)) {
				t.Fatalf("%d whole of %d fragments", len(whole), len(all))
			}
		}
		r.expire(now.Add(2 * partTimeout))
		if r.mem != 0 {
			t.Fatalf("%d octets unaccounted for", r.mem)
		}
	})
}

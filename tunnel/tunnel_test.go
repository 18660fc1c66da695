package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Addresses of the tables: 10.0.2.15 to 203.0.113.100, and 2001:db8::15 to
// 2001:db8::64.
const (
	v4 = "0a00020f cb007164"
	v6 = "20010db8000000000000000000000015 20010db8000000000000000000000064"
)

// TestParse is the formats, and the ways to be wrong.
func TestParse(t *testing.T) {
	tcp := "8000 0050 00000001 00000002 5010 ffff 0000 0000"
	udp := "8000 0035 000a 0000 6869"
	for _, c := range []struct {
		name, packet string
		want         Header
		bad          bool
	}{
		{"TCP", "4500 0028 0001 0000 4006 0000" + v4 + tcp, Header{4, ProtoTCP, 20, 40, false}, false},
		{"TCP, IP options", "4600 002c 0001 0000 4006 0000" + v4 + "01010101" + tcp, Header{4, ProtoTCP, 24, 44, false}, false},
		{"TCP, TCP options", "4500 002c 0001 0000 4006 0000" + v4 + strings.Replace(tcp, "5010", "6010", 1) + "01010101", Header{4, ProtoTCP, 20, 44, false}, false},
		{"UDP", "4500 001e 0001 0000 4011 0000" + v4 + udp, Header{4, ProtoUDP, 20, 28, false}, false},
		{"first fragment", "4500 001e 0001 2000 4011 0000" + v4 + udp, Header{4, ProtoUDP, 20, 20, true}, false},
		{"later fragment", "4500 0018 0001 0001 4011 0000" + v4 + "01020304", Header{4, ProtoUDP, 20, 20, true}, false},
		{"do not fragment is no fragment", "4500 001e 0001 4000 4011 0000" + v4 + udp, Header{4, ProtoUDP, 20, 28, false}, false},
		{"ICMP", "4500 001c 0001 0000 4001 0000" + v4 + "0800 0000 0001 0001", Header{4, ProtoICMP, 20, 20, false}, false},
		{"IPv6 UDP", "60000000 000a 11 40" + v6 + udp, Header{6, ProtoUDP, 40, 48, false}, false},
		{"IPv6, destination options, UDP", "60000000 0012 3c 40" + v6 + "11 00 010400000000" + udp, Header{6, ProtoUDP, 48, 56, false}, false},
		{"IPv6 atomic fragment", "60000000 0012 2c 40" + v6 + "11 00 0000 00000001" + udp, Header{6, ProtoUDP, 48, 56, false}, false},
		{"IPv6 first fragment", "60000000 0012 2c 40" + v6 + "11 00 0001 00000001" + udp, Header{6, ProtoUDP, 48, 48, true}, false},
		{"IPv6, unknown next header", "60000000 0004 fd 40" + v6 + "01020304", Header{6, 0xfd, 40, 40, false}, false},

		{"nothing", "", Header{}, true},
		{"version 5", "5500 0028 0001 0000 4006 0000" + v4 + tcp, Header{}, true},
		{"header longer than the packet", "4f00 0028 0001 0000 4006 0000" + v4 + tcp, Header{}, true},
		{"header too short", "4400 0028 0001 0000 4006 0000" + v4 + tcp, Header{}, true},
		{"length too long", "4500 0029 0001 0000 4006 0000" + v4 + tcp, Header{}, true},
		{"octets behind the end", "4500 0028 0001 0000 4006 0000" + v4 + tcp + "00", Header{}, true},
		{"TCP cut short", "4500 0027 0001 0000 4006 0000" + v4 + tcp[:len(tcp)-2], Header{}, true},
		{"TCP data offset too small", "4500 0028 0001 0000 4006 0000" + v4 + strings.Replace(tcp, "5010", "4010", 1), Header{}, true},
		{"TCP data offset too large", "4500 0028 0001 0000 4006 0000" + v4 + strings.Replace(tcp, "5010", "6010", 1), Header{}, true},
		{"UDP cut short", "4500 001b 0001 0000 4011 0000" + v4 + "8000 0035 0007 00", Header{}, true},
		{"IPv6 extension past the end", "60000000 0008 3c 40" + v6 + "11 01 010400000000", Header{}, true},
		{"IPv6 cut short", "60000000 0000 3b 40" + v6[:len(v6)-2], Header{}, true},
	} {
		got, err := Parse(unhex(t, c.packet))
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

// slowSum is RFC 1071 as it is written.
func slowSum(b []byte) uint16 {
	var s uint32
	for i, c := range b {
		if i%2 == 0 {
			s += uint32(c) << 8
		} else {
			s += uint32(c)
		}
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSum(t *testing.T) {
	// RFC 1071, section 3.
	if got := fold(sum(unhex(t, "0001 f203 f4f5 f6f7"), 0)); got != 0xddf2 {
		t.Errorf("the RFC's example sums up to %04x", got)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32()) | byte(n%2*0xff) // every other one all ones: the carries
		}
		if got, want := fold(sum(b, 0)), slowSum(b); got != want {
			t.Fatalf("%d octets: %04x, want %04x", n, got, want)
		}
	}
}

// super returns a super-packet with the pseudo-header's sum in its checksum
// field, as a kernel makes it.
func super(version int, protocol int, flags byte, size int, payload []byte) Packet {
	var d []byte
	kind := GSOUDP
	if version == 4 {
		d = append(d, 0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, byte(protocol), 0, 0, 10, 0, 2, 15, 203, 0, 113, 100)
	} else {
		d = append(d, 0x60, 0, 0, 0, 0, 0, byte(protocol), 64)
		d = append(d, net.ParseIP("2001:db8::15")...)
		d = append(d, net.ParseIP("2001:db8::64")...)
	}
	if protocol == ProtoTCP {
		kind = GSOTCP4
		if version == 6 {
			kind = GSOTCP6
		}
		d = append(d, 0x80, 0, 0, 80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 2, 0x80, flags, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2)
	} else {
		d = append(d, 0x80, 0, 0, 53, 0, 0, 0, 0)
	}
	d = append(d, payload...)
	if version == 4 {
		binary.BigEndian.PutUint16(d[2:], uint16(len(d)))
		setIPv4Checksum(d, 20)
	} else {
		binary.BigEndian.PutUint16(d[4:], uint16(len(d)-40))
	}
	if protocol == ProtoUDP {
		at := len(d) - len(payload) - 4
		binary.BigEndian.PutUint16(d[at:], uint16(8+len(payload)))
	}
	h, err := Parse(d)
	if err != nil {
		panic(err)
	}
	binary.BigEndian.PutUint16(d[h.Transport+h.ChecksumOffset():], fold(pseudoHeader(d, h, len(d)-h.Transport)))
	return Packet{d, Offload{Type: kind, NeedsChecksum: true, SegmentSize: uint16(size)}}
}

// TestSegment cuts super-packets up and puts them together again: every segment
// is complete, and what TCP and IP change from one to the next is right.
func TestSegment(t *testing.T) {
	payload := make([]byte, 5000)
	rand.NewChaCha8([32]byte{3}).Read(payload)
	for _, version := range []int{4, 6} {
		for _, protocol := range []int{ProtoTCP, ProtoUDP} {
			for _, n := range []int{1, 1399, 1400, 1401, 2800, 5000} {
				p := super(version, protocol, 0x99, 1400, payload[:n]) // CWR, ACK, PSH, FIN
				f := fitter{caps: Caps{MTU: 1500}}
				whole := bytes.Clone(p.Data)
				segments := f.fit([]Packet{p})
				if !bytes.Equal(whole, p.Data) {
					t.Fatal("fit changed the packet")
				}
				if want := (n + 1399) / 1400; len(segments) != want {
					t.Fatalf("version %d, protocol %d, %d octets: %d segments, want %d", version, protocol, n, len(segments), want)
				}
				var got []byte
				for i, s := range segments {
					h, err := s.Check()
					if err != nil || s.GSO != (Offload{}) {
						t.Fatalf("segment %d: %+v, %v", i, s.GSO, err)
					}
					if c := fold(sum(s.Data[h.Transport:], pseudoHeader(s.Data, h, len(s.Data)-h.Transport))); c != 0xffff {
						t.Errorf("segment %d: its transport checksum sums up to %04x", i, c)
					}
					if version == 4 {
						if c := fold(sum(s.Data[:20], 0)); c != 0xffff {
							t.Errorf("segment %d: its IPv4 checksum sums up to %04x", i, c)
						}
						if id := binary.BigEndian.Uint16(s.Data[4:]); id != 0xffff+uint16(i) {
							t.Errorf("segment %d: identification %04x", i, id)
						}
					}
					last := i == len(segments)-1
					if protocol == ProtoTCP {
						if seq := binary.BigEndian.Uint32(s.Data[h.Transport+4:]); seq != 0xffffff00+uint32(i*1400) {
							t.Errorf("segment %d: sequence number %08x", i, seq)
						}
						want := byte(0x10)
						if i == 0 {
							want |= 0x80
						}
						if last {
							want |= 0x09
						}
						if flags := s.Data[h.Transport+13]; flags != want {
							t.Errorf("segment %d: flags %02x, want %02x", i, flags, want)
						}
					}
					got = append(got, s.Data[h.Payload:]...)
				}
				if !bytes.Equal(got, payload[:n]) {
					t.Errorf("version %d, protocol %d, %d octets: others came out", version, protocol, n)
				}
			}
		}
	}
}

// TestFitLeavesAlone: what the Port takes is passed on as it lies there.
func TestFitLeavesAlone(t *testing.T) {
	tcp := super(4, ProtoTCP, 0x10, 1400, make([]byte, 3000))
	udp := super(6, ProtoUDP, 0, 1400, make([]byte, 3000))
	f := fitter{caps: Caps{MTU: 1500, Offloads: OffloadChecksum | OffloadTSO4}}
	in := []Packet{tcp, udp, tcp}
	out := f.fit(in)
	if len(out) != 5 || &out[0].Data[0] != &tcp.Data[0] || &out[4].Data[0] != &tcp.Data[0] || out[4].GSO != tcp.GSO {
		t.Errorf("%d packets came out", len(out))
	}
	if n := testing.AllocsPerRun(100, func() { f.fit(in[:1]); f.fit(in) }); n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
	lie := tcp
	lie.GSO.Type = GSOUDP
	if out := f.fit([]Packet{lie}); len(out) != 0 {
		t.Errorf("a lie came out as %+v", out)
	}
}

func TestJoin(t *testing.T) {
	caps := Caps{MTU: 1500, Offloads: OffloadChecksum | OffloadTSO4 | OffloadTSO6 | OffloadUSO}
	left, a := Pipe(caps)
	b, right := Pipe(caps)
	ctx, cancel := context.WithCancelCause(t.Context())
	joined := make(chan error, 1)
	go func() { joined <- Join(ctx, a, b) }()
	p := super(4, ProtoTCP, 0x10, 1400, make([]byte, 3000))
	for _, way := range [][2]Port{{left, right}, {right, left}} {
		if err := way[0].WritePackets([]Packet{p}); err != nil {
			t.Fatal(err)
		}
		in := make([]Packet, 4)
		n, err := way[1].ReadPackets(in)
		if n != 1 || err != nil || !bytes.Equal(in[0].Data, p.Data) || in[0].GSO != p.GSO {
			t.Fatalf("%d packets, %v", n, err)
		}
	}
	why := errors.New("enough")
	cancel(why)
	select {
	case err := <-joined:
		if err != why {
			t.Errorf("Join returned %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Join did not end")
	}
	if _, err := left.ReadPackets(make([]Packet, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the Port behind: %v", err)
	}
}

// FuzzSegment: whatever passes Check is cut up into packets that pass it too,
// with all the payload, complete, and none larger than it says.
func FuzzSegment(f *testing.F) {
	for _, version := range []int{4, 6} {
		for _, protocol := range []int{ProtoTCP, ProtoUDP} {
			p := super(version, protocol, 0x18, 60, make([]byte, 130))
			f.Add(p.Data, byte(p.GSO.Type), p.GSO.SegmentSize)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, kind byte, size uint16) {
		p := Packet{data, Offload{GSOType(kind), true, size}}
		h, err := p.Check()
		if err != nil {
			return
		}
		fit := fitter{caps: Caps{MTU: 1500}}
		total := 0
		for _, s := range fit.fit([]Packet{p}) {
			sh, err := s.Check()
			if err != nil || s.GSO != (Offload{}) || sh.Payload != h.Payload {
				t.Fatalf("%x: a segment %x: %v", data, s.Data, err)
			}
			if c := fold(sum(s.Data[sh.Transport:], pseudoHeader(s.Data, sh, len(s.Data)-sh.Transport))); c != 0xffff {
				t.Fatalf("%x: a segment %x sums up to %04x", data, s.Data, c)
			}
			if kind != 0 && len(s.Data)-sh.Payload > int(size) {
				t.Fatalf("%x: a segment of %d octets", data, len(s.Data)-sh.Payload)
			}
			total += len(s.Data) - sh.Payload
		}
		if total != len(data)-h.Payload {
			t.Fatalf("%x: %d octets of payload came out", data, total)
		}
	})
}

// BenchmarkSegment cuts a super-packet of 64 KiB into segments of 1,448.
func BenchmarkSegment(b *testing.B) {
	p := super(4, ProtoTCP, 0x10, 1448, make([]byte, 44*1448))
	f := fitter{caps: Caps{MTU: 1500}}
	in := []Packet{p}
	b.SetBytes(int64(len(p.Data)))
	b.ReportAllocs()
	for b.Loop() {
		f.fit(in)
	}
}
